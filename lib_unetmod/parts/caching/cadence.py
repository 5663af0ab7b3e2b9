"""In which evaluations a cache runs in full: the knobs that every cache has, and what follows from them.

Without a plan it is a count of evaluations since the last full one, not of steps of a known total: it holds for samplers
that evaluate twice a step, for img2img that begins half-way, and for evaluations that leave the unconditional rows out.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...core.clock import Clock
from ...core.config import Config
from ...core.knobs import knob
from ...core.unet_map import UNetMap
from ...core.upcoming_picture import Idle, UpcomingPass
from .plan import DEEP, FULL, StepPlan
from .plan_knobs import last_full_knob, last_full_of, note_on, plan_knob, planned
from .predictors import PREDICTORS


@dataclass(frozen=True, kw_only=True)
class CadenceConfig(Config):
    """Knobs of a method that answers from memory between evaluations run in full; `kept` is its letter in plans."""

    kept = DEEP

    interval: int = knob(
        3,
        "Interval",
        "One full U-Net run every this many calls (usually one call per step): higher is faster and less exact, 1 = off.",
        low=1,
        high=20,
        step=1,
    )
    predictor: str = knob(
        "reuse",
        "Prediction",
        "What blocks return while they are skipped: reuse = their last result, linear = extrapolated from the last two.",
        choices=tuple(PREDICTORS),
    )
    reach: float = knob(
        0.1,
        "Max. jump",
        "Never reuses across a larger gap in noise level: lower is safer, and 0.1 turns reuse off below about 10 steps.",
        low=0,
        high=1,
        step=0.01,
        rarely=True,
    )
    first_full: int = knob(
        1,
        "Full runs first",
        "Number of full runs before reuse begins: more keeps the composition closer to the original.",
        low=1,
        high=20,
        step=1,
        rarely=True,
    )
    last_full: int = last_full_knob()
    last_interval: int = knob(
        0,
        "Final interval",
        "The interval changes gradually to this value at the end; 0 = it stays the same.",
        low=0,
        high=20,
        step=1,
        rarely=True,
    )
    power: float = knob(
        1.0,
        "Clustering",
        "Gathers the full runs around Center: 1 = evenly spread, higher = closer together there.",
        low=1,
        high=4,
        step=0.1,
        rarely=True,
    )
    centre: float = knob(
        0.5,
        "Center",
        "Noise level around which Clustering gathers the full runs: 0 = pure noise, 1 = finished image.",
        low=0,
        high=1,
        step=0.01,
        when="power!=1",
        rarely=True,
    )
    plan: str = plan_knob("One letter a step, F = full run, D = reused, as FDFDDF")

    def __post_init__(self) -> None:
        super().__post_init__()
        plan = planned(self.plan, self.kept, type(self).__name__)
        object.__setattr__(self, "plan", plan.letters if plan else "")

    def changes_nothing(self) -> bool:
        if self.plan:
            return self.kept not in self.plan
        return self.interval == 1 and self.last_interval <= 1

    def details(self) -> str:
        if self.plan:
            return self.plan
        return f"{self.interval}" if not self.last_interval else f"{self.interval} to {self.last_interval}"

    def idle_at(self, reached: tuple[float, ...] | None, one: UpcomingPass, unet: UNetMap | None) -> Idle | None:
        if reached is None or _reuses_any(self, reached):
            return None
        return Idle(
            f"at {one.steps} step{'s' * (one.steps != 1)}",
            f"{self.short} reuses nothing with so few steps. Use more sampling steps or raise Max. jump.",
        )

    def interval_at(self, progress: float) -> float:
        """The interval at `progress`, at least 1.

        `power` and `centre` are those of DeepCache's non-uniform schedule (Ma et al. 2024, section 3.3), which places the
        n full evaluations at `c + w^power` with w evenly spaced between `-c^(1/power)` and `(1-c)^(1/power)`. The spacing
        there, over that of an even schedule, is `power * |w|^(power-1) * (c^(1/power) + (1-c)^(1/power))`.
        """
        interval = float(self.interval)
        if self.last_interval:
            interval += (self.last_interval - self.interval) * progress
        root = abs(progress - self.centre) ** (1 / self.power)
        ends = self.centre ** (1 / self.power) + (1 - self.centre) ** (1 / self.power)
        spread = self.power * root ** (self.power - 1) * ends if self.power > 1 else 1.0
        return max(interval * spread, 1.0)


def _reuses_any(config: CadenceConfig, evaluations: tuple[float, ...]) -> bool:
    """Whether any of these evaluations, given as their progress, would be answered from memory."""
    cadence, clock = Cadence(config), Clock()
    clock.begin_pass(len(evaluations))
    for progress in evaluations:
        clock.new_evaluation()
        clock.at_timestep((1 - progress) * clock.last_timestep)
        if cadence.advance(clock):
            return True
        cadence.ran_in_full()
    return False


class Cadence:
    """Decides for one stream, once a traversal, whether it may be answered from memory.

    `schedule` is how the noise levels of its pass are spaced, as `HostCall` names it.
    """

    def __init__(self, config: CadenceConfig, schedule: str = "") -> None:
        self.too_few_steps = False
        self._config = config
        self._plan = StepPlan(config.plan, config.kept) if config.plan else None
        self._last_full = last_full_of(config.last_full, schedule)
        self._ran_at = 0.0
        self._fulls = 0
        self._since_full = 0.0
        self._evaluation = 0
        self._progress = 0.0

    def advance(self, clock: Clock) -> bool:
        """Go on to the current evaluation; whether it is not to be run in full.

        Reads the timestep, which waits for the device.
        """
        config, progress = self._config, clock.progress
        passed = max(clock.evaluation - self._evaluation, 1)
        made = (progress - self._progress) / passed
        self._evaluation, self._progress = clock.evaluation, progress
        self.too_few_steps = self._plan is None and self._fulls > 0 and made > config.reach
        # Back towards noise: a sampler that restarts. What was kept belongs to a cleaner picture.
        if self._fulls < config.first_full or made < 0 or self.too_few_steps:
            return False
        if self._plan is not None:
            return self._plan.at(clock, self._ran_at) != FULL
        self._since_full += passed / config.interval_at(progress)
        return self._since_full < 1 - 1e-6 and not self._is_among_the_last(clock)

    def note(self, method: str, clock: Clock) -> str:
        """What a user is to know of how the knobs of `method` are followed; empty where they are as they stand."""
        if self._plan is not None:
            return note_on(self._plan, method, clock.evaluations)
        if self._config.last_full > 0 and clock.evaluations is None:
            return f"{method}: Full runs last has no effect here, because how many steps come is not known."
        return ""

    def _is_among_the_last(self, clock: Clock) -> bool:
        return clock.evaluations is not None and clock.evaluation_of_pass >= clock.evaluations - self._last_full

    def ran_in_full(self) -> None:
        """The span was run, on whichever ground."""
        self._fulls += 1
        self._since_full = 0.0
        self._ran_at = self._progress
