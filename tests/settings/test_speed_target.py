"""Speed: which methods make a picture so much faster, at which settings none can, and what is said of both."""

from __future__ import annotations

import re
from itertools import product
from typing import Any

import pytest
import unets

from lib_unetmod import ConfigError, inspect_unet
from lib_unetmod.core.upcoming_picture import UpcomingPicture
from lib_unetmod.settings.selection import selection_of
from lib_unetmod.settings.speed_target import FEWEST, KNOB, Fitted, fitted, settled
from lib_unetmod.webui.upcoming_picture import Loaded, picture_of

SPEEDS = KNOB.choices[1:]
FULLS = {"1.3x": 15, "1.5x": 13, "2x": 10, "2.5x": 8, "3x": 7}


def page(tab: str = "txt2img", family: str = "sd1", side: int = 512, guides: bool = True, **shown: Any) -> UpcomingPicture:
    unet = inspect_unet(getattr(unets, family)()) if family else None
    given = {"width": side, "height": side, "sampler": "Euler a", "steps": 20, "cfg": 7.0, **shown}
    return picture_of(tab, given, Loaded(unet, guides_at_one=guides))


def chosen(found: Fitted) -> dict[str, Any]:
    return selection_of(found.configs)


@pytest.mark.parametrize("sampler", ("Euler", "Euler a", "DPM++ 2M", "DPM++ 2M SDE", "Heun", "DDIM"))
@pytest.mark.parametrize("word", SPEEDS)
def test_so_many_times_fewer_steps_run(word: str, sampler: str) -> None:
    one = page(sampler=sampler)
    found = fitted(word, (), one)
    (forecast,) = found.configs
    count = len(one.last.evaluations)
    fulls = forecast.plan_of(one.last).letters.count("F")
    assert abs(count / fulls - float(word[:-1])) < 0.2 and found.sentence == ""
    assert found.words == f"{word}: {fulls} of {count} steps run"
    if sampler in ("Euler", "Euler a", "DPM++ 2M", "DPM++ 2M SDE"):
        assert fulls == FULLS[word]


def test_a_sampler_that_chooses_its_steps_on_the_way_is_told_a_share() -> None:
    assert fitted("2x", (), page(sampler="DPM adaptive")).words == "2x: about 50 % of the steps run"


def test_each_pass_has_its_own_steps_and_a_short_one_runs_whole() -> None:
    hires = page(hires=True, hires_scale=2.0, hires_steps=12, denoising=0.9)
    found = fitted("2x", (), hires)
    assert chosen(found) == {"step_forecast": {}} and found.words == "2x: 10 of 20 and 6 of 12 steps run"
    found = fitted("2x", (), page(steps=5, hires=True, hires_steps=20, denoising=0.9))
    assert chosen(found) == {"step_forecast": {"first_pass": False}}
    assert found.words == "2x: 5 of 5 and 10 of 20 steps run"


def test_cfg_1_leaves_the_negative_prompt_out_first_where_the_host_does_not() -> None:
    assert chosen(fitted("2x", (), page(sampler="LCM", cfg=1, steps=4))) == {"guidance_interval": {}}
    assert fitted("1.5x", (), page(cfg=1)).words == "1.5x: negative prompt left out"
    both = chosen(fitted("3x", (), page(cfg=1)))
    assert both == {"guidance_interval": {}, "step_forecast": {"speed": 1.5}}
    assert chosen(fitted("2x", (), page(cfg=1, guides=False))) == {"step_forecast": {}}


@pytest.mark.parametrize("steps", (1, 4, FEWEST - 1))
def test_what_few_steps_cannot_reach_is_said_with_what_can(steps: int) -> None:
    found = fitted("2x", (), page(steps=steps))
    count = f"{steps} step{'s' * (steps > 1)}"
    assert found == Fitted(
        (),
        "2x: too few steps",
        f"Speed 2x cannot be reached with {count}: nothing is done. Take 8 steps or more, or use Tune.",
    )
    large = fitted("2x", (), page(steps=steps, side=1024))
    assert chosen(large) == {"token_downsampling": {}}  # factor 2 at twice the side, as its paper
    assert large.words == "2x: too few steps, Token downsampling only" and "is all that is done" in large.sentence
    assert chosen(fitted("2x", (), page(steps=steps, side=1536))) == {"token_downsampling": {"factor": 3.0}}
    assert fitted("2x", (), page(steps=FEWEST)).words == "2x: 4 of 8 steps run"


