"""The knobs of a method that follows a plan, how they are read, and what a user is told of them."""

from __future__ import annotations

from typing import Any

from ...core.knobs import ConfigError, knob, shortened
from .plan import StepPlan

#: Between the plan of the first pass and that of hires fix.
BY_PASS = "/"


def plan_knob(help: str, without: str = "by Interval") -> Any:
    """The field `plan` of a method; its text is what `planned` reads."""
    return knob("", "Plan", f"{help}; empty = {without}. Other lengths are stretched.", rarely=True)


def last_full_knob() -> Any:
    """The field `last_full` of a method, which `last_full_of` reads."""
    return knob(
        -1,
        "Full runs last",
        "Number of last steps that always run: -1 = by the schedule type (1 where the last step is a large one).",
        low=-1,
        high=20,
        step=1,
        when="not plan",
        rarely=True,
    )


def planned(text: str, other: str, method: str) -> StepPlan | None:
    """What a user wrote as `method`'s plan; None where that is nothing.

    Raises:
        ConfigError: naming the method.
    """
    try:
        return StepPlan(text.strip().upper(), other) if text.strip() else None
    except ConfigError as error:
        raise ConfigError(f"{method}: {error}") from None


def planned_by_pass(text: str, other: str, method: str) -> list[StepPlan]:
    """What a user wrote as `method`'s plan for all passes, or as one for the first and one for hires fix; none for nothing.

    Raises:
        ConfigError: naming the method.
    """
    parts = text.split(BY_PASS)
    if len(parts) > 2:
        raise ConfigError(f"{method}: plan is {shortened(text)}; it takes two plans at most, as FPFP/FPPFPP.")
    plans = [plan for part in parts if (plan := planned(part, other, method))]
    if len(parts) == 2 and len(plans) < 2:
        raise ConfigError(f"{method}: plan is {shortened(text)}; it takes a plan on both sides of the {BY_PASS}.")
    return plans


def note_on(plan: StepPlan, method: str, evaluations: int | None) -> str:
    """What a user is to know of how `method` follows a plan in a pass of so many; empty where it does letter by letter."""
    if evaluations is None:
        return f"{method}: how many steps come is not known here, so the plan follows the noise level."
    if len(plan) == evaluations:
        return ""
    return f"{method}: the plan for {len(plan)} steps was stretched to {evaluations}: {plan.stretched(evaluations).letters}."


def last_full_of(number: int, schedule: str) -> int:
    """How many of the last evaluations run in full; -1 decides by the schedule, as `HostCall` names it."""
    # One that ends far above no noise leaves its last step much to do.
    return int(schedule == "trailing") if number < 0 else number
