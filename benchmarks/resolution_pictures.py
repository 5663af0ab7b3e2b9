"""Do pictures larger than the trained size hold together? The small checkpoint, 50 prompts, 1.5, 2 and 3 times, and 2:1.

    python -m benchmarks.resolution_pictures measure [--sizes 256x256 ...]   # minutes a size; what is done is kept
    python -m benchmarks.resolution_pictures write      # docs/resolution.md, docs/pictures/resolution.svg and resolution.png

Pictures are judged as `judging` says. *Fine detail* is the share of a picture's variance that is lost when it is shrunk to
the trained size and enlarged again: what a method that composes small for too long leaves out. Wants
`benchmarks/requirements.txt`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.drawing import CFG, SEED, drawn
from benchmarks.judging import CONTROL_SEED, SAMPLER, STEPS, Judge, checks, draw_all, interval, with_seed
from benchmarks.prompts import PROMPTS
from benchmarks.timing import device
from lib_unetmod import Config, DeepShrink, HiDiffusion, ScaleCrafter
from lib_unetmod.core.registry import method_of
from lib_unetmod.playground.model import SmallModel, load
from lib_unetmod.settings.measured import write_part

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "docs" / "resolution.json"
TABLE = ROOT / "docs" / "resolution.md"
PLOT = ROOT / "docs" / "pictures" / "resolution.svg"
SHEET = ROOT / "docs" / "pictures" / "resolution.png"

#: Width x height in pixels; the model was trained at 128x128.
SIZES = ("192x192", "256x256", "384x384", "256x128")
SHEET_PROMPTS = ("red apple", "smiling cat", "lion", "taxi", "crown", "octopus")
AT_DEFAULTS: tuple[type[Config], ...] = (DeepShrink, HiDiffusion, ScaleCrafter)
#: Hand settings beside the autos, by size.
BY_HAND: dict[str, dict[str, Config]] = {
    "256x256": {
        "DeepShrink, block 3, factor 2, until 0.35": DeepShrink(auto=False, block=3, factor=2, end=0.35),
        "DeepShrink, block 3, factor 2, until 0.5": DeepShrink(auto=False, block=3, factor=2, end=0.5),
        "DeepShrink, block 3, factor 2, until 0.65": DeepShrink(auto=False, block=3, factor=2, end=0.65),
        "DeepShrink, block 3, factor 2, until 0.8": DeepShrink(auto=False, block=3, factor=2, end=0.8),
        "DeepShrink, block 1, factor 2, until 0.5": DeepShrink(auto=False, block=1, factor=2, end=0.5),
        "DeepShrink, block 6, factor 2, until 0.5": DeepShrink(auto=False, block=6, factor=2, end=0.5),
        "HiDiffusion, strided until 0.6": HiDiffusion(auto=False, conv_end=0.6),
        "HiDiffusion, strided until 0.8": HiDiffusion(auto=False, conv_end=0.8),
        "ScaleCrafter, dilation 2, until 0.6": ScaleCrafter(auto=False, dilation=2, end=0.6),
        "ScaleCrafter, dilation 2, until 0.8": ScaleCrafter(auto=False, dilation=2, end=0.8),
    },
    "384x384": {
        "HiDiffusion, strided until 0.96, pooled until 0.7": HiDiffusion(auto=False, conv_end=0.96, pool_end=0.7),
        "HiDiffusion, strided until 0.96": HiDiffusion(auto=False, conv_end=0.96),
    },
    "256x128": {"HiDiffusion, both sides, until 0.8": HiDiffusion(auto=False, conv_end=0.8)},
}


def ways(size: str) -> dict[str, Callable[..., tuple[Tensor, float]]]:
    """By name, `draw(model, prompts, height, width)`: pictures and the U-Net's seconds."""
    chosen = {**{kind.__name__: kind() for kind in AT_DEFAULTS}, **BY_HAND.get(size, {})}
    configs: dict[str, list[Config]] = {"plain": [], **{name: [config] for name, config in chosen.items()}}

    def drawing(configs: list[Config]) -> Callable[..., tuple[Tensor, float]]:
        return lambda model, prompts, height, width: drawn(
            model, prompts, SAMPLER, STEPS, configs, (height, width), decoded=True
        )

    return {**{name: drawing(some) for name, some in configs.items()}, "hires fix": hires_fix}


