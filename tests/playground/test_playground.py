"""The playground: evaluations counted, samplers exact, randomness kept, pictures compared, errors in one sentence."""

from __future__ import annotations

import inspect
import json
import shlex
import socket
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from PIL import Image, PngImagePlugin
from safetensors.torch import save_file
from torch import nn

from lib_unetmod import DeepCache, FreeU, GuidanceInterval, SkipBlocks, what_is_on
from lib_unetmod.core.call import Guidance
from lib_unetmod.core.depth import Depth
from lib_unetmod.core.patching import Edit
from lib_unetmod.core.registry import method
from lib_unetmod.playground import cli
from lib_unetmod.playground import model as playground_model
from lib_unetmod.playground.command import IMAGE, OUTPUT, command_line
from lib_unetmod.playground.comparing import compare
from lib_unetmod.playground.distance import distance
from lib_unetmod.playground.report import table, times_line
from lib_unetmod.playground.samplers import SAMPLERS, Course, evaluations
from lib_unetmod.playground.sampling import draw
from lib_unetmod.playground.settings import LABELS, STEPS, Settings, SettingsError

WORDS = ["red", "apple", "owl"]
PREDICTIONS = ("epsilon", "v_prediction")


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # at these sizes threads cost more than they give
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def model():
    """The checkpoint's modules with random weights; the projections that start at zero get some, to have an effect."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = playground_model.build(vocabulary=WORDS).eval().requires_grad_(False)
        for module in model.unet.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)) and not module.weight.any():
                nn.init.normal_(module.weight, std=0.7 * module.weight[0].numel() ** -0.5)
    return model


@pytest.fixture(scope="module")
def checkpoint(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("checkpoint") / "random.safetensors"
    save_file(_tensors(model), path, {"architecture": json.dumps(model.architecture)})
    return path


def _tensors(model):
    return playground_model.to_checkpoint({name: value.contiguous() for name, value in model.state_dict().items()})


def settings(**changes):
    return Settings(**{"prompt": "red apple", "steps": 2, "width": 64, "height": 64, "cfg": 1.0, **changes})


def same(a, b):
    return a.image.tobytes() == b.image.tobytes()


# --- samplers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_timesteps_are_the_models_at_every_number_of_steps(sampler):
    for steps in range(STEPS[0], STEPS[1] + 1):
        timesteps = Course(sampler, steps, steps, "epsilon").timesteps
        assert len(timesteps) == evaluations(sampler, "trailing", steps, steps)
        assert timesteps[0] == 999 and timesteps.min() >= 0


@pytest.mark.parametrize("prediction_type", PREDICTIONS)
@pytest.mark.parametrize("taken", [1, 4, 10])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_perfect_denoiser_is_followed_to_its_latent(sampler, taken, prediction_type, model):
    """What the U-Net is given must be sqrt(a) x0 + sqrt(1-a) noise at its timestep, and what it says must be believed."""
    if sampler == "unipc" and "final_sigmas_type" not in inspect.signature(SAMPLERS[sampler].scheduler).parameters:
        pytest.skip("UniPC of this diffusers does not end clean")
    generator = torch.Generator().manual_seed(1)
    clean = torch.randn(1, 4, 8, 8, generator=generator)
    noise = torch.randn(1, 4, 8, 8, generator=generator)
    course = Course(sampler, 10, taken, prediction_type)
    latent = course.begin(noise, None if taken == 10 else clean)

    def perfect(x, timestep):
        a = model.alphas_cumprod[round(float(timestep))]
        epsilon = (x - a.sqrt() * clean) / (1 - a).sqrt()
        return epsilon if prediction_type == "epsilon" else a.sqrt() * epsilon - (1 - a).sqrt() * clean

    assert torch.allclose(course.run(latent, perfect, generator), clean, atol=2e-3)


def test_the_first_input_holds_the_noise_of_its_timestep(model):
    """In img2img it is the clean latent with as much noise as the schedule has there, whatever the scheduler's scaling."""
    generator = torch.Generator().manual_seed(1)
    clean, noise = (torch.randn(1, 4, 8, 8, generator=generator) for _ in range(2))
    for sampler in SAMPLERS:
        course = Course(sampler, 10, 4, "epsilon")
        seen = []

        def record(x, timestep, seen=seen):
            seen.append((x, timestep))
            return torch.zeros_like(x)

        course.run(course.begin(noise, clean), record, generator)
        x, timestep = seen[0]
        a = model.alphas_cumprod[round(float(timestep))]
        assert torch.allclose(x, a.sqrt() * clean + (1 - a).sqrt() * noise, atol=1e-3), sampler


