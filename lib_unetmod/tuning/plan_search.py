"""The plan of steps for a speed: the best of what is known, climbed from, and judged on other pictures.

Two steps of the best plan are exchanged, and stay so where the pictures come nearer, the form of search that docs/speed.md
found best (hill climbing on the final picture, as BudCache, arXiv 2606.13496, does for transformers). What was found is
judged beside the shipped plan and fewer steps on other pictures, so that it is never kept where it is worse there.
"""

from __future__ import annotations

from .candidates import Space
from .climbing import climb
from .found import Best, Tuned
from .trials import Trials

#: By how much a candidate may take longer than the shipped plan and still count as of that speed: times waver.
_SLOWER = 1.08


def plan_for(trials: Trials, word: str, space: Space, budget: float, best: Best) -> Tuned:
    """The best of the plans of a speed.

    Args:
        budget: in plain pictures' time, of all that is drawn until then.
        best: gets the best so far.
    """
    shipped = trials.trial(space.shipped(), trials.choosing, word)
    best.offer(shipped)
    fewer = space.fewer_steps()
    climbing = budget - len(trials.checking) * (2 * shipped.time + fewer.share)
    plans = [shipped]
    for candidate in space.others():
        if not trials.fits(shipped, climbing):
            break
        trial = trials.trial(candidate, trials.choosing, word)
        if trial.time > _SLOWER * shipped.time:
            continue
        best.offer(trial)
        if candidate.plans:
            plans.append(trial)
    climb(trials, min(plans, key=lambda one: one.error), space.neighbour, climbing, word, best)

    judged = judged_shipped = trials.trial(shipped.candidate, trials.checking, word)
    if best.trial.candidate != shipped.candidate:
        found = trials.trial(best.trial.candidate, trials.checking, word)
        judged = found if found.is_clearly_nearer(judged_shipped) else judged_shipped
    return Tuned(word, judged, judged_shipped, trials.trial(fewer, trials.checking, word))
