"""What the methods for large pictures share: they leave pictures near the trained size alone, and can choose by size."""

from __future__ import annotations

from dataclasses import dataclass

from ...core.config import Config
from ...core.knobs import knob
from ...core.noise import progress_at, sigma_at
from ...core.target import Target

#: The trained side of the models on which the published ends were found; larger ones were tried with the same.
_PUBLISHED_AT = 512


def at_trained_size(progress: float, target: Target) -> float:
    """A published bound for a model trained at fewer pixels: the progress at which it has decided as much.

    The noise at which a shape is lost goes with the side of the picture of which it covers a certain share (Hoogeboom et
    al. 2023, "simple diffusion", section 3.1), so a model trained at small pictures lays them out later, at less noise.
    """
    if not 0 < progress < 1 or target.trained >= _PUBLISHED_AT:
        return progress
    return round(progress_at(sigma_at(progress) * target.trained / _PUBLISHED_AT), 2)


@dataclass(frozen=True, kw_only=True)
class LargeConfig(Config):
    """Settings of a method that acts on pictures larger than the trained size.

    With `auto`, a subclass's `resolved` decides the knobs that follow from the sizes, those that count `when` it is off, and
    gives a config whose `auto` is off.
    """

    auto: bool = knob(
        True, "Auto", "Sets what follows from the image size and the model; off = set it by hand in the fields that appear."
    )
    above: float = knob(
        1.3,
        "Minimum size",
        "Acts on images above this multiple of the native side (compared as squares of equal area); 0 = at every size.",
        low=0,
        high=4,
        step=0.05,
    )

    @property
    def automatic(self) -> bool:
        return self.auto

    def held_back(self, target: Target) -> str:
        if target.scale > self.above:
            return ""
        return (
            f"{self.short or type(self).title} does nothing: {target.width}x{target.height} is not above {self.above:g} x "
            f"native {target.trained} px. Lower Minimum size to use it here."
        )
