"""Compute self-attention in tiles in place of the whole image: large images are faster, but small tiles make them less
coherent.

HyperTile (tfernd 2023, github.com/tfernd/HyperTile). Attention among N tokens takes N^2 products, in n tiles n * (N/n)^2.
Where tiles meet, neither side sees the other, which shows as seams when the cuts always lie in one place; so they move from
evaluation to evaluation.

Costs: two rearrangements of the tokens for each attention. Changes: only deeper levels see further than a tile, so
large images repeat themselves less and are less coherent.

Layouts. Both sides of a map are cut apart, into about side/tile nearly equal parts, whatever the aspect ratio and whether
or not the size has a divisor there. A token of level l is 8 * 2^(l-1) pixels wide, so a tile has half as many on each side
of the next level, but at least 2. One evaluation has one layout for each level: for cond and uncond, for all layers of the
level, and for a reference picture of ControlNet. Levels draw apart, so that their seams do not meet.

`depth` counts levels from the first one that has attention: level 1 of SD1 and SD2, level 2 of SDXL. The middle block
belongs to the deepest level.

The autoencoder has one attention in its encoder and one in its decoder, over as many tokens as level 1 has. With `vae_tile`
these are tiled too, always in one layout, while their group norms still see the whole map. The autoencoder works between
evaluations and its tiling follows the last one: before the first, or with a window that ended before, it is left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from ...core.config import Config
from ...core.depth import Depth
from ...core.edits import instead
from ...core.knobs import knob
from ...core.patching import Edit
from ...core.registry import method
from ...core.run import Run
from ...core.size import Size, size_of
from ...core.state import PerTraversal
from ...core.target import PIXELS
from ...core.unet_map import UNetMap
from ...core.upcoming_picture import Idle, UpcomingPass
from ...parts.attention.local_attention import attending_locally
from ...parts.attention.tiling import Cutter, Layout, counts_near, parts, tile_count
from ...parts.attention.tokens import note_map_size

_SMALLEST = 2  # tokens on a tile's side; a single token could only attend to itself
_MOST_LEVELS = 4


@dataclass(frozen=True, kw_only=True)
class HyperTile(Config):
    """How large the tiles are, where they are used and how they move."""

    short = "HyperTile"

    tile: int = knob(
        256,
        "Tile size",
        "Smaller is faster but less coherent. Sides shorter than 1.5 tiles are not tiled; 0 = off.",
        low=0,
        high=2048,
        step=16,
        unit="px",
    )
    depth: int = knob(
        1,
        "Depth",
        "Number of attention levels that are tiled: 1 saves most of the time, more save a little and cost coherence.",
        low=1,
        high=_MOST_LEVELS,
        step=1,
        when="tile",
    )
    variations: int = knob(
        3,
        "Layout variations",
        "Hides seams by varying the number of tiles from step to step; 1 = the same tiles in every step.",
        low=1,
        high=8,
        step=1,
        when="tile",
        rarely=True,
    )
    shift: bool = knob(
        False,
        "Shift tiles",
        "Hides seams by moving all tiles by half a tile in every second step.",
        when="tile",
        rarely=True,
    )
    vae_tile: int = knob(
        0,
        "VAE tile size",
        "Faster decoding of large images: tile size for the VAE's attention. Smaller is faster; 0 = off.",
        low=0,
        high=2048,
        step=16,
        unit="px",
        rarely=True,
    )

    def changes_nothing(self) -> bool:
        return not (self.tile or self.vae_tile)

    def details(self) -> str:
        tiles = [f"{self.tile} px"] * bool(self.tile) + [f"VAE {self.vae_tile} px"] * bool(self.vae_tile)
        return ", ".join(tiles)

    def idle_at(self, reached: tuple[float, ...] | None, one: UpcomingPass, unet: UNetMap | None) -> Idle | None:
        if unet is None:
            return None
        maps = [(level, tile_in_tokens(self.tile, level)) for level in _levels(self, unet) if self.tile]
        if self.vae_tile and (one.evaluations is None or self.window.holds(one.evaluations[-1])):
            maps.append((1, max(_SMALLEST, self.vae_tile / PIXELS)))
        if any(layout_of(one.map_size(level), tile).tiles > 1 for level, tile in maps):
            return None
        if not maps:
            return Idle("at its end", f"{self.short}: the VAE tile size counts after the last step. Set Active until to 1.")
        sizes = ((self.tile, "Tile size"), (self.vae_tile, "VAE tile size"))
        smallest, name = min(tile for tile in sizes if tile[0])
        return Idle(
            f"at {one.size}",
            f"{self.short} does nothing: {one.size} is below 1.5 tiles of {smallest} px. Choose a smaller {name}.",
        )


@method(HyperTile, title="HyperTile", benefit="Faster from 1024 px", at=Depth.TILES)
def hyper_tile(config: HyperTile, unet: UNetMap, run: Run) -> Iterator[Edit]:
    """One edit for each self-attention of the levels, and two for each attention of the autoencoder."""
    if config.tile:
        yield from _tile_levels(config, unet, run)
    if config.vae_tile:
        for attention in _attentions_of_vae(run.vae):
            yield from _VAEAttention(attention, config.vae_tile).edits()


def _tile_levels(config: HyperTile, unet: UNetMap, run: Run) -> Iterator[Edit]:
    levels = _levels(config, unet)
    cutter_of = _cutters(config, run)
    for block in unet.blocks:
        if block.level not in levels:
            continue
        for layer in block.of_kind("attn"):
            yield note_map_size(layer, run)
        for inner in block.transformer_blocks:
            if inner.attends_to_itself:
                attend = attending_locally(HyperTile.title, run, partial(cutter_of, block.level))
                yield Edit(inner.self_attention, attend)


def _levels(config: HyperTile, unet: UNetMap) -> range:
    """The levels that are tiled: `depth` of them, from the first that has attention."""
    first = unet.first_attention_level or 1
    return range(first, min(first + config.depth, unet.levels + 1))


def _cutters(config: HyperTile, run: Run) -> Callable[[int, Size, torch.device], Cutter | None]:
    """What cuts the maps of a level, one for all its layers in a traversal; None where a single tile is the whole map."""
    made: PerTraversal[dict[Hashable, Cutter | None]] = run.per_traversal(dict)

    def layout(level: int, size: Size) -> Layout:
        draws = torch.randint(config.variations, (_MOST_LEVELS, 2), generator=run.generator("hyper_tile"))
        draw = draws[(level - 1) % _MOST_LEVELS].tolist()
        shifted = config.shift and run.clock.evaluation % 2 == 1
        return layout_of(size, tile_in_tokens(config.tile, level), config.variations, draw, shifted)

    def cutter_of(level: int, size: Size, device: torch.device) -> Cutter | None:
        cutters = made.get()
        if (level, size, device) not in cutters:
            tiles = layout(level, size)
            cutters[level, size, device] = Cutter(tiles, device) if tiles.tiles > 1 else None
        return cutters[level, size, device]

    return cutter_of


def layout_of(size: Size, tile: float, variations: int = 1, draw: Sequence[int] = (0, 0), shifted: bool = False) -> Layout:
    """The tiles of a map of (H, W) tokens for a wanted tile of `tile` tokens.

    `draw` picks one of `variations` numbers of tiles near the wanted one, for the height and for the width, as an index
    that wraps around where there are fewer.
    """
    wanted = [counts_near(tile_count(side, tile), variations) for side in size]
    counts = [near[index % len(near)] for near, index in zip(wanted, draw, strict=True)]
    heights, widths = (parts(side, count, shifted) for side, count in zip(size, counts, strict=True))
    return Layout(heights, widths)


def tile_in_tokens(pixels: int, level: int) -> float:
    """Tokens on a tile's side at a level of the U-Net, 1 = the latent's own resolution; not always a whole number."""
    return max(_SMALLEST, pixels / (PIXELS * 2 ** (level - 1)))


def _attentions_of_vae(vae: nn.Module | None) -> Iterator[nn.Module]:
    """The attention of the encoder's and of the decoder's middle, of those that normalise and add their own input."""
    for part in ("encoder", "decoder"):
        attention = getattr(getattr(getattr(vae, part, None), "mid", None), "attn_1", None)
        if isinstance(getattr(attention, "norm", None), nn.Module):
            yield attention


class _VAEAttention:
    """The edits by which an autoencoder's attention, x + attention(norm(x)) of maps (B, C, H, W), runs on tiles.

    Its group norm takes mean and variance of the whole map. So the whole map is normalised first, and when the attention
    asks for the norm of a tile, it gets the tile of that.
    """

    def __init__(self, attention: nn.Module, pixels: int) -> None:
        self.attention = attention
        self.tile = max(_SMALLEST, pixels / PIXELS)
        self.normalised: Tensor | None = None

    def edits(self) -> Iterator[Edit]:
        yield instead(self.attention, self._on_tiles)
        yield instead(self.attention.norm, self._normalised_tile)

    def _on_tiles(self, attend: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        layout = layout_of(size_of(x), self.tile)
        if layout.tiles == 1:
            return attend(x)
        cutter = Cutter(layout, x.device)
        tiles = []
        for tile, normalised in zip(cutter.cut_maps(x), cutter.cut_maps(self.attention.norm(x)), strict=True):
            self.normalised = normalised
            try:
                tiles.append(attend(tile))
            finally:
                self.normalised = None
        return cutter.join_maps(tiles)

    def _normalised_tile(self, norm: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        return norm(x) if self.normalised is None else self.normalised
