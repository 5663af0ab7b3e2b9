"""Boost the features of the U-Net's backbone and weaken coarse shapes in its skip connections: stronger structure and
contrast in the same time, while too much burns colors and flattens texture.

FreeU (Si et al. 2023, "FreeU: Free Lunch in Diffusion U-Net"). An output block gets the backbone `h`, which removes noise,
and a skip connection, which hands on detail and makes the backbone's say smaller. Half of the backbone's channels are
multiplied by b, and the lowest frequencies of the skip connection by s. Version 1, the first one published, multiplies
every cell alike. Version 2 multiplies most where the channels' mean is highest in its map and not where it is lowest:

    1 + (b - 1) (m - min m) / (max m - min m),    m the mean over all channels of h

Where that mean is the same everywhere nothing stands out, and version 2 leaves the map alone.

Stages go by the backbone's channels, as in the published code: 4 times the U-Net's width is stage 1 and 2 times stage 2. The
third stage (the width itself), the window of channels, the cutoff and the factor above it are those of ljleb's extension,
whose window differs by one channel.

Costs: nothing to speak of. Changes: composition and contrast; with a large b colors burn and texture goes flat.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from ...core.config import Config
from ...core.depth import Depth
from ...core.edits import before
from ...core.knobs import ConfigError, knob
from ...core.patching import Edit
from ...core.registry import method
from ...core.run import Run
from ...core.target import Target
from ...core.unet_map import Block, UNetMap
from ...core.upcoming_picture import Idle, UpcomingPass
from ...parts.maps.low_frequencies import fourier_filter

#: Channels of each stage's backbone over the U-Net's width, by which the publication knows its stages.
_WIDTHS = (4, 2, 1)
#: How many last digits of a usual number the mean may differ from cell to cell where the map is the same in all of them.
_ROUNDED = 2
#: A factor that is left to the preset.
BY_PRESET = -1.0

#: b1, b2, s1 and s2 by version and model, from the publication's README as it stood with each version. It gave none for
#: SD1.5 in version 1, and for SDXL pointed to its users' findings, which are taken as ljleb's extension has them.
PUBLISHED = {
    (1, "SD1.4"): (1.2, 1.4, 0.9, 0.2),
    (1, "SD1.5"): (1.2, 1.4, 0.9, 0.2),
    (1, "SD2.1"): (1.1, 1.2, 0.9, 0.2),
    (1, "SDXL"): (1.1, 1.2, 0.6, 0.4),
    (2, "SD1.4"): (1.3, 1.4, 0.9, 0.2),
    (2, "SD1.5"): (1.5, 1.6, 0.9, 0.2),
    (2, "SD2.1"): (1.4, 1.6, 0.9, 0.2),
    (2, "SDXL"): (1.3, 1.4, 0.9, 0.2),
}
_OF_FAMILY = {"sd1": "SD1.5", "sd2": "SD2.1", "sdxl": "SDXL", "refiner": "SDXL", "other": "SD1.4"}


@dataclass(frozen=True)
class FreeUStage:
    """What is done where the backbone has a certain number of channels. `width` and `offset` are shares of them."""

    b: float
    s: float
    offset: float
    width: float
    high: float
    cutoff: float

    @property
    def acts(self) -> bool:
        return self.acts_on_backbone or self.acts_on_skip

    @property
    def acts_on_backbone(self) -> bool:
        return self.b != 1 and self.width > 0

    @property
    def acts_on_skip(self) -> bool:
        return (self.s, self.high) != (1, 1)

    def weakened(self, strength: float) -> FreeUStage:
        """Every factor on its way from 1, at strength 0, to its own, at 1."""
        b, s, high = (1 + (factor - 1) * strength for factor in (self.b, self.s, self.high))
        return replace(self, b=b, s=s, high=high)


def _factor(default: float, label: str, effect: str) -> float:
    text = f"{effect}. -1 = auto, as in Preset."
    return knob(default, label, text, low=BY_PRESET, high=3, step=0.01, auto=BY_PRESET, rarely=True)


def _offset(stage: int) -> float:
    text = "Where in the channels the boosted ones begin, as a share; 0 = at the first."
    return knob(0.0, f"Backbone {stage} offset", text, low=0, high=1, step=0.01, rarely=True)


def _width(stage: int) -> float:
    text = "Share of the channels that is boosted; 0.5 as published."
    return knob(0.5, f"Backbone {stage} width", text, low=0, high=1, step=0.01, rarely=True)


def _high(stage: int) -> float:
    text = "Factor of the skip connection's frequencies above the cutoff; 1 = off."
    return knob(1.0, f"Skip {stage} above cutoff", text, low=-1, high=3, step=0.01, rarely=True)


def _cutoff(stage: int) -> float:
    text = "Share of the frequencies that counts as low; 0 = only the lowest, as published."
    return knob(0.0, f"Skip {stage} cutoff", text, low=0, high=1, step=0.01, rarely=True)


@dataclass(frozen=True, kw_only=True)
class FreeU(Config):
    """Factors of three stages, the deepest first, or the preset that has them."""

    short = "FreeU"

    version: int = knob(
        2,
        "Version",
        "2 = boosts where the image has structure, milder; 1 = boosts everywhere alike.",
        low=1,
        high=2,
        step=1,
    )
    preset: str = knob(
        "auto",
        "Preset",
        "Published factors for each model, used where a factor is auto; auto = those of the loaded model.",
        choices=("auto", "SD1.4", "SD1.5", "SD2.1", "SDXL"),
    )
    b1: float = _factor(BY_PRESET, "Backbone 1", "Above 1 strengthens the composition, too much burns colors; 1 = off")
    b2: float = _factor(BY_PRESET, "Backbone 2", "Above 1 strengthens shapes and contrast, too much burns colors; 1 = off")
    s1: float = _factor(BY_PRESET, "Skip 1", "Below 1 weakens coarse shapes of the deepest skip connections; 1 = off")
    s2: float = _factor(BY_PRESET, "Skip 2", "Below 1 weakens coarse shapes of the skip connections one stage up; 1 = off")
    soft: float = knob(
        0.0,
        "Fade in and out",
        "Range of noise levels over which the effect grows after Active from and fades before Active until; 0 = at once.",
        low=0,
        high=1,
        step=0.01,
        rarely=True,
    )
    b3: float = _factor(1.0, "Backbone 3", "Above 1 strengthens texture; 1 = off")
    s3: float = _factor(1.0, "Skip 3", "Below 1 weakens coarse shapes of the last skip connections; 1 = off")
    offset1: float = _offset(1)
    width1: float = _width(1)
    high1: float = _high(1)
    cutoff1: float = _cutoff(1)
    offset2: float = _offset(2)
    width2: float = _width(2)
    high2: float = _high(2)
    cutoff2: float = _cutoff(2)
    offset3: float = _offset(3)
    width3: float = _width(3)
    high3: float = _high(3)
    cutoff3: float = _cutoff(3)

    @property
    def stages(self) -> tuple[FreeUStage, FreeUStage, FreeUStage]:
        """The deepest first."""
        return (
            FreeUStage(self.b1, self.s1, self.offset1, self.width1, self.high1, self.cutoff1),
            FreeUStage(self.b2, self.s2, self.offset2, self.width2, self.high2, self.cutoff2),
            FreeUStage(self.b3, self.s3, self.offset3, self.width3, self.high3, self.cutoff3),
        )

    def changes_nothing(self) -> bool:
        return not any(stage.acts for stage in self.stages)

    def details(self) -> str:
        factors = {name: getattr(self, name) for name in ("b1", "b2", "s1", "s2", "b3", "s3")}
        told = [name for name, value in factors.items() if value != (1 if name in ("b3", "s3") else BY_PRESET)]
        words = [self.preset] * self._by_preset + [f"{name} {factors[name]:g}" for name in told]
        return f"v{self.version} {' '.join(words)}"

    def idle_at(self, reached: tuple[float, ...] | None, one: UpcomingPass, unet: UNetMap | None) -> Idle | None:
        if reached is None or any(stage.weakened(self.strength(now)).acts for stage in self.stages for now in reached):
            return None
        why = "no effect at the sampling steps in its range. Widen the range or lower Fade in and out."
        return Idle(f"at {one.steps} steps", f"{self.short}: {why}")

    @property
    def _by_preset(self) -> bool:
        return BY_PRESET in (self.b1, self.b2, self.s1, self.s2)

    @property
    def automatic(self) -> bool:
        return self.preset == "auto" and self._by_preset

    def resolved(self, unet: UNetMap, target: Target) -> FreeU:
        return self.filled_in(unet.family)

    def filled_in(self, family: str) -> FreeU:
        """These settings with the preset's values for the factors that are left to it."""
        published = PUBLISHED[self.version, _OF_FAMILY[family] if self.preset == "auto" else self.preset]
        values = dict(zip(("b1", "b2", "s1", "s2", "b3", "s3"), (*published, 1.0, 1.0), strict=True))
        return replace(self, **{name: value for name, value in values.items() if getattr(self, name) == BY_PRESET})

    def strength(self, progress: float) -> float:
        """How much of the effect there is, 0 to 1: where the window begins or ends on the way, it grows and fades."""
        if self.soft == 0:
            return 1.0
        grown = (progress - self.start) / self.soft if self.start > 0 else 1.0
        left = (self.end - progress) / self.soft if self.end < 1 else 1.0
        return min(max(min(grown, left), 0.0), 1.0)


