"""What was trained survives: the state of a run, a snapshot, and the folding of the latents' scale."""

from __future__ import annotations

import os
import random
import signal

import pytest
import torch

from lib_unetmod.playground.model import CHECKPOINT, AutoencoderKL, build, load
from training import train_vae
from training.__main__ import arguments
from training.architecture import ARCHITECTURE
from training.export import SNAPSHOT, export, import_part
from training.fast import timestep_embedding, with_fast_norms
from training.scenes import render
from training.selection import ALIASES, EMOJI
from training.state import Budget, Stopping, load_state, save_state

SMALL = {**ARCHITECTURE["vae"], "ch_mult": [1, 1, 1, 1]}


def cutouts() -> torch.Tensor:
    return torch.randint(256, (4, 4, 32, 32), generator=torch.Generator().manual_seed(0)).byte()


@pytest.fixture(autouse=True)
def _training():
    """Weights are drawn and trained here."""
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(0)
        yield


@pytest.fixture
def restored_signals():
    kept = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


def parameters(module: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in module.parameters()])


def test_an_optimizer_goes_on_from_its_state_as_if_never_stopped(tmp_path):
    def run(steps, module, optimizer):
        for step in steps:
            optimizer.zero_grad()
            module(torch.full((2, 3), float(step))).square().mean().backward()
            optimizer.step()

    whole, halves = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    halves.load_state_dict(whole.state_dict())
    run(range(6), whole, torch.optim.AdamW(whole.parameters(), lr=0.1))
    first = torch.optim.AdamW(halves.parameters(), lr=0.1)
    run(range(3), halves, first)
    save_state(tmp_path / "a", halves, first, 12.5, 24)
    again = torch.nn.Linear(3, 2)
    second = torch.optim.AdamW(again.parameters(), lr=0.1)
    assert load_state(tmp_path / "a", again, second) == (12.5, 24)
    run(range(3, 6), again, second)
    assert torch.equal(parameters(again), parameters(whole))


def test_training_the_autoencoder_goes_on_and_counts_its_samples(tmp_path, restored_signals):
    state = tmp_path / "vae.safetensors"
    seen = []
    vae = AutoencoderKL(SMALL)
    before = parameters(vae)
    train_vae.train(
        vae, cutouts(), Budget(16), state, done=lambda _, samples, figures: seen.append((samples, sorted(figures)))
    )
    assert not torch.equal(parameters(vae), before)
    again = AutoencoderKL(SMALL)
    train_vae.train(again, cutouts(), Budget(16), state)  # all samples are seen: it only takes what there is
    assert torch.equal(parameters(again), parameters(vae))
    train_vae.train(again, cutouts(), Budget(24), state)
    assert load_state(state, again)[1] == 24
    assert seen == [(16, ["drawn", "moved", "scenes"])]


def test_asked_to_end_it_saves(tmp_path, restored_signals, monkeypatch):
    def asked(*given):
        os.kill(os.getpid(), signal.SIGTERM)
        return render(*given)

    monkeypatch.setattr(train_vae, "held", lambda cutouts: {})
    monkeypatch.setattr(train_vae, "render", asked)
    state = tmp_path / "vae.safetensors"
    train_vae.train(AutoencoderKL(SMALL), cutouts(), Budget(10_000), state, batch=4)
    assert load_state(state, AutoencoderKL(SMALL))[1] == 4


def test_a_budget_is_spent_by_samples_or_by_the_clock():
    assert Budget(samples=100).spent(25, 1e9) == 0.25
    assert Budget(seconds=60).spent(10**9, 30) == 0.5
    assert Budget(100, 60).spent(50, 45) == 0.75
    assert Budget(100, 60).spent(120, 0) == 1


def test_the_defaults_suit_the_device_and_something_ends_the_training():
    cpu, cuda = arguments(["--device", "cpu"]), arguments(["--device", "cuda", "--unet-minutes", "5", "--batch", "512"])
    assert (cpu.batch, cpu.workers, cpu.unet_samples) == (16, 0, 2_500_000)
    assert (cuda.batch, cuda.vae_batch, cuda.unet_samples) == (512, 128, float("inf"))


def test_a_signal_asks_to_stop(restored_signals):
    stopping = Stopping()
    assert not stopping
    os.kill(os.getpid(), signal.SIGTERM)
    assert stopping


