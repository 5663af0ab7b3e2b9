"""Trials: candidates drawn beside the same pictures without them, within a number of plain pictures' time."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import NamedTuple

from .candidates import PLAIN, Candidate
from .drawer import Drawer, Drawn

#: Called with what is done now, the share of all that is done, and the seconds that are left.
Told = Callable[[str, float, float], None]

#: What was climbed to on a few pictures must be that much nearer on others than the shipped plan, and so in so many of
#: them: a smaller gain is as likely chance, since the shipped plans were searched on more pictures.
_NEARER, _IN_SHARE = 0.9, 0.75
#: Drawings of each in turn, where times are compared.
_ROUNDS = 2
#: Squared errors below are rounding.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class Effort:
    """How much is drawn.

    Attributes:
        choosing: pictures on which candidates are compared and climbed.
        checking: others on which the best are judged.
        one, all: in how many plain pictures' time, for one speed and for all of them.
        of_parts: the same where parts of the U-Net are left out because steps are too few: their pictures are soon drawn.
    """

    choosing: int
    checking: int
    one: float
    all: float
    of_parts: Effort | None = None

    def pictures(self, speeds: int) -> float:
        """In how many plain pictures' time so many speeds are tuned."""
        return self.one if speeds == 1 else self.all


QUICK = Effort(choosing=2, checking=3, one=25, all=40, of_parts=Effort(choosing=4, checking=4, one=300, all=500))
THOROUGH = Effort(choosing=4, checking=8, one=200, all=400, of_parts=Effort(choosing=8, checking=8, one=900, all=1500))
#: By what a user calls them.
EFFORTS = {"quick": QUICK, "thorough": THOROUGH}


class Trial(NamedTuple):
    """A candidate as it was drawn.

    Attributes:
        errors: distances of its final latents from the plain ones, roots of the mean square, one a picture.
        time: over the plain pictures'.
    """

    candidate: Candidate
    errors: tuple[float, ...]
    time: float

    @property
    def error(self) -> float:
        """The geometric mean: no picture that is hard to draw decides alone."""
        return math.exp(fmean(map(math.log, self.errors)))

    def is_clearly_nearer(self, other: Trial) -> bool:
        """Whether that is hardly chance, on the same pictures."""
        wins = sum(mine < its for mine, its in zip(self.errors, other.errors, strict=True))
        return self.error < _NEARER * other.error and wins >= _IN_SHARE * len(self.errors)


class Trials:
    """
    Attributes:
        choosing, checking: numbers of the pictures on which candidates are compared, and of those that judge.
        most: in plain pictures' time, of all that is drawn.
    """

    def __init__(self, drawer: Drawer, effort: Effort, most: float, told: Told) -> None:
        self.most = most
        self.choosing = range(effort.choosing)
        self.checking = range(effort.choosing, effort.choosing + effort.checking)
        self._drawer = drawer
        self._told = told
        self._plain: dict[int, Drawn] = {}
        self._seconds = 0.0

    @property
    def spent(self) -> float:
        """In plain pictures' time."""
        return self._seconds / self._picture if self._picture else 0.0

    @property
    def _picture(self) -> float:
        """Seconds of a plain one, as far as they are drawn."""
        return fmean(one.seconds for one in self._plain.values()) if self._plain else 0.0

    def draw_plain(self) -> None:
        """The pictures as they are with no speed."""
        for number in (*self.choosing, *self.checking):
            self.say("Drawing without")
            self._plain[number] = self.draw(number, PLAIN)

    def trial(self, candidate: Candidate, numbers: Sequence[int], word: str) -> Trial:
        """Draw a candidate of the speed `word`."""
        errors, seconds = [], 0.0
        for number in numbers:
            self.say(f"{word}: {candidate.name}")
            drawn = self.draw(number, candidate)
            error = self.change(number, drawn)
            errors.append(math.sqrt(max(error, _ROUNDING)) if math.isfinite(error) else math.inf)
            seconds += drawn.seconds
        plain = sum(self._plain[number].seconds for number in numbers)
        return Trial(candidate, tuple(errors), seconds / max(plain, 1e-9))

    def time(self, candidate: Candidate) -> float:
        """Its time over the plain picture's, drawn in turn and the least disturbed of each: the machine may be busy."""
        seconds: dict[Candidate, list[float]] = {PLAIN: [], candidate: []}
        for _ in range(_ROUNDS):
            for one, taken in seconds.items():
                taken.append(self.draw(self.choosing[0], one).seconds)
        return min(seconds[candidate]) / max(min(seconds[PLAIN]), 1e-9)

    def change(self, number: int, drawn: Drawn) -> float:
        """The mean square of what a picture's final latent differs from the plain one's by."""
        return (drawn.latent.double() - self._plain[number].latent.double()).square().mean().item()

    def draw(self, number: int, candidate: Candidate) -> Drawn:
        """One picture, whose time counts."""
        drawn = self._drawer.draw(number, candidate.configs, candidate.share)
        self._seconds += drawn.seconds
        return drawn

    def fits(self, like: Trial, budget: float) -> bool:
        """Whether there is time for another trial like this one."""
        return self.spent + len(self.choosing) * like.time <= budget

    def say(self, words: str) -> None:
        """Tell what is done now."""
        self._told(words, min(self.spent / self.most, 1.0), max(self.most - self.spent, 0.0) * self._picture)
