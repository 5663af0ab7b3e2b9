"""Tuning in the WebUI: what is sampled for it, what is kept, what the picture is drawn with, and how it ends."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from unets import call, fresh, inputs
from webui_stubs import P, denoiser_params, generate, loaded, processing, sampler_of, shared, sigmas

from lib_unetmod import inspect_unet, what_is_on
from lib_unetmod.settings.profiles import read_file
from lib_unetmod.webui import host, host_picture, sampling
from lib_unetmod.webui.tuning import HostTuning

ASKED = {"speed": "2x", "tune": "quick"}


class Noise:
    """As modules/rng.py's ImageRNG: noise that goes on with each call."""

    def __init__(self, shape, seeds, subseeds=None, subseed_strength=0.0, seed_resize_from_h=0, seed_resize_from_w=0):
        self.shape, self.seeds, self.subseeds, self.subseed_strength = shape, seeds, subseeds, subseed_strength
        self.seed_resize_from_h, self.seed_resize_from_w = seed_resize_from_h, seed_resize_from_w
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def next(self):
        return torch.stack([torch.randn(self.shape, generator=one) for one in self.generators])


class Drawing(P):
    """Samples with Euler's steps from its noise; notes what each call of `sample` was made with."""

    def __init__(self, ends_after=None):
        super().__init__([fresh("sd1")], steps=8)
        self.sampler_name, self.scheduler, self.width, self.height = "Euler", "Automatic", 128, 128
        self.rng, self.seeds, self.prompts = Noise((4, 16, 16), [7]), [7], ["owl"]
        self.sampled, self.ends_after = [], ends_after

    def sample(self):
        (unet,) = self.unets
        shared.sd_model = loaded(unet)
        shared.sd_model.sd_checkpoint_info = SimpleNamespace(name_for_extra="mine", shorthash="0123456789")
        ran: list[int] = []

        def sample_euler(model, x, sigmas):
            for step in range(self.steps):
                sampling.on_cfg_denoiser(denoiser_params(scale=self.cfg_scale))
                timestep = 999.0 * (1 - step / max(self.steps - 1, 1))  # the schedule type Uniform
                given = {"x": x, "timesteps": torch.full((1,), timestep)}
                x = x - call(unet, {**inputs("sd1", batch=1), **given}) / self.steps
            return x

        self.sampler = sampler_of(sample_euler)
        sampling.begin_pass(self)
        handle = unet.middle_block[0].in_layers[1].register_forward_hook(lambda *_: ran.append(1))
        x = self.sampler.func(None, self.rng.next(), sigmas=sigmas(self.steps))
        handle.remove()
        self.sampled.append((self.rng.seeds[0], self.steps, len(ran)))
        shared.state.interrupted = self.ends_after is not None and len(self.sampled) >= self.ends_after
        return x


@pytest.fixture(autouse=True)
def state(monkeypatch, tmp_path):
    """The WebUI's state, and a folder of its own."""
    found = SimpleNamespace(interrupted=False, skipped=False, job_no=0, job_count=1, textinfo=None)
    monkeypatch.setattr(shared, "state", found, raising=False)
    monkeypatch.setattr(shared, "data_path", str(tmp_path), raising=False)
    return found


def files(tmp_path):
    folder = tmp_path / "unetmod" / "presets" / "tuned"
    return [*folder.iterdir()] if folder.exists() else []


@pytest.fixture
def known(monkeypatch):
    """The model that is loaded, as the page and a request see it."""
    monkeypatch.setattr(
        host,
        "loaded",
        lambda: SimpleNamespace(unet=None, trained=512, guides_at_one=True, exact_steps=False, model="mine [0123456789]"),
    )


def test_it_is_searched_before_the_picture_and_kept(tmp_path, state, known):
    p = Drawing()
    generate(p, ASKED)
    (path,) = files(tmp_path)
    profile = read_file(path)
    assert profile.model == "mine [0123456789]" and profile.speed == "2x" and profile.measured["effort"] == 25
    *before, last = p.sampled
    assert {seed for seed, _, _ in before} == {7, 8, 9, 10, 11} and last == (7, 8, 4)
    assert before[:5] == [(seed, 8, 8) for seed in (7, 8, 9, 10, 11)]
    assert any(steps == 4 for _, steps, _ in before) and p.steps == 8
    assert p.extra_generation_params["UNet Mod step forecast"] == f"plan={profile.methods['step_forecast']['plan']}"
    told = " ".join(p.comments)
    assert "Speed 2x: " in told and "Tuning took the time of" in told and told.count("Speed 2x: ") == 1
    assert (state.job_no, state.job_count, state.textinfo) == (0, 1, None)
    assert not what_is_on(p.unets[0])


def test_the_picture_is_the_one_that_its_text_draws_again(tmp_path, known):
    p, again = Drawing(), Drawing()
    results = generate(p, ASKED)
    (path,) = files(tmp_path)
    assert torch.equal(results, generate(again, read_file(path).methods)) and len(again.sampled) == 1


def test_what_is_tuned_is_not_tuned_again(known):
    generate(Drawing(), ASKED)
    for asked in (ASKED, {"speed": "2x"}):
        p = Drawing()
        generate(p, asked)
        assert len(p.sampled) == 1 and p.sampled[0][2] == 4
    asked = {**ASKED, "tune": "thorough"}
    assert HostTuning.asked(asked, lambda: host_picture.upcoming(Drawing()), host.profiles()) is not None