@torch.no_grad()
def test_folding_changes_the_latents_scale_and_no_picture():
    vae, x = AutoencoderKL(SMALL).eval(), torch.rand(2, 3, 32, 32)
    latent = vae.moments(x)[0]
    picture = vae.decode(latent)
    mean, spread = torch.tensor([0.5, -1.0, 0.0, 2.0]), torch.tensor([0.5, 2.0, 1.0, 3.0])
    train_vae.fold(vae, mean, spread)
    folded = vae.moments(x)[0]
    torch.testing.assert_close(folded, (latent - mean.view(-1, 1, 1)) / spread.view(-1, 1, 1), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(vae.decode(folded), picture, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_published_latents_have_unit_spread():
    vae, scale, pictures = AutoencoderKL(SMALL).eval(), 0.18215, cutouts()
    train_vae.normalise(vae, pictures, scale, number=16)
    pick = random.Random(2)
    x = render(pictures, train_vae.batch_of(len(pictures), 16, pick))
    latents = (vae.moments(x)[0] * scale).transpose(0, 1).flatten(1)
    torch.testing.assert_close(latents.mean(1), torch.zeros(4), atol=1e-4, rtol=0)
    torch.testing.assert_close(latents.std(1), torch.ones(4), atol=1e-3, rtol=0)


def small_model():
    architecture = {**ARCHITECTURE, "vae": SMALL, "vocabulary": ["apple"]}
    architecture["unet"] = {
        **ARCHITECTURE["unet"],
        "channel_mult": [1, 1],
        "num_res_blocks": 1,
        "attention_resolutions": [1],
    }
    return build(architecture)


def test_a_snapshot_gives_back_the_parts_it_has_and_refuses_another_architecture(tmp_path):
    path = tmp_path / "snapshot.safetensors"
    ours, theirs = small_model(), small_model()
    export(ours, path, {"vae": 800})
    untouched = parameters(theirs.unet)
    assert import_part(theirs, path, "vae") == 800
    assert import_part(theirs, path, "unet") == 0
    assert torch.equal(parameters(theirs.vae), parameters(ours.vae).half().float())
    assert torch.equal(parameters(theirs.unet), untouched)
    export(ours, path, {"vae": 800, "unet": 160})
    assert import_part(theirs, path, "unet") == 160
    assert torch.equal(parameters(theirs.text_encoder), parameters(ours.text_encoder).half().float())
    theirs.architecture["vae"] = {**SMALL, "ch": 64}
    with pytest.raises(ValueError, match="another architecture"):
        import_part(theirs, path, "vae")
    assert import_part(theirs, tmp_path / "none", "vae") == 0


def test_the_published_file_is_written_only_when_asked(tmp_path):
    assert arguments(["--state", str(tmp_path)]).output == tmp_path / CHECKPOINT.name
    assert arguments(["--publish"]).output == CHECKPOINT


def test_the_timesteps_embedding_is_ldms():
    from ldm.modules.diffusionmodules.util import timestep_embedding as theirs

    timesteps = torch.tensor([0, 1, 500, 999])
    torch.testing.assert_close(timestep_embedding(timesteps, 32), theirs(timesteps, 32))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_fast_norm_is_group_norm_with_its_gradients(dtype):
    x = torch.randn(2, 64, 5, 7).to(dtype, memory_format=torch.channels_last)
    outer = torch.randn(2, 64, 5, 7).to(dtype)
    norms = [torch.nn.GroupNorm(32, 64, eps=1e-6) for _ in range(2)]
    with torch.no_grad():
        norms[0].weight.copy_(torch.randn(64))
        norms[0].bias.copy_(torch.randn(64))
    norms[1].load_state_dict(norms[0].state_dict())
    with_fast_norms(norms[1])
    inputs = [x.double().requires_grad_(True), x.clone().requires_grad_(True)]
    norms[0].double()(inputs[0]).backward(outer.double())
    norms[1](inputs[1]).backward(outer)
    bound = 1e-4 if dtype == torch.float32 else 5e-2
    pairs = [(each.weight.grad, each.bias.grad, x.grad) for each, x in zip(norms, inputs, strict=True)]
    for slow, fast in zip(*pairs, strict=True):
        torch.testing.assert_close(fast.double(), slow.double(), atol=bound, rtol=bound)


def test_emoji_are_listed_once_and_every_alias_has_its_emoji():
    assert len(EMOJI) == len(set(EMOJI)) > 900
    assert set(ALIASES) <= set(EMOJI)


def test_the_snapshot_is_of_the_architecture_that_is_trained_and_the_playground_loads_it():
    model = load(SNAPSHOT)
    assert model.architecture == {**ARCHITECTURE, "vocabulary": model.architecture["vocabulary"]}
    assert all(import_part(model, SNAPSHOT, part) > 100_000 for part in ("vae", "unet"))
