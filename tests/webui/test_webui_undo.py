"""The undo at the WebUI's edge: the methods act while `p.sample` runs, and nothing is left whatever ends it."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest
import torch
import webui_stubs
from contract import snapshot
from unets import fresh, inputs
from webui_stubs import ENTRY, SKIP, VAE, P, denoiser_params, generate, loaded, sd_unet, shared

from lib_unetmod import what_is_on
from lib_unetmod.core.call import Guidance
from lib_unetmod.core.depth import Depth
from lib_unetmod.core.patching import Edit
from lib_unetmod.core.registry import method
from lib_unetmod.core.run import Run
from lib_unetmod.settings.selection import INFOTEXT_NOTE
from lib_unetmod.webui import api, sampling, settings


@pytest.fixture(autouse=True)
def fresh_webui():
    webui_stubs.reset()
    yield
    assert sampling._current is None


@pytest.fixture(scope="module")
def sd1():
    return fresh("sd1")


@pytest.fixture(scope="module")
def sdxl():
    return fresh("sdxl")


def said(p: P) -> str:
    """Everything under the picture."""
    return " ".join(p.comments)


def test_acts_while_sampling_and_leaves_nothing(sd1):
    before, plain = snapshot(sd1), generate(P([sd1]))
    p = P([sd1])
    on = generate(p, SKIP)
    assert not torch.equal(on[0], plain[0]) and all(count for _, count in p.seen)
    assert p.extra_generation_params == {"Size": "64x64", ENTRY: "middle=true; levels=1"}
    assert snapshot(sd1) == before and "sample" not in vars(p)
    assert torch.equal(generate(P([sd1]))[0], plain[0])


@pytest.mark.parametrize("error", [RuntimeError("broken"), KeyboardInterrupt(), GeneratorExit(), MemoryError()])
def test_undone_whatever_ends_the_sampling(sd1, error):
    before = snapshot(sd1)
    with pytest.raises(type(error)):
        generate(P([sd1], ends_with=error), SKIP)
    assert snapshot(sd1) == before and sampling._current is None


def test_a_shadow_acts_once_and_then_passes_on(sd1):
    p = P([sd1])
    shared.sd_model = loaded(sd1)
    sampling.prepare(p, api.read([SKIP], settings.read()))
    sampling.arm(p)
    kept = p.sample
    kept()
    kept()
    p.sample()
    assert [count > 0 for _, count in p.seen] == [True, True, False, False, False, False]


def test_batches_and_reused_p_are_modified_once_each(sd1):
    p = P([sd1], steps=1)
    generate(p, SKIP)
    sampling.arm(p)
    p.sample()
    generate(p, SKIP)
    assert len({count for _, count in p.seen}) == 1


def test_a_copied_p_samples_itself(sd1):
    p = P([sd1])
    sampling.prepare(p, api.read([SKIP], settings.read()))
    sampling.arm(p)
    cell = copy.copy(p)
    cell.seen = []
    generate(cell)
    assert cell.seen and not p.seen and all(count == 0 for _, count in cell.seen)


@pytest.mark.parametrize("first", [True, False])
def test_a_foreign_shadow_survives(sd1, first):
    p, calls = P([sd1], steps=1), []

    def put_on_foreign() -> None:
        original = p.sample
        p.sample = lambda: calls.append(1) or original()

    shared.sd_model = loaded(sd1)
    sampling.prepare(p, api.read([SKIP], settings.read()))
    steps = [put_on_foreign, lambda: sampling.arm(p)]
    for step in steps if first else reversed(steps):
        step()
    foreign = vars(p)["sample"] if not first else None
    p.sample()
    p.sample()
    assert calls == [1, 1] and [count > 0 for _, count in p.seen] == [True, False]
    assert foreign is None or vars(p)["sample"] is foreign


def test_follows_a_refiner_and_says_what_it_refuses(sd1, sdxl):
    before = snapshot(sd1), snapshot(sdxl)
    p = P([sd1, sdxl])
    shared.sd_model = loaded(sd1)

    def sample() -> None:
        for unet in (sd1, sdxl, sd1):
            shared.sd_model = loaded(unet)
            sampling.on_cfg_denoiser(None)
            p.seen.append(("", len(what_is_on(unet))))

    p.sample = sample
    sampling.prepare(p, api.read([{"skip_blocks": {"levels": 3}}], settings.read()))
    sampling.arm(p)
    p.sample()
    assert [count > 0 for _, count in p.seen] == [True, False, True]
    assert "levels is 3" in said(p) and p.extra_generation_params[INFOTEXT_NOTE] == "Skip U-Net blocks did nothing"
    assert (snapshot(sd1), snapshot(sdxl)) == before


def test_a_method_that_is_refused_leaves_the_others_on(sdxl, probe):
    p = P([sdxl])
    p.family = "sdxl"
    generate(p, {"skip_blocks": {"levels": 3}, "probe": {"factor": 2}, "unknown": {}})
    assert all(count for _, count in p.seen)
    assert p.extra_generation_params["UNet Mod probe"] == "factor=2" and ENTRY not in p.extra_generation_params
    assert "levels is 3" in said(p) and "unknown" in said(p) and len(p.comments) == 2
    assert p.extra_generation_params[INFOTEXT_NOTE] == "Skip U-Net blocks; general"


def test_of_two_that_do_not_go_together_the_first_acts(sd1):
    p = P([sd1])
    generate(p, {"deep_cache": {}, "encoder_reuse": {}, "skip_blocks": {"middle": True}})
    assert "UNet Mod deep cache" in p.extra_generation_params and ENTRY in p.extra_generation_params
    assert "UNet Mod encoder reuse" not in p.extra_generation_params
    assert "do not work together" in said(p) and "Faster Diffusion (encoder reuse) is left out" in said(p)
    assert p.extra_generation_params[INFOTEXT_NOTE] == "DeepCache; Faster Diffusion"


def test_passes_are_announced(sd1):
    p = P([sd1], steps=1, hires=True)
    generate(p, SKIP)
    assert [name for name, _ in p.seen] == ["first", "hires"]
    p = P([sd1], steps=1)
    p.init_images = [object()]
    generate(p, SKIP)
    assert [name for name, _ in p.seen] == ["img2img"]


def test_inner_generation_during_sampling_keeps_the_outer_run(sd1):
    outer = P([sd1], steps=1)
    sample = outer.sample

    def with_inner() -> None:
        run = sampling._current.run
        generate(P([sd1], steps=1), SKIP)
        assert sampling._current.run is run
        sample()

    outer.sample = with_inner
    generate(outer, SKIP)
    assert all(count for _, count in outer.seen)


@pytest.mark.parametrize(
    ("unet", "word"),
    [(torch.nn.Linear(2, 2), "Only the U-Nets of Stable Diffusion"), (None, "no U-Net")],
)
def test_a_model_that_cannot_be_modified_is_said(unet, word):
    p = P([unet])
    p.sample = lambda: "picture"
    assert generate(p, SKIP) == "picture"
    assert word in said(p) and ENTRY not in p.extra_generation_params
    assert p.extra_generation_params[INFOTEXT_NOTE] == "general"


def test_live_sd_unet_and_rivals_are_said_once(sd1, capsys):
    sd_unet.current_unet = SimpleNamespace(option=SimpleNamespace(label="TRT"))
    p = P([sd1])
    generate(p, SKIP)
    assert "TRT" in said(p) and all(count == 0 for _, count in p.seen)
    sd_unet.current_unet = None
    p = P([sd1])
    p.get_token_merging_ratio = lambda for_hr=False: 0.5
    generate(p, {**SKIP, "hyper_tile": {"tile": 32}})
    sampling.arm(p)
    p.sample()
    assert capsys.readouterr().out.count("token merging") == 1
    assert p.extra_generation_params[ENTRY] and "token merging" in said(p)


def test_cells_of_a_plot_do_not_share_our_entries(sd1):
    p = P([sd1])
    on, off = copy.copy(p), copy.copy(p)
    generate(on, axes={"skip_blocks.levels": "2"})
    generate(off, axes={"skip_blocks.levels": "2", "switch": "false"})
    assert on.extra_generation_params[ENTRY] == "levels=2"
    assert off.extra_generation_params == {"Size": "64x64"} == p.extra_generation_params


def test_the_run_knows_seed_and_autoencoder_and_the_rows(sd1):
    p, told = P([sd1], steps=1), []
    p.seeds, sample = [41, 42], p.sample

    def looking() -> None:
        sample()
        run = sampling._current.run
        told.append((run.call.seed, run.vae, run.guidance))

    p.sample = looking
    generate(p, SKIP)
    assert told == [(41, VAE, Guidance(7.0, (0, 0)))]


def test_negative_rows_are_left_out_at_cfg_1(sd1):
    rows = {"guidance_interval": {}}
    for cfg_scale, left_out in ((1.0, True), (7.0, False)):
        p = P([sd1], steps=1)
        p.cfg_scale = cfg_scale
        (out,) = generate(p, rows)
        assert torch.equal(out[0], out[1]) == left_out
        assert bool(p.comments) == (not left_out) == ("no speedup at CFG 7" in said(p))
    assert "UNet Mod guidance interval" in p.extra_generation_params


class Keeping:
    """A method that keeps something and negates the autoencoder's output if `vae`, and a `p` whose latents get decoded."""

    def __init__(self, probe, vae: bool) -> None:
        held = torch.zeros(785_000)

        def edits(config, unet, run):
            store = run.per_stream(lambda: held, lambda tensor: [tensor])

            def keep(call, *args, **kwargs):
                store.get()
                store.count()
                return call(*args, **kwargs).clone()

            yield Edit(unet.middle_block.layers[-1].module, keep)
            if vae:
                yield Edit(run.vae[0], lambda call, latent: -call(latent))

        method(probe, title="Probe", benefit="", at=Depth.INNERMOST)(edits)

    def p(self, unet) -> P:
        p = P([unet], steps=1)
        p.sample = lambda: P.sample(p)[0]
        p.sd_model = SimpleNamespace(decode_first_stage=VAE)
        return p


