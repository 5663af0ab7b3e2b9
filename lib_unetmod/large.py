"""What the methods for large pictures share: they leave pictures near the trained size alone, and can choose by size."""

from __future__ import annotations

from dataclasses import dataclass

from .registry import Config, knob
from .target import Target


@dataclass(frozen=True, kw_only=True)
class LargeConfig(Config):
    """Settings of a method that acts on pictures larger than the trained size.

    With `auto`, a subclass's `settled` decides the knobs that follow from the sizes, those declared `by_auto`, and gives a
    config whose `auto` is off.
    """

    auto: bool = knob(
        True, "Auto", "Chooses by the picture's size, the trained size and the U-Net. Off = by the knobs that appear then."
    )
    above: float = knob(
        1.3,
        "Only above",
        "Leaves a picture alone unless its side (of the square of its area) is more than this many times the trained one, "
        "as in hires fix the first pass is not. 0 = acts at every size.",
        low=0,
        high=4,
        step=0.05,
    )

    def held_back(self, target: Target) -> str:
        if target.scale > self.above:
            return ""
        return (
            f"{type(self).title} did nothing: {target.width}x{target.height} is {target.scale:.2g} times the trained size "
            f"of {target.trained}, and it acts above {self.above:g}; lower above to act here."
        )
