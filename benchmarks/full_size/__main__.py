"""Measure what is not measured yet, in order of worth, until the time is up.

    python -m benchmarks.full_size [--minutes 40] [--checkpoint FILE] [--only "token merging" ...] [--out docs]

On a GPU if there is one: SD1.5's and SDXL's U-Net with random weights in half precision, 512 to 2048 pixels. What was
measured on this device with these versions is kept, what failed is tried again; `--minutes 0` writes the page anew.
`--checkpoint` takes the U-Net's weights from a single-file checkpoint in safetensors format and measures that model alone;
no pictures are drawn of it. `--width 64 --shrink 8` tries all of it out on a CPU.
"""

from __future__ import annotations

import argparse
import time
from importlib import metadata
from pathlib import Path

import torch

from benchmarks.costs import DOCS
from benchmarks.full_size.bench import Bench
from benchmarks.full_size.models import SD15, SDXL, as_hosts_run_it, data_type, model_in
from benchmarks.full_size.plan import work
from benchmarks.full_size.report import report
from benchmarks.full_size.results import Results
from benchmarks.timing import device

PACKAGES = ("triton", "diffusers", "tomesd", "DeepCache", "hidiffusion", "stable-diffusion-sdkit", "imaginAIry")


def main() -> None:
    options = _options()
    until = time.monotonic() + 60 * options.minutes
    models = (SD15, SDXL) if options.checkpoint is None else (model_in(options.checkpoint),)
    results = Results(options.out / "full_size.json")
    machine = machine_name(options.width, options.checkpoint)
    bench = Bench(results, machine, options.width, options.checkpoint, options.seconds)
    with as_hosts_run_it():
        for setup, item in work(models, tuple(options.only), options.shrink):
            if time.monotonic() > until:
                print("The time is up; the same command goes on from here.")
                break
            if not results.has(machine, setup.name, item.name):
                results.machine(machine).versions |= versions()  # rows that are kept may have needed others
                bench.measure(setup, item)
    (options.out / "full_size.md").write_text(report(results.machines), encoding="utf-8")


def machine_name(width: int, checkpoint: Path | None) -> str:
    """Device and data type, and how the U-Net came about: what figures have in common that may be set side by side."""
    weights = checkpoint.name if checkpoint else "random weights"
    narrow = "" if width == 320 else f", width {width}"
    return f"{device()}, {str(data_type()).removeprefix('torch.')}, {weights}{narrow}"


def versions() -> dict[str, str]:
    """Of what was run, where it is installed."""
    found = {}
    if torch.version.cuda:
        found["CUDA"] = torch.version.cuda
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m benchmarks.full_size", description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=40, help="after which no further row is begun")
    parser.add_argument("--checkpoint", type=Path, help="a .safetensors file of SD1.x or SDXL")
    parser.add_argument("--only", nargs="+", default=[], help="words of which a row's name must hold one")
    parser.add_argument("--seconds", type=float, default=1.5, help="that the rounds of one way may take")
    parser.add_argument("--out", type=Path, default=DOCS, help="the folder of full_size.json and full_size.md")
    parser.add_argument("--width", type=int, default=320, help="channels of the U-Net's first level")
    parser.add_argument("--shrink", type=int, default=1, help="what the sides of the pictures are divided by")
    return parser.parse_args()


if __name__ == "__main__":
    main()
