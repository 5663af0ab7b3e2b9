"""What is timed: each method at one setting, and what is left of each part's work under it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lib_unetmod import (
    CDTuner,
    ColorMap,
    Config,
    DeepCache,
    DeepShrink,
    EncoderReuse,
    FreeU,
    GuidanceInterval,
    HiDiffusion,
    HyperTile,
    ScaleCrafter,
    SkipBlocks,
    StepForecast,
    TokenDownsampling,
    TokenMerging,
)

#: How many a cache is run over: whole cycles of intervals 2 and 3.
EVALUATIONS = 12
#: Evaluations that share a matching of token merging.
MATCHING = TokenMerging().refresh


@dataclass(frozen=True)
class Case:
    """One row of the table. `evaluations` are run in a row; `scale` says what is left of a part's work.

    `scale(level, part)` is for the parts "product" (of the self-attentions) and "projections" of a level; None where the
    prediction is another one. `shrunk` names the first and the last block, in the order of a walk, whose maps have half
    the height and width.
    """

    name: str
    config: Config
    evaluations: int = 1
    scale: Callable[[int, str], float] | None = None
    shrunk: tuple[int, int] | None = None


#: The settings themselves, at any size.
BY_HAND = {"auto": False, "above": 0}
#: An end before the progress at which evaluations are timed.
OUTSIDE = 0.05


def same(level: int, part: str) -> float:
    return 1.0


def merged(ratio: float, first: int) -> Callable[[int, str], float]:
    kept = 1 - ratio
    return lambda level, part: 1.0 if level > first else kept**2 if part == "product" else kept


def downsampled(factor: float, first: int) -> Callable[[int, str], float]:
    # Half of the projections are those of keys and values.
    kept = 1 / factor**2
    return lambda level, part: 1.0 if level > first else kept if part == "product" else (1 + kept) / 2


def tiled(side: int, tile: int, deepest: int) -> Callable[[int, str], float]:
    def scale(level: int, part: str) -> float:
        across = max(round(8 * side / tile), 1)
        return 1 / across**2 if part == "product" and level <= deepest else 1.0

    return scale


def cases(side: int, levels: int = 4, first: int = 1) -> list[Case]:
    """For latents of this side and a U-Net of so many levels, the `first` of which with attention is SD1's 1 or SDXL's 2."""
    strided = 3 * first
    return [
        Case(f"skip middle and level {levels}", SkipBlocks(middle=True, levels=1)),
        Case("token merging 0.5", TokenMerging(ratio=0.5), MATCHING, merged(0.5, first)),
        Case("token merging 0.75", TokenMerging(ratio=0.75), MATCHING, merged(0.75, first)),
        Case("token downsampling 2", TokenDownsampling(factor=2), scale=downsampled(2, first)),
        Case("HyperTile 256, depth 1", HyperTile(tile=256, depth=1, variations=1), scale=tiled(side, 256, first)),
        Case("HyperTile 128, depth 2", HyperTile(tile=128, depth=2, variations=1), scale=tiled(side, 128, first + 1)),
        Case("DeepCache 3", DeepCache(interval=3), EVALUATIONS),
        Case("DeepCache 2", DeepCache(interval=2), EVALUATIONS),
        Case("DeepCache 3, branch 3", DeepCache(interval=3, branch=3), EVALUATIONS),
        Case("Step forecast 2x", StepForecast(interval=2), EVALUATIONS),
        Case("Faster Diffusion 3", EncoderReuse(interval=3), EVALUATIONS),
        Case("negative prompt skipped, CFG 1", GuidanceInterval(scale_one=True)),
        Case("Deep Shrink 2, block 3", DeepShrink(**BY_HAND), scale=same, shrunk=(3, -4)),
        Case("Deep Shrink, outside its window", DeepShrink(**BY_HAND, end=OUTSIDE), scale=same),
        Case(
            "HiDiffusion, RAU-Net",
            HiDiffusion(**BY_HAND, windows=False, conv_block=strided),
            scale=same,
            shrunk=(strided, -strided - 1),
        ),
        Case("HiDiffusion, windows", HiDiffusion(**BY_HAND, raunet=False), scale=tiled(2, 8, first)),
        Case("HiDiffusion, outside its window", HiDiffusion(**BY_HAND, conv_block=strided, end=OUTSIDE), scale=same),
        Case("ScaleCrafter 2", ScaleCrafter(**BY_HAND, dilation=2), scale=same),
        Case("ScaleCrafter 1.5", ScaleCrafter(**BY_HAND, dilation=1.5), scale=same),
        Case("ScaleCrafter, outside its window", ScaleCrafter(**BY_HAND, dilation=2, end=OUTSIDE), scale=same),
        Case("FreeU", FreeU(), scale=same),
        Case("CD-Tuner, detail and contrast", CDTuner(detail1=5, detail2=5, contrast=5), scale=same),
        Case("color map", ColorMap(end=1), scale=same),
    ]
