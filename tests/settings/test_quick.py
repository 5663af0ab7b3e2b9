"""Faster, Larger and More detail: chosen is what acts at these settings and did not lose by what was measured."""

from __future__ import annotations

import re
from itertools import product
from typing import Any

import pytest
import unets

from lib_unetmod import inspect_unet
from lib_unetmod.core.upcoming_picture import UpcomingPicture
from lib_unetmod.settings.measured import measured
from lib_unetmod.settings.presets import BUILT_IN
from lib_unetmod.settings.quick import GOALS, acting, quick
from lib_unetmod.settings.selection import configs_of, selection_of
from lib_unetmod.webui.upcoming_picture import Loaded, picture_of


def page(tab: str = "txt2img", family: str = "sd1", side: int = 512, **shown: Any) -> UpcomingPicture:
    unet = inspect_unet(getattr(unets, family)()) if family else None
    given = {"width": side, "height": side, "sampler": "Euler a", "steps": 20, "cfg": 7.0, **shown}
    return picture_of(tab, given, Loaded(unet))


@pytest.mark.parametrize("sampler", ("Euler", "Euler a", "DPM++ 2M", "DPM++ 2M SDE"))
def test_faster_takes_the_plan_that_pays_with_the_sampler(sampler: str) -> None:
    selection, sentence = quick("faster", page(sampler=sampler))
    assert selection == {"step_forecast": {}}
    (two_times,) = [one for one in measured()["step_forecast"] if one.setting == "speed=2"]
    assert sampler in two_times.pays_with
    time = f"{100 * two_times.time:.0f} %"
    assert sentence == f"Set: Step forecast 2x. Step forecast takes {time} of the time (test model)."


def test_faster_takes_the_cache_that_pays_with_a_sampler_like_it() -> None:
    """What is said of a sampler that was not measured, and the figure that is not."""
    selection, sentence = quick("faster", page(sampler="DPM2 a"))
    assert selection == {"deep_cache": {"interval": 2}} and "%" not in sentence and "measured with Euler a" in sentence
    selection, _ = quick("faster", page(sampler="DDIM"))
    assert selection == {"deep_cache": {"interval": 2}}


def test_faster_says_where_fewer_steps_are_better() -> None:
    for sampler in ("Heun", "UniPC"):
        selection, sentence = quick("faster", page(sampler=sampler))
        assert selection == {}
        assert sentence == f"At 20 steps with {sampler}, fewer steps are the better way to save time; nothing was set."
    selection, sentence = quick("faster", page(steps=8))
    assert selection == {} and sentence.startswith("At 8 steps there is too little to reuse")


def test_faster_at_cfg_1_leaves_the_negative_prompt_out_where_the_host_does_not() -> None:
    assert quick("faster", page(sampler="LCM", steps=4, cfg=1)).selection == {"guidance_interval": {}}
    fork = picture_of("txt2img", {"sampler": "LCM", "steps": 4, "cfg": 1}, Loaded(guides_at_one=False))
    assert quick("faster", fork).selection == {}


def test_faster_makes_attention_coarser_where_the_picture_is_large() -> None:
    large = quick("faster", page(side=1024, sampler="UniPC"))
    assert large.selection == {"token_downsampling": {}}  # factor 2 at twice the side, as its paper
    assert quick("faster", page(side=1536, sampler="UniPC")).selection == {"token_downsampling": {"factor": 3.0}}
    assert quick("faster", page(side=1024, family="sdxl", sampler="UniPC")).selection == {}
    hires = page(sampler="UniPC", hires=True, hires_scale=2.0, denoising=0.5)
    assert quick("faster", hires).selection == {"token_downsampling": {"first_pass": False}}


def test_larger_at_the_models_own_size_sets_nothing() -> None:
    selection, sentence = quick("larger", page())
    assert selection == {}
    assert sentence == "512x512 is this model's native size: choose a larger size, or Hires. fix, then press Larger."
    assert "not above this model's native size, 512x512" in quick("larger", page(side=384)).sentence
    assert "only 1.2 times" in quick("larger", page(side=640)).sentence
    assert quick("larger", page(side=1024, family="sdxl")).selection == {}


def test_larger_composes_at_the_models_own_size() -> None:
    selection, sentence = quick("larger", page(side=1024))
    assert selection == {"deep_shrink": {}, "hi_diffusion": {"raunet": False}}
    assert "Composed as at 512x512" in sentence
    assert quick("larger", page(side=1024, steps=4, cfg=1)).selection == {"hi_diffusion": {}}
    # The second pass of hires fix begins after Deep Shrink has ended.
    hires = quick("larger", page(hires=True, hires_scale=2.0, denoising=0.4, sampler="Euler"))
    assert hires.selection == {"hi_diffusion": {"raunet": False}} and "the composition stays" in hires.sentence


def test_more_detail() -> None:
    selection, sentence = quick("detail", page())
    assert selection == {"free_u": {}, "cd_tuner": {"detail1": 0.0, "detail2": 2.0}} and "may change" in sentence
    assert sentence.startswith("Set: FreeU, CD-Tuner with Detail 2 at 2. ")


PAGES = list(
    product(
        ("txt2img", "img2img"),
        ("sd1", "sdxl", ""),
        (512, 1024, 1536),
        ("Euler a", "Euler", "DPM++ 2M", "LCM", "of an extension"),
        (1, 4, 20, 50),
        (1.0, 7.0),
    )
)


@pytest.mark.parametrize("goal", GOALS)
def test_nothing_is_chosen_that_cannot_act_and_figures_are_measured(goal: str) -> None:
    times = {f"{100 * one.time:.0f}" for name in ("deep_cache", "step_forecast") for one in measured()[name]}
    for tab, family, side, sampler, steps, cfg in PAGES:
        upcoming = page(tab, family, side, sampler=sampler, steps=steps, cfg=cfg, denoising=0.5)
        selection, sentence = quick(goal, upcoming)
        configs, problems = configs_of(selection)
        assert problems == [] and [config.idle_reason(upcoming) for config in configs] == [""] * len(configs)
        assert sentence.endswith(".") and len(sentence) < 160
        assert sentence.startswith("Set: ") == bool(selection)
        assert set(re.findall(r"(\d+) %", sentence)) <= times


def test_of_a_preset_what_acts_is_left() -> None:
    few = selection_of(BUILT_IN["Fast (few steps)"])
    assert acting(few, page(cfg=1)) == (few, [])
    left, reasons = acting(few, page(cfg=7))
    assert left == {"token_downsampling": {}} and len(reasons) == 1 and "no speedup at CFG 7" in reasons[0]
    assert acting(selection_of(BUILT_IN["Larger"]), page())[0] == {}