# --- drawing ----------------------------------------------------------------------------------------------------------


def count_calls(unet):
    calls = []
    return calls, unet.register_forward_pre_hook(lambda _, args: calls.append(len(args[0])))


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_evaluations_are_counted_exactly(sampler, model):
    calls, hook = count_calls(model.unet)
    progress = []
    try:
        picture = draw(model, settings(sampler=sampler, steps=3), progress=lambda *now: progress.append(now))
    finally:
        hook.remove()
    expected = 5 if sampler in ("heun", "dpm++sde") else 3
    assert len(calls) == picture.evaluations == picture.settings.evaluations == expected
    assert progress == [(n, expected) for n in range(1, expected + 1)]


@pytest.mark.parametrize(("strength", "evaluations"), [(0.0, 1), (0.05, 1), (0.5, 2), (0.75, 3), (1.0, 4)])
def test_strength_gives_the_number_of_evaluations(strength, evaluations, model):
    start = Image.new("RGB", (90, 50), "red")
    picture = draw(model, settings(steps=4, strength=strength, image=start))
    assert picture.evaluations == evaluations and picture.image.size == (64, 64)


def test_guidance_takes_both_prompts_in_one_batch_and_none_at_1(model):
    calls, hook = count_calls(model.unet)
    try:
        guided = draw(model, settings(cfg=4.0, negative_prompt="owl"))
        plain = draw(model, settings(cfg=1.0, negative_prompt="owl"))
    finally:
        hook.remove()
    assert calls == [2, 2, 1, 1]
    assert any("negative prompt" in note for note in plain.notes) and not guided.notes


@pytest.mark.parametrize("sampler", ["euler", "euler-a", "lcm"])
def test_a_seed_is_a_picture(sampler, model):
    first, again, other = (draw(model, settings(sampler=sampler, seed=seed)) for seed in (5, 5, 6))
    assert same(first, again) and not same(first, other)


def test_a_drawn_seed_is_told_and_drawn_with(model):
    picture = draw(model, settings(seed=-1))
    assert picture.settings.seed >= 0
    assert same(picture, draw(model, settings(seed=picture.settings.seed)))


def test_times_add_up(model):
    timings = draw(model, settings()).timings
    parts = (timings.text_encoder, timings.unet, timings.vae)
    assert all(part > 0 for part in parts) and sum(parts) <= timings.total
    assert timings.rest == pytest.approx(timings.total - sum(parts))


def test_notes_tell_of_sizes_and_unknown_words(model):
    picture = draw(model, settings(prompt="red zeppelin", width=70))
    assert picture.image.size == (128, 64)
    assert any("70x64" in note and "128x64" in note for note in picture.notes)
    assert any("zeppelin" in note and "red" not in note.split() for note in picture.notes)


def test_a_step_is_called_so_where_it_is_one_evaluation(model):
    assert times_line(draw(model, settings(steps=3))).startswith("3 steps of ")
    assert times_line(draw(model, settings(steps=3, sampler="heun"))).startswith("5 U-Net calls of ")


def test_transparent_pictures_begin_on_white(model):
    clear, white = Image.new("RGBA", (64, 64), (255, 0, 0, 0)), Image.new("RGB", (64, 64), "white")
    assert same(*(draw(model, settings(image=image)) for image in (clear, white)))


