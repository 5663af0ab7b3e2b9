"""What each method's speed costs in the picture, on the small checkpoint as the WebUI draws: 50 prompts, four samplers.

    python -m benchmarks.speed_pictures measure [--cells "euler 20 cfg7" ...] [--only "step_forecast" ...]
    python -m benchmarks.speed_pictures time [--cells ...]      # the times again, on a machine that is idle
    python -m benchmarks.speed_pictures write      # docs/speed.md and what the panel says
    python -m benchmarks.speed_pictures measure --checkpoint FILE     # the same of a model of your own, written beside it

A cell is a sampler with its automatic schedule type, a number of steps and a CFG scale; what is done is kept. Every setting
draws the pictures that the plain U-Net draws, ten prompts a batch, in turn with it; half of the prompts have two subjects,
and no plan was searched on any. The distance is to the plain picture, and of samplers that add no noise on the way also to
the converged one: 200 steps of DPM++ 2M from the same noise, where all of them end. Beside each setting stands the plain
U-Net given fewer steps of the same time, on the same schedule type: prompt by prompt, on the line through its own runs.
A checkpoint is SD1's, SD2's or SDXL's in one safetensors file, drawn at its trained size; that wants a GPU.
Wants `benchmarks/requirements.txt`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from benchmarks.checkpoint import Checkpoint, opened
from benchmarks.drawing import drawn
from benchmarks.prompts import JUDGED
from benchmarks.speed_cells import (
    CELLS,
    CONVERGED,
    CONVERGES,
    FEWER,
    PLAIN,
    SCHEDULE,
    Cell,
    Study,
    name_of_plain,
    settings,
)
from benchmarks.speed_report import write
from benchmarks.timing import device, in_turn
from lib_unetmod import Config
from lib_unetmod.playground.model import SmallModel, load

SEED = 5
#: Rounds in which times are taken again.
TIMED = 2


def measure(study: Study, cells: Sequence[str], words: Sequence[str]) -> None:
    from training.measure import PerceptualDistance

    perceptual = PerceptualDistance()
    model = load() if study.checkpoint is None else opened(study.checkpoint)
    for name in cells:
        done = study.known().get(name, {}).get("settings", {})
        found = measure_cell(perceptual, model, CELLS[name], done, words, study.batch)
        # Another process may have written its own cell meanwhile.
        _keep(study, {**study.known(), name: found})
        print(name, flush=True)


def take_times(study: Study, cells: Sequence[str], words: Sequence[str]) -> None:
    """The times of what was measured, anew, where others were taken on a busy machine: of one batch, in turn, the least."""
    model = load() if study.checkpoint is None else opened(study.checkpoint)
    for name in cells:
        cell, known = CELLS[name], study.known().get(name, {}).get("settings", {})
        ways = {way: one for way, one in _chosen(_ways(cell), words).items() if way in known}
        prompts = tuple(JUDGED[: study.batch])

        def seconds_of(way: tuple[int, Sequence[Config]], prompts: Sequence[str] = prompts, cell: Cell = cell) -> float:
            return _latents(model, prompts, cell, *way)[1]

        full = name_of_plain(cell.steps)
        seconds = in_turn({full: (cell.steps, ()), **ways}, TIMED, timed=seconds_of) if ways else {}
        least = {way: min(own for own, _ in taken) for way, taken in seconds.items()}
        results = study.known()  # another process may have written its own cell meanwhile
        for way in ways:
            results[name]["settings"][way]["time"] = round(least[way] / least[full], 4)
        _keep(study, results)
        print(name, flush=True)


def _keep(study: Study, known: Mapping[str, Any]) -> None:
    lines = (f" {json.dumps(cell)}: {_in_lines(known[cell])}" for cell in CELLS if cell in known)
    study.results.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def _in_lines(cell: Mapping[str, Any]) -> str:
    """A cell as JSON, a line a setting."""
    lines = (f"   {json.dumps(name)}: {json.dumps(one)}" for name, one in cell["settings"].items())
    return f'{{\n  "device": {json.dumps(cell["device"])},\n  "settings": {{\n' + ",\n".join(lines) + "\n  }\n }"


def measure_cell(
    perceptual: Any,
    model: SmallModel | Checkpoint,
    cell: Cell,
    done: Mapping[str, Any],
    words: Sequence[str] = (),
    batch: int = Study.batch,
) -> dict[str, Any]:
    """By setting: time over plain, each prompt's distance to the plain picture, the mean distance to the converged one.

    What is in `done` is kept as it is; of the rest only settings with one of `words` in their names are run, if there are
    any; a word that is a whole name means that one.
    """
    wanted = _ways(cell)
    chosen = _chosen(wanted, words)
    ways = {name: way for name, way in wanted.items() if name not in done and (name in chosen or name.startswith(PLAIN))}
    seconds, beside = dict.fromkeys(ways, 0.0), dict.fromkeys(ways, 0.0)
    distances: dict[str, list[float]] = {name: [] for name in ways}
    to_converged = dict.fromkeys([name_of_plain(cell.steps), *ways], 0.0)
    _pictures(model, JUDGED[:1], cell, 2, ())
    for at in range(0, len(JUDGED) if ways else 0, batch):
        prompts = tuple(JUDGED[at : at + batch])
        full, full_seconds = _pictures(model, prompts, cell, cell.steps, ())
        converged = _converged(model, prompts, cell.cfg) if cell.converges else None
        if converged is not None:
            to_converged[name_of_plain(cell.steps)] += perceptual(full, converged).diagonal().sum().item()
        for name, (steps, configs) in ways.items():
            pictures, spent = _pictures(model, prompts, cell, steps, configs)
            seconds[name] += spent
            beside[name] += full_seconds
            distances[name] += [round(value, 6) for value in perceptual(pictures, full).diagonal().tolist()]
            if converged is not None:
                to_converged[name] += perceptual(pictures, converged).diagonal().sum().item()
    found = {name: {"time": round(seconds[name] / beside[name], 4), "distances": distances[name]} for name in ways}
    if ways and name_of_plain(cell.steps) not in done:
        found[name_of_plain(cell.steps)] = {"time": 1.0, "distances": [0.0] * len(JUDGED)}
    if cell.converges:
        for name, one in found.items():
            one["to_converged"] = round(to_converged[name] / len(JUDGED), 5)
    known = {**done, **found}
    order = [*wanted][: len(FEWER)], [name_of_plain(cell.steps)], [*wanted][len(FEWER) :]
    return {"device": device(), "settings": {name: known[name] for part in order for name in part if name in known}}


def _ways(cell: Cell) -> dict[str, tuple[int, Sequence[Config]]]:
    """By name, steps and methods: the plain U-Net with fewer steps, then every setting."""
    fewer = [round(cell.steps * share) for share in FEWER]
    return {
        **{name_of_plain(steps): (steps, ()) for steps in fewer},
        **{name: (cell.steps, configs) for name, configs in settings().items()},
    }


def _chosen(ways: Mapping[str, Any], words: Sequence[str]) -> dict[str, Any]:
    """Those with one of `words` in their names, of which a whole name means that one; without words all."""
    return {
        name: way
        for name, way in ways.items()
        if not words or any(word == name if word in ways else word in name for word in words)
    }


@cache
def _converged(model: SmallModel | Checkpoint, prompts: tuple[str, ...], cfg: float) -> Tensor:
    return _pictures(model, prompts, Cell(CONVERGES, CONVERGED, cfg), CONVERGED, ())[0]


@torch.inference_mode()
def _pictures(
    model: SmallModel | Checkpoint, prompts: Sequence[str], cell: Cell, steps: int, configs: Sequence[Config]
) -> tuple[Tensor, float]:
    """Pictures (B, 3, H, W) in [-1, 1], and the seconds of their U-Net evaluations."""
    latents, seconds = _latents(model, prompts, cell, steps, configs)
    return model.decode(latents).clone(), seconds


def _latents(
    model: SmallModel | Checkpoint, prompts: Sequence[str], cell: Cell, steps: int, configs: Sequence[Config]
) -> tuple[Tensor, float]:
    return drawn(model, prompts, cell.sampler, steps, configs, seed=SEED, schedule=SCHEDULE, cfg=cell.cfg)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stage", choices=("measure", "time", "write"))
    parser.add_argument("--cells", nargs="+", choices=tuple(CELLS), default=tuple(CELLS))
    parser.add_argument("--only", nargs="+", default=(), help="words of which a setting's name must hold one")
    parser.add_argument("--checkpoint", type=Path, metavar="FILE", help="a safetensors file of SD1, SD2 or SDXL")
    options = parser.parse_args()
    study = Study.of(options.checkpoint)
    if options.stage != "write":
        try:
            if options.stage == "measure":
                measure(study, options.cells, options.only)
            else:
                take_times(study, options.cells, options.only)
        except (OSError, ValueError, SafetensorError) as error:
            parser.error(f"--checkpoint: {error}")
    write(study)


if __name__ == "__main__":
    main()
