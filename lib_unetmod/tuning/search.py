"""The search: what is drawn within a number of pictures' time, what is climbed from, and on which pictures it is judged.

Candidates are drawn on a few pictures and compared with the same pictures drawn plain, by their final latents. The best plan
is climbed from: two of its steps are exchanged, and kept where the pictures come nearer, the form of search that
docs/speed.md found best (hill climbing on the final picture, as BudCache, arXiv 2606.13496, does for transformers). What was
found is judged beside the shipped plan and fewer steps on other pictures, so that it is never kept where it is worse there.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import NamedTuple

from ..settings.speed_target import fitted
from .candidates import Candidate, Space
from .drawer import Drawer, Drawn, Stopped

#: Called with what is done now, the share of all that is done, and the seconds that are left.
Told = Callable[[str, float, float], None]

#: By how much a candidate may take longer than the shipped plan and still count as of that speed: times waver.
_SLOWER = 1.08
#: What was climbed to on a few pictures must be that much nearer on others than the shipped plan, and so in so many of
#: them: a smaller gain is as likely chance, since the shipped plans were searched on more pictures.
_NEARER, _IN_SHARE = 0.9, 0.75
#: Neighbours that were tried before, drawn one after the other, after which there are hardly others.
_MISSES = 100
#: Squared errors below are rounding.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class Effort:
    """How much is drawn.

    Attributes:
        choosing: pictures on which candidates are compared and climbed.
        checking: others on which the best are judged.
        one, all: in how many plain pictures' time, for one speed and for all of them.
    """

    choosing: int
    checking: int
    one: float
    all: float

    def pictures(self, speeds: int) -> float:
        """In how many plain pictures' time so many speeds are tuned."""
        return self.one if speeds == 1 else self.all


QUICK = Effort(choosing=2, checking=3, one=25, all=40)
THOROUGH = Effort(choosing=4, checking=8, one=200, all=400)
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


@dataclass(frozen=True)
class Tuned:
    """What was found for a speed.

    Attributes:
        word: the speed, as `2x`.
        best: of the methods, as judged.
        shipped, fewer_steps: beside it, judged on the same pictures; None where drawing was stopped before.
    """

    word: str
    best: Trial
    shipped: Trial | None = None
    fewer_steps: Trial | None = None

    @property
    def judged(self) -> bool:
        """Whether it was drawn to its end."""
        return self.shipped is not None

    @property
    def beaten(self) -> bool:
        """Whether fewer steps come nearer to the plain picture in the same time."""
        return self.fewer_steps is not None and self.fewer_steps.error < self.best.error


@dataclass(frozen=True)
class Found:
    """All that was found, with what could not be.

    Attributes:
        tuned: by speed.
        problems: sentences.
        pictures: in how many plain pictures' time.
        stopped: whether the user stopped on the way.
    """

    tuned: tuple[Tuned, ...]
    problems: tuple[str, ...] = ()
    pictures: float = 0.0
    stopped: bool = False


def tune(drawer: Drawer, words: Sequence[str], effort: Effort = QUICK, told: Told = lambda *_: None) -> Found:
    """Search for each of the speeds `words`, as `2x`; what was found before the user stopped is kept."""
    if not drawer.upcoming.model:
        return Found((), ("Tuning is left out: it is not known from which file the model is.",))
    spaces: dict[str, Space] = {}
    problems: list[str] = []
    for word in words:
        as_it_comes = fitted(word, drawer.own, drawer.upcoming)
        if space := Space.of(as_it_comes.configs, drawer.upcoming):
            spaces[word] = space
        else:
            problems.append(as_it_comes.sentence or f"Speed {word} leaves out no step here, so there is nothing to tune.")
    search = _Search(drawer, effort, effort.pictures(len(spaces)), told)
    tuned: list[Tuned] = []
    stopped = False
    try:
        if spaces:
            search.draw_plain()
        for number, (word, space) in enumerate(spaces.items()):
            search.budget = search.spent + (search.most - search.spent) / (len(spaces) - number)
            tuned.append(search.tuned(word, space))
    except Stopped:
        stopped = True
        tuned += search.so_far()
    return Found(tuple(tuned), tuple(problems), search.spent, stopped)