@pytest.mark.parametrize(
    "wrong",
    [{"steps": 0}, {"steps": 2.5}, {"cfg": float("nan")}, {"width": 5000}, {"strength": 1.2}, {"sampler": "plms"},
     {"seed": None}, {"seed": 2**32}, {"seed": -2}, {"prompt": None}, {"sampler": []}, {"cfg": 10**400}],
)  # fmt: skip
def test_wrong_settings_are_refused_by_name(wrong):
    (name,) = wrong
    with pytest.raises(SettingsError, match=f"^{LABELS[name]} is .*; it takes .*\\.$"):
        settings(**wrong)


# --- with methods -----------------------------------------------------------------------------------------------------


def test_neutral_settings_give_the_same_picture_bit_for_bit(model):
    comparison = compare(model, settings(), [SkipBlocks()])
    assert same(comparison.plain, comparison.modified) and comparison.distance.identical


def test_a_method_changes_the_picture_and_leaves_the_unet_as_it_was(model):
    before = draw(model, settings())
    comparison = compare(model, settings(), [SkipBlocks(middle=True, levels=2)])
    assert not comparison.distance.identical
    assert what_is_on(model.unet) == {}
    assert same(before, comparison.plain) and same(before, draw(model, settings()))


def test_an_exception_on_the_way_leaves_the_unet_as_it_was(model):
    on = []

    def stop(done, total):
        on.append(what_is_on(model.unet))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        draw(model, settings(), [SkipBlocks(middle=True)], progress=stop)
    assert on[0] and what_is_on(model.unet) == {}


def test_img2img_is_the_pass_it_says(model):
    only_txt2img = [SkipBlocks(levels=2, img2img=False)]
    start = Image.new("RGB", (64, 64), "red")
    assert compare(model, settings(image=start), only_txt2img).distance.identical
    assert not compare(model, settings(), only_txt2img).distance.identical


@pytest.mark.parametrize("image", [None, Image.new("RGB", (64, 64), "red")], ids=["txt2img", "img2img"])
def test_the_run_spans_the_autoencoder_and_knows_seed_and_rows(image, model, monkeypatch, probe):
    runs, on = [], []

    def edits(config, unet, run):
        runs.append(run)
        yield Edit(unet.middle_block.layers[-1].module, lambda call, *args, **kwargs: call(*args, **kwargs))

    method(probe, title="Probe", benefit="", at=Depth.INNERMOST)(edits)
    for name in ("encode_image", "decode"):
        original = getattr(model, name)
        monkeypatch.setattr(model, name, lambda x, original=original: (on.append(what_is_on(model.unet)), original(x))[1])
    draw(model, settings(cfg=4.0, seed=8, image=image), [probe(factor=2)])
    assert len(on) == (1 if image is None else 2) and all(on)
    assert runs[0].vae is model.vae and runs[0].call.seed == 8 and runs[0].guidance == Guidance(4.0, (1, 1))
    draw(model, settings(cfg=1.0), [probe(factor=2)])
    assert runs[1].guidance == Guidance(1.0, (0,))


def test_guidance_in_no_interval_draws_with_the_prompt_alone(model):
    prompt_alone = draw(model, settings(cfg=1.0))
    nowhere = draw(model, settings(cfg=4.0), [GuidanceInterval(guide_from=0, guide_to=0)])
    guided = draw(model, settings(cfg=4.0))
    assert distance(nowhere.image, prompt_alone.image).psnr > 50 > distance(guided.image, prompt_alone.image).psnr
    assert not nowhere.notes


def test_what_is_kept_is_reported_where_something_is(model, probe):
    def edits(config, unet, run):
        store = run.per_stream(lambda: torch.zeros(785_000), lambda tensor: [tensor])

        def keep(call, *args, **kwargs):
            store.get()
            store.count()
            return call(*args, **kwargs)

        yield Edit(unet.middle_block.layers[-1].module, keep)

    method(probe, title="Probe", benefit="", at=Depth.INNERMOST)(edits)
    plain, keeping = draw(model, settings()), draw(model, settings(), [probe(factor=2)])
    assert (plain.kept_bytes, keeping.kept_bytes) == (0, 3_140_000) and same(plain, keeping)
    assert "kept" not in times_line(plain) and times_line(keeping).endswith("; kept between steps: 3.1 MB")
    assert "kept between" not in table(plain, plain)
    assert "Memory kept between steps</th><td>0.0 MB</td><td>3.1 MB</td>" in table(plain, keeping)


