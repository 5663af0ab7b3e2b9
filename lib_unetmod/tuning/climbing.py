"""Hill climbing: from one candidate to a neighbour that was drawn nearer, as long as there is time for another."""

from __future__ import annotations

import random
from collections.abc import Callable

from .candidates import Candidate
from .found import Best
from .trials import Trial, Trials

#: Neighbours that were tried before, drawn one after the other, after which there are hardly others.
_MISSES = 100


def climb(
    trials: Trials,
    start: Trial,
    neighbour: Callable[[Candidate, random.Random], Candidate | None],
    budget: float,
    word: str,
    best: Best,
) -> None:
    """Offer to `best` what is nearer than `start`.

    Args:
        neighbour: one of a candidate's, at random; None where it has none.
        budget: in plain pictures' time, of all that is drawn until then.
        word: the speed, as `2x`.
    """
    chance = random.Random(word)
    at, tried, misses = start, {start.candidate.configs}, 0
    while trials.fits(at, budget) and misses < _MISSES:
        candidate = neighbour(at.candidate, chance)
        if candidate is None:
            return
        if candidate.configs in tried:
            misses += 1
            continue
        tried.add(candidate.configs)
        misses = 0
        trial = trials.trial(candidate, trials.choosing, word)
        if trial.error < at.error:
            at = trial
            best.offer(trial)