class _Search:
    """Attributes:
    most, budget: in plain pictures' time, of all and up to the end of the present speed.
    """

    def __init__(self, drawer: Drawer, effort: Effort, most: float, told: Told) -> None:
        self.most = self.budget = most
        self._drawer = drawer
        self._told = told
        self._choosing = range(effort.choosing)
        self._checking = range(effort.choosing, effort.choosing + effort.checking)
        self._plain: dict[int, Drawn] = {}
        self._seconds = 0.0
        self._word = ""
        self._best: Trial | None = None

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
        for number in (*self._choosing, *self._checking):
            self._say("Drawing without")
            self._plain[number] = self._drawn(number, Candidate("plain", ()))

    def tuned(self, word: str, space: Space) -> Tuned:
        """The best of the plans of a speed."""
        self._word, self._best = word, None
        chance = random.Random(word)
        shipped = self._best = self._trial(space.shipped(), self._choosing)
        fewer = space.fewer_steps()
        budget = self.budget - len(self._checking) * (2 * shipped.time + fewer.share)
        plans = [shipped]
        for candidate in space.others():
            if not self._fits(shipped, budget):
                break
            trial = self._trial(candidate, self._choosing)
            if trial.time > _SLOWER * shipped.time:
                continue
            if trial.error < self._best.error:
                self._best = trial
            if candidate.plans:
                plans.append(trial)
        self._climb(space, min(plans, key=lambda one: one.error), chance, budget)
        return self._judged(shipped.candidate, fewer)

    def so_far(self) -> list[Tuned]:
        """The best of the speed at which it was stopped, if anything was drawn for it."""
        return [Tuned(self._word, self._best)] if self._best else []

    def _climb(self, space: Space, best: Trial, chance: random.Random, budget: float) -> None:
        """Exchange two steps as long as another try fits into the budget; what is nearer is gone on from."""
        tried = {best.candidate.plans}
        misses = 0
        while self._fits(best, budget) and misses < _MISSES:
            candidate = space.neighbour(best.candidate, chance)
            if candidate is None:
                return
            if candidate.plans in tried:
                misses += 1
                continue
            tried.add(candidate.plans)
            misses = 0
            trial = self._trial(candidate, self._choosing)
            if trial.error < best.error:
                best = trial
                if self._best is None or best.error < self._best.error:
                    self._best = best

    def _fits(self, like: Trial, budget: float) -> bool:
        """Whether there is time for another trial like this one."""
        return self.spent + len(self._choosing) * like.time <= budget

    def _judged(self, shipped: Candidate, fewer: Candidate) -> Tuned:
        """On other pictures: the best that was found, where it is clearly nearer than the shipped plan there, else that."""
        judged_shipped = self._trial(shipped, self._checking)
        best = judged_shipped
        if self._best is not None and self._best.candidate != shipped:
            found = self._trial(self._best.candidate, self._checking)
            best = found if found.is_clearly_nearer(judged_shipped) else judged_shipped
        return Tuned(self._word, best, judged_shipped, self._trial(fewer, self._checking))

    def _trial(self, candidate: Candidate, numbers: Sequence[int]) -> Trial:
        errors, seconds = [], 0.0
        for number in numbers:
            self._say(f"{self._word}: {candidate.name}")
            drawn = self._drawn(number, candidate)
            error = (drawn.latent.double() - self._plain[number].latent.double()).square().mean().item()
            errors.append(math.sqrt(max(error, _ROUNDING)) if math.isfinite(error) else math.inf)
            seconds += drawn.seconds
        plain = sum(self._plain[number].seconds for number in numbers)
        return Trial(candidate, tuple(errors), seconds / max(plain, 1e-9))

    def _drawn(self, number: int, candidate: Candidate) -> Drawn:
        drawn = self._drawer.draw(number, candidate.configs, candidate.share)
        self._seconds += drawn.seconds
        return drawn

    def _say(self, words: str) -> None:
        self._told(words, min(self.spent / self.most, 1.0), max(self.most - self.spent, 0.0) * self._picture)
