"""HiDiffusion's published code and ours on the same weights: how far their predictions lie apart.

    pip install --no-deps --target DIRECTORY hidiffusion==0.1.10
    PYTHONPATH=DIRECTORY python -m benchmarks.hidiffusion_peer

The published code acts on diffusers' U-Nets; tiny ones of SD1's and SDXL's layout get the weights of the tests' ldm and sgm
U-Nets. Each line tells the largest difference between the two predictions, beside the largest change that the method makes,
around the ends of the published schedule's phases. The published code's thresholds are told a size, since a picture of that
size takes too long here. The random shift is fixed, to each in turn. Windows are compared at a size whose maps have even
sides: at others the published code resizes the map, where ours cuts unequal windows.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import diffusers
import torch
from torch import Tensor

from benchmarks.published import HIDIFFUSION_NAMES, HIDIFFUSION_STEPS, DiffusionPipeline, hidiffusion
from benchmarks.twins import call_twin, diffusers_twin, sdxl_twin
from lib_unetmod import HiDiffusion, modified
from lib_unetmod.methods.resolution import hi_diffusion
from lib_unetmod.parts.attention import shifted_windows as moving_windows

sys.path.append(str(Path(__file__).parent.parent / "tests"))

from hosts import HOSTS
from unets import fresh, inputs

#: Steps of 50 inside each phase: two thresholds below the extreme size, two from it on.
PHASES = {"sd1": {"large": (0, 19, 20), "extreme": (0, 14, 15, 34, 35)}}
PHASES["sdxl"] = {"large": (0, 7, 8, 19, 20), "extreme": (0, 14, 15, 34, 35)}
#: Latent sizes. Windows are compared at the first.
SIZES = [(32, 32), (34, 50), (23, 41)]
#: What the published code is told of the size for its thresholds.
CLAIMED = {"large": (100, 100), "extreme": (1000, 1000)}


def main() -> None:
    published = hidiffusion()
    print(f"hidiffusion beside diffusers {diffusers.__version__}: largest difference / largest change")
    for family, phases in PHASES.items():
        for kind, steps in phases.items():
            for size in SIZES:
                compare(published, family, kind, size, steps, raunet=True, windows=False)
        for raunet in (False, True):
            compare(published, family, "large", SIZES[0], phases["large"], raunet, windows=True)


def compare(
    published: Any, family: str, kind: str, size: tuple[int, int], steps: tuple[int, ...], raunet: bool, windows: bool
) -> None:
    halves = " and ".join(["RAU-Net"] * raunet + ["windows"] * windows)
    for number, step in enumerate(steps):
        quarters = number % 4
        given = inputs(family, height=size[0], width=size[1], batch=1, timestep=999 * (1 - step / HIDIFFUSION_STEPS) - 1e-2)
        theirs = of_published(published, family, given, kind, step, quarters, raunet, windows)
        ours, plain = of_ours(family, given, kind, quarters, raunet, windows)
        differs, changes = (theirs - ours).abs().max().item(), (ours - plain).abs().max().item()
        print(
            f"{family:5} {size[0]:3}x{size[1]:<3} {kind:8} step {step:2}  {halves:19} {differs:.1e} / {changes:.1e}",
            flush=True,
        )


def of_ours(family: str, given: dict, kind: str, quarters: int, raunet: bool, windows: bool) -> tuple[Tensor, Tensor]:
    """Our prediction with the shift given, and the U-Net's own."""
    host = HOSTS["forge"]  # its Upsamples fit their skip connections while the method rests, as the published code's do
    unet = host.prepare(fresh(family))
    plain = host.forward(unet, **given)
    # Pixels of the latent's smaller side, as the trained one at which auto finds the kind that is to be compared.
    trained = 8 * min(given["x"].shape[-2:]) // (4 if kind == "extreme" else 2)
    config = HiDiffusion(raunet=raunet, windows=windows, above=0)
    with (
        mock.patch.object(moving_windows, "quarters_to_shift", lambda number, draw: quarters),
        # The trained size that is told below is no model's, and the published bounds stand.
        mock.patch.object(hi_diffusion, "at_trained_size", lambda progress, target: progress),
        modified(unet, [config], trained_size=trained),
    ):
        return host.forward(unet, **given), plain


def of_published(
    published: Any, family: str, given: dict, kind: str, step: int, quarters: int, raunet: bool, windows: bool
) -> Tensor:
    twin = (sdxl_twin if family == "sdxl" else diffusers_twin)(fresh(family))
    pipeline = DiffusionPipeline(twin, HIDIFFUSION_NAMES[family])
    published.apply_hidiffusion(pipeline, apply_raunet=raunet, apply_window_attn=windows)
    if not windows:  # which take the size for what it is
        twin.register_forward_pre_hook(lambda module, args: twin.info.update(size=CLAIMED[kind]))
    for module in twin.modules():
        if hasattr(module, "max_timestep"):
            module.timestep = step
    with drawn(published, (quarters + 0.5) / 4):
        return call_twin(twin, given)


@contextmanager
def drawn(published: types.ModuleType, number: float) -> Iterator[None]:
    """Inside, the published code's `torch.rand` draws `number`."""

    class Torch(types.ModuleType):
        @staticmethod
        def rand(*size: int) -> Tensor:
            return torch.full(size, number)

        def __getattr__(self, name: str) -> Any:
            return getattr(torch, name)

    with mock.patch.object(published, "torch", Torch("torch")):
        yield


if __name__ == "__main__":
    with torch.inference_mode():
        main()
