"""Do pictures larger than the trained size hold together? The small checkpoint, 50 prompts, 1.5, 2 and 3 times, and 2:1.

    python -m benchmarks.resolution_pictures measure [--sizes 256x256 ...]   # minutes a size; what is done is kept
    python -m benchmarks.resolution_pictures write      # docs/resolution.md, docs/pictures/resolution.svg and resolution.png

The measure, of a picture that is shrunk to the trained size: its perceptual distance to the plain pictures of its own prompt
at the trained size, and whether it is nearer to them than to those of the 49 other prompts (*recognised*); of a wide
picture the best of its square windows counts. On plain pictures of another seed 100 % are recognised at the trained size
and 18 % at twice it. Counting subjects by connected components was tried too: "exactly one" holds for 94 % and 84 % there,
since repeated subjects touch each other, which tells too little apart. *Fine detail* is the share of a picture's variance
that is lost when it is shrunk to the trained size and enlarged again: what a method that composes small for too long leaves
out. Wants `benchmarks/requirements.txt`.
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

from benchmarks.drawing import CFG, SEED, latents
from benchmarks.prompts import PROMPTS
from benchmarks.timing import device
from lib_unetmod import Config, DeepShrink, HiDiffusion, ScaleCrafter
from lib_unetmod.playground.model import SmallModel, load

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "docs" / "resolution.json"
TABLE = ROOT / "docs" / "resolution.md"
PLOT = ROOT / "docs" / "pictures" / "resolution.svg"
SHEET = ROOT / "docs" / "pictures" / "resolution.png"

SAMPLER, STEPS, BATCH = "euler", 20, 10
#: Width x height in pixels; the model was trained at 128x128.
SIZES = ("192x192", "256x256", "384x384", "256x128")
SHEET_PROMPTS = ("red apple", "smiling cat", "lion", "taxi", "crown", "octopus")
#: Seeds of the plain pictures at the trained size that say what each prompt looks like, and of those that are judged.
REFERENCE_SEEDS, CONTROL_SEED = (11, 12, 13), 14

#: Hand settings beside the autos, run at twice the trained size.
BY_HAND: dict[str, Config] = {
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
}


def ways(size: str) -> dict[str, Callable[..., tuple[Tensor, float]]]:
    """By name, `draw(model, prompts, height, width)`: latents and the U-Net's seconds."""
    configs: dict[str, list[Config]] = {
        "plain": [],
        "DeepShrink": [DeepShrink()],
        "HiDiffusion": [HiDiffusion()],
        "ScaleCrafter": [ScaleCrafter()],
    }
    if size == "256x256":
        configs |= {name: [config] for name, config in BY_HAND.items()}

    def plainly(chosen: list[Config]) -> Callable[..., tuple[Tensor, float]]:
        return lambda model, prompts, height, width: latents(model, prompts, SAMPLER, STEPS, chosen, (height, width))

    return {**{name: plainly(chosen) for name, chosen in configs.items()}, "hires fix": hires_fix}