# --- the command that draws a picture again ---------------------------------------------------------------------------

QUOTED = {"prompt": "-red 'apple'; $HOME `owl`\nowl", "negative_prompt": '--owl "red"', "cfg": 3.7}
EXACT = {"prompt": "", "sampler": "heun", "cfg": 1 / 3 + 1, "seed": 2**32 - 1, "width": 128}
BEGUN = {"image": Image.effect_noise((64, 64), 80), "strength": 1 / 3 + 0.2, "steps": 5}
AGAIN = [
    ({}, []),
    (QUOTED, [SkipBlocks(middle=True)]),
    (EXACT, [SkipBlocks(blocks=("in.4", "out.7.res"))]),
    (BEGUN, [FreeU(b1=1.2345678901), DeepCache()]),
]


@pytest.mark.parametrize(("changes", "configs"), AGAIN, ids=["plain", "quoting", "exact", "img2img"])
def test_the_command_line_draws_the_same_pixels(changes, configs, checkpoint, tmp_path, monkeypatch):
    model = playground_model.load(checkpoint)
    drawn = draw(model, settings(**changes), configs)
    monkeypatch.chdir(tmp_path)
    if drawn.settings.image is not None:
        drawn.settings.image.save(IMAGE)
    said = shlex.split(command_line(model, drawn.settings, configs))
    assert said[:4] == ["python", "-m", "lib_unetmod.playground", "generate"]
    assert cli.main(said[3:]) == 0
    assert Image.open(OUTPUT).tobytes() == drawn.image.tobytes()


def test_the_command_line_is_short_where_nothing_is_special(model):
    said = command_line(model, settings(), [DeepCache(interval=4)])
    expected = "generate 'red apple' -o picture.png --seed 0 --steps 2 --sampler euler --cfg 1 --width 64 --height 64"
    assert said == f"python -m lib_unetmod.playground {expected} --set deep_cache.interval=4"


# --- distance ---------------------------------------------------------------------------------------------------------


def test_psnr_and_ssim_against_numbers_by_hand():
    black, grey = (Image.new("RGB", (16, 16), (v, v, v)) for v in (0, 51))
    # an error of 51 = 255/5 everywhere: 10 log10(25) = 13.979 dB
    assert distance(black, grey).psnr == pytest.approx(13.9794, abs=1e-4)
    # flat pictures: SSIM is c1 / (51^2 + c1) with c1 = (0.01 * 255)^2 = 6.5025
    assert distance(black, grey).ssim == pytest.approx(6.5025 / (51**2 + 6.5025), rel=1e-6)
    assert str(distance(grey, grey.copy())) == "identical" and distance(grey, grey).ssim == pytest.approx(1)
    with pytest.raises(ValueError, match="sizes"):
        distance(grey, Image.new("RGB", (16, 17)))


# --- the command line -------------------------------------------------------------------------------------------------


@pytest.fixture
def run(checkpoint, capsys):
    def run(*arguments):
        code = cli.main([*map(str, arguments), "--checkpoint", str(checkpoint)])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


SMALL = ("--steps", 1, "--width", 64, "--height", 64)


def test_generate_writes_the_picture(run, tmp_path, model):
    path = tmp_path / "apple.png"
    code, out, _ = run("generate", "red apple", "-o", path, *SMALL, "--seed", 3, "--set", "skip_blocks.levels=1")
    assert code == 0 and "1 step of" in out and "seed 3" in out
    drawn = draw(model, settings(steps=1, cfg=4.0, seed=3), [SkipBlocks(levels=1)])
    assert Image.open(path).tobytes() == drawn.image.tobytes()


