"""What is tried for a speed: plans of steps, shipped for this sampler and others, even ones; a cache; fewer steps."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

from ..core.config import Config
from ..core.upcoming_picture import UpcomingPass, UpcomingPicture
from ..methods.speed.deep_cache import DeepCache
from ..methods.speed.step_forecast import StepForecast
from ..parts.caching.plan import FULL, PREDICTED, StepPlan, even, swapped
from ..parts.caching.plan_knobs import BY_PASS
from ..parts.caching.step_plans import all_shipped_plans

#: Of the speed that a cache between the steps that run makes up, the share of each: found beside others in docs/speed.md.
_WITH_CACHE = 0.75


@dataclass(frozen=True)
class Candidate:
    """One way to be faster.

    Attributes:
        name: what a user is told it is.
        configs: the methods; none where only steps are fewer.
        share: of the sampling steps.
        plans: of the passes in which steps are skipped, in their order; empty for what is no plan.
    """

    name: str
    configs: tuple[Config, ...]
    share: float = 1.0
    plans: tuple[StepPlan, ...] = ()


#: The pictures as they are with no speed.
PLAIN = Candidate("plain", ())


@dataclass(frozen=True)
class Space:
    """The plans of a picture at a speed.

    Attributes:
        base: what is on at that speed beside the plan, such as the negative prompt's rows left out.
        forecast: the method that follows the plan, as it comes.
        passes: in which it acts.
    """

    base: tuple[Config, ...]
    forecast: StepForecast
    passes: tuple[UpcomingPass, ...]

    @classmethod
    def of(cls, configs: tuple[Config, ...], upcoming: UpcomingPicture) -> Space | None:
        """Of what a speed does as it comes; None where that skips no steps, or nobody knows how many there are."""
        found = [config for config in configs if isinstance(config, StepForecast)]
        if not found:
            return None
        passes = tuple(one for one in upcoming.passes if found[0].acts_in(one.name))
        if any(one.evaluations is None for one in passes):
            return None
        return cls(tuple(config for config in configs if config is not found[0]), found[0], passes)

    def planned(self, name: str, plans: tuple[StepPlan, ...]) -> Candidate:
        """A candidate that follows these plans, one a pass."""
        text = BY_PASS.join(plan.letters for plan in plans)
        return Candidate(name, (*self.base, replace(self.forecast, plan=text)), plans=plans)

    def shipped(self) -> Candidate:
        return self.planned("shipped plan", tuple(self.forecast.plan_of(one) for one in self.passes))

    def others(self) -> Iterator[Candidate]:
        """Beside the shipped plan: an even one, those of other samplers that run as many steps, a cache."""
        shipped = self.shipped()
        fulls = [plan.letters.count(FULL) for plan in shipped.plans]
        evens = tuple(even(len(plan), count / len(plan)) for plan, count in zip(shipped.plans, fulls, strict=True))
        tried = {shipped.plans}
        if evens not in tried:
            tried.add(evens)
            yield self.planned("even plan", evens)
        for sampler, schedule in all_shipped_plans():
            plans = tuple(
                self.forecast.plan_for(one.name, sampler, schedule, len(one.evaluations or ())) for one in self.passes
            )
            if plans not in tried and [plan.letters.count(FULL) for plan in plans] == fulls:
                tried.add(plans)
                yield self.planned(f"plan of {sampler}", plans)
        slower = replace(self.forecast, speed=max(self.forecast.speed * _WITH_CACHE, 1.0))
        if slower.speed > 1:
            yield Candidate("shipped plan and DeepCache", (*self.base, slower, DeepCache(interval=2)))

    def fewer_steps(self) -> Candidate:
        """The plain U-Net with as many steps as run at this speed."""
        plans = self.shipped().plans
        ran = sum(plan.letters.count(FULL) for plan in plans)
        return Candidate("fewer steps", self.base, share=ran / sum(len(plan) for plan in plans))

    def neighbour(self, of: Candidate, chance: random.Random) -> Candidate | None:
        """The same with a step that runs and one that does not exchanged, never the first; None where there are none."""
        place = chance.choice(range(len(of.plans)))
        letters = of.plans[place].letters
        at = [[number for number, letter in enumerate(letters) if number and letter == kind] for kind in (FULL, PREDICTED)]
        if not all(at):
            return None
        plans = list(of.plans)
        plans[place] = swapped(plans[place], [chance.choice(of_kind) for of_kind in at])
        return self.planned("tuned plan", tuple(plans))
