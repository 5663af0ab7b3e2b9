"""Compose large images at the model's native resolution in the first steps, then finish at full size: fewer duplicates and
less time, while coarse texture can change.

Deep Shrink (kohya-ss 2023, sd-scripts, `set_deep_shrink`). On images larger than in training a model repeats its
subject: the deep blocks see more cells than they learned to arrange. So the map is shrunk before an input block, and grown
again where the output blocks meet the skip connection of the block before. Blocks are counted as kohya does; ComfyUI's and
Forge's node names the block after which the map is shrunk, so that its 3 is 4 here.

Costs: a few interpolations; the shrunken blocks take about 1/factor^2 of their time. Changes: composition; when it ends
late also hands, faces and coarse texture, and when it ends early subjects may double again.

What passes between blocks keeps the size that the host expects (`hand_over`), so that ControlNet's residuals and skip
connections fit at any factor and size; where nothing is added the result is kohya's to the last bit.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from ...core.depth import Depth
from ...core.knobs import ConfigError, knob
from ...core.patching import Edit
from ...core.registry import method
from ...core.run import Run
from ...core.schedule import ProgressRange
from ...core.size import Size
from ...core.target import Target
from ...core.unet_map import Block, UNetMap
from ...core.upcoming_picture import Idle, UpcomingPass
from ...parts.maps.hand_over import handed_over
from ...parts.maps.resize import RESIZE_METHODS
from ...parts.maps.shrunken import ShrinkStage, ShrunkenMaps
from ...parts.maps.skip_connections import fit_upsample
from .large import LargeConfig, at_trained_size

#: How far the factors follow each side by itself: 1 = the map becomes the trained square, so that the longer side repeats
#: nothing, though what is composed small is stretched along it; 0 = one factor for both, which keeps proportions.
_ASPECT = 1.0
#: kohya's end for half the size: timestep 650 of 1000.
_END_AT_TWO = 0.35
#: A larger factor leaves more to compose at once when it ends, a smaller one less: later for each doubling, earlier below.
_END_PER_DOUBLING = 0.15
#: Later than this, what was drawn small is too far done for the full size to find its details again.
_LAST_END = 0.5
#: From this factor on the way back is taken in two steps, the second over this much of progress.
_TWO_STAGES_FROM = 2.5
_SECOND_STAGE = 0.15
_MOST = 8.0
_LEAST = 0.25


@dataclass(frozen=True, kw_only=True)
class DeepShrink(LargeConfig):
    """Where the map is shrunk, by how much, until when, and where it grows again."""

    short = "Deep Shrink"

    block: int = knob(
        3,
        "Block",
        "Shrinks before this input block (3 in ComfyUI and Forge is 4 here): lower composes more at the small size.",
        low=0,
        high=20,
        step=1,
        when="not auto",
    )
    factor: float = knob(
        2.0,
        "Factor",
        "Divides height and width: 2 suits images of twice the native side, higher larger ones. Below 1 adds detail.",
        low=_LEAST,
        high=_MOST,
        step=0.05,
        when="not auto",
    )
    factor_x: float = knob(
        0.0,
        "Factor, width",
        "Another factor for the width of wide or tall images; 0 = the same as Factor.",
        low=0,
        high=_MOST,
        step=0.05,
        when="not auto",
        rarely=True,
    )
    level: int = knob(
        0,
        "Level",
        "Shrinks before the first block of this level, in place of Block; 0 = by Block.",
        low=0,
        high=6,
        step=1,
        when="not auto",
        rarely=True,
    )
    second_factor: float = knob(
        1.0,
        "Second factor",
        "Smoother way back to full size: a smaller factor that follows the first until Second until; 1 = off.",
        low=_LEAST,
        high=_MOST,
        step=0.05,
        when="not auto",
        rarely=True,
    )
    second_factor_x: float = knob(
        0.0,
        "Second factor, width",
        "Another second factor for the width; 0 = the same as Second factor.",
        low=0,
        high=_MOST,
        step=0.05,
        when="not auto",
        rarely=True,
    )
    second_block: int = knob(
        4,
        "Second block",
        "Input block before which the second stage shrinks.",
        low=0,
        high=20,
        step=1,
        when="not auto",
        rarely=True,
    )
    second_end: float = knob(
        0.5,
        "Second until",
        "The second stage acts until this noise level: 0 = pure noise, 1 = finished image.",
        low=0,
        high=1,
        step=0.01,
        when="not auto",
        rarely=True,
    )
    smooth: float = knob(
        0.0,
        "Fade out",
        "Ends gradually over this last share of its range: 0 = at once, 1 = all the way. Caches start over in these steps.",
        low=0,
        high=1,
        step=0.05,
        rarely=True,
    )
    early: bool = knob(
        False,
        "Grow early",
        "Milder, but slower: grows back right after the middle block, so that all output blocks run at full size.",
        rarely=True,
    )
    after_skip: bool = knob(
        True,
        "Full-size skip connection",
        "Keeps more detail: the skip connection before the block stays at full size. Off = it is shrunk too.",
        rarely=True,
    )
    method: str = knob(
        "bicubic",
        "Interpolation",
        "How feature maps are resized; antialiased = bicubic, but smoother.",
        choices=RESIZE_METHODS,
        rarely=True,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("factor_x", "second_factor_x"):
            if 0 < getattr(self, name) < _LEAST:
                raise ConfigError(
                    f"DeepShrink: {name} is {getattr(self, name):g}; it takes 0 or a number from {_LEAST:g} to {_MOST:g}."
                )

    @property
    def _first(self) -> ShrinkStage:
        return ShrinkStage(self.block, self.factor, self.factor_x or self.factor)

    @property
    def _second(self) -> ShrinkStage:
        return ShrinkStage(self.second_block, self.second_factor, self.second_factor_x or self.second_factor)

    @property
    def two_stages(self) -> bool:
        return (self._second.y, self._second.x) != (1, 1) and self.second_end > self.end

    @property
    def window(self) -> ProgressRange:
        return ProgressRange(self.start, self.second_end if self.two_stages else self.end)

    def stage(self, progress: float) -> ShrinkStage | None:
        """What is shrunk at this progress: the second stage follows the first, and the last one glides to 1."""
        stage, start, end = self._first, self.start, self.end
        if self.two_stages and progress >= self.end:
            stage, start, end = self._second, self.end, self.second_end
        elif self.two_stages:
            return _unless_neutral(stage)
        left = glide(progress, start, end, self.smooth)
        return _unless_neutral(ShrinkStage(stage.block, 1 + (stage.y - 1) * left, 1 + (stage.x - 1) * left))

    def cache_key(self, progress: float) -> ShrinkStage | None:
        return self.stage(progress)

    def changes_nothing(self) -> bool:
        return not (self.auto or _unless_neutral(self._first) or self.two_stages)

    def details(self) -> str:
        if self.auto:
            return "auto"
        where = f"level {self.level}" if self.level else f"block {self.block}"
        second = f", then {_in_words(self._second)} to {self.second_end:g}" if self.two_stages else ""
        window = "" if self.start <= 0 and self.end >= 1 else f" {self.start:g}-{self.end:g}"
        return f"{_in_words(self._first)} at {where}{window}{second}"

    def range_in_words(self) -> str:
        return ""  # that of the first stage stands in the details

    def idle_at(self, reached: tuple[float, ...] | None, one: UpcomingPass, unet: UNetMap | None) -> Idle | None:
        if reached is None or self.auto or any(self.stage(progress) for progress in reached):
            return None
        why = "no sampling step falls into its range. Widen the range or take more steps."
        return Idle(f"at {one.steps} steps", f"{self.short}: {why}")

    def resolved(self, unet: UNetMap, target: Target) -> DeepShrink:
        if self.auto:
            return replace(self, **_automatic(self, unet, target))
        return replace(self, block=_first_of_level(self.level, unet), level=0) if self.level else self


def _in_words(stage: ShrinkStage) -> str:
    width = "" if stage.x == stage.y else f"{stage.x:g}x"
    return f"1/{width}{stage.y:g}"


def _unless_neutral(stage: ShrinkStage) -> ShrinkStage | None:
    return None if (stage.y, stage.x) == (1, 1) else stage


def glide(progress: float, start: float, end: float, smooth: float) -> float:
    """What is left of the effect: 1, then linearly down to 0 over the last part `smooth` of start to end."""
    length = smooth * (end - start)
    return 1.0 if length == 0 else min(max((end - progress) / length, 0.0), 1.0)


def _automatic(config: DeepShrink, unet: UNetMap, target: Target) -> dict[str, Any]:
    """The knobs by size: the shrunken map has the trained area, and the larger the picture the longer it is composed so.

    The ends are those of models trained at 512 pixels and more; see `at_trained_size`.
    """
    y, x = factors_of(target)
    most = max(y, x)
    published = min(_END_AT_TWO + _END_PER_DOUBLING * (math.log2(most) - 1), _LAST_END)
    end, second_end = (at_trained_size(bound, target) for bound in (published, published + _SECOND_STAGE))
    end = max(round(min(end, config.end), 2), config.start)
    block = _auto_block(unet)
    two = most >= _TWO_STAGES_FROM and end > config.start
    return {
        "auto": False,
        "block": block,
        "level": 0,
        "factor": round(y, 2),
        "factor_x": round(x, 2),
        "end": end,
        "second_factor": round(math.sqrt(y), 2) if two else 1.0,
        "second_factor_x": round(math.sqrt(x), 2) if two else 0.0,
        "second_block": block,
        "second_end": max(round(min(second_end, config.end), 2), end),
    }


def factors_of(target: Target) -> tuple[float, float]:
    """Factors of height and width that give a map of the trained area; none enlarges."""
    scale = max(target.scale, 1.0)
    lean = (target.ratio_x / target.ratio_y) ** (_ASPECT / 2)
    y, x = scale / lean, scale * lean
    if y < 1:
        y, x = 1.0, scale**2
    elif x < 1:
        y, x = scale**2, 1.0
    return min(y, _MOST), min(x, _MOST)


def _auto_block(unet: UNetMap) -> int:
    """The first block of level 2, as kohya; one further where level 1 has no attention (SDXL), as ComfyUI's node.

    There level 1 composes nothing, and the Downsample gets the map that it was trained on.
    """
    first = _first_of_level(2, unet)
    return first if 1 in unet.attention_levels else first + 1


def _first_of_level(level: int, unet: UNetMap) -> int:
    if level > unet.levels:
        raise ConfigError(
            f"DeepShrink: level is {level}, but this U-Net has {unet.levels} levels; choose at most {unet.levels}."
        )
    return next(block.index for block in unet.input_blocks if block.level == level)


def _refuse_missing_blocks(config: DeepShrink, unet: UNetMap) -> None:
    if config.auto:
        return
    if config.level:
        _first_of_level(config.level, unet)
    last = len(unet.input_blocks) - 1
    asked = {"block": not config.level, "second_block": config.two_stages}
    for name in (name for name, counts in asked.items() if counts):
        if getattr(config, name) > last:
            raise ConfigError(
                f"DeepShrink: {name} is {getattr(config, name)}, but this U-Net has input blocks 0 to {last}; choose at "
                f"most {last}."
            )


# Outside the caches of steps, so that they keep shrunken maps and are told of every change of size.
@method(
    DeepShrink,
    title="Deep Shrink (Kohya HRFix)",
    benefit="Fewer duplicates in large images",
    at=Depth.RESIZED_MAPS,
    keeps_maps=False,
)
def deep_shrink(config: DeepShrink, unet: UNetMap, run: Run) -> Iterator[Edit]:
    """Edits of every block, by which maps enter and leave it; which blocks are shrunken is known with the size."""
    _refuse_missing_blocks(config, unet)

    def begin() -> ShrunkenMaps | None:
        resolved = run.resolved(config)
        stage = resolved.stage(run.clock.progress)
        if stage is None:
            return None
        how = {"interpolation": resolved.method, "after_skip": resolved.after_skip, "early": resolved.early}
        return ShrunkenMaps(unet, run, stage=stage, **how)

    def upsampled_size(block: Block) -> Size | None:
        maps = shrunken.get()
        return None if maps is None else maps.upsampled_size(block)

    shrunken = run.per_traversal(begin)
    yield from handed_over(unet, shrunken)
    for block in unet.output_blocks:
        yield from fit_upsample(block, run, partial(upsampled_size, block))
