"""What each method's speed costs in the picture, on the small checkpoint: 50 prompts, three samplers, 20 and 28 steps.

    python -m benchmarks.speed_pictures measure [--cells euler-20 ...]    # minutes a cell; what is done is kept
    python -m benchmarks.speed_pictures write                             # docs/speed.md and what the panel says

Every setting draws the same pictures as the plain U-Net, in turn with it, ten prompts a batch; the distance is to the plain
picture. Beside each stands the plain U-Net given fewer steps of the same total time: its distance is read off the line
through the plain U-Net's own runs with fewer steps. Wants `benchmarks/requirements.txt`.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.drawing import CFG, drawn
from benchmarks.prompts import PROMPTS
from benchmarks.timing import device
from lib_unetmod import METHODS, Config
from lib_unetmod.playground.model import SmallModel, load
from lib_unetmod.playground.samplers import SAMPLERS
from lib_unetmod.settings.measured import write_part

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "docs" / "speed.json"
TABLE = ROOT / "docs" / "speed.md"
PLOT = ROOT / "docs" / "pictures" / "speed.svg"

CELLS = [f"{sampler}-{steps}" for sampler in ("euler", "euler-a", "dpm++2m") for steps in (20, 28)]
BATCH = 10

#: By method, the three strengths as the knobs that are set.
SETTINGS: dict[str, list[dict[str, Any]]] = {
    "skip_blocks": [{"middle": True}, {"middle": True, "levels": 1}, {"middle": True, "levels": 2, "start": 0.3}],
    "token_merging": [{"ratio": 0.25}, {"ratio": 0.5}, {"ratio": 0.75}],
    "token_merging, random": [{"ratio": ratio, "random": True} for ratio in (0.25, 0.5, 0.75)],
    "token_downsampling": [{"factor": 1.5}, {"factor": 2.0}, {"factor": 2.0, "factor_2": 2.0}],
    "hyper_tile": [{"tile": 64, "depth": 1}, {"tile": 64, "depth": 2}, {"tile": 32, "depth": 2}],
    "deep_cache": [{"interval": 2}, {"interval": 3}, {"interval": 5}],
    "deep_cache, threshold": [{"threshold": threshold, "branch": 1, "most_hits": 4} for threshold in (0.1, 0.2, 0.4)],
    "deep_cache, branch 3": [{"interval": interval, "branch": 3} for interval in (2, 3, 5)],
    "deep_cache, linear": [{"interval": interval, "predictor": "linear"} for interval in (2, 3, 5)],
    "encoder_reuse": [{"interval": 2}, {"interval": 3}, {"interval": 5}],
    "encoder_reuse, linear": [{"interval": interval, "predictor": "linear"} for interval in (2, 3, 5)],
    "guidance_interval": [{"guide_to": 0.8}, {"guide_to": 0.6}, {"guide_to": 0.4}],
}
#: The plain U-Net's shares of the full number of steps, from which its line is drawn.
FEWER = (0.25, 0.35, 0.5, 0.65, 0.8)


def configs() -> dict[str, Config]:
    """Every setting by a name such as `deep_cache: interval=2`."""
    named = {}
    for row, strengths in SETTINGS.items():
        method = METHODS[row.split(",")[0]]
        for values in strengths:
            words = "; ".join(f"{name}={str(value).lower()}" for name, value in values.items())
            named[f"{method.name}: {words}"] = method.config.from_values(values)
    return named


@torch.inference_mode()
def draw(model: SmallModel, prompts: Sequence[str], sampler: str, steps: int, config: Config | None) -> tuple[Tensor, float]:
    """Pictures (B, 3, 128, 128) in [-1, 1], and the seconds of their U-Net evaluations."""
    latent, seconds = drawn(model, prompts, sampler, steps, [config] if config else [])
    return model.decode(latent), seconds


def measure(cells: Sequence[str]) -> None:
    from training.measure import PerceptualDistance

    perceptual, model = PerceptualDistance(), load()
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for cell in cells:
        sampler, steps = cell.rsplit("-", 1)
        done = results.get(cell, {}).get("settings", {})
        results[cell] = measure_cell(perceptual, model, sampler, int(steps), done)
        # Another process may have written its own cell meanwhile.
        others = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        results = {**others, cell: results[cell]}
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")


def measure_cell(
    perceptual: Any, model: SmallModel, sampler: str, steps: int, done: dict[str, dict[str, float]]
) -> dict[str, Any]:
    """By setting: time over plain, mean perceptual distance and PSNR (dB) to the plain picture; `done` is kept as it is."""
    fewer = {f"plain: {round(steps * share)} steps": (round(steps * share), None) for share in FEWER}
    wanted = {**fewer, **{name: (steps, config) for name, config in configs().items()}}
    ways = {name: way for name, way in wanted.items() if name not in done}
    sums = {name: {"seconds": 0.0, "plain_seconds": 0.0, "distance": 0.0, "psnr": 0.0} for name in ways}
    batches = [PROMPTS[at : at + BATCH] for at in range(0, len(PROMPTS), BATCH)]
    draw(model, batches[0], sampler, 2, None)
    for prompts in batches:
        plain, _ = draw(model, prompts, sampler, steps, None)
        for index, (name, (count, config)) in enumerate(ways.items()):
            if index % 8 == 0:  # beside every eighth, so that a machine that slows down slows both
                plain_seconds = draw(model, prompts, sampler, steps, None)[1]
            pictures, seconds = draw(model, prompts, sampler, count, config)
            total = sums[name]
            total["seconds"] += seconds
            total["plain_seconds"] += plain_seconds
            total["distance"] += perceptual(pictures, plain).diagonal().sum().item()
            error = (pictures - plain).square().mean((1, 2, 3)).clamp_min(1e-8)
            total["psnr"] += (10 * torch.log10(4 / error)).sum().item()
            print(f"{sampler} {steps}: {name}", end="\r", flush=True)
    measured = {
        name: {
            "time": round(total["seconds"] / total["plain_seconds"], 4),
            "distance": round(total["distance"] / len(PROMPTS), 5),
            "psnr": round(total["psnr"] / len(PROMPTS), 3),
        }
        for name, total in sums.items()
    }
    known = {**done, **measured}
    return {"device": device(), "settings": {name: known[name] for name in wanted}}


def plain_distance(settings: dict[str, Any], share: float) -> float:
    """Distance of the plain U-Net given `share` of the time: 0 at all of it, beyond its fewest steps that of those."""
    line = sorted((one["time"], one["distance"]) for name, one in settings.items() if name.startswith("plain: "))
    times, distances = zip(*[*line, (1.0, 0.0)], strict=True)
    return float(np.interp(share, times, distances))


def write() -> None:
    results = json.loads(RESULTS.read_text())
    cells = [cell for cell in CELLS if cell in results]
    lines = [
        "# Speed against picture distance",
        "",
        "Written by `python -m benchmarks.speed_pictures write` from docs/speed.json, which `measure` fills.",
        f"The small checkpoint at its trained 128x128 pixels, CFG {CFG:g}, mean over {len(PROMPTS)} prompts,",
        f"{results[cells[0]]['device']}.",
        "",
        "Distance is shift-tolerant LPIPS (AlexNet) to the plain picture of the same seed, PSNR in dB to the same.",
        "*Plain in the same time* is the distance of the plain U-Net given as many fewer steps; where that is smaller, the",
        "setting does not pay at this size. At 128 pixels level 1 has 256 tokens, so that what saves attention (token",
        "merging, token downsampling, HyperTile) saves no time here; its time at real sizes is in",
        "[benchmarks](../benchmarks/README.md).",
        "",
        "![distance over time](pictures/speed.svg)",
        "",
    ]
    missing = [cell for cell in CELLS if cell not in results]
    if missing:
        lines += [f"Not measured yet: {', '.join(missing)}.", ""]
    for cell in cells:
        sampler, steps = cell.rsplit("-", 1)
        settings = results[cell]["settings"]
        lines += [f"## {SAMPLERS[sampler].label}, {steps} steps", ""]
        lines += [
            "| setting | time over plain | distance | PSNR | plain in the same time | beats it |",
            "|---|---|---|---|---|---|",
        ]
        for name, one in settings.items():
            beside = plain_distance(settings, one["time"])
            verdict = (
                ("", "") if name.startswith("plain") else (f"{beside:.4f}", "yes" if one["distance"] < beside else "no")
            )
            lines.append(
                f"| {name} | {one['time']:.3f} | {one['distance']:.4f} | {one['psnr']:.1f} | {verdict[0]} | {verdict[1]} |"
            )
        lines.append("")
    TABLE.write_text("\n".join(lines))
    write_part("speed", by_method(results, cells))
    plot(results, cells)


def by_method(results: dict[str, Any], cells: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """What the panel and the README say of each method's settings: the fields of `measured.Speed`."""
    found: dict[str, list[dict[str, Any]]] = {}
    for name in configs():
        ones = [results[cell]["settings"][name] for cell in cells]
        beside = [plain_distance(results[cell]["settings"], one["time"]) for cell, one in zip(cells, ones, strict=True)]
        lost = {sampler_of(cell) for cell, one, fewer in zip(cells, ones, beside, strict=True) if one["distance"] >= fewer}
        method, setting = name.split(": ", 1)
        found.setdefault(method, []).append(
            {
                "setting": setting,
                "time": round(float(np.mean([one["time"] for one in ones])), 3),
                "distance": round(float(np.mean([one["distance"] for one in ones])), 4),
                "fewer_steps": round(float(np.mean(beside)), 4),
                "pays_with": [one for one in dict.fromkeys(map(sampler_of, cells)) if one not in lost],
                "cells": len(cells),
            }
        )
    return found


