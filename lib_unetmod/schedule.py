"""When edits act: windows of progress, and the clock that counts evaluations and traversals.

Progress is `1 - timestep/(T-1)`, 0 = pure noise, 1 = clean, so that a bound means the same at any step count, with any
sampler and any denoising strength. Nothing here counts calls against a step total.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

PASSES = ("first", "hires", "img2img")


@dataclass(frozen=True)
class Window:
    """Progress from `start` up to `end`: `start <= progress < end`, where `end = 1` takes in the last evaluation too."""

    start: float = 0.0
    end: float = 1.0

    @property
    def empty(self) -> bool:
        return self.start == self.end

    @property
    def always(self) -> bool:
        return self.start <= 0.0 and self.end >= 1.0

    def holds(self, progress: float) -> bool:
        return not self.empty and self.start <= progress and (progress < self.end or self.end >= 1.0)


@dataclass
class Traversal:
    """One walk through the blocks. `ordinal` counts the walks of an evaluation; `memory` is gone with the walk."""

    ordinal: int = -1
    memory: dict[Any, Any] = field(default_factory=dict)


class Clock:
    """Counts evaluations and the traversals in each, and knows the progress of the current one.

    A host that knows when its sampler calls the denoiser says so with `new_evaluation`; from then on only it begins
    evaluations. Without such a host a change of timestep begins one.
    """

    def __init__(self, timesteps: int = 1000) -> None:
        self.last_timestep = timesteps - 1
        self.timestep: float | None = None
        self.evaluation = -1
        self.traversal = Traversal()
        self._announced = False

    @property
    def progress(self) -> float:
        """0 = pure noise, 1 = clean; 0 before the first evaluation."""
        if self.timestep is None:
            return 0.0
        return min(max(1.0 - self.timestep / self.last_timestep, 0.0), 1.0)

    def new_evaluation(self) -> None:
        """Announce one call of the sampler's denoiser, which may enter the U-Net several times."""
        self._announced = True
        self._begin()

    def at_timestep(self, timestep: float) -> None:
        """The U-Net is entered with this timestep (0 = clean, T-1 = pure noise)."""
        if not self._announced and timestep != self.timestep:
            self._begin()
        self.timestep = timestep

    def new_traversal(self) -> None:
        """`input_blocks[0]` is entered."""
        self.traversal = Traversal(self.traversal.ordinal + 1)

    def _begin(self) -> None:
        self.evaluation += 1
        self.traversal = Traversal()