def hires_fix(model: SmallModel, prompts: Sequence[str], height: int, width: int) -> tuple[Tensor, float]:
    """The WebUI's: the longer side at the trained size first, the latent enlarged, and 0.6 of the steps again."""
    enlarged = max(height, width) / model.architecture["trained_size"]
    first = (round(height / enlarged), round(width / enlarged))
    small, first_seconds = drawn(model, prompts, SAMPLER, STEPS, size=first)
    large = F.interpolate(small, (height // 8, width // 8), mode="bilinear", antialias=False)
    second = {"size": (height, width), "begin_from": (large, round(0.6 * STEPS)), "decoded": True}
    pictures, seconds = drawn(model, prompts, SAMPLER, STEPS, **second)
    return pictures, first_seconds + seconds


def measure(sizes: Sequence[str], anew: Sequence[str]) -> None:
    model = load()
    judge = Judge.of(model)
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    control, seconds = draw_all(model, with_seed(CONTROL_SEED))
    results["device"] = device()
    results["trained size"] = {"plain": {**judge(control), "seconds": seconds}}
    results["trained size"] |= {
        f"plain, {name}": {**one, "seconds": seconds} for name, one in checks(judge, control).items()
    }
    for size in sizes:
        width, height = map(int, size.split("x"))
        found = results.setdefault(size, {})
        for name, draw in ways(size).items():
            if name in found and name not in anew:
                continue
            pictures, seconds = draw_all(model, draw, height, width)
            found[name] = {**judge(pictures), "seconds": seconds}
            torch.save(pictures[[PROMPTS.index(prompt) for prompt in SHEET_PROMPTS]].half(), _pictures_of(size, name))
            print(size, line_of(name, found[name], found["plain"]["seconds"]), flush=True)
            RESULTS.write_text(json.dumps(results) + "\n")


def _pictures_of(size: str, name: str) -> Path:
    folder = ROOT / "out" / "resolution"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{size} {name}.pt"


def line_of(name: str, one: dict[str, Any], plain_seconds: float) -> str:
    """One row of a table."""
    share, low, high = (100 * value for value in interval(one["recognised"]))
    distance, least, most = interval(one["distance"])
    repeated = f"{100 * np.mean(one['repeated']):.0f} %" if "repeated" in one else "-"
    return (
        f"| {name} | {share:.0f} % ({low:.0f} to {high:.0f}) | {repeated} | {distance:.3f} ({least:.3f} to {most:.3f}) "
        f"| {100 * np.mean(one['fine']):.2f} % | {one['seconds'] / plain_seconds:.2f} |"
    )


def write() -> None:
    results = json.loads(RESULTS.read_text())
    sizes = [size for size in SIZES if size in results]
    lines = [
        "# Larger than the trained size",
        "",
        "Written by `python -m benchmarks.resolution_pictures write` from docs/resolution.json, which `measure` fills.",
        f"The small checkpoint, trained at 128x128 pixels, {len(PROMPTS)} prompts, Euler, {STEPS} steps, CFG {CFG:g},",
        f"seed {SEED}, {results['device']}.",
        "",
        "*Recognised*: nearest, in shift-tolerant LPIPS and shrunk to the trained size, to the plain pictures of its own",
        "prompt at the trained size rather than to those of the 49 others. *Repeated*, and so not recognised: the squares",
        "at both ends of a picture that is not square are nearer to them than the whole and the middle. *Distance* is that",
        "of the picture to its own prompt's. In brackets 95 % bootstrap intervals over the prompts. *Fine detail* is the",
        "share of the variance that the trained size cannot hold: small where a method ends too late for the full size to",
        "be used. Time is that of the U-Net alone over plain at the same size; the methods are at their defaults (auto)",
        "where no setting is named.",
        "",
        "![recognised over size](pictures/resolution.svg)",
        "",
        "![pictures at twice the trained size](pictures/resolution.png)",
        "",
    ]
    missing = {size: [name for name in ways(size) if name not in results.get(size, {})] for size in SIZES}
    told = [f"{size}: {', '.join(names)}" for size, names in missing.items() if names]
    if told:
        lines += ["Not measured yet, " + "; ".join(told) + ".", ""]
    for size in ["trained size", *sizes]:
        lines += [
            f"## {size}",
            "",
            "| way | recognised | repeated | distance | fine detail | time over plain |",
            "|---|---|---|---|---|---|",
            *(line_of(name, one, results[size]["plain"]["seconds"]) for name, one in results[size].items()),
            "",
        ]
    TABLE.write_text("\n".join(lines))
    write_part("resolution", by_method(results))
    plot(results, sizes)
    write_sheet()


def by_method(results: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """What the panel and the README say of each method: the fields of `measured.Size`."""
    found: dict[str, list[dict[str, Any]]] = {}
    for size in (size for size in SIZES if size in results):
        plain = results[size]["plain"]
        for kind in (kind for kind in AT_DEFAULTS if kind.__name__ in results[size]):
            own = results[size][kind.__name__]
            found.setdefault(method_of(kind()).name, []).append(
                {
                    "size": size,
                    "recognised": float(np.mean(own["recognised"])),
                    "plain": float(np.mean(plain["recognised"])),
                    "time": round(own["seconds"] / plain["seconds"], 3),
                }
            )
    return found


def plot(results: dict[str, Any], sizes: Sequence[str]) -> None:
    """Bars: for each size, the share of recognised pictures of each way that was run at all of them."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "unetmod"
    from matplotlib import pyplot

    names = [name for name in results[sizes[0]] if all(name in results[size] for size in sizes)]
    figure, axis = pyplot.subplots(figsize=(9, 4))
    for at, name in enumerate(names):
        shares = [interval(results[size][name]["recognised"]) for size in sizes]
        middle = [100 * share for share, _, _ in shares]
        error = [[100 * (share - low) for share, low, _ in shares], [100 * (high - share) for share, _, high in shares]]
        places = [index + (at - len(names) / 2) * 0.8 / len(names) for index in range(len(sizes))]
        axis.bar(places, middle, 0.8 / len(names), yerr=error, label=name, align="edge", error_kw={"elinewidth": 0.8})
    control = 100 * interval(results["trained size"]["plain"]["recognised"])[0]
    axis.axhline(control, color="black", linestyle="--", linewidth=0.8, label="plain at the trained size")
    axis.set_xticks(range(len(sizes)), sizes)
    axis.set_ylabel("recognised, %")
    axis.legend(fontsize=7, ncols=3)
    figure.tight_layout()
    figure.savefig(PLOT, metadata={"Date": None})


def write_sheet() -> None:
    """Six prompts at twice the trained size, a row for each way."""
    from PIL import Image, ImageDraw

    names = [name for name in ways("256x256") if name not in BY_HAND["256x256"] and _pictures_of("256x256", name).exists()]
    side, left = 160, 96
    sheet = Image.new("RGB", (left + side * len(SHEET_PROMPTS), 16 + side * len(names)), "white")
    pen = ImageDraw.Draw(sheet)
    for row, name in enumerate(names):
        pen.text((4, 16 + side * row + side // 2), name, fill="black")
        for column, picture in enumerate(torch.load(_pictures_of("256x256", name), weights_only=True).float()):
            pixels = ((picture + 1) * 127.5).round().clamp(0, 255).byte().permute(1, 2, 0).numpy()
            sheet.paste(Image.fromarray(pixels).resize((side, side)), (left + side * column, 16 + side * row))
    for column, prompt in enumerate(SHEET_PROMPTS):
        pen.text((left + side * column + 4, 2), prompt, fill="black")
    sheet.quantize(256).save(SHEET, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stage", choices=("measure", "write"))
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=SIZES)
    parser.add_argument("--anew", nargs="+", default=(), help="names of ways to measure again, such as DeepShrink")
    options = parser.parse_args()
    if options.stage == "measure":
        measure(options.sizes, options.anew)
    write()


if __name__ == "__main__":
    main()
