"""The plans that Step forecast ships, searched on the small checkpoint, and what they are worth beside fewer steps.

    python -m benchmarks.step_plans search [--cells euler-20 ...] [--speeds 2 ...]   # minutes a plan; what is done is kept
    python -m benchmarks.step_plans judge [--cells euler-20 ...] [--speeds 2 ...]    # 50 other prompts, another seed
    python -m benchmarks.step_plans write                                            # docs/step_plans.md

A plan is searched by hill climbing: from the best of some regular ones, two letters of different kinds are exchanged, and
kept where the final latents of four prompts come nearer to those of all steps. Judged is on prompts that were not searched
on, half of them with two subjects, by the distance of pictures to that of all steps, beside the plain U-Net with as many
steps as the plan runs, on the same schedule. Wants `benchmarks/requirements.txt` for judging.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.drawing import drawn
from benchmarks.prompts import PROMPTS
from benchmarks.timing import device
from lib_unetmod import StepForecast
from lib_unetmod.parts.caching import step_plans
from lib_unetmod.parts.caching.plan import FULL, PREDICTED, StepPlan, even, swapped
from lib_unetmod.playground.model import SmallModel, load
from lib_unetmod.playground.samplers import SAMPLERS, schedule_type
from lib_unetmod.settings.measured import write_part

ROOT = Path(__file__).parent.parent
SHIPPED = Path(step_plans.__file__).with_suffix(".json")
RESULTS = ROOT / "docs" / "step_plans.json"
TABLE = ROOT / "docs" / "step_plans.md"

SAMPLED = ("euler", "euler-a", "dpm++2m", "dpm++2m-sde")
CELLS = [f"{sampler}-{steps}" for sampler in SAMPLED for steps in (20, 30)]
SPEEDS = (1.3, 1.5, 2.0, 2.5, 3.0)
SCHEDULE, CFG = "automatic", 7.0
#: Searched on these, with this seed; judged on the 50 of `prompts.py` and their pairs, with others.
CHOOSING = ("sunflower", "robot", "cheese, rabbit", "sailboat, snowman")
CHOOSING_SEED, JUDGING_SEED = 11, 5
TRIES = 40
BATCH = 10
#: In judging, the second half of the prompts have a second subject, so many further on in the list.
SECOND_SUBJECT = 17


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

    least, best = min(((error(plan), plan) for plan in _regular(steps, fulls_of(steps, speed))), key=lambda one: one[0])
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


def judged_prompts() -> list[str]:
    half = len(PROMPTS) // 2
    two = [f"{PROMPTS[at]}, {PROMPTS[(at + SECOND_SUBJECT) % len(PROMPTS)]}" for at in range(half, len(PROMPTS))]
    return [*PROMPTS[:half], *two]


def judge(perceptual: Any, model: SmallModel, sampler: str, steps: int, plans: dict[float, StepPlan]) -> dict[str, Any]:
    """By speed: distances to the picture of all steps, of the plan and of as many plain steps, and times over it."""
    prompts = judged_prompts()
    ways: dict[str, tuple[int, StepForecast | None]] = {}
    for speed, plan in plans.items():
        ways[f"{speed:g} plan"] = steps, StepForecast(plan=plan.letters)
        ways[f"{speed:g} fewer"] = plan.letters.count(FULL), None
        if plan != even(steps, plan.cost):
            ways[f"{speed:g} even"] = steps, StepForecast(plan=even(steps, plan.cost).letters)
    distances: dict[str, list[float]] = {name: [] for name in ways}
    seconds = dict.fromkeys(["all", *ways], 0.0)
    for at in range(0, len(prompts), BATCH):
        some = prompts[at : at + BATCH]
        full, took = _pictures(model, some, sampler, steps, None)
        seconds["all"] += took
        for name, (count, config) in ways.items():
            pictures, took = _pictures(model, some, sampler, count, config)
            seconds[name] += took
            distances[name] += perceptual(pictures, full).diagonal().tolist()
    return {
        "device": device(),
        "speeds": {
            f"{speed:g}": {
                "plan": plan.letters,
                "time": round(seconds[f"{speed:g} plan"] / seconds["all"], 3),
                "fewer_time": round(seconds[f"{speed:g} fewer"] / seconds["all"], 3),
                "even": compared(
                    distances.get(f"{speed:g} even", distances[f"{speed:g} plan"]), distances[f"{speed:g} fewer"]
                ),
                **compared(distances[f"{speed:g} plan"], distances[f"{speed:g} fewer"]),
            }
            for speed, plan in plans.items()
        },
    }


def compared(ours: Sequence[float], fewer: Sequence[float]) -> dict[str, Any]:
    """Means, their ratio, how often ours is nearer, and bootstrapped 95 % of what it gains, in parts of fewer's."""
    a, b = np.array(ours), np.array(fewer)
    drawn_ = np.random.default_rng(0).integers(0, len(a), (4000, len(a)))
    gains = (b - a)[drawn_].mean(1) / b.mean()
    return {
        "distance": round(float(a.mean()), 5),
        "median": round(float(np.median(a)), 5),
        "fewer": round(float(b.mean()), 5),
        "ratio": round(float(a.mean() / b.mean()), 3),
        "wins": int((a < b).sum()),
        "of": len(a),
        "gain": [round(float(bound), 3) for bound in np.percentile(gains, [2.5, 97.5])],
    }