# Outside SkipBlocks, so that a layer left out by name still gets what FreeU makes of its block's input; inside the caches.
@method(FreeU, title="FreeU", benefit="Stronger structure and contrast", at=Depth.BACKBONE)
def free_u(config: FreeU, unet: UNetMap, run: Run) -> Iterator[Edit]:
    """One edit of the first layer of each output block whose stage acts."""
    config = config.filled_in(unet.family)
    acting = [block for block in unet.output_blocks if _acts(config, _stage_of(block, unet))]
    if not acting and not config.changes_nothing():
        _refuse(config, unet)
    for block in acting:
        stage = config.stages[_stage_of(block, unet)]
        yield before(block.layers[0].module, partial(_modified, config, stage, block.backbone_channels, run))


def _stage_of(block: Block, unet: UNetMap) -> int | None:
    """Place in `FreeU.stages`, by the channels that come up; None for other numbers of them."""
    times = block.backbone_channels / unet.model_channels
    return _WIDTHS.index(times) if times in _WIDTHS else None


def _acts(config: FreeU, stage: int | None) -> bool:
    return stage is not None and config.stages[stage].acts


def _refuse(config: FreeU, unet: UNetMap) -> None:
    stages = [f"{i + 1} ({_WIDTHS[i] * unet.model_channels} channels)" for i in range(3) if config.stages[i].acts]
    raise ConfigError(f"FreeU: this U-Net has no stage {' or '.join(stages)}; set b and s of another stage.")


