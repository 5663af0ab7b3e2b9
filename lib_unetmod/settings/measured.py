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
from typing import Any

FILE = Path(__file__).parent / "measured.json"


@dataclass(frozen=True)
class Speed:
    """One setting on the small checkpoint at its trained size, over `cells` pairs of sampler and step count.

    Attributes:
        setting: the knobs that were set, as `interval=3; predictor=linear`.
        time: of the U-Net's evaluations over the plain U-Net's, the mean over the cells.
        distance: perceptual distance (LPIPS) to the plain picture, the mean over the cells.
        fewer_steps: that of the plain U-Net given as many fewer steps as take the same time.
        pays_with: the samplers with which `distance` is below `fewer_steps` at every step count.
        cells: how many pairs of sampler and step count were run.
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


def verdict(found: Sequence[Measured]) -> str:
    """What a user should know of a method's figures, as one or two sentences; empty where nothing was measured."""
    if not found:
        return ""
    return _WORDS[type(found[0])](found)


def _of_speed(found: Sequence[Speed]) -> str:
    least, most = min(one.time for one in found), max(one.time for one in found)
    head = (
        f"Measured on the small checkpoint at its 128x128 pixels with {found[0].cells} pairs of sampler and steps, "
        f"{least:.2f} to {most:.2f} of the time: "
    )
    samplers = dict.fromkeys(sampler for one in found for sampler in one.pays_with)
    if not samplers:
        return f"{head}the plain U-Net with fewer steps of the same time comes nearer to the full picture."
    parts = []
    for sampler in samplers:
        paying = [one for one in found if sampler in one.pays_with]
        best = min(paying, key=lambda one: one.distance)
        parts.append(f"{sampler} with {len(paying)} of {len(found)} settings, nearest {best.setting}")
    return (
        f"{head}nearer to the full picture than the plain U-Net with fewer steps of the same time for {'; '.join(parts)}. "
        "Elsewhere fewer steps come nearer."
    )


def _of_size(found: Sequence[Size]) -> str:
    parts = [
        f"{100 * one.recognised:.0f} % at {one.size} (without it {100 * one.plain:.0f} %) in {one.time:.2f} of the time"
        for one in found
    ]
    return f"Measured on the small checkpoint, trained at 128x128 pixels: the subject is recognised in {'; '.join(parts)}."


def _of_change(found: Sequence[Change]) -> str:
    parts = [
        f"{one.setting}: distance {one.distance:.3f}, fine detail {one.fine:.2f}, colour {one.colour:.2f}" for one in found
    ]
    return (
        "Measured on the small checkpoint at its 128x128 pixels, over the plain pictures (another seed is "
        f"{found[0].other_seed:.3f} away): {'; '.join(parts)}."
    )


_WORDS = {Speed: _of_speed, Size: _of_size, Change: _of_change}
