"""What each method's speed costs in the picture, on the small checkpoint as the WebUI draws: 50 prompts, four samplers.

    python -m benchmarks.speed_pictures measure [--cells "euler 20 cfg7" ...] [--only "step_forecast" ...]
    python -m benchmarks.speed_pictures write      # docs/speed.md and what the panel says

A cell is a sampler with its automatic schedule type, a number of steps and a CFG scale; what is done is kept. Every setting
draws the pictures that the plain U-Net draws, ten prompts a batch, in turn with it; half of the prompts have two subjects,
and no plan was searched on any. The distance is to the plain picture, and of samplers that add no noise on the way also to
the converged one: 200 steps of DPM++ 2M from the same noise, where all of them end. Beside each setting stands the plain
U-Net given fewer steps of the same time, on the same schedule type: prompt by prompt, on the line through its own runs.
Wants `benchmarks/requirements.txt`.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.drawing import drawn
from benchmarks.paired import Paired, paired
from benchmarks.prompts import JUDGED
from benchmarks.timing import device
from lib_unetmod import METHODS, Config
from lib_unetmod.playground.model import SmallModel, load
from lib_unetmod.playground.samplers import SAMPLERS, schedule_type
from lib_unetmod.settings.measured import write_part

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "docs" / "speed.json"
TABLE = ROOT / "docs" / "speed.md"
PLOT = ROOT / "docs" / "pictures" / "speed.svg"

SCHEDULE, SEED, BATCH = "automatic", 5, 10
#: Steps after which a picture hardly changes any more, and the sampler that takes them.
CONVERGED, CONVERGES = 200, "dpm++2m"
ADD_NOISE = ("euler-a", "dpm++2m-sde")


@dataclass(frozen=True)
class Cell:
    """What is drawn with; `name` is its key in the results."""

    sampler: str
    steps: int
    cfg: float

    @property
    def name(self) -> str:
        return f"{self.sampler} {self.steps} cfg{self.cfg:g}"

    @property
    def converges(self) -> bool:
        return self.sampler not in ADD_NOISE


#: Not UniPC: diffusers' draws on these levels at CFG 7 what is 0.21 away from the converged picture, where Euler is 0.001.
SAMPLED = ("euler", "euler-a", "dpm++2m", "dpm++2m-sde")
#: In order of worth.
CELLS = {
    cell.name: cell
    for cell in (Cell(sampler, steps, cfg) for steps in (20, 30) for cfg in (7.0, 4.0) for sampler in SAMPLED)
}

#: By a name of its own, the methods with the knobs that are set, in rising strength. What saves attention saves nothing at
#: this size, where level 1 has 256 tokens: one setting of each says so, and `benchmarks.speed` times it at real sizes.
SETTINGS: dict[str, list[dict[str, Any]]] = {
    "step_forecast": [{"speed": 1.5}, {"speed": 2.0}, {"speed": 3.0}],
    "step_forecast, even": [{"interval": 2}, {"interval": 3}],
    "step_forecast, linear": [{"speed": 2.0, "predictor": "linear"}],
    "step_forecast, blend": [{"speed": 2.0, "predictor": "blend"}],
    "deep_cache": [{"interval": 2}, {"interval": 3}, {"interval": 5}],
    "deep_cache, linear": [{"interval": 2, "predictor": "linear"}],
    "deep_cache, branch 3": [{"interval": 3, "branch": 3}],
    "encoder_reuse": [{"interval": 2}, {"interval": 3}],
    "skip_blocks": [{"middle": True, "levels": 1}],
    "guidance_interval": [{"guide_to": 0.8}, {"guide_to": 0.5}],
    "token_merging": [{"ratio": 0.5}],
    "token_downsampling": [{"factor": 2.0}],
    "hyper_tile": [{"tile": 64, "depth": 1}],
}
#: Methods together, by what the table calls them.
TOGETHER: dict[str, dict[str, dict[str, Any]]] = {
    "step_forecast: speed=1.5 + deep_cache: interval=2": {"step_forecast": {"speed": 1.5}, "deep_cache": {"interval": 2}},
    "step_forecast: speed=2 + guidance_interval: guide_to=0.8": {
        "step_forecast": {"speed": 2.0},
        "guidance_interval": {"guide_to": 0.8},
    },
}
#: The plain U-Net's shares of the full number of steps, from which its line is drawn.
FEWER = (0.25, 0.35, 0.5, 0.65, 0.8)


def settings() -> dict[str, tuple[Config, ...]]:
    """Every setting by a name such as `deep_cache: interval=2`."""
    alone = [(row.split(",")[0], values) for row, strengths in SETTINGS.items() for values in strengths]
    named = {_name(method, values): (METHODS[method].config.from_values(values),) for method, values in alone}
    for name, parts in TOGETHER.items():
        named[name] = tuple(METHODS[method].config.from_values(values) for method, values in parts.items())
    return named


def _name(method: str, values: Mapping[str, Any]) -> str:
    text = {name: f"{value:g}" if isinstance(value, float) else str(value).lower() for name, value in values.items()}
    words = "; ".join(f"{name}={value}" for name, value in text.items())
    return f"{method}: {words}"


def _plain(steps: int) -> str:
    return f"plain: {steps} steps"


def measure(cells: Sequence[str], words: Sequence[str]) -> None:
    from training.measure import PerceptualDistance

    perceptual, model = PerceptualDistance(), load()
    for name in cells:
        done = _results().get(name, {}).get("settings", {})
        found = measure_cell(perceptual, model, CELLS[name], done, words)
        # Another process may have written its own cell meanwhile.
        known = {**_results(), name: found}
        lines = (f" {json.dumps(cell)}: {_in_lines(known[cell])}" for cell in CELLS if cell in known)
        RESULTS.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
        print(name, flush=True)


def _in_lines(cell: Mapping[str, Any]) -> str:
    """A cell as JSON, a line a setting."""
    lines = (f"   {json.dumps(name)}: {json.dumps(one)}" for name, one in cell["settings"].items())
    return f'{{\n  "device": {json.dumps(cell["device"])},\n  "settings": {{\n' + ",\n".join(lines) + "\n  }\n }"


def _results() -> dict[str, Any]:
    return json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}


def measure_cell(
    perceptual: Any, model: SmallModel, cell: Cell, done: Mapping[str, Any], words: Sequence[str] = ()
) -> dict[str, Any]:
    """By setting: time over plain, each prompt's distance to the plain picture, the mean distance to the converged one.

    What is in `done` is kept as it is; of the rest only settings with one of `words` in their names are run, if there are
    any.
    """
    plain_ways = {_plain(round(cell.steps * share)): (round(cell.steps * share), ()) for share in FEWER}
    wanted = {**plain_ways, **{name: (cell.steps, configs) for name, configs in settings().items()}}
    ways = {
        name: way
        for name, way in wanted.items()
        if name not in done and (not words or name in plain_ways or any(word in name for word in words))
    }
    seconds, beside = dict.fromkeys(ways, 0.0), dict.fromkeys(ways, 0.0)
    distances: dict[str, list[float]] = {name: [] for name in ways}
    to_converged = dict.fromkeys([_plain(cell.steps), *ways], 0.0)
    _pictures(model, JUDGED[:1], cell, 2, ())
    for at in range(0, len(JUDGED) if ways else 0, BATCH):
        prompts = JUDGED[at : at + BATCH]
        full, full_seconds = _pictures(model, prompts, cell, cell.steps, ())
        converged = _converged(model, at, cell.cfg) if cell.converges else None
        if converged is not None:
            to_converged[_plain(cell.steps)] += perceptual(full, converged).diagonal().sum().item()
        for name, (steps, configs) in ways.items():
            pictures, spent = _pictures(model, prompts, cell, steps, configs)
            seconds[name] += spent
            beside[name] += full_seconds
            distances[name] += [round(value, 6) for value in perceptual(pictures, full).diagonal().tolist()]
            if converged is not None:
                to_converged[name] += perceptual(pictures, converged).diagonal().sum().item()
    found = {name: {"time": round(seconds[name] / beside[name], 4), "distances": distances[name]} for name in ways}
    if ways and _plain(cell.steps) not in done:
        found[_plain(cell.steps)] = {"time": 1.0, "distances": [0.0] * len(JUDGED)}
    if cell.converges:
        for name, one in found.items():
            one["to_converged"] = round(to_converged[name] / len(JUDGED), 5)
    known = {**done, **found}
    order = [*plain_ways, _plain(cell.steps), *settings()]
    return {"device": device(), "settings": {name: known[name] for name in order if name in known}}


@cache
def _converged(model: SmallModel, at: int, cfg: float) -> Tensor:
    """Of the prompts from `at` on."""
    return _pictures(model, JUDGED[at : at + BATCH], Cell(CONVERGES, CONVERGED, cfg), CONVERGED, ())[0]


@torch.inference_mode()
def _pictures(
    model: SmallModel, prompts: Sequence[str], cell: Cell, steps: int, configs: Sequence[Config]
) -> tuple[Tensor, float]:
    """Pictures (B, 3, 128, 128) in [-1, 1], and the seconds of their U-Net evaluations."""
    latents, seconds = drawn(model, prompts, cell.sampler, steps, configs, seed=SEED, schedule=SCHEDULE, cfg=cell.cfg)
    return model.decode(latents).clone(), seconds


def fewer_steps(measured: Mapping[str, Any], share: float) -> list[float]:
    """Each prompt's distance of the plain U-Net given `share` of the time; beyond its fewest steps that of those."""
    line = sorted((one["time"], one["distances"]) for name, one in measured.items() if name.startswith("plain: "))
    times = [time for time, _ in line]
    by_prompt = zip(*(distances for _, distances in line), strict=True)
    return [float(np.interp(share, times, distances)) for distances in by_prompt]


