"""`python -m training`: fetches the data, trains the autoencoder, then the U-Net on it, and measures both.

Killed or stopped (SIGTERM), the same command goes on from its state, and where that is lost from the published file. What is
published changes only with `--publish`.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before torch: threads that spin steal the other jobs' time

import argparse
import math
from pathlib import Path

import torch

from lib_unetmod.playground.model import CHECKPOINT
from training import measure as measuring
from training.data import RUNS
from training.export import SNAPSHOT
from training.parts import publish_state, unet_part, vae_part

# What suits a machine with a GPU, and one without: autoencoder's batch and rate, U-Net's batch and rate, processes beside.
DEFAULTS = {"cuda": (128, 1.5e-3, 1024, 1.5e-3, 6), "cpu": (4, 1e-3, 16, 1e-3, 0)}


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    parser.add_argument("--vae-samples", type=float, default=math.inf, help="in all, over all restarts")
    parser.add_argument("--vae-minutes", type=float, default=math.inf, help="by the clock, over all restarts")
    parser.add_argument("--vae-batch", type=int)
    parser.add_argument("--vae-rate", type=float, help="learning rate; it falls to 0 at the end")
    parser.add_argument("--unet-samples", type=float, default=math.inf, help="in all, over all restarts")
    parser.add_argument("--unet-minutes", type=float, default=math.inf, help="by the clock, over all restarts")
    parser.add_argument("--batch", type=int, help="the U-Net's")
    parser.add_argument("--rate", type=float, help="the U-Net's learning rate; it falls to 0 at the end")
    parser.add_argument("--workers", type=int, help="processes that make scenes and prompts ahead")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--no-compile", dest="compile", action="store_false", help="on a GPU, too, run as written")
    parser.add_argument("--log-every", type=float, default=60.0, metavar="SECONDS")
    parser.add_argument("--publish-every", type=float, default=30.0, metavar="MINUTES", help="of training the U-Net")
    parser.add_argument("--only", choices=("vae", "unet", "measure"), help="one part, instead of all in turn")
    parser.add_argument("--checkpoint", type=Path, metavar="FILE", help="with --only measure: this one; figures beside it")
    parser.add_argument("--state", type=Path, default=RUNS, help="folder of the state to go on from")
    parser.add_argument(
        "--snapshot",
        type=Path,
        default=SNAPSHOT,
        help="file to go on from where there is no state, by default the published one",
    )
    parser.add_argument("--publish-state", type=Path, metavar="FILE", help="only write such a snapshot of the state")
    parser.add_argument("--publish", action="store_true", help="replace the published checkpoint and its figures")
    options = parser.parse_args(words)
    names = ("vae_batch", "vae_rate", "batch", "rate", "workers")
    for name, value in zip(names, DEFAULTS["cuda" if options.device.startswith("cuda") else "cpu"], strict=True):
        if getattr(options, name) is None:
            setattr(options, name, value)
    if options.vae_samples == options.vae_minutes == math.inf:
        options.vae_samples = 400_000
    if options.unet_samples == options.unet_minutes == math.inf:
        options.unet_samples = 2_500_000
    options.output = CHECKPOINT if options.publish else options.state / CHECKPOINT.name
    return options


def main() -> None:
    options = arguments()
    torch.set_num_threads(options.threads)
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("high")
    options.state.mkdir(parents=True, exist_ok=True)
    if options.publish_state:
        print(f"{options.publish_state}: samples seen {publish_state(options.state, options.publish_state)}")
        return
    if options.only != "measure":
        (options.state / "pid").write_text(f"{os.getpid()}\n")
    if options.only in (None, "vae"):
        vae_part(options)
    if options.only in (None, "unet"):
        unet_part(options)
    if options.only in (None, "measure"):
        checkpoint = options.checkpoint or options.output
        results, sheet = checkpoint.with_suffix(".json"), checkpoint.with_suffix(".png")
        if checkpoint.resolve() == CHECKPOINT.resolve():
            results, sheet = measuring.RESULTS, measuring.SHEET
        figures = measuring.measure(checkpoint, results, sheet, device=options.device)
        print(
            f"nearest to its own emoji: {figures['top1_percent']} of 100; "
            f"both subjects in {figures['scenes_with_both_found']} of 100 scenes; {results}, {sheet}"
        )


if __name__ == "__main__":
    main()
