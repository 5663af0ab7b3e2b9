"""What was measured of the methods, for those who tick them: measured.json in words.

The file is written by the `write` stages of `benchmarks.speed_pictures`, `resolution_pictures` and `detail_pictures` from
the runs behind docs/speed.md, resolution.md and detail.md, never by hand.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

FILE = Path(__file__).parent / "measured.json"
#: The side at which the test model was trained; figures of methods for large images are told of twice that.
NATIVE = 128
#: Where no setting takes less of the time than this at the native size, the method is one for larger images.
_NOT_FASTER = 0.985


@dataclass(frozen=True)
class Speed:
    """One setting on the small checkpoint at its trained size, over `cells` of sampler, step count and CFG scale.

    Means are over those of 20 steps.

    Attributes:
        setting: the knobs that were set, as `interval=3; predictor=linear`.
        time: of the U-Net's evaluations over the plain U-Net's, the mean over the cells.
        distance: perceptual distance (LPIPS) to the plain picture, the mean over the cells.
        fewer_steps: that of the plain U-Net given as many fewer steps as take the same time.
        pays_with: the samplers with which the setting is nearer than fewer steps in all of their cells, by 95 % of paired
            bootstraps.
        cells: how many were run.
    """

    setting: str
    time: float
    distance: float
    fewer_steps: float
    pays_with: Sequence[str]
    cells: int


@dataclass(frozen=True)
class Size:
    """The method at its defaults at one size larger than the trained one.

    Attributes:
        size: width and height in pixels, as `256x256`.
        recognised: share of the pictures in which the prompt's subject is recognised, 0 to 1.
        plain: that of the plain U-Net.
        time: of the U-Net's evaluations over the plain U-Net's.
    """

    size: str
    recognised: float
    plain: float
    time: float


@dataclass(frozen=True)
class Change:
    """What one setting does to the plain pictures at the trained size.

    Attributes:
        setting: the knobs that were set, or `as it comes`.
        distance: perceptual distance (LPIPS) to the plain picture.
        other_seed: that of the plain U-Net with another seed.
        fine: fine detail over the plain pictures'.
        colour: colourfulness over the plain pictures'.
    """

    setting: str
    distance: float
    other_seed: float
    fine: float
    colour: float


class Verdict(NamedTuple):
    """A method's figures for those who tick it.

    Attributes:
        sentence: one sentence with one figure; empty where nothing was measured.
        page: the file in docs/ that has all of them.
    """

    sentence: str
    page: str


Measured = Speed | Size | Change
_PARTS: dict[str, type[Measured]] = {"speed": Speed, "resolution": Size, "detail": Change}


@cache
def measured() -> dict[str, tuple[Measured, ...]]:
    """All that was measured, by the method's name."""
    parts = json.loads(FILE.read_text(encoding="utf-8"))
    return {
        name: tuple(kind(**one) for one in ones)
        for part, kind in _PARTS.items()
        for name, ones in parts.get(part, {}).items()
    }


def write_part(part: str, by_method: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Keep what a benchmark found, "speed", "resolution" or "detail", beside what the others did."""
    parts = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}
    FILE.write_text(json.dumps({**parts, part: by_method}, indent=1) + "\n", encoding="utf-8")
    measured.cache_clear()


def verdict(found: Sequence[Measured]) -> Verdict:
    """What a user should know of a method's figures; empty where nothing was measured."""
    return _WORDS[type(found[0])](found) if found else Verdict("", "")


def _of_speed(found: Sequence[Speed]) -> Verdict:
    paying = [one for one in found if one.pays_with]
    if paying:
        best = min(paying, key=lambda one: (-len(one.pays_with), one.distance / one.fewer_steps))
        nearer = f"at {100 * best.distance / best.fewer_steps:.0f} % of the distance to the full image"
        samplers = " and ".join(best.pays_with) if len(best.pays_with) <= 2 else f"{len(best.pays_with)} samplers"
        return _at_native(
            f"{1 / best.time:.1f}x as fast, {nearer} that fewer steps in the same time have (LPIPS), with {samplers}.",
            "speed.md",
        )
    best = min(found, key=lambda one: one.time)
    if best.time > _NOT_FASTER:
        return _at_native("no faster; only larger images gain.", "speed.md")
    faster = f"{1 / best.time:.{1 if best.time < 0.95 else 2}f}x"
    return _at_native(
        f"up to {faster} as fast, but fewer steps in the same time come closer to the full image (LPIPS).", "speed.md"
    )


def _of_size(found: Sequence[Size]) -> Verdict:
    side = 2 * NATIVE
    one = next((one for one in found if one.size == f"{side}x{side}"), found[0])
    return Verdict(
        f"Test model (native {NATIVE} px) at {one.size}: subject recognized in {100 * one.recognised:.0f} % of images, "
        f"without it in {100 * one.plain:.0f} %.",
        "resolution.md",
    )


def _of_change(found: Sequence[Change]) -> Verdict:
    share = found[0].distance / found[0].other_seed
    amount = f"{share:.1f}x as much as" if share >= 1 else f"by {100 * share:.0f} % of what"
    return _at_native(f"changes the image {amount} another seed does (LPIPS).", "detail.md")


def _at_native(words: str, page: str) -> Verdict:
    return Verdict(f"Test model, {NATIVE} px: {words}", page)


_WORDS = {Speed: _of_speed, Size: _of_size, Change: _of_change}
