"""The speed at the WebUI's edge: the picture a request will draw, what is chosen for it, and what its text keeps."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import webui_stubs
from unets import fresh
from webui_stubs import WithSampler, once

from lib_unetmod.settings.selection import from_infotext
from lib_unetmod.webui import api, host_picture, infotext, sampling, settings
from lib_unetmod.webui.upcoming_picture import Loaded, picture_of


def request(**held: Any) -> SimpleNamespace:
    plain = {"width": 640, "height": 512, "steps": 24, "cfg_scale": 5.0, "sampler_name": "DPM++ 2M", "scheduler": "Karras"}
    return SimpleNamespace(**{**plain, **held})


def test_the_picture_of_a_request_is_that_of_the_page_with_the_same_settings() -> None:
    page = {"width": 640, "height": 512, "steps": 24, "cfg": 5.0, "sampler": "DPM++ 2M", "schedule": "Karras"}
    assert host_picture.upcoming(request()) == picture_of("txt2img", page, Loaded())
    hires = request(enable_hr=True, hr_scale=1.5, hr_second_pass_steps=9, denoising_strength=0.6, hr_sampler_name=None)
    (_, second) = host_picture.upcoming(hires).passes
    assert (second.size, second.steps, second.sampler, second.denoising) == ("960x768", 9, "DPM++ 2M", 0.6)
    (one,) = host_picture.upcoming(request(init_images=["a"], denoising_strength=0.5)).passes
    assert (one.name, one.denoising, len(one.evaluations)) == ("img2img", 0.5, 13)


def test_what_lacks_attributes_is_a_picture_all_the_same() -> None:
    assert host_picture.upcoming(SimpleNamespace()).last.steps == 20


@pytest.mark.parametrize("asked", ({"speed": 2}, {"speed": "2x"}))
def test_a_request_for_a_speed_runs_so_many_times_fewer_and_its_text_repeats_it(monkeypatch: Any, asked: Any) -> None:
    webui_stubs.reset()
    monkeypatch.setattr(sampling, "begin_pass", once(sampling.begin_pass))
    choice = api.read([asked], settings.Defaults())
    p = drawn(choice.selection)
    text = p.extra_generation_params["UNet Mod step forecast"]
    letters = text.removeprefix("plan=")
    assert len(letters) == 10 and letters.count("F") == 5 and "UNet Mod speed" not in p.extra_generation_params
    selection, notes = from_infotext(p.extra_generation_params)
    assert drawn(selection).extra_generation_params["UNet Mod step forecast"] == text and notes == []
    assert infotext.Restore("speed")(p.extra_generation_params) == "off"
    assert infotext.Restore("step_forecast.plan")(p.extra_generation_params) == letters


def test_what_a_request_cannot_reach_is_told_under_its_picture(monkeypatch: Any) -> None:
    webui_stubs.reset()
    monkeypatch.setattr(sampling, "begin_pass", once(sampling.begin_pass))
    p = drawn({"speed": 3}, steps=4)
    sentence = "UNet Mod: Speed 3x cannot be reached with 4 steps: nothing is done. Take 8 steps or more, or use Tune."
    assert list(p.comments) == [sentence]


def test_an_axis_sets_the_speed_of_its_cell() -> None:
    choice = api.with_axes(api.Choice(False), {"speed": "2x"})
    assert choice.on and choice.selection == {"speed": "2x"}
    assert api.with_axes(api.Choice(True, {"speed": "3x", "free_u": {}}), {"speed": "off"}).selection["speed"] == "off"


def drawn(selection: Any, steps: int = 10) -> Any:
    p = WithSampler([fresh("sd1")], steps=steps)
    p.sampler_name, p.scheduler, p.width, p.height, p.cfg_scale = "Euler", "Automatic", 512, 512, 7.0
    webui_stubs.generate(p, selection)
    return p