def _latents(
    model: SmallModel, prompts: Sequence[str], sampler: str, steps: int, config: StepForecast | None, seed: int
) -> Tensor:
    return drawn(model, prompts, sampler, steps, [config] if config else [], seed=seed, schedule=SCHEDULE, cfg=CFG)[0]


def _pictures(
    model: SmallModel, prompts: Sequence[str], sampler: str, steps: int, config: StepForecast | None
) -> tuple[Tensor, float]:
    configs = [config] if config else []
    latents, seconds = drawn(model, prompts, sampler, steps, configs, seed=JUDGING_SEED, schedule=SCHEDULE, cfg=CFG)
    with torch.no_grad():
        return torch.cat([model.decode(one[None]) for one in latents]), seconds


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
            SHIPPED.write_text(
                f'{{"found_by": "python -m benchmarks.step_plans search", "plans": [\n{lines}\n]}}\n', "utf-8"
            )
            print(f"{name} {speed:g}x: {plan.letters}", flush=True)


def judge_all(cells: Sequence[str], speeds: Sequence[float]) -> None:
    from training.measure import PerceptualDistance

    perceptual, model = PerceptualDistance(), load()
    for name in cells:
        sampler, steps = _cell(name)
        shipped = _read(SHIPPED, {"plans": []})["plans"]
        plans = {
            speed: StepPlan(one["plan"])
            for speed in speeds
            for one in shipped
            if _key(sampler, steps, speed).items() <= one.items()
        }
        if plans:
            judged = judge(perceptual, model, sampler, steps, plans)
            results = _read(RESULTS, {})
            known = {**results.get(name, {}).get("speeds", {}), **judged["speeds"]}
            judged["speeds"] = {speed: known[speed] for speed in sorted(known, key=float)}
            RESULTS.write_text(json.dumps({**results, name: judged}, indent=1) + "\n")
            print(name, {speed: one["ratio"] for speed, one in judged["speeds"].items()}, flush=True)


def write() -> None:
    results = _read(RESULTS, {})
    cells = [cell for cell in CELLS if cell in results]
    lines = [
        "# Plans of Step forecast against fewer steps",
        "",
        "Written by `python -m benchmarks.step_plans write` from docs/step_plans.json, which `judge` fills.",
        f"The small checkpoint, CFG {CFG:g}, the schedule type that AUTOMATIC1111 takes for the sampler, {len(PROMPTS)}",
        "prompts that no plan was searched on, half of them with two subjects. Distance is shift-tolerant LPIPS (AlexNet)",
        "to the picture of all steps from the same noise. *Fewer steps* is the plain U-Net with as many steps as the plan",
        "runs. The gain is what the plan is nearer by, in parts of the distance of fewer steps: 95 % of paired bootstraps.",
        "",
    ]
    for cell in cells:
        sampler, steps = _cell(cell)
        kind = schedule_type(sampler, SCHEDULE)
        lines += [
            f"## {SAMPLERS[sampler].label}, {kind}, {steps} steps",
            "",
            "| speed | plan | time | distance | fewer steps | ratio | nearer | gain | evenly spread |",
            "|---|---|---|---|---|---|---|---|---|",
        ]
        for speed, one in results[cell]["speeds"].items():
            low, high = one["gain"]
            lines.append(
                f"| {speed}x | {one['plan']} | {one['time']:.2f} | {one['distance']:.4f} | {one['fewer']:.4f} | "
                f"{one['ratio']:.2f} | {one['wins']} of {one['of']} | {low:.2f} to {high:.2f} | {one['even']['ratio']:.2f} |"
            )
        lines.append("")
    if cells:
        lines += [f"Measured on {results[cells[0]]['device']}.", ""]
    TABLE.write_text("\n".join(lines), "utf-8")
    write_part("plans", {"step_forecast": for_the_panel(results, cells)})


def for_the_panel(results: dict[str, Any], cells: Sequence[str]) -> list[dict[str, Any]]:
    """What the panel and the README say of each speed: the fields of `measured.Speed`."""
    found = []
    for speed in (f"{each:g}" for each in SPEEDS):
        ones = {cell: results[cell]["speeds"][speed] for cell in cells if speed in results[cell]["speeds"]}
        if not ones:
            continue
        lost = {_cell(cell)[0] for cell, one in ones.items() if one["gain"][0] <= 0}
        found.append(
            {
                "setting": f"speed={speed}",
                "time": round(float(np.mean([one["time"] for one in ones.values()])), 3),
                "distance": round(float(np.mean([one["distance"] for one in ones.values()])), 4),
                "fewer_steps": round(float(np.mean([one["fewer"] for one in ones.values()])), 4),
                "pays_with": [
                    SAMPLERS[sampler].label
                    for sampler in SAMPLED
                    if sampler not in lost and any(_cell(cell)[0] == sampler for cell in ones)
                ],
                "cells": len(ones),
            }
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stage", choices=("search", "judge", "write"))
    parser.add_argument("--cells", nargs="+", choices=CELLS, default=CELLS)
    parser.add_argument("--speeds", nargs="+", type=float, choices=SPEEDS, default=SPEEDS)
    options = parser.parse_args()
    if options.stage == "search":
        search_all(options.cells, options.speeds)
    else:
        if options.stage == "judge":
            judge_all(options.cells, options.speeds)
        write()


if __name__ == "__main__":
    main()