def sampler_of(cell: str) -> str:
    """The sampler's label, such as Euler a, of a cell such as euler-a-20."""
    return SAMPLERS[cell.rsplit("-", 1)[0]].label


def plot(results: dict[str, Any], cells: Sequence[str]) -> None:
    """One panel a cell: the plain U-Net with fewer steps as a line, each method's three strengths as another."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "unetmod"
    from matplotlib import pyplot

    columns = 2
    figure, axes = pyplot.subplots(
        math.ceil(len(cells) / columns), columns, figsize=(11, 3.6 * math.ceil(len(cells) / columns)), squeeze=False
    )
    for axis in axes.flat[len(cells) :]:
        axis.axis("off")
    for axis, cell in zip(axes.flat, cells, strict=False):
        settings = results[cell]["settings"]
        line = sorted((one["time"], one["distance"]) for name, one in settings.items() if name.startswith("plain: "))
        axis.set_prop_cycle(color=pyplot.get_cmap("tab20").colors)
        axis.plot(*zip(*line, (1.0, 0.0), strict=True), "k--", label="plain, fewer steps")
        at = iter([one for name, one in settings.items() if not name.startswith("plain: ")])
        for row, strengths in SETTINGS.items():
            points = [next(at) for _ in strengths]
            axis.plot([p["time"] for p in points], [p["distance"] for p in points], "o-", markersize=4, label=row)
        axis.set(
            title=cell.replace("-", " ", 1) if cell.count("-") == 1 else cell, xlabel="time over plain", ylabel="distance"
        )
        axis.grid(alpha=0.3)
    axes.flat[0].legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(PLOT, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stage", choices=("measure", "write"))
    parser.add_argument("--cells", nargs="+", choices=CELLS, default=CELLS)
    options = parser.parse_args()
    if options.stage == "measure":
        measure(options.cells)
    write()


if __name__ == "__main__":
    main()