def _modified(config: FreeU, stage: FreeUStage, channels: int, run: Run, x: Tensor) -> Tensor:
    if config.soft:  # the progress is asked for only where it counts
        stage = stage.weakened(config.strength(run.clock.progress))
    return reweighted(x, channels, stage, config.version) if stage.acts else x


def reweighted(x: Tensor, channels: int, stage: FreeUStage, version: int) -> Tensor:
    """An output block's input (B, channels + skip, H, W), backbone first, as a new tensor with FreeU's weights."""
    h, skip = x[:, :channels], x[:, channels:]
    if stage.acts_on_backbone:
        h = scaled_window(h, stage.b if version == 1 else by_structure(h, stage.b), stage.offset, stage.width)
    if stage.acts_on_skip:
        skip = fourier_filter(skip, stage.s, stage.high, stage.cutoff)
    return torch.cat([h, skip], 1)


def scaled_window(h: Tensor, factor: Tensor | float, offset: float, width: float) -> Tensor:
    """`h` (B, C, H, W), a new tensor, with a share `width` of its channels times `factor`, a number or (B, 1, H, W).

    The window begins at the share `offset` and goes on at the first channel after the last.
    """
    channels, out = h.shape[1], h.clone()
    begin, end = round(offset % 1 * channels), round((offset % 1 + width) * channels)
    out[:, begin:end] *= factor
    out[:, : max(end - channels, 0)] *= factor
    return out


def by_structure(h: Tensor, b: float) -> Tensor:
    """Version 2's factors (B, 1, H, W) for `h` (B, C, H, W): 1 where the channels' mean is lowest, b where it is highest.

    1 throughout where all cells are the same, or differ by rounding alone, which stands for nothing and would be blown up.
    """
    mean = h.mean(1, keepdim=True, dtype=torch.promote_types(h.dtype, torch.float32))
    least, most = mean.amin((2, 3), keepdim=True), mean.amax((2, 3), keepdim=True)
    usual = torch.linalg.vector_norm(h, dim=(1, 2, 3), keepdim=True, dtype=mean.dtype) / math.sqrt(h[0].numel())
    spread = most - least
    told = spread > _ROUNDED * torch.finfo(h.dtype).eps * usual
    return 1 + (b - 1) * torch.where(told, (mean - least) / torch.where(told, spread, 1), 0)
