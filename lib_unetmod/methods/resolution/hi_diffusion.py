"""Make large images faster and with fewer duplicates: in the first steps the deep feature maps are smaller (RAU-Net), and
self-attention runs in shifted windows (MSW-MSA), which changes the composition.

HiDiffusion (Zhang et al. 2024, "HiDiffusion: Unlocking Higher-Resolution Creativity and Efficiency in Pretrained Diffusion
Models"): RAU-Net, the resolution-aware U-Net (section 4.1), and MSW-MSA, modified shifted window attention (section 4.2).
Deep levels that get larger maps than in training repeat what they drew; while the picture is laid out, RAU-Net hands them
maps half as high and wide, and afterwards the U-Net is its own again. MSW-MSA (`shifted_windows`) saves time where maps are
largest, at the first level that has attention.

Costs: nothing. Saves: while RAU-Net acts, three quarters of the deep levels' work; with windows, three quarters of the
products of the attention they stand at. Changes: composition, which becomes that of an image of native size.

RAU-Net has two places, and a place has one kind. At `conv_block` the Downsample's convolution runs with stride 4, padding 2
and dilation 2 instead of 2, 1 and 1, and the paired Upsample grows its map by as much before its own convolution. At
`pool_block` the block's result, skip connection included, is averaged in squares of 2 x 2, and the result of the paired
output block is resized back. Places follow from the U-Net: the Downsample after the first level with attention and the
block after the first Downsample are 3 and 4 in SD1 and SD2, 6 and 4 in SDXL.

The widened convolution is the layer's own, asked for another map. With y the even rows and columns of x,

    sum_k w[k] x[4i + 2k - 2] = sum_k w[k] y[2i + k - 1]:

stride 4, padding 2 and dilation 2 on x are stride 2, padding 1 and dilation 1 on y, at every size. So no attribute and no
weight is touched, and whatever a host does to its convolutions (LoRA, 8 bit weights, circular padding) stays in force.

Auto takes the published schedule, its thresholds as multiples of the trained size. Below 4 times that size SD1 and SD2
take the convolution up to 0.4; SDXL takes it up to 0.16 and then pools up to 0.4, inpainting models of SDXL pool only.
From 4 times on, on both sides, both act: up to 0.7 the one that SD1 (convolution) or SDXL (pooling) has as its first, up
to 0.3 the other. The published code counts steps of its own sampler; here these are progress. For SDXL Turbo it pools up to
0.5, and with ControlNet on SDXL it takes 0.5 for 0.4: what a U-Net cannot tell is left to the knobs. For models trained
below 512 pixels all of it is later (`large.at_trained_size`). Where one side of a picture alone is longer than trained, that
side alone is halved; the published code halves both, and hands on maps that are shorter than in training.

What passes between blocks keeps the size that the host expects (`hand_over`), so that ControlNet's residuals act on the
smaller maps too, by their mean over each cell.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

import torch.nn.functional as F
from torch import Tensor

from ...core.depth import Depth
from ...core.edits import after, before
from ...core.knobs import ConfigError, knob, redeclared
from ...core.patching import Edit
from ...core.registry import method
from ...core.run import Run
from ...core.schedule import ProgressRange
from ...core.size import Size, size_of
from ...core.target import Target
from ...core.unet_map import Block, UNetMap
from ...core.upcoming_picture import Idle, UpcomingPass
from ...parts.attention.shifted_windows import in_shifted_windows
from ...parts.maps.hand_over import HandOver, handed_over
from ...parts.maps.resize import resize
from ...parts.maps.skip_connections import fit_upsample
from .large import LargeConfig, at_trained_size

_EXTREME = 4  # times the trained side, from which on both places act: 2048 pixels of SD1, 4096 of SDXL
_MOST_BLOCKS = 11
#: Times the trained side, from which on a side of the picture is halved where the other is not; the default of `above`.
_LONGER = 1.3


@dataclass(frozen=True, kw_only=True)
class HiDiffusion(LargeConfig):
    """Which halves of the method act, and where and when RAU-Net does."""

    short = "HiDiffusion"

    above: float = redeclared(LargeConfig, "above", rarely=True)
    raunet: bool = knob(
        True, "RAU-Net", "Fewer duplicates: makes the deep feature maps smaller while the composition forms."
    )
    windows: bool = knob(
        True,
        "Shifted windows",
        "Faster: self-attention runs in windows of half the side that move in every step (MSW-MSA).",
    )
    conv_block: int = knob(
        3,
        "Strided block",
        "Input block that downsamples 4x instead of 2x: 3, 6 or 9 in SD1 and SD2, 3 or 6 in SDXL.",
        low=1,
        high=_MOST_BLOCKS,
        step=1,
        when="not auto",
    )
    conv_end: float = knob(
        0.4,
        "Strided until",
        "The strided block acts until this noise level (1 = finished image): later costs detail; 0 = never.",
        low=0,
        high=1,
        step=0.01,
        when="not auto",
    )
    pool_block: int = knob(
        4,
        "Pooled block",
        "Input block whose result is averaged to half the size: any that does not downsample.",
        low=1,
        high=_MOST_BLOCKS,
        step=1,
        when="not auto",
    )
    pool_end: float = knob(
        0.0,
        "Pooled until",
        "The pooled block acts until this noise level (1 = finished image): later costs detail; 0 = never.",
        low=0,
        high=1,
        step=0.01,
        when="not auto",
    )
    pool_start: float = knob(
        0.0,
        "Pooled from",
        "The pooled block acts from this noise level on: 0 = pure noise.",
        low=0,
        high=1,
        step=0.01,
        when="not auto",
        rarely=True,
    )
    axes: str = knob(
        "both",
        "Sides",
        "Sides that RAU-Net halves: both, or only the one along which the image is larger than native.",
        choices=("both", "height", "width"),
        when="not auto",
        rarely=True,
    )
    window_levels: int = knob(
        1,
        "Window levels",
        "Number of attention levels with shifted windows: 1 saves most of the time, more save a little.",
        low=1,
        high=4,
        step=1,
        when="not auto",
        rarely=True,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.auto and self.pool_end and self.pool_start > self.pool_end:
            raise ConfigError(
                f"HiDiffusion: pool_start is {self.pool_start:g} and pool_end is {self.pool_end:g}; pool_start must not be "
                "above pool_end."
            )

    def changes_nothing(self) -> bool:
        strides_or_pools = self.raunet and (self.auto or self.conv_end > 0 or self.pool_end > self.pool_start)
        return not (self.windows or strides_or_pools)

    def details(self) -> str:
        if self.auto:
            return "auto" if self.raunet and self.windows else "RAU-Net auto" if self.raunet else "windows"
        strided = self.raunet and not self.conv_range.empty
        pooled = self.raunet and not self.pool_range.empty
        side = "" if self.axes == "both" else f" in {self.axes}"
        parts = [
            f"strided{side} at {self.conv_block} to {self.conv_end:g}" if strided else "",
            f"pooled{side} at {self.pool_block} {self.pool_start:g}-{self.pool_end:g}" if pooled else "",
            "windows" if self.windows else "",
        ]
        return ", ".join(part for part in parts if part)

    def resolved(self, unet: UNetMap, target: Target) -> HiDiffusion:
        if not self.auto:
            return self
        conv, pool = _derived_blocks(unet)
        conv_end, pool_start, pool_end = (at_trained_size(one, target) for one in _published_schedule(unet, target))
        conv_end, pool_end = conv_end * (conv is not None), pool_end * (pool is not None)
        last = 1.0 if self.windows else max(conv_end, pool_end)
        return replace(
            self,
            auto=False,
            end=max(self.start, min(self.end, last)),
            conv_block=conv or self.conv_block,
            conv_end=conv_end,
            pool_block=pool or self.pool_block,
            pool_start=pool_start * bool(pool_end),
            pool_end=pool_end,
            axes=_axes_of(target),
            window_levels=1,
        )

    def cache_key(self, progress: float) -> tuple[bool, bool]:
        """Whether RAU-Net strides, and whether it pools."""
        return self.conv_range.holds(progress), self.pool_range.holds(progress)

    def idle_at(self, reached: tuple[float, ...] | None, one: UpcomingPass, unet: UNetMap | None) -> Idle | None:
        if reached is None or self.auto or self.windows or any(any(self.cache_key(progress)) for progress in reached):
            return None
        why = "no sampling step falls into its range. Widen the range or take more steps."
        return Idle(f"at {one.steps} steps", f"{self.short}: {why}")

    @property
    def conv_range(self) -> ProgressRange:
        return ProgressRange(0.0, self.conv_end)

    @property
    def pool_range(self) -> ProgressRange:
        return ProgressRange(min(self.pool_start, self.pool_end), self.pool_end)


@method(
    HiDiffusion,
    title="HiDiffusion",
    benefit="Large images: faster, fewer duplicates",
    at=Depth.LEVELS,
    keeps_maps=False,
)
def hi_diffusion(config: HiDiffusion, unet: UNetMap, run: Run) -> Iterator[Edit]:
    """Edits of RAU-Net's pairs of blocks, and of the self-attentions that are windowed."""
    if config.raunet:
        yield from _raunet(config, unet, run)
    if config.windows:
        yield from in_shifted_windows(_windowed_blocks(config, unet), run, HiDiffusion.title, key="hi_diffusion")


