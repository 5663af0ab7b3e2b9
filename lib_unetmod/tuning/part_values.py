"""What each part of the U-Net is worth to a picture: what changes without it, and what time it takes.

SnapFusion (Li et al. 2023, section 3.1) values blocks by change over latency too, in order to train a smaller U-Net. The
squares of small changes add up as those of independent errors do, so that parts can be valued one by one.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import numpy as np

from ..core.schedule import ProgressRange
from ..core.upcoming_picture import UpcomingPicture

#: A part's name, and the number of a phase.
Item = tuple[str, int]

#: Evaluations up to which each is a phase of its own; of more there are so many phases of equal length.
_OF_ITS_OWN, _PHASES = 4, 3
#: Digits of the bounds of phases.
_DIGITS = 4


@dataclass(frozen=True)
class Phase:
    """A stretch of a picture's evaluations.

    Attributes:
        window: its progress.
        looked_at: progress of the evaluation that stands for it.
        share: of all evaluations.
    """

    window: ProgressRange
    looked_at: float
    share: float


def phases_of(evaluations: Sequence[float]) -> tuple[Phase, ...]:
    """The phases of a pass that is evaluated at these progresses, of which there is at least one."""
    levels = sorted(set(evaluations))
    groups = np.array_split(levels, len(levels) if len(levels) <= _OF_ITS_OWN else _PHASES)
    between = [round(float(one[-1] + other[0]) / 2, _DIGITS) for one, other in pairwise(groups)]
    windows = [ProgressRange(*both) for both in pairwise([0.0, *between, 1.0])]
    if not all(all(map(window.holds, group)) for window, group in zip(windows, groups, strict=True)):
        windows, groups = [ProgressRange()], [np.array(levels)]  # too near each other to be told apart
    return tuple(
        Phase(window, float(group[len(group) // 2]), sum(one in group for one in evaluations) / len(evaluations))
        for window, group in zip(windows, groups, strict=True)
    )


@dataclass(frozen=True)
class PartValues:
    """What was found.

    Attributes:
        phases: of the way.
        times: by part, the share of an evaluation's time that is saved without it.
        changes: by part and for each phase, the mean square by which the prediction changes without it.
        sizes: for each phase, the mean square of the prediction.
        effects: for each phase, by how much the mean square of the final latent changes for that of the prediction.
        items: what was looked at in every picture.
    """

    phases: tuple[Phase, ...]
    times: Mapping[str, float]
    changes: Mapping[str, tuple[float, ...]]
    sizes: tuple[float, ...]
    effects: tuple[float, ...]
    items: frozenset[Item]

    def cost(self, name: str, phase: int) -> float:
        """About the mean square by which the final latent changes where a part is left out in a phase."""
        return self.effects[phase] * self.changes[name][phase]

    def saving(self, name: str, phase: int) -> float:
        """The share of a picture's time that this saves."""
        return self.times[name] * self.phases[phase].share

    @property
    def cheapest_first(self) -> list[Item]:
        """What can be left out, by what it costs for the time that it saves."""
        items = [item for item in self.items if self.saving(*item) > 0]
        return sorted(items, key=lambda item: self.cost(*item) / self.saving(*item))

    def cheapest(self, saved: float) -> list[Item]:
        """Of these the first ones, as long as they do not save so large a share of the time."""
        savings = accumulate((self.saving(*item) for item in self.cheapest_first), initial=0.0)
        return [item for item, so_far in zip(self.cheapest_first, savings, strict=False) if so_far < saved]

    def relative_change(self, name: str, phase: int) -> float:
        """By how much of its size the prediction changes: roots of the mean squares."""
        return math.sqrt(self.changes[name][phase] / max(self.sizes[phase], 1e-12))


def why_not(upcoming: UpcomingPicture, own: Collection[str]) -> str:
    """Why the parts of a picture, beside methods that are on, cannot be valued, as a sentence; empty where they can."""
    if len(upcoming.passes) > 1:
        return "What may be left out at few steps is tuned without Hires. fix: turn it off for that."
    if upcoming.unet is None:
        return "What may be left out at few steps is tuned once a model is loaded: generate an image first."
    if upcoming.last.evaluations is None:
        return "What may be left out at few steps cannot be tuned with a sampler that chooses its steps on the way."
    if "skip_blocks" in own:
        return "Skip blocks is on, and decides which parts are left out: untick it to have them tuned."
    return ""