def test_step_forecast_that_is_ticked_decides_alone() -> None:
    found = fitted("2x", ("step_forecast",), page())
    assert found.configs == () and found.sentence.startswith("Speed 2x is left out: Step forecast is on")
    ticked = {"speed": 2, "step_forecast": {"speed": 3.0}}
    configs, problems = settled(ticked, page)
    assert selection_of(configs) == {"step_forecast": {"speed": 3.0}} and problems == [found.sentence]
    at_once = settled({"speed": 2, "step_forecast": {"speed": 1}}, page)  # ticked, and at a value that changes nothing
    assert selection_of(at_once[0]) == {"step_forecast": {}} and at_once[1] == []
    # One that is ticked and does nothing leaves the steps to the speed; its name can stand only once.
    assert chosen(fitted("3x", ("guidance_interval",), page(cfg=1))) == {"step_forecast": {"speed": 3.0}}


@pytest.mark.parametrize(
    "given, word", [(2, "2x"), (2.5, "2.5x"), ("2", "2x"), ("2x", "2x"), (" 2X ", "2x"), ("off", "off")]
)
def test_a_speed_may_be_a_number_or_a_word(given: Any, word: str) -> None:
    assert KNOB.parse(given) == word == KNOB.parse(word)


@pytest.mark.parametrize("given", (None, False, 1, 1.0, "1", "off", "1x"))
def test_once_is_off(given: Any) -> None:
    assert (
        KNOB.parse(given) == "off" and settled({"speed": given, "free_u": {}}, page)[0] == settled({"free_u": {}}, page)[0]
    )


@pytest.mark.parametrize("wrong", (7, 0, -2, "fast", True, [2], {}, float("nan"), 10**400, "x"))
def test_another_speed_costs_a_sentence_and_no_method(wrong: Any) -> None:
    with pytest.raises(ConfigError, match=r"^speed is .*; it takes off or 1\.3x or 1\.5x or 2x or 2\.5x or 3x\.$"):
        KNOB.parse(wrong)
    configs, (problem,) = settled({"speed": wrong, "free_u": {}}, page)
    assert (
        selection_of(configs) == {"free_u": {}} and problem.startswith("speed is ") and problem.endswith("It is left out.")
    )


def test_without_a_speed_nobody_asks_for_the_picture() -> None:
    assert settled({"free_u": {}}, lambda: 1 / 0)[1] == [] == settled({}, lambda: 1 / 0)[0]
    assert len(settled("nonsense", lambda: 1 / 0)[1]) == 1


PAGES = list(
    product(
        ("txt2img", "img2img"),
        ("sd1", "sdxl", ""),
        (512, 1024),
        ("Euler a", "DPM++ 2M", "LCM", "DPM++ SDE", "of an extension"),
        (1, 4, 8, 20, 50),
        (1.0, 7.0),
        (0.05, 0.5),
    )
)


@pytest.mark.parametrize("word", ("1.3x", "3x"))
def test_what_is_chosen_acts_and_words_are_short(word: str) -> None:
    for tab, family, side, sampler, steps, cfg, denoising in PAGES:
        upcoming = page(tab, family, side, sampler=sampler, steps=steps, cfg=cfg, denoising=denoising)
        found = fitted(word, (), upcoming)
        assert [config.idle_reason(upcoming) for config in found.configs] == [""] * len(found.configs)
        assert found.configs or found.sentence
        assert found.words.startswith(f"{word}: ") and len(found.words) < 70
        assert not found.sentence or re.fullmatch(r"Speed .*\. Take 8 steps or more, or use Tune\.", found.sentence)