def _windowed_blocks(config: HiDiffusion, unet: UNetMap) -> list[Block]:
    first = unet.first_attention_level or 1
    count = 1 if config.auto else config.window_levels
    return [block for block in unet.blocks if first <= block.level < first + count]


def _raunet(config: HiDiffusion, unet: UNetMap, run: Run) -> Iterator[Edit]:
    conv_block, pool_block = _derived_blocks(unet) if config.auto else _chosen_blocks(config, unet)

    def strides() -> bool:
        return run.within(run.resolved(config).conv_range)

    def pools() -> bool:
        return run.within(run.resolved(config).pool_range)

    def next_skip_size(output: Block) -> Size | None:
        following = output.index + 1
        return None if following == len(unet.output_blocks) else maps.get().skip_size(unet.output_blocks[following])

    def stride(x: Tensor) -> Tensor:
        return every_second(x, run.resolved(config).axes) if strides() else x

    def pool(out: Tensor) -> Tensor:
        return pooled(out, run.resolved(config).axes) if pools() else out

    def restore(output: Block, out: Tensor) -> Tensor:
        # Bicubic, to the size of the skip connection that comes next: the one that was handed over before the pooling.
        size = next_skip_size(output)
        return out if size in (None, size_of(out)) else resize(out, size, "bicubic", run.circular)

    maps = run.per_traversal(lambda: HandOver(unet, run))
    yield from handed_over(unet, maps, at=Depth.HANDED_OVER_MAPS)
    if conv_block is not None:
        yield before(unet.input_blocks[conv_block].of_kind("down")[0].module, stride)
    if pool_block is not None:
        grown = unet.paired_output(pool_block)
        yield after(unet.input_blocks[pool_block].layers[-1].module, pool)
        yield after(grown.layers[-1].module, partial(restore, grown))
    for block in unet.output_blocks:
        yield from fit_upsample(block, run, partial(next_skip_size, block))


