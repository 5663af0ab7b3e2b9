"""In which evaluations a cache runs in full: the knobs that every cache has, and the count that follows from them.

The count is one of evaluations since the last full one, not of steps of a known total: it holds for samplers that evaluate
twice a step, for img2img that begins half-way, and for evaluations that leave the unconditional rows out.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...core.clock import Clock
from ...core.config import Config
from ...core.knobs import knob
from ...core.unet_map import UNetMap
from ...core.upcoming_picture import Idle, UpcomingPass
from .predictors import PREDICTORS


@dataclass(frozen=True, kw_only=True)
class CadenceConfig(Config):
    """Knobs of a method that answers from memory between evaluations run in full."""

    interval: int = knob(
        3, "Interval", "Every how many evaluations one is run in full; 1 = all of them, no caching.", low=1, high=20, step=1
    )
    last_interval: int = knob(
        0,
        "Interval at the end",
        "The interval grows evenly from its value at progress 0 to this one at progress 1; 0 = it stays.",
        low=0,
        high=20,
        step=1,
        rarely=True,
    )
    first_full: int = knob(
        1,
        "First in full",
        "How many evaluations are run in full when the method begins to act.",
        low=1,
        high=20,
        step=1,
        rarely=True,
    )
    centre: float = knob(
        0.5,
        "Centre",
        "Where full evaluations are densest, as progress, when power is above 1.",
        low=0,
        high=1,
        step=0.01,
        rarely=True,
    )
    power: float = knob(
        1.0, "Power", "How much denser they are at the centre; 1 = evenly spread.", low=1, high=4, step=0.1, rarely=True
    )
    reach: float = knob(
        0.1,
        "Reach",
        "The most progress that an evaluation may make for its result to be reused: 0.1 leaves the cache off under about 10 "
        "steps, where neighbouring evaluations have too little in common.",
        low=0,
        high=1,
        step=0.01,
    )
    predictor: str = knob(
        "reuse",
        "Predictor",
        "What stands in for the blocks that are not run: their last result, or the straight line through the last two.",
        choices=tuple(PREDICTORS),
    )

    def changes_nothing(self) -> bool:
        return self.interval == 1 and self.last_interval <= 1

    def details(self) -> str:
        return f"{self.interval}" if not self.last_interval else f"{self.interval} to {self.last_interval}"

    def idle_at(self, reached: tuple[float, ...] | None, one: UpcomingPass, unet: UNetMap | None) -> Idle | None:
        if reached is None or _reuses_any(self, reached):
            return None
        return Idle(
            f"at {one.steps} step{'s' * (one.steps != 1)}",
            f"{self.short} reuses nothing: with so few sampling steps each differs too much from the one before.",
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
    for progress in evaluations:
        clock.new_evaluation()
        clock.at_timestep((1 - progress) * clock.last_timestep)
        if cadence.reuses(clock):
            return True
        cadence.ran_in_full()
    return False


class Cadence:
    """Decides for one stream, once a traversal, whether it may be answered from memory."""

    def __init__(self, config: CadenceConfig) -> None:
        self.too_few_steps = False
        self._config = config
        self._fulls = 0
        self._since_full = 0.0
        self._evaluation = 0
        self._progress = 0.0

    def reuses(self, clock: Clock) -> bool:
        """Whether the current evaluation is not to be run in full. Reads the timestep, which waits for the device."""
        config, progress = self._config, clock.progress
        passed = max(clock.evaluation - self._evaluation, 1)
        advance = (progress - self._progress) / passed
        self._evaluation, self._progress = clock.evaluation, progress
        self.too_few_steps = self._fulls > 0 and advance > config.reach
        # Back towards noise: a sampler that restarts. What was kept belongs to a cleaner picture.
        if self._fulls < config.first_full or advance < 0 or self.too_few_steps:
            return False
        self._since_full += passed / config.interval_at(progress)
        return self._since_full < 1 - 1e-6

    def ran_in_full(self) -> None:
        """The span was run, on whichever ground."""
        self._fulls += 1
        self._since_full = 0.0
