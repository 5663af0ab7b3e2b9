"""A method that was on and did nothing: told under the picture, to the API and in the file, in its grey chip's words."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import webui_stubs
from unets import fresh, inputs
from webui_stubs import SKIP, P, denoiser_params, generate, shared

from lib_unetmod import METHODS, ColorMap, Config, DeepShrink, inspect_unet
from lib_unetmod.core.config import knobs
from lib_unetmod.core.registry import method_of
from lib_unetmod.settings.selection import INFOTEXT_NOTE, from_infotext
from lib_unetmod.webui import chip, host, infotext, sampling
from lib_unetmod.webui.sampling_steps import course
from lib_unetmod.webui.upcoming_picture import Loaded, picture_of

SHRINK = {"deep_shrink": {"auto": False, "above": 0, "factor": 2, "end": 0.35}}


@pytest.fixture(autouse=True)
def fresh_webui():
    webui_stubs.reset()
    yield
    assert sampling._current is None


@pytest.fixture(scope="module")
def sd1():
    return fresh("sd1")


class Img2Img(P):
    """A `p` of img2img that evaluates where AUTOMATIC1111's Euler does, at denoising strength 0.5 of 20 steps."""

    denoising_strength = 0.5
    init_images = (object(),)

    def sample(self) -> list[torch.Tensor]:
        sampling.begin_pass(self)
        shared.sd_model = webui_stubs.loaded(self.unets[0])
        for progress in course("Euler", "Automatic", 20, self.denoising_strength).evaluations:
            sampling.on_cfg_denoiser(denoiser_params())
            self.unets[0](**inputs(self.family, timestep=999 * (1 - progress)))
        return []


def page(unet: Any, **changed: Any) -> Any:
    """What the page's controls say of such a picture."""
    shown = {"width": 128, "height": 128, "steps": 20, "sampler": "Euler", "denoising": 0.5, **changed}
    return picture_of("img2img", shown, Loaded(inspect_unet(unet)))


def told(p: P) -> list[str]:
    return [comment.removeprefix(host.PREFIX) for comment in p.comments]


@pytest.mark.parametrize("config", [DeepShrink(), ColorMap()], ids=["shrink", "colors"])
def test_what_ends_before_img2img_begins_is_grey_beforehand(sd1, config: Config):
    grey = chip.summary_chip(method_of(config), _in_order(config), page(sd1, width=1024, height=1024))
    assert "unetmod-idle" in grey and f"{config.short}: nothing to do at denoising strength 0.5" in grey
    ends = "0.35" if config.short == "Deep Shrink" else "0.15"
    assert f"ends at {ends}, and img2img begins at 0.47 with this denoising strength." in grey
    noise = chip.summary_chip(method_of(config), _in_order(config), page(sd1, width=1024, height=1024, denoising=1))
    assert "unetmod-idle" not in noise


def _in_order(config: Config) -> list[Any]:
    """The method's toggle and knobs as its chip is given them."""
    return [True, *(getattr(config, one.name) for one in knobs(type(config)))]


@pytest.mark.parametrize("asked, config", [(SHRINK, DeepShrink(**SHRINK["deep_shrink"])), ({"color_map": {}}, ColorMap())])
def test_the_sentence_is_the_chips_and_stands_once_everywhere(sd1, asked, config):
    p, name = Img2Img([sd1]), config.short
    generate(p, asked)
    assert told(p) == [config.idle_reason(page(sd1))]
    assert f"{name} ends at " in told(p)[0] and "img2img begins at 0.47" in told(p)[0]
    assert p.extra_generation_params[INFOTEXT_NOTE] == f"{name} did nothing"
    processed = SimpleNamespace(extra_generation_params=p.extra_generation_params)
    sampling.finish(p, processed)
    assert processed.extra_generation_params["UNet Mod notes"] == told(p)[0]
    # Pasting restores the setting all the same, and so it does in 0.1.0, which knows the note and no other words.
    assert from_infotext(p.extra_generation_params)[1] == []
    assert infotext.Restore(method_of(config).name)(p.extra_generation_params) is True


def test_what_acts_is_not_told_of(sd1):
    p = Img2Img([sd1])
    generate(p, {**SKIP, "deep_shrink": {**SHRINK["deep_shrink"], "end": 0.6}})
    assert told(p) == [] and INFOTEXT_NOTE not in p.extra_generation_params


def test_of_several_that_do_nothing_each_is_told(sd1):
    p = Img2Img([sd1])
    generate(p, {**SHRINK, "color_map": {}, "guidance_interval": {}})
    assert len(told(p)) == 3 and any("no speedup at CFG 7" in one for one in told(p))
    note = p.extra_generation_params[INFOTEXT_NOTE]
    assert note == "Skip negative prompt + Deep Shrink + Color map did nothing" and len(note) <= 60
    assert len(from_infotext(p.extra_generation_params)[0]) == 3


def test_in_a_file_those_that_did_nothing_come_first_and_are_counted_last():
    assert infotext.in_short(["FreeU: b1 is 9."], ["deep_shrink"]) == "Deep Shrink did nothing; FreeU"
    everything = infotext.in_short(["The model changed."], list(METHODS))
    assert len(everything) <= 60 and "did nothing; " in everything and everything.endswith(" more")