def _derived_blocks(unet: UNetMap) -> tuple[int | None, int | None]:
    """Where RAU-Net strides and where it pools, as input indices; None for what the U-Net has no place for."""
    downs = {block.level: block.index for block in unet.input_blocks if block.of_kind("down")}
    first = min(unet.attention_levels, default=1)
    pool = downs[2] + 1 if 2 in downs else len(unet.input_blocks)
    has_pool = pool < len(unet.input_blocks) and not unet.input_blocks[pool].of_kind("down")
    return downs.get(first + 1), pool if has_pool else None


def _chosen_blocks(config: HiDiffusion, unet: UNetMap) -> tuple[int | None, int | None]:
    downs = [block.index for block in unet.input_blocks if block.of_kind("down")]
    others = [block.index for block in unet.input_blocks[1:] if block.index not in downs]
    strides, pools = not config.conv_range.empty, not config.pool_range.empty
    if strides and config.conv_block not in downs:
        raise ConfigError(
            f"HiDiffusion: conv_block is {config.conv_block}, where this U-Net has no Downsample; choose {_either(downs)}."
        )
    if pools and config.pool_block not in others:
        raise ConfigError(
            f"HiDiffusion: pool_block is {config.pool_block}, where this U-Net has no block that can be pooled; choose "
            f"{_either(others)}."
        )
    return config.conv_block if strides else None, config.pool_block if pools else None


def _either(indices: list[int]) -> str:
    *others, last = map(str, indices)
    return f"{', '.join(others)} or {last}" if others else last


def _published_schedule(unet: UNetMap, target: Target) -> tuple[float, float, float]:
    """(conv_end, pool_start, pool_end) as published: thresholds T1 and T2 by size, and SDXL's two phases."""
    extreme = min(target.ratio_y, target.ratio_x) >= _EXTREME
    if 1 in unet.attention_levels:  # SD1 and SD2
        return (0.7, 0.0, 0.3) if extreme else (0.4, 0.0, 0.0)
    if extreme:
        return 0.3, 0.0, 0.7
    return (0.0, 0.0, 0.4) if unet.inpainting else (0.16, 0.16, 0.4)


def _axes_of(target: Target) -> str:
    """The side along which the picture is longer than trained, where it is one alone."""
    tall, wide = (ratio > _LONGER for ratio in (target.ratio_y, target.ratio_x))
    return "both" if tall == wide else "height" if tall else "width"


def _steps(axes: str) -> tuple[int, int]:
    """By what height and width are divided."""
    return {"both": (2, 2), "height": (2, 1), "width": (1, 2)}[axes]


def every_second(x: Tensor, axes: str = "both") -> Tensor:
    """(B, C, H, W) -> (B, C, ceil(H/2), ceil(W/2)): the even rows and columns, or one of them alone."""
    y, x_ = _steps(axes)
    return x[..., ::y, ::x_].contiguous()


def pooled(x: Tensor, axes: str = "both") -> Tensor:
    """(B, C, H, W) -> (B, C, ceil(H/2), ceil(W/2)): means of 2 x 2 squares, of what there is of them at odd edges; of pairs
    in a column or a row with "height" or "width"."""
    return F.avg_pool2d(x, _steps(axes), ceil_mode=True)
