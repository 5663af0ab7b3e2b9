"""Leave out the middle block, the deepest levels or single layers of the U-Net: saves some time and costs some quality.

Where little noise is left (img2img of low strength, the last steps) the deep blocks hardly change the picture, so it is
drawn without them; nothing is trained. SnapFusion (Li et al. 2023, section 3) and BK-SDM (Kim et al. 2023, section 3)
found the middle and the deepest level to be the cheapest to lose.

Costs: nothing. Saves: the time of the blocks left out; on SD1 the middle and level 4 are a few percent, on SDXL the middle
holds ten transformer layers. Changes: composition in early steps, fine detail in late ones.

A skipped level is not sampled down to and up from: what enters it leaves it. The seed path of SD1, `middle=True, levels=1`,
hands input 8's output to output 3. ControlNet's residuals of the levels and the middle that are left out have no effect.

Further levels hand on fewer channels than the block after them expects. Zeros for the missing ones moved the small
checkpoint's prediction least when two levels were left out (`benchmarks/channel_fit.py`: by 35 % of its size; repeated
channels and the model's own shortcut convolutions by 35 to 36 %), so they are the default; with three levels left out any
fit moves it by about its whole size, which is damage.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...core.config import Config
from ...core.depth import Depth
from ...core.edits import instead
from ...core.knobs import ConfigError, knob
from ...core.patching import Edit
from ...core.registry import method
from ...core.run import Run
from ...core.schedule import ProgressRange
from ...core.unet_map import Block, UNetMap
from ...core.upcoming_picture import Idle, UpcomingPass
from ...parts.blocks.named_parts import Answer, branches_of, window_of
from ...parts.blocks.skipped_span import SkippedSpan


@dataclass(frozen=True, kw_only=True)
class SkipBlocks(Config):
    """What to leave out; everything here may be combined."""

    short = "Skip blocks"

    middle: bool = knob(
        False,
        "Skip middle block",
        "Saves a little time, more with SDXL. Turn it on too when skipping levels, or they save nothing.",
    )
    levels: int = knob(
        0,
        "Skip deepest levels",
        "Number of resolution levels to leave out, deepest first (level 4 in SD1, 3 in SDXL): more is faster but rougher.",
        low=0,
        high=3,
        step=1,
    )
    blocks: tuple[str, ...] = knob(
        (),
        "Skip single parts",
        "Names separated by spaces: in.4 (a whole block), in.4.attn, in.4.self, in.4.cross, out.7.res, or in.4.ff@0.5-1 "
        "(from halfway on).",
        rarely=True,
    )
    fit: str = knob(
        "zeros",
        "Channel fit",
        "Fills channels missing after skipped levels: zeros = empty, repeat = copies, shortcut = the model's convolution.",
        choices=("zeros", "repeat", "shortcut"),
        when="levels",
        rarely=True,
    )

    def changes_nothing(self) -> bool:
        return not (self.middle or self.levels or self.blocks)

    @property
    def has_phases(self) -> bool:
        return not all(window_of(name).always for name in self.blocks)

    def cache_key(self, progress: float) -> Hashable:
        return tuple(name for name in self.blocks if window_of(name).holds(progress))

    def idle_at(self, reached: tuple[float, ...] | None, one: UpcomingPass, unet: UNetMap | None) -> Idle | None:
        if self.middle or self.levels or reached is None:
            return None
        if any(window_of(name).holds(progress) for name in self.blocks for progress in reached):
            return None
        steps = f"at {one.steps} step{'s' * (one.steps != 1)}"
        return Idle(steps, "No sampling step falls where the parts that Skip blocks names are left out.")

    def details(self) -> str:
        parts = ["middle"] * self.middle
        parts += [f"{self.levels} level{'s' * (self.levels > 1)}"] * bool(self.levels)
        parts += self.blocks if len(self.blocks) < 4 else [f"{len(self.blocks)} parts"]
        return ", ".join(parts)


@method(
    SkipBlocks,
    title="Skip U-Net blocks",
    benefit="Faster, with some quality loss",
    at=Depth.LEFT_OUT,
    keeps_maps=False,
)
def skip_blocks(config: SkipBlocks, unet: UNetMap, run: Run) -> Iterator[Edit]:
    """Spans for the middle and the levels, and one edit for each single part."""
    if config.levels:
        yield from _skip_levels(config, unet, run).edits()
    elif config.middle:
        yield from SkippedSpan([unet.middle_block], run, fit=_same_channels).edits()
    for name in config.blocks:
        yield from _skip_part(name, unet, run)


def _skip_levels(config: SkipBlocks, unet: UNetMap, run: Run) -> SkippedSpan:
    if config.levels >= unet.levels:
        raise ConfigError(
            f"SkipBlocks: levels is {config.levels}, but this U-Net has {unet.levels} levels and the first must stay; "
            f"choose at most {unet.levels - 1}."
        )
    shallowest = unet.levels - config.levels + 1
    span = [block for block in unet.blocks if block.level >= shallowest]
    kept = [] if config.middle else [unet.middle_block]
    return SkippedSpan(span, run, fit=_CHANNEL_FITS[config.fit](span), kept=kept)


def _same_channels(h: Tensor, channels: int) -> Tensor:
    return h


def _fit_by_shortcut(span: list[Block]) -> Callable[[Tensor, int], Tensor]:
    """Widen with the 1x1 shortcut convolutions of the ResBlocks left out: the maps that training found between levels."""
    shortcuts: dict[int, nn.Module] = {}
    for block in span:
        for layer in block.of_kind("res"):
            if block.side == "input" and layer.module.out_channels > layer.module.channels:
                shortcuts.setdefault(layer.module.channels, layer.module.skip_connection)

    def fit(h: Tensor, channels: int) -> Tensor:
        while h.shape[1] < channels and h.shape[1] in shortcuts:
            h = shortcuts[h.shape[1]](h)
        return _fit_by_repeating(h, channels)

    return fit


def _fit_by_repeating(h: Tensor, channels: int) -> Tensor:
    """(B, C, H, W) -> (B, channels, H, W): channels repeated to widen, averaged in groups to narrow."""
    have = h.shape[1]
    if have == channels:
        return h
    if have < channels:
        return h.repeat(1, -(-channels // have), 1, 1)[:, :channels].contiguous()
    if have % channels:
        return h[:, :channels].contiguous()
    return h.unflatten(1, (have // channels, channels)).mean(1)


def _fit_by_zeros(h: Tensor, channels: int) -> Tensor:
    """(B, C, H, W) -> (B, channels, H, W): zeros appended to widen, the last channels cut to narrow."""
    if h.shape[1] >= channels:
        return h[:, :channels].contiguous()
    return torch.cat([h, h.new_zeros(h.shape[0], channels - h.shape[1], *h.shape[2:])], 1)


_CHANNEL_FITS: dict[str, Callable[[list[Block]], Callable[[Tensor, int], Tensor]]] = {
    "shortcut": _fit_by_shortcut,
    "repeat": lambda span: _fit_by_repeating,
    "zeros": lambda span: _fit_by_zeros,
}


def _skip_part(name: str, unet: UNetMap, run: Run) -> Iterator[Edit]:
    """The edits that leave out one named part: every branch that is added to a shortcut is not run."""
    try:
        window, branches = window_of(name), branches_of(name, unet)
    except ConfigError as error:
        raise ConfigError(f"SkipBlocks: blocks {error}") from None
    for branch in branches:
        yield instead(branch.module, _within(run, window, branch.answer))


def _within(run: Run, window: ProgressRange, answer: Answer) -> Answer:
    if window.always:
        return answer
    return lambda layer, x: answer(layer, x) if run.within(window) else layer(x)