def test_compare_writes_one_sheet_for_all_prompts(run, tmp_path):
    sizes = []
    for prompts in (["red apple"], ["red apple", "owl"]):
        path = tmp_path / f"{len(prompts)}.png"
        code, out, _ = run("compare", *prompts, "-o", path, *SMALL, "--set", "skip_blocks.middle=true")
        assert code == 0 and out.count("PSNR") == len(prompts) and out.count("modified: 1 step of") == len(prompts)
        with Image.open(path) as sheet:
            assert isinstance(sheet, PngImagePlugin.PngImageFile)
            sizes.append(sheet.size)
    assert sizes[0][0] == sizes[1][0] >= 2 * 256 and sizes[1][1] - sizes[0][1] > 256


def test_info_names_blocks_words_methods_and_knobs(run):
    code, out, _ = run("info")
    assert code == 0
    for expected in ("sd1", "out.11", "128 + 128", "apple owl red", "skip_blocks", "levels = 0", "from 0 to 3"):
        assert expected in out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--set", "skip_blocks.levels=9"], "levels is 9"),
        (["--set", "skip_blocks.level=1"], "no knob 'level'"),
        (["--set", "skip_block.levels=1"], "no method 'skip_block'"),
        (["--set", "skip_blocks=1"], "METHOD.KNOB=VALUE"),
        (["--set", "skip_blocks.blocks=in.99"], "in.99"),
        (["--steps", "many"], "--steps"),
        (["--seed", "9" * 10_000], "--seed"),
        (["--seed", "-2"], "Seed is -2; it takes a whole number from -1"),
        (["--steps", "0"], "Sampling steps is 0"),
        (["--sampler", "plms"], "Sampling method is 'plms'"),
        (["--image", "nowhere.png"], "nowhere.png"),
        (["-o", "picture.gif"], ".png"),
        (["-o", "no/such/folder/picture.png"], "folder"),
        (["--device", "toaster"], "toaster"),
        (["--frobnicate"], "--frobnicate"),
    ],
)
def test_wrong_input_is_one_sentence_and_exit_code_2(arguments, sentence, run, tmp_path):
    code, out, err = run("generate", "owl", "-o", tmp_path / "x.png", *SMALL, *arguments)
    assert code == 2 and sentence in err and err.count("\n") == 1 and len(err) < 400 and not out
    assert "left out" not in err and not (tmp_path / "x.png").exists()


def test_a_missing_or_foreign_checkpoint_is_one_sentence(tmp_path, capsys):
    foreign = tmp_path / "foreign.safetensors"
    save_file({"a": torch.zeros(1)}, foreign)
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"no tensors here")
    for path in (tmp_path / "nothing.safetensors", foreign, broken):
        assert cli.main(["info", "--checkpoint", str(path)]) == 2
        err = capsys.readouterr().err
        assert err.count("\n") == 1 and path.name in err


@pytest.mark.parametrize(
    ("architecture", "words"),
    [
        ("{}", "it lacks unet"),
        ("[]", "it is no JSON object"),
        ("null", "it is no JSON object"),
        ("{", "it is no JSON object"),
        ("[" * 5000, "it is no JSON object"),
        (json.dumps({**playground_model.ARCHITECTURE, "unet": 3}), "cannot be built"),
        (json.dumps({**playground_model.ARCHITECTURE, "unet": {"model_channels": "wide"}}), "cannot be built"),
        (json.dumps({**playground_model.ARCHITECTURE, "vocabulary": 3}), "cannot be built"),
        (json.dumps({**playground_model.ARCHITECTURE, "vocabulary": ["only"]}), "does not fit the architecture"),
    ],
)
def test_an_architecture_that_cannot_be_built_is_one_sentence(architecture, words, model, tmp_path, capsys):
    path = tmp_path / "strange.safetensors"
    save_file(_tensors(model), path, {"architecture": architecture})
    assert cli.main(["info", "--checkpoint", str(path)]) == 2
    err = capsys.readouterr().err
    assert words in err and err.count("\n") == 1 and path.name in err and len(err) < 600


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(value, model, tmp_path, capsys):
    tensors = _tensors(model)
    key = "model.diffusion_model.out.2.bias"
    tensors[key] = tensors[key].clone()
    tensors[key][0] = value
    save_file(tensors, tmp_path / "nan.safetensors", {"architecture": json.dumps(model.architecture)})
    assert cli.main(["info", "--checkpoint", str(tmp_path / "nan.safetensors")]) == 2
    err = capsys.readouterr().err
    assert f"nan.safetensors is damaged: {key} holds" in err and err.count("\n") == 1


