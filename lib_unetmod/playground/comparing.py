"""The plain and the modified picture of the same settings, drawn one after the other."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from ..core.config import Config
from .distance import Distance, distance
from .model import SmallModel
from .sampling import Picture, Progress, draw, warm_up
from .settings import Settings


@dataclass(frozen=True)
class Comparison:
    """Two pictures that differ in the methods alone, and the notes of both, each once."""

    plain: Picture
    modified: Picture
    notes: tuple[str, ...] = ()

    @cached_property
    def distance(self) -> Distance:
        return distance(self.plain.image, self.modified.image)

    @property
    def speedup(self) -> float:
        """How many times as fast a modified evaluation is: above 1 is faster."""
        return self.plain.evaluation_ms / self.modified.evaluation_ms


def compare(
    model: SmallModel, settings: Settings, configs: Iterable[Config], progress: Progress | None = None
) -> Comparison:
    """Draw both, the plain one first. `progress` gets the evaluations done and the total of both pictures.

    Raises:
        ConfigError: for configs that cannot be used on this U-Net, which is untouched then.
    """
    settings, notes = settings.settled()
    each = settings.evaluations
    warm_up(model, settings)
    plain = draw(model, settings, (), progress and (lambda done, _: progress(done, 2 * each)))
    modified = draw(model, settings, configs, progress and (lambda done, _: progress(each + done, 2 * each)))
    return Comparison(plain, modified, tuple(dict.fromkeys((*notes, *plain.notes, *modified.notes))))
