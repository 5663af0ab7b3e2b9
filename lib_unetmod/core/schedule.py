"""When edits act: bounds of progress, 0 = pure noise, 1 = clean, and the passes of a picture.

Progress is `1 - timestep/(T-1)`, so that a bound means the same at any step count, with any sampler and any denoising
strength.
"""

from __future__ import annotations

from dataclasses import dataclass

PASSES = ("first", "hires", "img2img")


@dataclass(frozen=True)
class ProgressRange:
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