def against_fewer(measured: Mapping[str, Any], name: str) -> Paired:
    """A setting of a cell beside fewer steps of the same time."""
    one = measured[name]
    return paired(one["distances"], fewer_steps(measured, one["time"]))


def write() -> None:
    results = _results()
    cells = [cell for cell in CELLS.values() if cell.name in results]
    TABLE.write_text("\n".join(_page(results, cells)), encoding="utf-8")
    write_part("speed", by_method(results, cells))
    plot(results, [cell for cell in cells if (cell.steps, cell.cfg) == (cells[0].steps, cells[0].cfg)])


def _page(results: Mapping[str, Any], cells: Sequence[Cell]) -> Iterator[str]:
    yield "# Speed against picture distance"
    yield ""
    yield "Written by `python -m benchmarks.speed_pictures write` from docs/speed.json, which `measure` fills."
    yield f"The small checkpoint at its trained 128x128 pixels, {len(JUDGED)} prompts, half of them with two subjects; the"
    yield "schedule type that AUTOMATIC1111 takes for the sampler. " + results[cells[0].name]["device"] + "."
    yield ""
    yield "Distance is shift-tolerant LPIPS (AlexNet) to the picture that the plain U-Net draws from the same noise with all"
    yield "steps, times 1000: mean and median. *Fewer steps* is the mean of the plain U-Net given as many fewer steps as"
    yield "take the same time, on the same schedule type. *Nearer* counts the prompts whose picture is nearer than that. The"
    yield "*gain* is what the setting is nearer by, in percent of the distance of fewer steps: 95 % of paired bootstraps; it"
    yield "*beats it* where all of that is above 0. *Converged* is the distance to the picture of many steps from the same"
    yield f"noise, {CONVERGED} of {SAMPLERS[CONVERGES].label}, where the sampler adds none on the way."
    yield ""
    yield "What saves attention (token merging, token downsampling, HyperTile) saves no time at this size; its time at real"
    yield "sizes is in [benchmarks](../benchmarks/README.md) and [on a GPU](full_size.md)."
    yield ""
    yield "![distance over time](pictures/speed.svg)"
    yield ""
    missing = [name for name in CELLS if name not in results]
    if missing:
        yield f"Not measured yet: {', '.join(missing)}."
        yield ""
    for sampler in SAMPLED:
        of_sampler = [cell for cell in cells if cell.sampler == sampler]
        if of_sampler:
            yield from _table(results, sampler, of_sampler)