def hires_fix(model: SmallModel, prompts: Sequence[str], height: int, width: int) -> tuple[Tensor, float]:
    """The WebUI's: the longer side at the trained size first, the latent enlarged, and 0.6 of the steps again."""
    enlarged = max(height, width) / model.architecture["trained_size"]
    first = (round(height / enlarged), round(width / enlarged))
    small, first_seconds = latents(model, prompts, SAMPLER, STEPS, size=first)
    large = F.interpolate(small, (height // 8, width // 8), mode="bilinear", antialias=False)
    latent, seconds = latents(model, prompts, SAMPLER, STEPS, size=(height, width), begin_from=(large, round(0.6 * STEPS)))
    return latent, first_seconds + seconds


def windows(pictures: Tensor, side: int) -> list[Tensor]:
    """(B, 3, H, W) shrunk until the shorter side is `side`, as square windows (B, 3, side, side) along the longer one."""
    height, width = pictures.shape[-2:]
    scale = side / min(height, width)
    small = F.interpolate(pictures, (round(height * scale), round(width * scale)), mode="area")
    rows, columns = (range(0, length - side + 1, side // 4) for length in small.shape[-2:])
    return [small[..., top : top + side, left : left + side] for top in rows for left in columns]


def fine_detail(pictures: Tensor, side: int) -> Tensor:
    """(B, 3, H, W) -> (B,): the share of the variance that a picture whose shorter side is `side` cannot hold."""
    size = pictures.shape[-2:]
    scale = side / min(size)
    coarse = F.interpolate(pictures, (round(size[0] * scale), round(size[1] * scale)), mode="area")
    lost = pictures - F.interpolate(coarse, size, mode="bicubic")
    return lost.square().mean((1, 2, 3)) / pictures.var((1, 2, 3)).clamp_min(1e-8)


class Judge:
    """What each prompt looks like at the trained size, and how near a large picture comes to it."""

    def __init__(self, model: SmallModel) -> None:
        from training.measure import PerceptualDistance

        self.perceptual = PerceptualDistance()
        self.trained = model.architecture["trained_size"]
        drawn = [draw_all(model, with_seed(seed))[0] for seed in REFERENCE_SEEDS]
        self.references = torch.stack(drawn)  # (seeds, prompts, 3, side, side)

    def __call__(self, pictures: Tensor) -> dict[str, list[float]]:
        """For each of 50 pictures: recognised (0 or 1), the distance to the nearest of its own prompt, fine detail."""
        seeds, prompts = self.references.shape[:2]
        distance = torch.full((prompts, prompts), torch.inf)
        for window in windows(pictures, self.trained):
            to_each = self.perceptual(window, self.references.flatten(0, 1)).unflatten(1, (seeds, prompts)).amin(1)
            distance = torch.minimum(distance, to_each)
        own = torch.arange(prompts)
        return {
            "recognised": (distance.argmin(1) == own).float().tolist(),
            "distance": [round(value, 5) for value in distance.diagonal().tolist()],
            "fine": [round(value, 5) for value in fine_detail(pictures, self.trained).tolist()],
        }


def with_seed(seed: int) -> Callable[..., tuple[Tensor, float]]:
    """The plain U-Net at the trained size."""
    return lambda model, prompts: latents(model, prompts, SAMPLER, STEPS, seed=seed)


def draw_all(model: SmallModel, draw: Callable[..., tuple[Tensor, float]], *size: int) -> tuple[Tensor, float]:
    """All 50 pictures (50, 3, H, W) in [-1, 1], and the U-Net's seconds for one."""
    pictures, seconds = [], 0.0
    for at in range(0, len(PROMPTS), BATCH):
        latent, spent = draw(model, PROMPTS[at : at + BATCH], *size)
        with torch.inference_mode():
            pictures += [model.decode(one[None])[0] for one in latent]
        seconds += spent
    return torch.stack(pictures).clone(), seconds / len(PROMPTS)


def measure(sizes: Sequence[str], anew: Sequence[str]) -> None:
    model = load()
    judge = Judge(model)
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    control, seconds = draw_all(model, with_seed(CONTROL_SEED))
    results["device"] = device()
    results["trained size"] = {"plain": {**judge(control), "seconds": seconds}}
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


def interval(values: Sequence[float], draws: int = 4000) -> tuple[float, float, float]:
    """Mean, and the 95 % bootstrap interval of it."""
    values = np.asarray(values, dtype=float)
    picked = np.random.default_rng(0).integers(0, len(values), (draws, len(values)))
    low, high = np.percentile(values[picked].mean(1), [2.5, 97.5])
    return float(values.mean()), float(low), float(high)


def line_of(name: str, one: dict[str, Any], plain_seconds: float) -> str:
    """One row of a table."""
    share, low, high = (100 * value for value in interval(one["recognised"]))
    distance, least, most = interval(one["distance"])
    return (
        f"| {name} | {share:.0f} % ({low:.0f} to {high:.0f}) | {distance:.3f} ({least:.3f} to {most:.3f}) "
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
        "prompt at the trained size rather than to those of the 49 others. *Distance* is that to its own. In brackets 95 %",
        "bootstrap intervals over the prompts. *Fine detail* is the share of the variance that the trained size cannot",
        "hold: small where a method ends too late for the full size to be used. Time is that of the U-Net alone over plain",
        "at the same size; the methods are at their defaults (auto) where no setting is named.",
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
            "| way | recognised | distance | fine detail | time over plain |",
            "|---|---|---|---|---|",
            *(line_of(name, one, results[size]["plain"]["seconds"]) for name, one in results[size].items()),
            "",
        ]
    TABLE.write_text("\n".join(lines))
    plot(results, sizes)
    write_sheet()


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

    names = [name for name in ways("256x256") if name not in BY_HAND and _pictures_of("256x256", name).exists()]
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