def test_what_is_kept_is_said_on_the_console_only(sd1, probe, capsys):
    p = Keeping(probe, vae=False).p(sd1)
    generate(p, {"probe": {"factor": 2}})
    assert capsys.readouterr().out == "UNet Mod: kept 3.1 MB between steps.\n"
    assert not p.comments
    generate(P([sd1]), SKIP)
    assert capsys.readouterr().out == ""


def test_decodes_inside_for_methods_that_act_on_the_autoencoder(sd1, probe):
    before, keeping = (snapshot(sd1), snapshot(VAE)), Keeping(probe, vae=True)
    plain = P([sd1], steps=1).sample()[0]
    out = generate(keeping.p(sd1), {"probe": {"factor": 2}})
    assert out.already_decoded
    torch.testing.assert_close(torch.stack(list(out)), -plain)
    assert (snapshot(sd1), snapshot(VAE)) == before
    # Hires fix comes back decoded.
    p = keeping.p(sd1)
    p.sample = lambda: out
    assert generate(p, {"probe": {"factor": 2}}) is out


def test_decodes_nothing_for_other_methods(sd1, probe):
    out = generate(Keeping(probe, vae=False).p(sd1), {"probe": {"factor": 2}})
    assert isinstance(out, torch.Tensor)


class Decoding(P):
    """A `p` whose sampler runs as the WebUI's does, and which says what is kept when its latents would be decoded."""

    def sample(self):
        self.kept, results = [], []
        for is_hr_pass in (False, True):
            self.is_hr_pass = is_hr_pass
            self.sampler = type("Sampler", (), {"launch_sampling": lambda sampler, steps, run: run()})()
            sampling.begin_pass(self)
            results.append(self.sampler.launch_sampling(2, self._evaluated))
            self.kept.append(sampling._current.run._ledger.bytes_held)
            assert "launch_sampling" not in vars(self.sampler)
        return results[-1]

    def _evaluated(self):
        shared.sd_model = loaded(self.unets[0])
        for timestep in (900, 880):
            sampling.on_cfg_denoiser(denoiser_params())
            out = self.unets[0](**inputs(self.family, timestep=timestep))
        self.most = sampling._current.run._ledger.bytes_held
        return out


def test_caches_are_let_go_before_each_pass_is_decoded(sd1):
    p = Decoding([sd1])
    generate(p, {"encoder_reuse": {"interval": 2, "reach": 1}})
    assert p.kept == [0, 0] and p.most > 0


def test_methods_are_asked_and_not_installed_to_learn_whether_they_can_be_used(sd1, monkeypatch):
    entered, enter = [], Run._enter
    monkeypatch.setattr(Run, "_enter", lambda run: (entered.append(run.methods), enter(run))[1])
    generate(P([sd1], steps=1), {"skip_blocks": {"middle": True}, "free_u": {}})
    assert entered == [("free_u", "skip_blocks")]