def _table(results: Mapping[str, Any], sampler: str, cells: Sequence[Cell]) -> Iterator[str]:
    yield f"## {SAMPLERS[sampler].label}, {schedule_type(sampler, SCHEDULE)}"
    yield ""
    yield "| steps, CFG | setting | time | distance | median | fewer steps | nearer | gain | beats it | converged |"
    yield "|---|---|---|---|---|---|---|---|---|---|"
    for cell in cells:
        measured = results[cell.name]["settings"]
        for name, one in measured.items():
            converged = f"{1000 * one['to_converged']:.1f}" if "to_converged" in one else ""
            begins = f"| {cell.steps}, {cell.cfg:g} | {name} | {one['time']:.3f} |"
            if name.startswith("plain: "):
                mean, median = np.mean(one["distances"]), np.median(one["distances"])
                yield f"{begins} {1000 * mean:.1f} | {1000 * median:.1f} | | | | | {converged} |"
                continue
            found = against_fewer(measured, name)
            cells_of_row = [
                *(f"{1000 * value:.1f}" for value in (found.distance, found.median, found.other)),
                str(found.wins),
                _percent(found.gain),
                "**yes**" if found.is_nearer else "no",
                converged,
            ]
            yield f"{begins} {' | '.join(cells_of_row)} |"
    yield ""


