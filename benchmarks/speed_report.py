"""What the study of speed says: docs/speed.md, its plot, and the figures that the panel shows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.paired import Paired, paired
from benchmarks.prompts import JUDGED
from benchmarks.speed_cells import (
    CELLS,
    CONVERGED,
    CONVERGES,
    PLAIN,
    SAMPLED,
    SCHEDULE,
    SETTINGS,
    USUAL_STEPS,
    Cell,
    Study,
    name_of,
    settings,
)
from lib_unetmod.playground.samplers import SAMPLERS, schedule_type
from lib_unetmod.settings.measured import write_part

_WORTH = 0.75


def fewer_steps(measured: Mapping[str, Any], share: float) -> list[float]:
    """Each prompt's distance of the plain U-Net given `share` of the time; beyond its fewest steps that of those."""
    line = sorted((one["time"], one["distances"]) for name, one in measured.items() if name.startswith(PLAIN))
    times = [time for time, _ in line]
    by_prompt = zip(*(distances for _, distances in line), strict=True)
    return [float(np.interp(share, times, distances)) for distances in by_prompt]


def against_fewer(measured: Mapping[str, Any], name: str) -> Paired:
    """A setting of a cell beside fewer steps of the same time."""
    one = measured[name]
    return paired(one["distances"], fewer_steps(measured, one["time"]))


def write(study: Study) -> None:
    """The page and the plot; of the small checkpoint also what the panel says."""
    results = study.known()
    cells = [cell for cell in CELLS.values() if cell.name in results]
    study.page.write_text("\n".join(_page(study, results, cells)), encoding="utf-8")
    if study.checkpoint is None:
        write_part("speed", by_method(results, cells))
    plot(study.plot, results, _like_the_first(cells))


def _like_the_first(cells: Sequence[Cell]) -> list[Cell]:
    """A cell of each sampler, with the steps and the CFG scale of the first."""
    return [cell for cell in cells if (cell.steps, cell.cfg) == (cells[0].steps, cells[0].cfg)]


def _page(study: Study, results: Mapping[str, Any], cells: Sequence[Cell]) -> Iterator[str]:
    yield "# Speed against picture distance"
    yield ""
    if study.checkpoint is None:
        yield "Written by `python -m benchmarks.speed_pictures write` from docs/speed.json, which `measure` fills."
    name = "The small checkpoint at its trained 128x128 pixels" if study.checkpoint is None else study.checkpoint.name
    yield f"{name}, {len(JUDGED)} prompts, half of them with two subjects; the"
    yield "schedule type that AUTOMATIC1111 takes for the sampler. " + results[cells[0].name]["device"] + "."
    yield ""
    yield "Distance is shift-tolerant LPIPS (AlexNet) to the picture that the plain U-Net draws from the same noise with all"
    yield "steps, times 1000: mean and median. *Fewer steps* is the mean of the plain U-Net given as many fewer steps as"
    yield "take the same time, on the same schedule type. *Nearer* counts the prompts whose picture is nearer than that. The"
    yield "*gain* is what the setting is nearer by, in percent of the distance of fewer steps: 95 % of paired bootstraps; it"
    yield "*beats it* where all of that is above 0. *Converged* is the distance to the picture of many steps from the same"
    yield f"noise, {CONVERGED} of {SAMPLERS[CONVERGES].label}, where the sampler adds none on the way."
    yield ""
    if study.checkpoint is None:
        yield "What saves attention (token merging, token downsampling, HyperTile) saves no time at this size; its time at"
        yield "real sizes is in [benchmarks](../benchmarks/README.md) and [on a GPU](full_size.md)."
        yield ""
    yield from _summary(results, _like_the_first(cells))
    yield f"![distance over time]({study.plot.relative_to(study.page.parent).as_posix()})"
    yield ""
    missing = [name for name in CELLS if name not in results]
    if missing:
        yield f"Not measured yet: {', '.join(missing)}."
        yield ""
    for sampler in SAMPLED:
        of_sampler = [cell for cell in cells if cell.sampler == sampler]
        if of_sampler:
            yield from _table(results, sampler, of_sampler)


def _summary(results: Mapping[str, Any], cells: Sequence[Cell]) -> Iterator[str]:
    """Of the settings that save a quarter of the time with every sampler."""
    yield "## In short"
    yield ""
    yield f"{cells[0].steps} steps, CFG {cells[0].cfg:g}: distance over that of fewer steps, below 1 where the setting is"
    yield "nearer, and in brackets the time."
    yield ""
    yield f"| | {' | '.join(SAMPLERS[cell.sampler].label for cell in cells)} |"
    yield "|---" * (len(cells) + 1) + "|"
    measured = [results[cell.name]["settings"] for cell in cells]
    for name in settings():
        if all(name in one and one[name]["time"] <= _WORTH for one in measured):
            figures = (f"{against_fewer(one, name).ratio:.2f} ({one[name]['time']:.2f})" for one in measured)
            yield f"| {name} | {' | '.join(figures)} |"
    yield ""


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
            if name.startswith(PLAIN):
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
    """What the panel and the README say of each method's settings: the fields of `measured.Speed`.

    Means are of the cells with the usual number of steps, if there are any. A setting pays with a sampler where it does in
    all of its cells.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    for name in (name for name, configs in settings().items() if len(configs) == 1):
        ran = [cell for cell in cells if name in results[cell.name]["settings"]]
        if not ran:
            continue
        beside = [against_fewer(results[cell.name]["settings"], name) for cell in ran]
        lost = {cell.sampler for cell, one in zip(ran, beside, strict=True) if not one.is_nearer}
        told = [cell.steps == USUAL_STEPS for cell in ran]
        if not any(told):
            told = [True] * len(ran)
        times = [results[cell.name]["settings"][name]["time"] for cell in ran]
        method, setting = name.split(": ", 1)
        found.setdefault(method, []).append(
            {
                "setting": setting,
                "time": round(_mean(times, told), 3),
                "distance": round(_mean([one.distance for one in beside], told), 4),
                "fewer_steps": round(_mean([one.other for one in beside], told), 4),
                "pays_with": [
                    SAMPLERS[sampler].label for sampler in dict.fromkeys(cell.sampler for cell in ran) if sampler not in lost
                ],
                "cells": len(ran),
            }
        )
    return found


def _mean(values: Sequence[float], counted: Sequence[bool]) -> float:
    return float(np.average(values, weights=counted))


def plot(file: Path, results: Mapping[str, Any], cells: Sequence[Cell]) -> None:
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
        line = sorted(point for name, point in means.items() if name.startswith(PLAIN))
        axis.set_prop_cycle(color=pyplot.get_cmap("tab10").colors)
        axis.plot(*zip(*line, strict=True), "k--", label="plain, fewer steps")
        for row, strengths in SETTINGS.items():
            names = [name_of(row.split(",")[0], values) for values in strengths]
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
    figure.savefig(file, metadata={"Date": None})