@pytest.mark.parametrize("how", ["interrupted", "skipped"])
def test_nothing_is_told_of_a_picture_that_was_stopped(sd1, how, monkeypatch):
    monkeypatch.setattr(shared, "state", SimpleNamespace(**{how: True}), raising=False)
    p = Img2Img([sd1])
    generate(p, SHRINK)
    assert told(p) == [] and INFOTEXT_NOTE not in p.extra_generation_params


def test_a_unet_that_was_not_called_is_told_too(sd1):
    p = Img2Img([sd1])
    p.sample = list
    generate(p, SKIP)
    assert told(p) == ["Skip blocks did nothing in this image."]


def test_a_batch_after_one_of_the_same_tells_nothing_twice(sd1):
    p = Img2Img([sd1])
    generate(p, SHRINK)
    sampling.arm(p)
    p.sample()
    assert len(told(p)) == 1 and p.extra_generation_params[INFOTEXT_NOTE] == "Deep Shrink did nothing"


# The WebUI's token merging beside ours.


def test_of_two_token_mergings_the_webuis_acts_and_one_sentence_says_so(sd1):
    p = P([sd1])
    p.get_token_merging_ratio = lambda for_hr=False: 0.5
    generate(p, {"token_merging": {}, **SKIP})
    (sentence,) = told(p)
    assert sentence.startswith("Token merging (ToMe) is left out, because the WebUI's own is on.")
    assert "UNet Mod token merging" not in p.extra_generation_params and all(count for _, count in p.seen)
    assert p.extra_generation_params[INFOTEXT_NOTE] == "Token merging"
    p = P([sd1])
    p.get_token_merging_ratio = lambda for_hr=False: 0.5 * for_hr
    generate(p, {"token_merging": {}})
    assert told(p) == [] and "UNet Mod token merging" in p.extra_generation_params


# Who joins prompt and negative prompt.


def joined_by(denoiser: Any) -> str:
    params = denoiser_params(scale=1.0)
    vars(denoiser).update(vars(params.denoiser))
    params.denoiser = denoiser
    return host.guidance_of(params).joined_by()


def function_of(file: str, name: str, **globals_: Any) -> Any:
    """A function as if it were written in that file of that module."""
    namespace = {"__name__": name, **globals_}
    exec(compile("def combine_denoised(*args, **kwargs): pass", file, "exec"), namespace)
    return namespace["combine_denoised"]


OWN = function_of("/webui/modules/sd_samplers_cfg_denoiser.py", "modules.sd_samplers_cfg_denoiser")
DYNAMIC = function_of("/webui/extensions/sd-dynamic-thresholding/scripts/a.py", "dynamic_thresholding.py")


class WebUIs:
    combine_denoised = OWN


class DynamicThresholdings(WebUIs):
    combine_denoised = DYNAMIC


def test_another_function_that_joins_the_rows_is_seen_wherever_it_stands():
    name = "sd-dynamic-thresholding"
    assert joined_by(SimpleNamespace()) == "" == joined_by(WebUIs())
    assert joined_by(DynamicThresholdings()) == name
    patched = WebUIs()
    patched.combine_denoised = DYNAMIC
    assert joined_by(patched) == name
    patched.combine_denoised = WebUIs().combine_denoised  # as its undoing leaves it
    assert joined_by(patched) == ""
    patched.combine_denoised = function_of("<string>", "somewhere.else")
    assert joined_by(patched) == "else"


@pytest.mark.parametrize("enabled", [True, False])
def test_a_function_that_says_that_it_is_off_counts_for_what_it_stands_in_for(enabled):
    state = SimpleNamespace(is_enabled=enabled)
    file = "/webui/extensions/sd-webui-neutral-prompt/lib_neutral_prompt/cfg_denoiser_hijack.py"
    hijack = function_of(file, "lib_neutral_prompt.cfg_denoiser_hijack", global_state=state)
    patched = WebUIs()
    patched.combine_denoised = partial(hijack, original_function=patched.combine_denoised)
    assert joined_by(patched) == ("sd-webui-neutral-prompt" if enabled else "")


@pytest.mark.parametrize("when", ["before", "after our callback"])
def test_rows_that_another_extension_works_with_are_not_left_out(sd1, when):
    """Incantations' callback comes after ours: its function is looked for when the U-Net is called."""
    denoiser = WebUIs()

    class Joined(Img2Img):
        def sample(self) -> torch.Tensor:
            params = denoiser_params(scale=1.0)
            vars(denoiser).update(vars(params.denoiser))
            params.denoiser = denoiser
            shared.sd_model = webui_stubs.loaded(self.unets[0])
            if when == "before":
                denoiser.combine_denoised = DYNAMIC
            sampling.on_cfg_denoiser(params)
            denoiser.combine_denoised = DYNAMIC
            return self.unets[0](**inputs(self.family))

    p = Joined([sd1])
    out = generate(p, {"guidance_interval": {}})
    assert torch.equal(out, sd1(**inputs("sd1")))
    assert told(p) == ["Skip negative prompt is off: sd-dynamic-thresholding needs the negative prompt too."]
    assert p.extra_generation_params[INFOTEXT_NOTE] == "Skip negative prompt did nothing"
