"""What is said before a picture is drawn, beside the picture: a method has a reason to be idle exactly where it changes no
bit of what the small checkpoint draws. And what is said after it: that reason, once, and nothing where the method acted."""

from __future__ import annotations

from functools import cache
from itertools import product

import numpy as np
import pytest
from PIL import Image

from lib_unetmod import (
    CDTuner,
    ColorMap,
    DeepCache,
    DeepShrink,
    EncoderReuse,
    FreeU,
    GuidanceInterval,
    HiDiffusion,
    HyperTile,
    ScaleCrafter,
    SkipBlocks,
    TokenDownsampling,
    TokenMerging,
)
from lib_unetmod.core.config import Config
from lib_unetmod.core.registry import method_of
from lib_unetmod.playground import model as playground_model
from lib_unetmod.playground.sampling import draw, upcoming
from lib_unetmod.playground.settings import Settings

pytestmark = pytest.mark.in_turn(60)

PICTURES = {
    "as trained": {},
    "guided": {"cfg": 4.0, "steps": 3},
    "one step": {"steps": 1},
    "larger": {"width": 192, "height": 192, "steps": 3},
    "12 steps": {"steps": 12, "width": 64, "height": 64},
    "img2img": {"strength": 0.5, "steps": 8, "sampler": "dpm++2m"},
}
#: Methods in settings that act here and not there.
METHODS_IN_SETTINGS = [
    GuidanceInterval(),
    GuidanceInterval(guide_to=0.4),
    DeepCache(interval=2),
    EncoderReuse(start=0.5),
    SkipBlocks(middle=True, start=0.3, end=0.4),
    HyperTile(tile=128, vae_tile=0),
    TokenMerging(ratio=0.5, min_width=128),
    DeepShrink(),
    HiDiffusion(windows=False),
    ScaleCrafter(above=0.0),
    ColorMap(),
    FreeU(end=0.3, img2img=False),
    CDTuner(end=0.01, detail1=0, detail2=4, brightness=0),
]
#: Single cases that the grid above does not meet.
CASES = [
    (HyperTile(tile=0, vae_tile=64), {}),
    (HyperTile(tile=0, vae_tile=128), {}),
    (HyperTile(tile=0, vae_tile=64, end=0.5), {}),
    (HyperTile(tile=96, depth=2), {"width": 192, "height": 64}),
    (TokenDownsampling(), {"steps": 1, "width": 64, "height": 64}),
    (TokenMerging(ratio=0.0), {}),
    (TokenMerging(stride_x=8, stride_y=8, ratio=0.05), {"width": 64, "height": 64}),
    (DeepCache(interval=2, reach=0.3), {}),
    (DeepCache(interval=2, reach=0.1), {"sampler": "heun", "steps": 6}),
    (DeepCache(interval=2, first_full=12), {"steps": 12, "width": 64, "height": 64}),
    (DeepShrink(auto=False, above=0, factor=2, end=0.2), {}),
    (DeepShrink(auto=False, above=0, factor=1.5, smooth=1.0, end=0.25), {}),
    (HiDiffusion(above=0, auto=False, windows=False, conv_end=0, pool_start=0.3, pool_end=0.4), {}),
    (HiDiffusion(above=0, auto=False, windows=False, conv_end=0.3), {}),
    (ScaleCrafter(auto=False, above=0, dilation=2, end=0.1), {"strength": 0.5, "steps": 4}),
    (FreeU(start=0.2501, soft=0.4, end=0.6), {}),
    (FreeU(start=0.25, soft=0.4, end=0.4), {"sampler": "euler"}),
    (CDTuner(detail1=0, brightness=5, end=0.01, start=0.005), {}),
    (CDTuner(detail1=0, brightness=5, img2img=False), {"strength": 0.5, "steps": 2}),
    (CDTuner(detail1=3, start=0.9), {}),
    (ColorMap(end=0.6), {"strength": 0.5, "steps": 8}),
    (GuidanceInterval(guide_to=0.4, end=0.3), {"cfg": 4.0, "steps": 3}),
    (GuidanceInterval(scale_one=False), {"cfg": 4.0, "steps": 3}),
]


@cache
def model() -> playground_model.SmallModel:
    return playground_model.load()


@cache
def settings(**changed: object) -> Settings:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (128, 128, 3), np.uint8))
    begun = {"image": image} if "strength" in changed else {}
    return Settings(**{"prompt": "red apple", "seed": 3, "steps": 4, "cfg": 1.0, **changed, **begun})


@cache
def pixels(**changed: object) -> bytes:
    return draw(model(), settings(**changed)).image.tobytes()


def agree(config: Config, changed: dict[str, object]) -> str:
    """The reason, after the picture has been looked at."""
    picture = draw(model(), settings(**changed), [config])
    reason = config.idle_reason(upcoming(model(), settings(**changed)))
    assert (picture.image.tobytes() == pixels(**changed)) == bool(reason), reason
    said = [note for note in picture.notes if any(name in note for name in method_of(config).names)]
    needless = config.neutral or (reason and config.idle(upcoming(model(), settings(**changed))).needless)
    if reason and not needless:
        assert said == [reason]
    else:
        assert not any("nothing" in note for note in said)
    assert reason == "" or (reason.endswith(".") and reason[0] == reason[0].upper() and len(reason) < 200)
    return reason


@pytest.mark.parametrize(
    "config, picture",
    list(product(METHODS_IN_SETTINGS, PICTURES)),
    ids=lambda one: one if isinstance(one, str) else type(one).__name__,
)
def test_a_reason_is_given_exactly_where_the_picture_is_the_plain_one(config: Config, picture: str) -> None:
    agree(config, PICTURES[picture])


@pytest.mark.parametrize("config, changed", CASES, ids=lambda one: type(one).__name__ if isinstance(one, Config) else "")
def test_single_cases(config: Config, changed: dict[str, object]) -> None:
    agree(config, changed)


def test_the_cases_hold_both_kinds_of_each_method() -> None:
    """Of every method there is a case that acts and one that does not; else the comparison would show nothing of it."""
    kinds: dict[type, set[bool]] = {}
    cases = [*product(METHODS_IN_SETTINGS, PICTURES.values()), *CASES]
    for config, changed in cases:
        reason = config.idle_reason(upcoming(model(), settings(**changed)))
        kinds.setdefault(type(config), set()).add(bool(reason))
    assert {kind.__name__ for kind, seen in kinds.items() if len(seen) < 2} <= {"TokenDownsampling"}
    assert len(kinds) == 13