def _percent(gain: tuple[float, float]) -> str:
    """What is farther by more than all of the distance, or beside no distance at all, is so by no telling number."""
    low, high = (100 * bound for bound in gain)
    return "below -100" if high < -100 else f"{low:.0f} to {high:.0f}"


def by_method(results: Mapping[str, Any], cells: Sequence[Cell]) -> dict[str, list[dict[str, Any]]]:
    """What the panel and the README say of each method's settings: the fields of `measured.Speed`."""
    found: dict[str, list[dict[str, Any]]] = {}
    for name in (name for name, configs in settings().items() if len(configs) == 1):
        ran = [cell for cell in cells if name in results[cell.name]["settings"]]
        if not ran:
            continue
        beside = [against_fewer(results[cell.name]["settings"], name) for cell in ran]
        lost = {cell.sampler for cell, one in zip(ran, beside, strict=True) if not one.is_nearer}
        method, setting = name.split(": ", 1)
        found.setdefault(method, []).append(
            {
                "setting": setting,
                "time": round(float(np.mean([results[cell.name]["settings"][name]["time"] for cell in ran])), 3),
                "distance": round(float(np.mean([one.distance for one in beside])), 4),
                "fewer_steps": round(float(np.mean([one.other for one in beside])), 4),
                "pays_with": [
                    SAMPLERS[sampler].label for sampler in dict.fromkeys(cell.sampler for cell in ran) if sampler not in lost
                ],
                "cells": len(ran),
            }
        )
    return found


def plot(results: Mapping[str, Any], cells: Sequence[Cell]) -> None:
    """One panel a sampler: the plain U-Net with fewer steps as a line, each method's strengths as another."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "unetmod"
    from matplotlib import pyplot

    columns = 2
    rows = math.ceil(len(cells) / columns)
    figure, axes = pyplot.subplots(rows, columns, figsize=(11, 3.8 * rows), squeeze=False)
    for axis in axes.flat[len(cells) :]:
        axis.axis("off")
    for axis, cell in zip(axes.flat, cells, strict=False):
        measured = results[cell.name]["settings"]
        means = {name: (one["time"], np.mean(one["distances"])) for name, one in measured.items()}
        line = sorted(point for name, point in means.items() if name.startswith("plain: "))
        axis.set_prop_cycle(color=pyplot.get_cmap("tab10").colors)
        axis.plot(*zip(*line, strict=True), "k--", label="plain, fewer steps")
        for row, strengths in SETTINGS.items():
            names = [_name(row.split(",")[0], values) for values in strengths]
            points = [means[name] for name in names if name in means]
            if points:
                axis.plot(*zip(*points, strict=True), "o-", markersize=4, label=row.replace("_", " "))
        axis.set(
            title=f"{SAMPLERS[cell.sampler].label}, {cell.steps} steps, CFG {cell.cfg:g}",
            xlabel="time over plain",
            ylabel="distance to the picture of all steps",
            yscale="log",
        )
        axis.grid(alpha=0.3)
    axes.flat[0].legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(PLOT, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stage", choices=("measure", "write"))
    parser.add_argument("--cells", nargs="+", choices=tuple(CELLS), default=tuple(CELLS))
    parser.add_argument("--only", nargs="+", default=(), help="words of which a setting's name must hold one")
    options = parser.parse_args()
    if options.stage == "measure":
        measure(options.cells, options.only)
    write()


if __name__ == "__main__":
    main()
