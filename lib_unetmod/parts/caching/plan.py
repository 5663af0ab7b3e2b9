"""Plans: which evaluations of a pass run in full, as a text of one letter an evaluation, F or what is done instead: D keeps
the deep blocks, E the encoder, P predicts all. Each method answers to one of these.

When an evaluation is left out matters as much as how (`docs/speed.md`), so plans are searched and kept.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ...core.clock import Clock
from ...core.knobs import ConfigError, shortened

FULL, DEEP, ENCODER, PREDICTED = "F", "D", "E", "P"
#: Of letters: more evaluations than any sampler makes.
_LONGEST = 1000
#: Of shares of a plan, which are added up.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class StepPlan:
    """One plan, for as many evaluations as it has letters, and by stretching for any other number.

    Attributes:
        letters: one an evaluation, F or `other`.
        other: the letter of an evaluation that does not run in full.

    Raises:
        ConfigError: where the letters are none of a plan or do not begin with F.
    """

    letters: str
    other: str = PREDICTED

    def __post_init__(self) -> None:
        if len(self.letters) > _LONGEST or not set(self.letters) <= {FULL, self.other}:
            raise ConfigError(
                f"plan is {shortened(self.letters)}; it takes the letters F and {self.other}, at most {_LONGEST}."
            )
        if not self.letters.startswith(FULL):
            raise ConfigError(f"plan is {shortened(self.letters)}; it must begin with F, because nothing is kept before.")

    def __len__(self) -> int:
        return len(self.letters)

    @property
    def cost(self) -> float:
        """Share of evaluations that run in full."""
        return self.letters.count(FULL) / len(self.letters)

    def stretched(self, evaluations: int) -> StepPlan:
        """The plan for another number of evaluations, with as large a share of full ones, spread as here."""
        if evaluations == len(self):
            return self
        return StepPlan(_stretched(self.letters, evaluations).replace(PREDICTED, self.other), self.other)

    def with_last_full(self, number: int) -> StepPlan:
        """The plan with so many of its last letters F."""
        return StepPlan(self.letters[: max(len(self) - number, 0)] + FULL * min(number, len(self)), self.other)

    def with_fulls_moved_last(self, number: int) -> StepPlan:
        """The same at the same cost: for each that is added another is left out, the latest first, never the very first."""
        letters = list(self.with_last_full(number).letters)
        others = [at for at in range(1, len(letters) - number) if letters[at] == FULL]
        surplus = letters.count(FULL) - self.letters.count(FULL)
        for at in others[len(others) - min(surplus, len(others)) :]:
            letters[at] = self.other
        return StepPlan("".join(letters), self.other)

    def at(self, clock: Clock, last_full: float) -> str:
        """The letter of the current evaluation: by its number, or by the progress where nobody knows how many there are.

        By progress it is also F where that of the last full one, `last_full`, lies before another F of the plan: steps
        may be too large to meet every letter.
        """
        if clock.evaluations is None:
            now, before = self._place(clock.progress), self._place(last_full)
            return FULL if FULL in self.letters[before + 1 : now] else self.letters[now]
        number = clock.evaluation_of_pass
        return self.stretched(clock.evaluations).letters[number] if number < clock.evaluations else FULL

    def _place(self, progress: float) -> int:
        return min(int(progress * len(self)), len(self) - 1)


@lru_cache(maxsize=64)
def _stretched(letters: str, evaluations: int) -> str:
    """As many full ones for their number, each at the place that the plan's own line from full to full has for it."""
    scale = evaluations / len(letters)
    own = [index for index, letter in enumerate(letters) if letter == FULL]
    fulls = max(round(len(own) * scale), 1)
    places = np.interp(np.arange(fulls) * len(own) / fulls, np.arange(len(own) + 1), [*own, len(letters)]) * scale
    chosen: list[int] = []
    for number, place in enumerate(places):
        least = chosen[-1] + 1 if chosen else 0
        chosen.append(min(max(int(place + _ROUNDING), least), evaluations - fulls + number))
    return _with_fulls(chosen, evaluations)


def _with_fulls(places: Collection[int], evaluations: int) -> str:
    return "".join(FULL if index in places else PREDICTED for index in range(evaluations))


def even(evaluations: int, cost: float) -> StepPlan:
    """Full evaluations evenly spread, the first among them; `cost` is their share, 0 to 1."""
    fulls = max(round(cost * evaluations), 1)
    begins = {math.ceil(index * evaluations / fulls - _ROUNDING) for index in range(fulls)}
    return StepPlan(_with_fulls(begins, evaluations))


def swapped(plan: StepPlan, places: Sequence[int]) -> StepPlan:
    """The plan with the letters at two places exchanged."""
    letters = list(plan.letters)
    first, second = places
    letters[first], letters[second] = letters[second], letters[first]
    return StepPlan("".join(letters))