def test_one_picture_more_shows_what_was_found(known):
    p, picture = Drawing(), Image.new("RGB", (128, 128), "#00ff00")
    p.sd_model = SimpleNamespace(decode_first_stage=lambda latents: torch.full((len(latents), 3, 128, 128), 2.0))
    generate(p, ASKED)
    grid = Image.new("RGB", (9, 9))
    processed = SimpleNamespace(images=[grid, picture], index_of_first_image=1, extra_generation_params={})
    sampling.finish(p, processed)
    _grid, first, shown = processed.images
    assert first is picture and shown.width > 2 * 384
    shares = [np.mean((np.asarray(shown) == color).all(-1)) for color in ((0, 255, 0), (255, 255, 255))]
    assert shares[0] == pytest.approx(384 * 384 / (shown.width * shown.height), rel=0.02)
    sampling.finish(p, processed)
    assert len(processed.images) == 3
    again = SimpleNamespace(images=[picture], index_of_first_image=0, extra_generation_params={})
    generate(p, ASKED)
    sampling.finish(p, again)
    assert again.images == [picture]


def test_what_hires_fix_has_decoded_is_shown_as_it_is():
    decoded = processing.DecodedSamples([torch.full((3, 8, 16), 1.0), torch.zeros(3, 8, 16)])
    picture = host.picture_of(SimpleNamespace(), decoded)
    assert picture.size == (16, 8) and picture.getcolors() == [(128, (255, 255, 255))]


def test_where_that_cannot_be_shown_the_picture_is_there(known):
    p, picture = Drawing(), Image.new("RGB", (128, 128))
    p.sd_model = SimpleNamespace()
    generate(p, ASKED)
    processed = SimpleNamespace(images=[picture], index_of_first_image=0, extra_generation_params={})
    sampling.finish(p, processed)
    assert processed.images == [picture]


def drawing_few_steps(monkeypatch, **changes):
    p = Drawing(**changes)
    p.steps, unet = 2, inspect_unet(p.unets[0])
    told = SimpleNamespace(unet=unet, trained=128, guides_at_one=True, exact_steps=False, model="mine [0123456789]")
    monkeypatch.setattr(host, "loaded", lambda: told)
    return p


def test_at_few_steps_parts_of_the_unet_are_left_out(tmp_path, monkeypatch):
    asked = {"speed": "1.3x", "tune": "quick"}
    p = drawing_few_steps(monkeypatch)
    results = generate(p, asked)
    (path,) = files(tmp_path)
    methods, told = read_file(path).methods, " ".join(p.comments)
    assert [*methods] == ["skip_blocks"] and "Speed 1.3x: parts left out, " in told and "cannot be reached" not in told
    assert p.extra_generation_params["UNet Mod skip blocks"].startswith("blocks=") and not what_is_on(p.unets[0])
    again = drawing_few_steps(monkeypatch)
    assert torch.equal(results, generate(again, methods)) and not torch.equal(results, generate(Drawing(), {}))
    later = drawing_few_steps(monkeypatch)
    assert torch.equal(results, generate(later, asked)) and len(later.sampled) == 1


def test_interrupt_while_parts_are_measured_gives_the_picture_as_it_is_without(tmp_path, monkeypatch):
    asked, p = {"speed": "1.3x", "tune": "quick"}, drawing_few_steps(monkeypatch, ends_after=9)
    plain = drawing_few_steps(monkeypatch)
    assert torch.equal(generate(p, asked), generate(plain, {})) and "Tuning was stopped." in " ".join(p.comments)
    assert not files(tmp_path) and not what_is_on(p.unets[0])


@pytest.mark.parametrize("after, kept", [(2, 0), (12, 1)])
def test_interrupt_ends_it_with_the_picture_as_it_is_without(tmp_path, known, after, kept):
    plain, p = Drawing(), Drawing(ends_after=after)
    expected = generate(plain, {})
    assert torch.equal(generate(p, ASKED), expected)
    assert len(p.sampled) == after and len(files(tmp_path)) == kept
    assert "stopped" in " ".join(p.comments) and "UNet Mod step forecast" not in p.extra_generation_params
    assert not what_is_on(p.unets[0])


def test_methods_that_are_on_anyway_are_on_in_all_of_them(tmp_path, known):
    p = Drawing()
    generate(p, {**ASKED, "free_u": {}})
    (path,) = files(tmp_path)
    assert "free_u" not in read_file(path).methods and "UNet Mod free u" in p.extra_generation_params


@pytest.mark.parametrize(
    "asked, said",
    [
        ({**ASKED, "tune": "long"}, "tune is 'long'; it takes off or quick or thorough. It is left out."),
        ({**ASKED, "step_forecast": {}}, "Speed 2x is left out: Step forecast is on"),
    ],
)
def test_what_cannot_be_is_said_and_the_picture_is_drawn(known, asked, said):
    p = Drawing()
    generate(p, asked)
    assert said in " ".join(p.comments) and p.sampled == [(7, 8, 4)]


def test_an_old_webui_says_so(known):
    p = Drawing()
    rng, p.rng = p.rng, None
    p.sample = lambda: rng.next()
    generate(p, ASKED)
    assert "Tuning is left out: it takes a WebUI of version 1.6 or later." in " ".join(p.comments)
