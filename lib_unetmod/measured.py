"""What was measured of the methods' settings, for those who tick them: measured.json in words.

The file is written by `python -m benchmarks.speed_pictures write` from the runs behind docs/speed.md, never by hand.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

FILE = Path(__file__).parent / "measured.json"


@dataclass(frozen=True)
class Measured:
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
    pays_with: tuple[str, ...]
    cells: int


@cache
def measured() -> dict[str, tuple[Measured, ...]]:
    """All settings that were measured, by the method's name."""
    methods = json.loads(FILE.read_text(encoding="utf-8"))
    return {
        name: tuple(Measured(**{**one, "pays_with": tuple(one["pays_with"])}) for one in settings)
        for name, settings in methods.items()
    }


def verdict(settings: Sequence[Measured]) -> str:
    """Whether a method's settings are worth their time, as one or two sentences; empty where nothing was measured."""
    if not settings:
        return ""
    least, most = min(one.time for one in settings), max(one.time for one in settings)
    head = (
        f"Measured on the small checkpoint at its 128x128 pixels with {settings[0].cells} pairs of sampler and steps, "
        f"{least:.2f} to {most:.2f} of the time: "
    )
    samplers = dict.fromkeys(sampler for one in settings for sampler in one.pays_with)
    if not samplers:
        return f"{head}the plain U-Net with fewer steps of the same time comes nearer to the full picture."
    parts = []
    for sampler in samplers:
        paying = [one for one in settings if sampler in one.pays_with]
        best = min(paying, key=lambda one: one.distance)
        parts.append(f"{sampler} with {len(paying)} of {len(settings)} settings, nearest {best.setting}")
    return (
        f"{head}nearer to the full picture than the plain U-Net with fewer steps of the same time for {'; '.join(parts)}. "
        "Elsewhere fewer steps come nearer."
    )
