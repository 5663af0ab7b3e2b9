"""The plans that Step forecast ships, searched on the small checkpoint; `benchmarks.speed_pictures` judges them.

    python -m benchmarks.step_plans [--cells euler-20 ...] [--speeds 2 ...]    # minutes a plan; what is done is kept

A plan is searched by hill climbing: from the best of some regular ones and the one for another number of steps, two letters
of different kinds are exchanged, and kept where the final latents of eight prompts come nearer to those of all steps.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from benchmarks.drawing import drawn
from lib_unetmod import StepForecast
from lib_unetmod.parts.caching import step_plans
from lib_unetmod.parts.caching.plan import FULL, PREDICTED, StepPlan, even, swapped
from lib_unetmod.playground.model import SmallModel, load
from lib_unetmod.playground.samplers import SAMPLERS, schedule_type

SHIPPED = Path(step_plans.__file__).with_suffix(".json")

SAMPLED = ("euler", "euler-a", "dpm++2m", "dpm++2m-sde")
CELLS = [f"{sampler}-{steps}" for sampler in SAMPLED for steps in (20, 30)]
SPEEDS = (1.3, 1.5, 2.0, 2.5, 3.0)
SCHEDULE, CFG = "automatic", 7.0
#: Searched on these, with this seed; judged on others, with another.
CHOOSING = (
    *("sunflower", "robot", "panda", "rocket"),
    *("cheese left of rabbit", "sailboat above snowman, pink background"),
    *("cactus above frog", "owl left of pizza, light blue background"),
)
CHOOSING_SEED = 11
TRIES = 30


def fulls_of(steps: int, speed: float) -> int:
    """How many of the steps run."""
    return round(steps / speed)


def search(model: SmallModel, sampler: str, steps: int, speed: float, tries: int = TRIES) -> StepPlan:
    """The plan that came nearest to all steps."""
    chance = random.Random(f"{sampler} {steps} {speed:g}")
    full = _latents(model, CHOOSING, sampler, steps, None, CHOOSING_SEED)

    def error(plan: StepPlan) -> float:
        out = _latents(model, CHOOSING, sampler, steps, StepForecast(plan=plan.letters), CHOOSING_SEED)
        # The mean of logarithms: no picture that is hard to draw decides alone.
        return float((out - full).square().mean((1, 2, 3)).clamp_min(1e-12).log().mean())

    begin_from = [*_regular(steps, fulls_of(steps, speed)), *_of_other_steps(sampler, steps, speed)]
    least, best = min(((error(plan), plan) for plan in begin_from), key=lambda one: one[0])
    for _ in range(tries):
        places = {
            kind: [at for at, letter in enumerate(best.letters) if at and letter == kind] for kind in (FULL, PREDICTED)
        }
        plan = swapped(best, [chance.choice(of_kind) for of_kind in places.values()])
        if (found := error(plan)) < least:
            least, best = found, plan
    return best


def _regular(steps: int, fulls: int) -> Iterator[StepPlan]:
    """Full ones evenly spread, and gathered towards the beginning or the end."""
    yield even(steps, fulls / steps)
    for power in (0.7, 1.4):
        places = sorted({round((index / fulls) ** power * (steps - 1)) for index in range(fulls)})
        missing = [at for at in range(steps) if at not in places][: fulls - len(places)]
        yield StepPlan("".join(FULL if at in (*places, *missing) else PREDICTED for at in range(steps)))


def _of_other_steps(sampler: str, steps: int, speed: float) -> Iterator[StepPlan]:
    """The shipped ones of this sampler and speed, stretched, with as many full ones as are wanted."""
    key = _key(sampler, steps, speed)
    del key["evaluations"]
    for one in _read(SHIPPED, {"plans": []})["plans"]:
        if key.items() <= one.items():
            plan = StepPlan(one["plan"]).stretched(steps)
            if plan.letters.count(FULL) == fulls_of(steps, speed):
                yield plan


def _latents(
    model: SmallModel, prompts: Sequence[str], sampler: str, steps: int, config: StepForecast | None, seed: int
) -> Tensor:
    return drawn(model, prompts, sampler, steps, [config] if config else [], seed=seed, schedule=SCHEDULE, cfg=CFG)[0]


def _cell(name: str) -> tuple[str, int]:
    sampler, steps = name.rsplit("-", 1)
    return sampler, int(steps)


def _key(sampler: str, steps: int, speed: float) -> dict[str, Any]:
    schedule = schedule_type(sampler, SCHEDULE).lower()
    return {"sampler": SAMPLERS[sampler].label, "schedule": schedule, "evaluations": steps, "speed": speed}


def _read(path: Path, empty: Any) -> Any:
    return json.loads(path.read_text("utf-8")) if path.exists() else empty


def search_all(cells: Sequence[str], speeds: Sequence[float]) -> None:
    model = load()
    for name in cells:
        sampler, steps = _cell(name)
        for speed in speeds:
            key = _key(sampler, steps, speed)
            if any(key.items() <= one.items() for one in _read(SHIPPED, {"plans": []})["plans"]):
                continue
            plan = search(model, sampler, steps, speed)
            kept = _read(SHIPPED, {"plans": []})["plans"]  # another process may have found its own meanwhile
            kept = sorted([*kept, {**key, "plan": plan.letters}], key=lambda one: [str(value) for value in one.values()])
            lines = ",\n".join("  " + json.dumps(one) for one in kept)
            SHIPPED.write_text(f'{{"found_by": "python -m benchmarks.step_plans", "plans": [\n{lines}\n]}}\n', "utf-8")
            print(f"{name} {speed:g}x: {plan.letters}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", nargs="+", choices=CELLS, default=CELLS)
    parser.add_argument("--speeds", nargs="+", type=float, choices=SPEEDS, default=SPEEDS)
    options = parser.parse_args()
    search_all(options.cells, options.speeds)


if __name__ == "__main__":
    main()
