"""What FreeU costs: its filter beside a Fourier transform's on the same maps, and all of it over a whole evaluation.

    python -m benchmarks.free_u [--width 320] [--side 64] [--rounds 5]

SD1.5's U-Net with random weights, two rows, torch's SDPA as the WebUI uses it. One evaluation gives the maps that enter the
output blocks; on these the filter is timed beside the one that the WebUI's extensions have. What FreeU adds to an evaluation
is timed on the same maps and set over the time of a plain evaluation; the difference of two whole evaluations, taken in
turn, shows the same within what two evaluations differ by themselves.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmarks import subjects
from benchmarks.subjects import scaled_dot_product_attention
from benchmarks.timing import device, in_turn, median, ratio, seconds_of
from lib_unetmod import FreeU, inspect_unet, modified
from lib_unetmod.methods.detail.free_u import FreeUStage, reweighted
from lib_unetmod.parts.maps.low_frequencies import fourier_filter

#: Rounds of what takes milliseconds, for each round of whole evaluations.
SHORT_ROUNDS = 20
VERSIONS = {"version 1": 1, "version 2": 2}


@dataclass(frozen=True)
class Entering:
    """What enters an output block on which FreeU acts: `x` (B, channels + skip, H, W), and what is done to it."""

    x: Tensor
    channels: int
    stage: FreeUStage

    @property
    def skip(self) -> Tensor:
        return self.x[:, self.channels :]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options = subjects.options(parser, rounds=5)

    unet, inputs = subjects.subject(options)

    with torch.inference_mode(), scaled_dot_product_attention():
        print(f"SD1.5, width {options.width}, latent {options.side}x{options.side}, 2 rows, SDPA ({device()})\n")
        print("| what | ms | over |\n|---|---|---|", flush=True)
        maps = entering(unet, inputs)
        filters = in_turn(
            {
                "transform": lambda: [by_fft(one.skip, one.stage.s) for one in maps],
                "projection": lambda: [fourier_filter(one.skip, one.stage.s) for one in maps],
            },
            SHORT_ROUNDS * options.rounds,
            over="transform",
        )
        share = 100 * ratio(filters, "projection")
        print(f"| the filter by Fourier transform, {len(maps)} maps | {1e3 * median(filters, 'transform'):.1f} | |")
        print(
            f"| the filter by projection | {1e3 * median(filters, 'projection'):.1f} | {share:.1f} % of the transform |",
            flush=True,
        )

        added = in_turn({name: adding(maps, version) for name, version in VERSIONS.items()}, SHORT_ROUNDS * options.rounds)
        plain = statistics.median(seconds_of(lambda: unet(**inputs)) for _ in range(options.rounds))
        print(f"| a plain evaluation | {1e3 * plain:.0f} | |")
        for name in VERSIONS:
            own = median(added, name)
            print(
                f"| FreeU, {name}, on its maps | {1e3 * own:.1f} | {100 * own / plain:.2f} % of the evaluation |", flush=True
            )

        ways = {name: evaluating(unet, inputs, version) for name, version in VERSIONS.items()}
        whole = in_turn({"plain": lambda: unet(**inputs), **ways}, options.rounds, over="plain")
        for name in VERSIONS:
            difference = 100 * (ratio(whole, name) - 1)
            print(f"| FreeU, {name}, whole evaluations | {1e3 * median(whole, name):.0f} | {difference:+.2f} % |")


def entering(unet: nn.Module, inputs: dict) -> list[Entering]:
    """The maps of one plain evaluation on which FreeU with its defaults acts."""
    structure = inspect_unet(unet)
    stages = FreeU().filled_in(structure.family).stages
    found: list[Entering] = []
    handles = []
    for block in structure.output_blocks:
        times = block.backbone_channels // structure.model_channels
        if times in (4, 2):
            stage = stages[0] if times == 4 else stages[1]
            handles.append(
                block.layers[0].module.register_forward_pre_hook(
                    lambda module, args, block=block, stage=stage: found.append(
                        Entering(args[0].clone(), block.backbone_channels, stage)
                    )
                )
            )
    unet(**inputs)
    for handle in handles:
        handle.remove()
    return found


def adding(maps: list[Entering], version: int) -> Callable[[], object]:
    return lambda: [reweighted(one.x, one.channels, one.stage, version) for one in maps]


def evaluating(unet: nn.Module, inputs: dict, version: int) -> Callable[[], object]:
    def run() -> None:
        with modified(unet, [FreeU(version=version)]):
            unet(**inputs)

    return run


def by_fft(x: Tensor, scale: float) -> Tensor:
    """The published filter, in single precision as the WebUI's extensions have it."""
    height, width = x.shape[-2:]
    spectrum = torch.fft.fftshift(torch.fft.fftn(x.float(), dim=(-2, -1)), dim=(-2, -1))
    factors = torch.ones(x.shape, device=x.device)
    factors[..., height // 2 - 1 : height // 2 + 1, width // 2 - 1 : width // 2 + 1] = scale
    return torch.fft.ifftn(torch.fft.ifftshift(spectrum * factors, dim=(-2, -1)), dim=(-2, -1)).real.to(x.dtype)


if __name__ == "__main__":
    main()
