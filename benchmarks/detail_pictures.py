"""What the methods for detail and colour do to pictures, on the small checkpoint at its trained size: 50 prompts.

    python -m benchmarks.detail_pictures measure [--anew "FreeU" ...]    # half a minute a setting; what is done is kept
    python -m benchmarks.detail_pictures write                           # docs/detail.md and what the panel says

Every setting draws the same pictures as the plain U-Net and is compared with them. Another seed of the plain U-Net stands
beside, for what it means to be another picture. Wants `benchmarks/requirements.txt`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from benchmarks.drawing import CFG, SEED, drawn
from benchmarks.judging import CONTROL_SEED, SAMPLER, STEPS, Judge, draw_all, fine_detail
from benchmarks.prompts import PROMPTS
from benchmarks.timing import device
from lib_unetmod import CDTuner, ColorMap, Config, FreeU
from lib_unetmod.core.registry import method_of
from lib_unetmod.playground.model import load
from lib_unetmod.settings.measured import write_part

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "docs" / "detail.json"
TABLE = ROOT / "docs" / "detail.md"

#: By method, the settings as the knobs that are set.
SETTINGS: dict[type[Config], list[dict[str, Any]]] = {
    FreeU: [{}, {"version": 1}, {"b1": 1.1, "b2": 1.2, "s1": 0.9, "s2": 0.6}],
    CDTuner: [
        {"detail1": 5},
        {"detail1": -5},
        {"detail1": 0, "detail2": 5},
        {"detail1": 0, "contrast": 5},
        {"detail1": 0, "color1": 5},
        {"detail1": 0, "saturation": 5},
    ],
    ColorMap: [{}, {"end": 0.6}],
}
PLAIN, OTHER_SEED = "plain", "plain, another seed"
#: What is compared: the shares of the variance that half the side cannot hold, and how far colours are from grey.
DETAIL_SIDE = 64


def settings() -> dict[str, Config]:
    """Every setting by a name such as `FreeU: version=1`."""
    return {
        f"{kind.__name__}: {'; '.join(f'{name}={value}' for name, value in values.items()) or 'as it comes'}": kind(**values)
        for kind, strengths in SETTINGS.items()
        for values in strengths
    }


def drawing(configs: Sequence[Config], seed: int = SEED) -> Callable[..., tuple[Tensor, float]]:
    return partial(drawn, sampler=SAMPLER, steps=STEPS, configs=configs, seed=seed, decoded=True)


def colourfulness(pictures: Tensor) -> Tensor:
    """(B, 3, H, W) -> (B,): the mean over the pixels of how far their three channels spread."""
    return pictures.std(1).mean((1, 2))


def measure(anew: Sequence[str]) -> None:
    model = load()
    judge = Judge.of(model)
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    plain, plain_seconds = draw_all(model, drawing([]))
    ways = {OTHER_SEED: drawing([], CONTROL_SEED)} | {name: drawing([config]) for name, config in settings().items()}
    results["device"] = device()
    results[PLAIN] = _judged(judge, plain, plain, 1.0)
    for name, draw in ways.items():
        if name in results and name not in anew:
            continue
        pictures, seconds = draw_all(model, draw)
        results[name] = _judged(judge, pictures, plain, seconds / plain_seconds)
        print(line_of(name, results[name]), flush=True)
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")


def _judged(judge: Judge, pictures: Tensor, plain: Tensor, time: float) -> dict[str, float]:
    fine, before = (fine_detail(one, DETAIL_SIDE) for one in (pictures, plain))
    colour, colour_before = colourfulness(pictures), colourfulness(plain)
    return {
        "distance": round(float(judge.perceptual(pictures, plain).diagonal().mean()), 4),
        "recognised": float(np.mean(judge(pictures)["recognised"])),
        "fine": round(float(fine.mean() / before.mean()), 3),
        "colour": round(float(colour.mean() / colour_before.mean()), 3),
        "brightness": round(float((pictures.mean() - plain.mean()) / 2), 4),
        "time": round(time, 3),
    }


def line_of(name: str, one: dict[str, float]) -> str:
    """One row of the table."""
    return (
        f"| {name} | {one['distance']:.3f} | {100 * one['recognised']:.0f} % | {one['fine']:.2f} | {one['colour']:.2f} "
        f"| {100 * one['brightness']:+.1f} % | {one['time']:.2f} |"
    )


def write() -> None:
    results = json.loads(RESULTS.read_text())
    names = [name for name in (PLAIN, OTHER_SEED, *settings()) if name in results]
    lines = [
        "# Detail and colour",
        "",
        "Written by `python -m benchmarks.detail_pictures write` from docs/detail.json, which `measure` fills.",
        f"The small checkpoint at its trained 128x128 pixels, {len(PROMPTS)} prompts, Euler, {STEPS} steps, CFG {CFG:g},",
        f"seed {SEED}, {results['device']}.",
        "",
        "*Distance* is shift-tolerant LPIPS to the plain picture of the same seed. *Recognised*: nearer to plain pictures",
        "of its own prompt than to those of the 49 others. *Fine detail* (the share of the variance that half the side",
        "cannot hold) and *colour* (how far the three channels of a pixel spread) are over the plain pictures';",
        "*brightness* is what is added, of the whole range. Time is that of this U-Net, a tenth as wide as SD1's; at full",
        "width see [costs](costs.md). The pictures are emoji on white: photographs are another matter.",
        "",
        "| setting | distance | recognised | fine detail | colour | brightness | time over plain |",
        "|---|---|---|---|---|---|---|",
        *(line_of(name, results[name]) for name in names),
        "",
    ]
    missing = [name for name in settings() if name not in results]
    if missing:
        lines += [f"Not measured yet: {', '.join(missing)}.", ""]
    TABLE.write_text("\n".join(lines))
    write_part("detail", by_method(results))


def by_method(results: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """What the panel and the README say of each method's settings: the fields of `measured.Change`."""
    found: dict[str, list[dict[str, Any]]] = {}
    for name, config in settings().items():
        if name in results:
            said = {key: results[name][key] for key in ("distance", "fine", "colour")}
            own = {"setting": name.split(": ", 1)[1], "other_seed": results[OTHER_SEED]["distance"]}
            found.setdefault(method_of(config).name, []).append({**own, **said})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stage", choices=("measure", "write"))
    parser.add_argument("--anew", nargs="+", choices=[OTHER_SEED, *settings()], default=[])
    options = parser.parse_args()
    if options.stage == "measure":
        measure(options.anew)
    write()


if __name__ == "__main__":
    main()
