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
        wins: in how many cells `distance` is below `fewer_steps`.
    """

    setting: str
    time: float
    distance: float
    fewer_steps: float
    wins: int
    cells: int

    @property
    def pays(self) -> bool:
        """Whether it comes nearer to the plain picture than fewer steps do, in more than half of the cells."""
        return 2 * self.wins > self.cells


@cache
def measured() -> dict[str, tuple[Measured, ...]]:
    """All settings that were measured, by the method's name."""
    methods = json.loads(FILE.read_text(encoding="utf-8"))
    return {name: tuple(Measured(**one) for one in settings) for name, settings in methods.items()}


def verdict(settings: Sequence[Measured]) -> str:
    """Whether a method's settings are worth their time, as one or two sentences; empty where nothing was measured."""
    if not settings:
        return ""
    paying = [one for one in settings if one.pays]
    least, most = min(one.time for one in settings), max(one.time for one in settings)
    if not paying:
        return (
            f"Measured on the small checkpoint at its 128x128 pixels: {least:.2f} to {most:.2f} of the time, and the plain "
            f"U-Net with fewer steps of the same time came nearer to the full picture than each of {len(settings)} settings."
        )
    listed = ", ".join(f"{one.setting} ({one.time:.2f} of the time)" for one in paying)
    rest = "" if len(paying) == len(settings) else " Fewer steps beat the other settings."
    return (
        "Measured on the small checkpoint at its 128x128 pixels: nearer to the full picture than the plain U-Net with fewer "
        f"steps of the same time with {listed}.{rest}"
    )
