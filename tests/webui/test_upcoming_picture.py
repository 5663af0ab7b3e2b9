"""What the page's controls say of the next picture."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import unets

from lib_unetmod import DeepShrink, StepForecast, inspect_unet
from lib_unetmod.core.config import knobs
from lib_unetmod.core.target import Target
from lib_unetmod.core.upcoming_picture import UpcomingPicture
from lib_unetmod.settings.profiles import Profile, Profiles, TunedPass
from lib_unetmod.settings.speed_target import fitted
from lib_unetmod.webui.chip import speed_chip
from lib_unetmod.webui.upcoming_picture import Loaded, hires_size, ids_of, picture_of


def sd1() -> Loaded:
    return Loaded(inspect_unet(unets.sd1()))


def test_txt2img_is_one_pass_from_noise() -> None:
    shown = {
        "width": 640,
        "height": 384,
        "steps": 30,
        "sampler": "Euler",
        "schedule": "Automatic",
        "cfg": 5,
        "denoising": 0.3,
    }
    (one,) = picture_of("txt2img", shown, sd1()).passes
    assert (one.name, one.size, one.target, one.steps) == ("first", "640x384", Target(512, 384, 640), 30)
    assert (one.sampler, one.cfg, one.begins, one.denoising, one.guided) == ("Euler", 5, 0, 1, True)
    assert len(one.evaluations) == 30
    assert one.map_size(1) == (48, 80) and one.map_size(4) == (6, 10)


def test_img2img_begins_where_its_denoising_strength_says() -> None:
    (one,) = picture_of("img2img", {"steps": 20, "sampler": "Euler", "denoising": 0.5}, sd1()).passes
    assert (one.name, one.denoising, len(one.evaluations)) == ("img2img", 0.5, 11)
    (exact,) = picture_of("img2img", {"sampler": "Euler", "denoising": 0.5}, Loaded(exact_steps=True)).passes
    assert len(exact.evaluations) == 20


def test_hires_fix_is_a_second_pass_with_what_it_has_of_its_own() -> None:
    shown = {"width": 512, "height": 512, "steps": 20, "sampler": "Euler", "cfg": 7, "denoising": 0.5, "hires": True}
    shown |= {
        "hires_scale": 1.5,
        "hires_steps": 0,
        "hires_sampler": "Use same sampler",
        "hires_schedule": "Use same scheduler",
    }
    first, second = picture_of("txt2img", shown, sd1()).passes
    assert (first.name, first.size, first.begins) == ("first", "512x512", 0)
    assert (second.name, second.size, second.steps, second.sampler, second.cfg) == ("hires", "768x768", 20, "Euler", 7)
    assert second.begins == pytest.approx(20 / 39)
    own = {"hires_steps": 8, "hires_sampler": "DPM++ 2M", "hires_schedule": "Karras", "hires_cfg": 1}
    _, second = picture_of("txt2img", {**shown, **own}, sd1()).passes
    assert (second.steps, second.sampler, second.cfg, len(second.evaluations)) == (8, "DPM++ 2M", 1, 8)


def test_what_was_measured_with_a_sampler_counts_for_its_older_name_too() -> None:
    """Forge Classic writes the schedule type behind the sampler."""
    today = picture_of("txt2img", {"sampler": "DPM++ 2M", "schedule": "Karras"}, sd1())
    older = picture_of("txt2img", {"sampler": "DPM++ 2M Karras"}, sd1())
    assert older.passes == today.passes and older.last.schedule == "karras"
    assert fitted("2x", (), older) == fitted("2x", (), today)


def test_the_speeds_chip_says_what_will_run_or_why_nothing_will() -> None:
    usual, few = (picture_of("txt2img", {"sampler": "Euler", "steps": steps}, sd1()) for steps in (20, 4))
    assert speed_chip("2x", {}, usual) == "<span>2x: 10 of 20 steps run</span>"
    assert speed_chip("2x", {}, None) == "<span>Speed 2x</span>" and speed_chip("off", {}, usual) == ""
    assert speed_chip("2x", {}, few).startswith("<span class='unetmod-idle' title='Speed 2x cannot be reached with 4 steps")
    assert "unetmod-wrong" in speed_chip("<9>", {}, usual) and "<9>" not in speed_chip("<9>", {}, usual)


def test_the_speeds_chip_goes_by_what_step_forecast_is_set_to() -> None:
    usual = picture_of("txt2img", {"sampler": "Euler"}, sd1())
    set_to = {knob.name: place for place, knob in enumerate(knobs(StepForecast))}
    values = [StepForecast().values()[name] for name in set_to]
    assert speed_chip("2x", {"step_forecast": [True, *values]}, usual).endswith(">2x: left to Step forecast</span>")
    for ticked, speed in ((False, 2.0), (True, 1), (True, "fast")):  # not ticked, changes nothing, cannot be read
        values[set_to["speed"]] = speed
        assert speed_chip("2x", {"step_forecast": [ticked, *values]}, usual) == "<span>2x: 10 of 20 steps run</span>"


def test_the_speeds_chip_says_where_parts_of_the_unet_will_be_left_out(tmp_path: Path) -> None:
    few, profiles = picture_of("txt2img", {"steps": 4}, sd1()), Profiles(tmp_path)
    words = "<span>1.3x: parts of the U-Net left out, tuned first</span>"
    assert speed_chip("1.3x", {}, few, "quick", profiles) == words
    hires = picture_of("txt2img", {"steps": 4, "hires": True}, sd1())
    forecast = [True, *(StepForecast().values()[knob.name] for knob in knobs(StepForecast))]
    for picture, own, way in ((few, {}, "off"), (hires, {}, "quick"), (few, {"step_forecast": forecast}, "quick")):
        assert "parts of the U-Net" not in speed_chip("1.3x", own, picture, way, profiles)


def test_size_of_hires_fix() -> None:
    assert hires_size(512, 768, 2.0, 0, 0) == (1024, 1536)
    assert hires_size(512, 768, 2.0, 1024, 0) == (1024, 1536)
    assert hires_size(512, 768, 2.0, 0, 1152) == (768, 1152)
    assert hires_size(512, 768, 2.0, 800, 600) == (800, 600)


def test_forks_leave_the_negative_prompt_out_at_cfg_1() -> None:
    for cfg, guided in ((1, False), (2, True)):
        assert picture_of("txt2img", {"cfg": cfg}, Loaded(guides_at_one=False)).last.guided is guided
        assert picture_of("txt2img", {"cfg": cfg}, Loaded()).last.guided


@pytest.mark.parametrize("value", [None, "", "many", math.nan, math.inf, -5, True, [], {}, 10**400, 0, 1e300])
def test_a_control_that_is_missing_or_holds_nonsense_does_no_harm(value: Any) -> None:
    for tab in ("txt2img", "img2img"):
        shown = dict.fromkeys(ids_of(tab), value)
        for given in (shown, {**shown, "hires": True}, {}):
            picture = picture_of(tab, given, Loaded())
            assert isinstance(picture, UpcomingPicture) and picture.last.target.width >= 1
            DeepShrink(end=0.4).idle_reason(picture)


def test_without_a_model_what_hangs_on_it_is_not_claimed() -> None:
    picture = picture_of("txt2img", {"width": 512, "height": 512}, Loaded())
    assert picture.unet is None and DeepShrink().idle_reason(picture) == ""
    assert "is not above 1.3 x native 512 px" in DeepShrink().idle_reason(
        picture_of("txt2img", {"width": 512, "height": 512}, sd1())
    )


@pytest.mark.parametrize(
    "way, words", [("off", ""), ("quick", ", tuned first"), ("thorough", ", tuned first"), (["quick"], "")]
)
def test_the_speeds_chip_says_that_it_is_tuned_first_until_it_was(tmp_path: Path, way: Any, words: str) -> None:
    picture = replace(picture_of("txt2img", {"steps": 20}, sd1()), model="mine [1]")
    profiles = Profiles(tmp_path)
    assert speed_chip("2x", {}, picture, way, profiles) == f"<span>2x: 10 of 20 steps run{words}</span>"
    methods = {"step_forecast": {"plan": "FFPPFPFPFPFPFPFPFPFP"}}
    passes = tuple(TunedPass.of(one) for one in picture.passes)
    profiles.keep(Profile("mine [1]", "2x", passes, methods, {"effort": 25.0}))
    more = words if way == "thorough" else ""
    assert speed_chip("2x", {}, picture, way, profiles) == f"<span>2x: 10 of 20 steps run, tuned{more}</span>"
