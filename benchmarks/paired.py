"""Two ways to draw the same pictures, compared picture by picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Paired:
    """Distances of one way beside those of another, over the same pictures.

    Attributes:
        distance: the way's mean.
        median: the way's.
        other: the other's mean.
        wins: how many pictures are nearer than the other's.
        gain: 95 % of paired bootstraps of what the way is nearer by, in parts of the other's mean: low and high.
    """

    distance: float
    median: float
    other: float
    wins: int
    gain: tuple[float, float]

    @property
    def ratio(self) -> float:
        """Of the means; infinite beside a way that leaves nothing to gain."""
        return self.distance / self.other if self.other else float("inf")

    @property
    def is_nearer(self) -> bool:
        """Whether that is hardly chance."""
        return self.gain[0] > 0


def paired(ours: Sequence[float], others: Sequence[float], draws: int = 4000) -> Paired:
    """Compared over 1 to N pictures, in the same order."""
    a, b = np.asarray(ours, dtype=float), np.asarray(others, dtype=float)
    picked = np.random.default_rng(0).integers(0, len(a), (draws, len(a)))
    gains = (b - a)[picked].mean(1) / max(float(b.mean()), 1e-12)
    low, high = np.percentile(gains, [2.5, 97.5])
    return Paired(float(a.mean()), float(np.median(a)), float(b.mean()), int((a < b).sum()), (float(low), float(high)))
