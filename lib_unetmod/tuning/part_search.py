"""Which parts of the U-Net to leave out, and in which phases, for a speed that steps are too few for.

By what each is worth, the cheapest for the time that they save are taken until that is enough. What is chosen is drawn, and
climbed from: one part stays and others go in its place.
"""

from __future__ import annotations

import math
import random
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from itertools import groupby

from ..core.knobs import ConfigError
from ..core.schedule import ProgressRange
from ..methods.speed.skip_blocks import SkipBlocks
from ..parts.blocks.named_parts import share_branches, within
from .candidates import PLAIN, Candidate
from .climbing import climb
from .drawer import Drawer
from .found import Best, Tuned
from .part_measuring import measured, with_parts
from .part_values import Item, PartValues, why_not
from .trials import Effort, Told, Trial, Trials

#: By how much the time may lie above what was asked for, and how often more is left out where it does.
_SLOWER, _AGAIN = 1.02, 3
#: Of those that could be left out next, how many one is drawn from when climbing.
_NEXT = 12


@dataclass(frozen=True)
class Parts(Candidate):
    """A candidate that leaves out parts."""

    items: frozenset[Item] = field(default=frozenset(), compare=False)


def parts_for(
    trials: Trials, word: str, base: Candidate, values: PartValues, steps: int, budget: float, best: Best
) -> Tuned:
    """What to leave out at a speed, judged beside fewer steps on other pictures.

    Args:
        base: what is on beside.
        values: measured with that.
        steps: of the pictures.
        budget: in plain pictures' time, of all that is drawn until then.
        best: gets the best so far.
    """
    wanted = 1 / times_faster(word)
    beside = trials.time(base) if base.configs else 1.0
    space = PartSpace(base, values, 1 - wanted / beside)
    start = _met(trials, word, wanted, beside, space)
    best.offer(start)
    fewer = _fewer_steps(base, steps, wanted)
    judging = len(trials.checking) * (2 * start.time + (fewer.share if fewer else 0.0))
    climb(trials, start, space.neighbour, budget - judging, word, best)
    judged = trials.trial(start.candidate, trials.checking, word)
    if best.trial.candidate != start.candidate:
        climbed = trials.trial(best.trial.candidate, trials.checking, word)
        judged = min(judged, climbed, key=lambda one: one.error)
    judged = judged._replace(time=trials.time(judged.candidate))
    return Tuned(word, judged, fewer_steps=trials.trial(fewer, trials.checking, word) if fewer else None)


def leave_out(drawer: Drawer, faster: float, effort: Effort, told: Told) -> tuple[PartValues, Tuned]:
    """What each part is worth, and which to leave out so that a picture is `faster` times as fast.

    Raises:
        Stopped: where the user has stopped.
        ConfigError: where it cannot be measured.
    """
    if reason := why_not(drawer.upcoming, drawer.own):
        raise ConfigError(reason)
    effort = effort.of_parts or effort
    trials = Trials(drawer, effort, effort.one, told)
    trials.draw_plain()
    values = measured(trials, drawer, PLAIN, 1 - 1 / faster)
    return values, parts_for(trials, f"{faster:g}x", PLAIN, values, drawer.upcoming.last.steps, effort.one, Best())


def names_left_out(tuned: Tuned) -> tuple[str, ...]:
    """The parts that what was found leaves out."""
    return next((config.blocks for config in tuned.best.candidate.configs if isinstance(config, SkipBlocks)), ())


def times_faster(word: str) -> float:
    """2.0 for `2x`."""
    return float(word.rstrip("x"))


def _met(trials: Trials, word: str, wanted: float, beside: float, space: PartSpace) -> Trial:
    """Drawn with so much left out that the time is met, where it can be."""
    for again in range(_AGAIN):
        parts = space.cheapest()
        time = trials.time(parts)
        if time <= _SLOWER * wanted or again == _AGAIN - 1 or space.saved >= space.most:
            break
        space.saved = min(space.saved + (time - wanted) / beside, space.most)
    space.saved = space.saving(parts.items)
    return trials.trial(parts, trials.choosing, word)._replace(time=time)


def _fewer_steps(base: Candidate, steps: int, wanted: float) -> Candidate | None:
    """The plain U-Net with as many steps as take no longer."""
    fewer = math.floor(steps * wanted)
    return Candidate("fewer steps", base.configs, share=fewer / steps) if fewer else None


class PartSpace:
    """What may be left out.

    Attributes:
        saved: the share of the time that is to be saved.
        most: the share that is saved without all of them.
    """

    def __init__(self, base: Candidate, values: PartValues, saved: float) -> None:
        self.saved = saved
        self._base, self._values = base, values
        self._cheapest_first = values.cheapest_first
        self.most = self.saving(self._filled(sorted(values.items, key=lambda item: -values.saving(*item)), math.inf))

    def cheapest(self) -> Parts:
        """What saves enough at the least cost, as one by one is added."""
        return self.filled(self._cheapest_first)

    def filled(self, order: Iterable[Item]) -> Parts:
        """What is left out as one by one is added in this order, until it saves enough."""
        return self._parts(self._filled(order, self.saved))

    def neighbour(self, of: Parts, chance: random.Random) -> Parts | None:
        """Without one that was left out, and with others that save as much."""
        if not of.items:
            return None
        gone = chance.choice(sorted(of.items))
        left = of.items - {gone}
        free = [item for item in self._cheapest_first if item != gone and item not in left and _is_free(item, left)]
        while free and self.saving(left) < self.saved:
            taken = free.pop(chance.randrange(min(_NEXT, len(free))))
            if _is_free(taken, left):
                left |= {taken}
        return self._parts(left) if self.saving(left) >= self.saved else None

    def saving(self, items: Collection[Item]) -> float:
        """The share of a picture's time that is saved without these."""
        return math.fsum(self._values.saving(*item) for item in items)

    def _filled(self, order: Iterable[Item], saved: float) -> frozenset[Item]:
        items: frozenset[Item] = frozenset()
        for item in order:
            if self.saving(items) >= saved:
                break
            if _is_free(item, items):
                items |= {item}
        return items

    def _parts(self, items: frozenset[Item]) -> Parts:
        one = with_parts(self._base, "parts left out", [*self._names(items)])
        return Parts(one.name, one.configs, items=items)

    def _names(self, items: Collection[Item]) -> Collection[str]:
        """With the windows of neighbouring phases joined."""
        names: list[str] = []
        for name, of_part in groupby(sorted(items), key=lambda item: item[0]):
            phases = [phase for _, phase in of_part]
            for _, run in groupby(enumerate(phases), key=lambda one: one[1] - one[0]):
                joined = [self._values.phases[phase].window for _, phase in run]
                names.append(within(name, ProgressRange(joined[0].start, joined[-1].end)))
        return names


def _is_free(item: Item, items: Collection[Item]) -> bool:
    """Whether nothing of a part is left out already in its phase."""
    name, phase = item
    return item not in items and not any(phase == its and share_branches(name, one) for one, its in items)