def test_a_wrong_host_or_port_is_one_sentence_that_names_the_option(monkeypatch, capsys):
    monkeypatch.setattr(cli, "_load", lambda options: pytest.fail("the model was loaded first"))
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = busy.getsockname()[1]
        for arguments, words in (
            (["--port", port], f"Port {port} is taken by another program; try --port"),
            (["--host", "1.2.3.4"], "--host 1.2.3.4 is no address of this machine; try --host 127.0.0.1."),
            (["--host", "not an address"], "--host 'not an address' is no address; try --host 127.0.0.1."),
            (["--port", 0], "--port: 0 is no port; it takes 1 to 65535"),
            (["--port", 65536], "--port: 65536 is no port; it takes 1 to 65535"),
            (["--port", "x"], "--port: 'x' is no whole number"),
        ):
            assert cli.main(["page", *map(str, arguments)]) == 2
            err = capsys.readouterr().err
            assert words in err and err.count("\n") == 1


def test_it_runs_as_a_module():
    command = [sys.executable, "-m", "lib_unetmod.playground", "compare", "owl", "-o", "sheet.png"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and "nothing to compare" in done.stderr and "Traceback" not in done.stderr


# --- the page ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def page(model):
    """A client of the launched page, and the values of the panel's controls at first."""
    pytest.importorskip("gradio", minversion="5")
    client = pytest.importorskip("gradio_client")
    from lib_unetmod.playground.page import build, launch
    from lib_unetmod.webui.panel import Panel

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    blocks = build(model)
    launch(blocks, "127.0.0.1", port)
    yield client.Client(f"http://127.0.0.1:{port}/", verbose=False), Panel
    blocks.close()


def from_page(page, on=False, selection=None, **changes):
    client, panel = page
    values = {"prompt": "owl", "negative": "", "sampler": "euler", "steps": 1, "width": 64, "height": 64, "cfg": 1,
              "seed": 0, "image": None, "strength": 0.5, **changes}  # fmt: skip
    return client.predict(*values.values(), *panel.values(on, selection or {}), api_name="/generate")


def test_the_page_draws_both(page, model):
    plain, modified, results, used = from_page(page, on=True, selection={"skip_blocks": {"levels": 2}})
    expected = draw(model, settings(prompt="owl", steps=1), [SkipBlocks(levels=2)])
    assert Image.open(modified).convert("RGB").tobytes() == expected.image.tobytes()
    assert Image.open(plain).convert("RGB").tobytes() != expected.image.tobytes()
    assert "PSNR" in results and "Modified" in results and "--set skip_blocks.levels=2" in used
    assert what_is_on(model.unet) == {}


def test_the_page_draws_the_plain_one_whatever_is_wrong_with_the_methods(page):
    off = from_page(page, on=False, selection={"skip_blocks": {"levels": 2}})
    assert off[0] and off[1] is None and "UNet Mod is off" in off[2]
    no_such_block = from_page(page, on=True, selection={"skip_blocks": {"blocks": ["in.99"]}})
    assert no_such_block[0] and no_such_block[1] is None and "in.99" in no_such_block[2]
    too_late = from_page(page, on=True, selection={"skip_blocks": {"middle": True, "start": 0.9, "end": 0.1}})
    assert too_late[0] and too_late[1] is None and "start" in too_late[2]


def test_the_page_says_what_is_wrong_with_the_settings(page):
    with pytest.raises(Exception, match="Seed is empty"):
        from_page(page, seed=None)
    with pytest.raises(Exception, match="Sampling steps is 2.5; it takes a whole number"):
        from_page(page, steps=2.5)
    with pytest.raises(Exception, match="Width is 5000; it takes a whole number from 64 to 512"):
        from_page(page, width=5000)
    with pytest.raises(Exception, match="Seed is -2; it takes a whole number from -1"):
        from_page(page, seed=-2)
    with pytest.raises(Exception, match="Sampling method is 'plms'"):
        from_page(page, sampler="plms")


@pytest.mark.parametrize("damage", ["no picture", "cut off"])
def test_the_page_names_the_field_of_a_damaged_picture_and_no_path(page, damage, tmp_path):
    handle_file = pytest.importorskip("gradio_client").handle_file
    path = tmp_path / "start.png"
    Image.effect_noise((64, 64), 50).save(path)
    path.write_bytes(path.read_bytes()[:1000] if damage == "cut off" else b"not a picture")
    with pytest.raises(Exception) as refusal:
        from_page(page, image=handle_file(str(path)))
    assert "Start picture: the file cannot be read as a picture." in str(refusal.value)
    assert "start.png" not in str(refusal.value) and "/" not in str(refusal.value)


def test_the_page_repeats_what_it_drew_with(page, model):
    _, modified, _, used = from_page(page, on=True, selection={"skip_blocks": {"levels": 2}}, seed=-1, negative="red")
    options = cli._parser().parse_args(shlex.split(used)[3:])
    again = draw(model, cli._settings(options, options.prompt), cli._configs(options.set))
    assert options.negative == "red" and options.prompt == "owl" and options.seed >= 0
    assert Image.open(modified).convert("RGB").tobytes() == again.image.tobytes()


def test_the_page_says_where_the_known_words_are_and_the_command_line_its_command(page, run, tmp_path):
    assert "Open the list under “The 3 words it knows”." in from_page(page, prompt="zeppelin")[2]
    _, out, _ = run("generate", "zeppelin", "-o", tmp_path / "x.png", *SMALL)
    assert "zeppelin. `info` lists the words it knows." in out


@pytest.mark.parametrize(
    ("platform", "variables", "terminal", "opens"),
    [
        ("linux", {"DISPLAY": ":0"}, True, True),
        ("linux", {"WAYLAND_DISPLAY": "wayland-0"}, True, True),
        ("linux", {}, True, False),
        ("linux", {"DISPLAY": ":0"}, False, False),
        ("linux", {"DISPLAY": ":0", "CI": "true"}, True, False),
        ("linux", {"DISPLAY": ":0", "SSH_CONNECTION": "10.0.0.1 1 10.0.0.2 22"}, True, False),
        ("darwin", {}, True, True),
        ("win32", {}, True, True),
    ],
)
def test_a_browser_opens_where_somebody_sees_it(platform, variables, terminal, opens, monkeypatch):
    from lib_unetmod.playground import page

    for name in ("DISPLAY", "WAYLAND_DISPLAY", "CI", "SSH_CONNECTION"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(page.sys, "platform", platform)
    monkeypatch.setattr(page.sys.stdout, "isatty", lambda: terminal, raising=False)
    assert page.has_desktop() is opens


@pytest.mark.parametrize(("host", "address"), [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("::1", "[::1]")])
def test_the_address_that_opens_can_be_visited(host, address, monkeypatch, capsys):
    from lib_unetmod.playground import page

    opened = []
    monkeypatch.setattr(page, "build", lambda model: SimpleNamespace(block_thread=lambda: None))
    monkeypatch.setattr(page, "launch", lambda *_: None)
    monkeypatch.setattr(page, "has_desktop", lambda: True)
    monkeypatch.setattr(page.webbrowser, "open", opened.append)
    page.serve(None, host, 7865)
    page.serve(None, host, 7865, browser=False)
    assert opened == [f"http://{address}:7865"] and capsys.readouterr().out.count(f"http://{address}:7865 ") == 2


def test_the_page_asks_nobody_else(page):
    import httpx

    answer = httpx.get(page[0].src)
    assert answer.headers["content-security-policy"].startswith("default-src 'self'")
    assert "fonts.googleapis.com/css" not in answer.text
