"""`python -m training`: fetches the data, trains, publishes and measures. Killed, the same command goes on.

The autoencoder and the U-Net do not need each other, so on a CPU they may train side by side (`--only`, two shells).
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before torch: threads that spin steal the other jobs' time

import argparse

import torch

from lib_unetmod.playground.model import CHECKPOINT
from training import measure as measuring
from training import workers
from training.parts import unet_part, vae_part


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    parser.add_argument("--vae-minutes", type=float, default=60, help="of training the autoencoder, over all restarts")
    parser.add_argument("--unet-minutes", type=float, default=120, help="of training the U-Net, over all restarts")
    parser.add_argument("--batch", type=int, default=16, help="the U-Net's, over all workers")
    parser.add_argument("--rate", type=float, default=1e-3, help="the U-Net's learning rate; it falls to 0 at the end")
    parser.add_argument("--workers", type=int, default=None, help="processes for the U-Net; on a CPU one a core")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--only", choices=("vae", "unet", "measure"), help="one part, instead of all in turn")
    parser.add_argument(
        "--resume", action="store_true", help="where training/runs holds nothing, go on from the published checkpoint"
    )
    return parser.parse_args()


def main() -> None:
    options = arguments()
    number = options.workers or (1 if options.device.startswith("cuda") else max(1, min(4, os.cpu_count() or 1)))
    if options.only in (None, "vae"):
        vae_part(options)
    if options.only in (None, "unet"):
        workers.in_parallel(unet_part, number, options)
    if options.only in (None, "measure"):
        figures = measuring.measure(CHECKPOINT, device=options.device)
        print(f"nearest to its own emoji: {figures['top1_percent']} of 100; {measuring.RESULTS}, {measuring.SHEET}")


if __name__ == "__main__":
    main()
