"""What tuning finds, judged on 50 prompts that it never drew, beside the shipped plan and fewer steps of the same time.

    python -m benchmarks.tuned measure [--cells "euler 20 cfg7" ...] [--speeds 2 ...] [--way quick] [--checkpoint FILE]
    python -m benchmarks.tuned write       # docs/tuned.md

Tuned on three prompts as the command line does it, then drawn as in `benchmarks.speed_pictures`: the distance is LPIPS to
the image of all steps. `--checkpoint` is another one of the playground's kind, for which no plan was shipped. What is done
is kept. Wants `benchmarks/requirements.txt`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from benchmarks.drawing import drawn
from benchmarks.paired import paired
from benchmarks.prompts import JUDGED
from benchmarks.speed_cells import CELLS, DOCS, SCHEDULE, Cell
from benchmarks.speed_pictures import SEED
from benchmarks.timing import device
from lib_unetmod import Config
from lib_unetmod.playground.model import CHECKPOINT, SmallModel, load
from lib_unetmod.playground.settings import Settings
from lib_unetmod.playground.tuning import PlaygroundDrawer
from lib_unetmod.tuning.search import tune
from lib_unetmod.tuning.trials import EFFORTS

RESULTS, PAGE = DOCS / "tuned.json", DOCS / "tuned.md"
#: Tuned on these; none is among those that judge, nor among those on which plans were searched.
TUNED_ON = ("penguin left of a ghost", "strawberry", "fox above a cat, blue background")
TUNED_SEED = 23
BATCH = 10
#: In order of worth.
SHOWN = ("euler 20 cfg7", "euler-a 20 cfg7", "dpm++2m 20 cfg7", "euler 20 cfg4", "euler-a 20 cfg4", "dpm++2m 20 cfg4")


def measure(checkpoint: Path, cells: Sequence[str], speeds: Sequence[float], way: str) -> None:
    from training.measure import PerceptualDistance

    perceptual = PerceptualDistance()
    model = load(checkpoint)
    for name in cells:
        for speed in speeds:
            key = f"{model.name} | {name} | {speed:g}x | {way}"
            if key in known():
                continue
            found = {**known(), key: measure_one(perceptual, model, CELLS[name], f"{speed:g}x", way)}
            lines = (f" {json.dumps(key)}: {json.dumps(found[key])}" for key in sorted(found))
            RESULTS.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
            print(key, flush=True)


def measure_one(perceptual: Any, model: SmallModel, cell: Cell, word: str, way: str) -> dict[str, Any]:
    """Of the tuned, the shipped and fewer steps: time over all steps, each prompt's distance to the image of all."""
    settings = Settings(
        prompt=TUNED_ON[0], seed=TUNED_SEED, steps=cell.steps, sampler=cell.sampler, schedule=SCHEDULE, cfg=cell.cfg
    )
    found = tune(PlaygroundDrawer(model, settings, TUNED_ON), [word], EFFORTS[way])
    (tuned,) = found.tuned
    fewer = max(round(tuned.fewer_steps.candidate.share * cell.steps), 1)
    ways: dict[str, tuple[int, Sequence[Config]]] = {
        "tuned": (cell.steps, tuned.best.candidate.configs),
        "shipped": (cell.steps, tuned.shipped.candidate.configs),
        "fewer steps": (fewer, ()),
    }
    if tuned.best.candidate == tuned.shipped.candidate:
        del ways["shipped"]
    seconds, full_seconds = dict.fromkeys(ways, 0.0), 0.0
    distances: dict[str, list[float]] = {name: [] for name in ways}
    for at in range(0, len(JUDGED), BATCH):
        prompts = JUDGED[at : at + BATCH]
        full, spent = _pictures(model, prompts, cell, cell.steps, ())
        full_seconds += spent
        for name, (steps, configs) in ways.items():
            pictures, spent = _pictures(model, prompts, cell, steps, configs)
            seconds[name] += spent
            distances[name] += [round(value, 6) for value in perceptual(pictures, full).diagonal().tolist()]
    times = {name: round(spent / full_seconds, 4) for name, spent in seconds.items()}
    if "shipped" not in ways:
        times["shipped"], distances["shipped"] = times["tuned"], distances["tuned"]
    return {
        "device": device(),
        "found": tuned.best.candidate.name,
        "pictures": round(found.pictures, 1),
        "time": times,
        "distances": distances,
    }


@torch.inference_mode()
def _pictures(
    model: SmallModel, prompts: Sequence[str], cell: Cell, steps: int, configs: Sequence[Config]
) -> tuple[Tensor, float]:
    latents, seconds = drawn(model, prompts, cell.sampler, steps, configs, seed=SEED, schedule=SCHEDULE, cfg=cell.cfg)
    return model.decode(latents).clone(), seconds


def known() -> dict[str, Any]:
    return json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}


def write() -> None:
    PAGE.write_text("\n".join(_page(known())) + "\n", encoding="utf-8")


def _page(results: Mapping[str, Any]) -> list[str]:
    lines = [
        "# What tuning finds",
        "",
        "“Tune for this model” draws a few images and searches which steps may be left out at a speed. Here it was done on",
        "three prompts, and judged on 50 others with another seed: the distance (LPIPS) to the image of all steps, beside",
        "that of the shipped plan and of fewer steps in the same time. Small is good.",
        "",
        "`python -m benchmarks.tuned measure`, then `write`, makes this page. *emoji-first* is the model of version 0.1.0:",
        "`git show a90dda6:lib_unetmod/playground/checkpoint/emoji.safetensors > emoji-first.safetensors`.",
    ]
    for model in dict.fromkeys(key.split(" | ")[0] for key in results):
        lines += ["", f"## {model}{_known_model(model)}", ""]
        lines += [_HEAD, "|---" * _HEAD.count(" | ") + "|---|"]
        for key, one in results.items():
            if key.split(" | ")[0] == model:
                lines.append(_row(key, one))
    return lines


def _known_model(model: str) -> str:
    return ", for which the plans were searched" if model == load(CHECKPOINT).name else ", which no shipped plan has seen"


def _row(key: str, one: Mapping[str, Any]) -> str:
    _, cell, word, way = key.split(" | ")
    tuned, shipped, fewer = (one["distances"][name] for name in ("tuned", "shipped", "fewer steps"))
    beside = "the same plan"
    if tuned != shipped:
        found = paired(tuned, shipped)
        low, high = (100 * share for share in found.gain)
        beside = f"{found.wins} of {len(tuned)}, {low:+.0f} to {high:+.0f} %"
    times = f"{one['pictures']:.0f} | {one['time']['tuned']:.3f}"
    means = " | ".join(f"{fmean(values):.4f}" for values in (fewer, shipped, tuned))
    return f"| {cell} | {word} | {way} | {one['found']} | {times} | {means} | {beside} |"


_HEAD = "| drawn with | speed | way | found | images' time | time | fewer steps | shipped plan | tuned | tuned nearer |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stage", choices=("measure", "write"))
    parser.add_argument("--cells", nargs="+", choices=tuple(CELLS), default=SHOWN)
    parser.add_argument("--speeds", nargs="+", type=float, default=(2.0,))
    parser.add_argument("--way", choices=tuple(EFFORTS), default="quick")
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT, metavar="FILE")
    options = parser.parse_args()
    if options.stage == "measure":
        measure(options.checkpoint, options.cells, options.speeds, options.way)
    write()


if __name__ == "__main__":
    main()
