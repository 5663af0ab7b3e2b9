"""Plans that are shipped, by sampler, schedule, speed and number of steps: found by `python -m benchmarks.step_plans`."""

from __future__ import annotations

import json
import math
from functools import cache
from pathlib import Path
from typing import Any

from .plan import StepPlan, even

_FILE = Path(__file__).with_suffix(".json")
#: Where nobody says how many evaluations there are, a plan goes by progress, and this many parts of it are told apart.
_PARTS = 20


def shipped_plan(sampler: str, schedule: str, evaluations: int | None, speed: float) -> StepPlan:
    """The plan for a pass, stretched where none was searched for as many evaluations; an even one where none was at all.

    Args:
        sampler: as A1111 calls it.
        schedule: how the noise levels are spaced, in lower case.
        evaluations: of the pass, None where that is not known.
        speed: how many times fewer evaluations are to run, at least 1.
    """
    count = evaluations or _PARTS
    fitting = [one for one in _shipped() if (one["sampler"], one["schedule"]) == (sampler, schedule)]
    speeds = {one["speed"] for one in fitting if abs(math.log(one["speed"] / speed)) < math.log(1.12)}
    if not speeds:
        return even(count, 1 / speed)
    nearest = min(speeds, key=lambda one: abs(math.log(one / speed)))
    plans = [StepPlan(one["plan"]) for one in fitting if one["speed"] == nearest]
    return min(plans, key=lambda plan: abs(math.log(len(plan) / count))).stretched(count)


def all_shipped_plans() -> list[tuple[str, str]]:
    """Samplers and schedules for which any was searched."""
    return list(dict.fromkeys((one["sampler"], one["schedule"]) for one in _shipped()))


@cache
def _shipped() -> tuple[dict[str, Any], ...]:
    return tuple(json.loads(_FILE.read_text("utf-8"))["plans"])
