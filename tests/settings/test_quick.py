"""Larger and More detail: chosen is what acts at these settings."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import unets

from lib_unetmod import inspect_unet
from lib_unetmod.core.upcoming_picture import UpcomingPicture
from lib_unetmod.settings.presets import BUILT_IN
from lib_unetmod.settings.quick import GOALS, acting, quick
from lib_unetmod.settings.selection import configs_of, selection_of
from lib_unetmod.webui.upcoming_picture import Loaded, picture_of


def page(tab: str = "txt2img", family: str = "sd1", side: int = 512, **shown: Any) -> UpcomingPicture:
    unet = inspect_unet(getattr(unets, family)()) if family else None
    given = {"width": side, "height": side, "sampler": "Euler a", "steps": 20, "cfg": 7.0, **shown}
    return picture_of(tab, given, Loaded(unet))


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
def test_nothing_is_chosen_that_cannot_act(goal: str) -> None:
    for tab, family, side, sampler, steps, cfg in PAGES:
        upcoming = page(tab, family, side, sampler=sampler, steps=steps, cfg=cfg, denoising=0.5)
        selection, sentence = quick(goal, upcoming)
        configs, problems = configs_of(selection)
        assert problems == [] and [config.idle_reason(upcoming) for config in configs] == [""] * len(configs)
        assert sentence.endswith(".") and len(sentence) < 160
        assert sentence.startswith("Set: ") == bool(selection)


def test_of_a_preset_what_acts_is_left() -> None:
    few = selection_of(BUILT_IN["Fast (few steps)"])
    assert acting(few, page(cfg=1)) == (few, [])
    assert acting({**few, "speed": "2x"}, page(cfg=1)) == ({"speed": "2x", **few}, [])
    left, reasons = acting(few, page(cfg=7))
    assert left == {"token_downsampling": {}} and len(reasons) == 1 and "no speedup at CFG 7" in reasons[0]
    assert acting(selection_of(BUILT_IN["Larger"]), page())[0] == {}
