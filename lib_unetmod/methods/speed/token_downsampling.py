"""Compute self-attention with fewer keys and values: large images are faster, and fine texture can change.

Token Downsampling ("ToDo: Token Downsampling for Efficient Generation of High-Resolution Images", Smith et al. 2024,
section 3.2). Neighbouring tokens of a large map resemble each other, so keys and values are taken from the map resized
without interpolation. Unlike in token merging nothing is searched, and every query gets an answer of its own.

Costs: nothing. Saves: at factor f all but 1 / f^2 of self-attention's products, on the largest maps most of its time.
Changes: fine texture; the paper takes factor 2 at 1024x1024 pixels, 3 at 1536 and 4 at 2048 on SD1.

Inside HyperTile's tiles each tile is resized by itself. Keys that ControlNet's reference appends, maps of the same size
one after the other, are each resized.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...core.config import Config
from ...core.depth import Depth
from ...core.knobs import ConfigError, knob
from ...core.patching import Edit
from ...core.registry import method
from ...core.run import Run
from ...core.size import Size
from ...core.tables import sent, table
from ...core.unet_map import UNetMap
from ...parts.attention.tokens import map_size, note_map_size


@dataclass(frozen=True, kw_only=True)
class TokenDownsampling(Config):
    """How much coarser keys and values are, level by level."""

    short = "ToDo"

    factor: float = knob(
        2.0,
        "Factor",
        "Faster attention: keys and values get coarser by this on each side. Higher is faster, softens texture; 1 = off.",
        low=1,
        high=5,
        step=0.5,
    )
    factor_2: float = knob(
        1.0,
        "Factor, next level",
        "The same one level deeper: saves a little more time; 1 = off.",
        low=1,
        high=5,
        step=0.5,
        rarely=True,
    )

    def changes_nothing(self) -> bool:
        return self.factor == 1 and self.factor_2 == 1

    def details(self) -> str:
        return f"{self.factor:g}" if self.factor_2 == 1 else f"{self.factor:g}/{self.factor_2:g}"


@method(TokenDownsampling, title="Token downsampling (ToDo)", benefit="Faster large images", at=Depth.KEYS)
def token_downsampling(config: TokenDownsampling, unet: UNetMap, run: Run) -> Iterator[Edit]:
    """An edit of each self-attention at the levels whose factor is above 1."""
    first = unet.first_attention_level
    if first is None:
        raise ConfigError("TokenDownsampling: this U-Net has no attention to make coarser; switch it off.")
    factors = {first: config.factor, first + 1: config.factor_2}
    for block in unet.blocks:
        factor = factors.get(block.level, 1.0)
        if factor > 1:
            for layer in block.of_kind("attn"):
                yield note_map_size(layer, run)
            for inner in block.transformer_blocks:
                if inner.attends_to_itself:
                    yield Edit(inner.self_attention, _coarser_context(factor, run))


def _coarser_context(factor: float, run: Run) -> Callable[..., Tensor]:
    def attend(call: Callable[..., Tensor], x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        height, width = size = map_size(run)
        context = args[0] if args else kwargs.get("context")
        context = x if context is None else context
        value = kwargs.get("value")
        whole_maps = x.shape[1] == height * width and context.shape[1] % x.shape[1] == 0
        if not whole_maps or kwargs.get("mask") is not None or (value is not None and value.shape != context.shape):
            run.note("Token downsampling is off in some layers: another extension changed their keys.")
            return call(x, *args, **kwargs)
        seen = resized(context, size, factor)
        if args:
            args = (seen, *args[1:])
        else:
            kwargs["context"] = seen
        if value is not None:
            kwargs["value"] = resized(value, size, factor)
        return call(x, *args, **kwargs)

    return attend


def resized(tokens: Tensor, size: Size, factor: float) -> Tensor:
    """(B, k * N, C) -> (B, k * n, C): k maps of `size` (N tokens) resized by 1 / factor, rounded up (section 3.2)."""
    maps = tokens.unflatten(1, (-1, size[0] * size[1]))
    return maps.index_select(2, _picked(size, factor, tokens.device)).flatten(1, 2)


@table
def _picked(size: Size, factor: float, device: torch.device) -> Tensor:
    """(n,) the tokens that stay of a map of `size`."""
    y, x = (nearest_exact(length, factor) for length in size)
    return sent((y[:, None] * size[1] + x).flatten(), device)


def nearest_exact(length: int, factor: float) -> Tensor:
    """Positions, of `length`, that stay when it is resized by 1 / factor: floor((i + 1/2) * length / new length)."""
    new = -int(-length // factor)
    return (2 * torch.arange(new) + 1) * length // (2 * new)
