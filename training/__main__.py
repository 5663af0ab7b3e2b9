"""`python -m training`: fetches the data, trains the autoencoder, then the U-Net on it, and measures both.

Killed or stopped (SIGTERM), the same command goes on from its state, and where that is lost from the snapshot. What is
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
from training import workers
from training.data import RUNS
from training.export import SNAPSHOT
from training.parts import publish_state, unet_part, vae_part


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    parser.add_argument("--vae-samples", type=int, default=200_000, help="in all, over all restarts")
    parser.add_argument("--vae-rate", type=float, default=1e-3, help="learning rate; falls to 0 in the last fifth")
    parser.add_argument("--unet-samples", type=int, default=1_300_000, help="in all, over all restarts")
    parser.add_argument("--batch", type=int, default=16, help="the U-Net's, over all workers")
    parser.add_argument("--rate", type=float, default=1e-3, help="the U-Net's learning rate; it falls to 0 at the end")
    parser.add_argument("--minutes", type=float, default=math.inf, help="of CPU time, then save and end")
    parser.add_argument("--workers", type=int, default=1, help="processes for the U-Net; on an idle CPU one a core")
    parser.add_argument("--threads", type=int, default=1, help="of each process")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--only", choices=("vae", "unet", "measure"), help="one part, instead of all in turn")
    parser.add_argument("--state", type=Path, default=RUNS, help="folder of the state to go on from")
    parser.add_argument("--snapshot", type=Path, default=SNAPSHOT, help="file to go on from where there is no state")
    parser.add_argument("--publish-state", type=Path, metavar="FILE", help="only write such a snapshot of the state")
    parser.add_argument("--publish", action="store_true", help="replace the published checkpoint and its figures")
    options = parser.parse_args(words)
    options.output = CHECKPOINT if options.publish else options.state / CHECKPOINT.name
    return options


def main() -> None:
    options = arguments()
    torch.set_num_threads(options.threads)
    options.state.mkdir(parents=True, exist_ok=True)
    if options.publish_state:
        print(f"{options.publish_state}: samples seen {publish_state(options.state, options.publish_state)}")
        return
    if options.only != "measure":
        (options.state / "pid").write_text(f"{os.getpid()}\n")
    if options.only in (None, "vae"):
        vae_part(options)
    if options.only in (None, "unet"):
        workers.in_parallel(unet_part, options.workers, options)
    if options.only in (None, "measure"):
        results, sheet = options.state / measuring.RESULTS.name, options.state / measuring.SHEET.name
        if options.publish:
            results, sheet = measuring.RESULTS, measuring.SHEET
        figures = measuring.measure(options.output, results, sheet, device=options.device)
        print(f"nearest to its own emoji: {figures['top1_percent']} of 100; {results}, {sheet}")


if __name__ == "__main__":
    main()
