"""The search for each speed: steps that may be left out, or, where there are too few of them, parts of the U-Net."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from ..core.knobs import ConfigError
from ..core.upcoming_picture import UpcomingPicture
from ..settings.speed_target import Fitted, fitted, has_too_few_steps
from .candidates import Candidate, Space
from .drawer import Drawer, Stopped
from .found import Best, Found, Tuned
from .part_measuring import measured
from .part_search import parts_for, times_faster
from .part_values import PartValues, why_not
from .plan_search import plan_for
from .trials import QUICK, Effort, Told, Trials


def tune(drawer: Drawer, words: Sequence[str], effort: Effort = QUICK, told: Told = lambda *_: None) -> Found:
    """Search for each of the speeds `words`, as `2x`; what was found before the user stopped is kept."""
    if not drawer.upcoming.model:
        return Found((), ("Tuning is left out: it is not known from which file the model is.",))
    spaces, bases, problems = _to_be_searched(drawer, words)
    if bases and effort.of_parts:
        effort = effort.of_parts
    most = effort.pictures(len(spaces) + len(bases))
    trials = Trials(drawer, effort, most, told)
    tuned: list[Tuned] = []
    word, best = "", Best()
    stopped = False
    try:
        if spaces or bases:
            trials.draw_plain()
        for number, (word, space) in enumerate(spaces.items()):
            best = Best()
            budget = trials.spent + (most - trials.spent) / (len(spaces) - number)
            tuned.append(plan_for(trials, word, space, budget, best))
        values: dict[Candidate, PartValues] = {}
        for number, (word, base) in enumerate(bases.items()):
            best = Best()
            if base not in values:
                values[base] = measured(trials, drawer, base, 1 - 1 / max(map(times_faster, bases)))
            budget = trials.spent + (most - trials.spent) / (len(bases) - number)
            tuned.append(parts_for(trials, word, base, values[base], drawer.upcoming.last.steps, budget, best))
    except ConfigError as error:
        problems.append(str(error))
    except Stopped:
        stopped = True
        if best.trial and word not in [one.word for one in tuned]:
            tuned.append(Tuned(word, best.trial, judged=False))
    return Found(tuple(tuned), tuple(problems), trials.spent, stopped)


def leaves_out_parts(as_it_comes: Fitted, upcoming: UpcomingPicture, own: Collection[str]) -> bool:
    """Whether a speed that cannot be reached as it comes can be by leaving out parts of the U-Net.

    Args:
        own: names of the methods that are on anyway.
    """
    unreached = bool(as_it_comes.sentence) and has_too_few_steps(upcoming) and "step_forecast" not in own
    return unreached and not why_not(upcoming, own)


def _to_be_searched(drawer: Drawer, words: Sequence[str]) -> tuple[dict[str, Space], dict[str, Candidate], list[str]]:
    """By speed, the plans that there are; by speed, what is on where parts are left out; a sentence for each other one."""
    spaces: dict[str, Space] = {}
    bases: dict[str, Candidate] = {}
    problems: list[str] = []
    for word in words:
        as_it_comes = fitted(word, drawer.own, drawer.upcoming)
        if space := Space.of(as_it_comes.configs, drawer.upcoming):
            spaces[word] = space
        elif leaves_out_parts(as_it_comes, drawer.upcoming, drawer.own):
            bases[word] = Candidate("plain", as_it_comes.configs)
        else:
            reason = has_too_few_steps(drawer.upcoming) and why_not(drawer.upcoming, drawer.own)
            nothing = f"Speed {word} leaves out no step here, so there is nothing to tune."
            problems.append(reason or as_it_comes.sentence or nothing)
    return spaces, bases, problems
