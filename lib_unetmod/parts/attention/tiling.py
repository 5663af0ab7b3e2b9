"""Rectangles that cover a map of tokens: where to cut, cutting tokens into them, and joining them again.

The cuts run straight through the map, so that the tiles are a grid of rectangles. Parts of one axis need not be equal, for
few sizes have a divisor where one is wanted. Tiles of equal size are batched and attend together: cuts of nearly equal
parts give at most 2 x 2 sizes. Padding every tile to the largest one would need a mask, which the hosts' attention functions
do not all take, or neighbours' tokens among the keys, which is another result than attention within the rectangle.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise
from typing import NamedTuple

import torch
from torch import Tensor


class Rectangle(NamedTuple):
    """In tokens, from the map's upper left corner."""

    top: int
    left: int
    height: int
    width: int


@dataclass(frozen=True)
class Layout:
    """A map of tokens cut into rectangles: `heights` from top to bottom, `widths` from left to right, in tokens."""

    heights: tuple[int, ...]
    widths: tuple[int, ...]

    @property
    def tiles(self) -> int:
        return len(self.heights) * len(self.widths)

    @cached_property
    def rectangles(self) -> tuple[Rectangle, ...]:
        """Row after row of tiles, each from left to right."""
        tops, lefts = accumulate(self.heights, initial=0), list(accumulate(self.widths, initial=0))
        return tuple(
            Rectangle(top, left, height, width)
            for top, height in zip(tops, self.heights, strict=False)
            for left, width in zip(lefts, self.widths, strict=False)
        )


def tile_count(side: int, tile: float) -> int:
    """How many parts of about `tile` tokens a side of `side` tokens makes: side / tile, rounded, at least 1."""
    return max(1, int(side / tile + 0.5))


def counts_near(wanted: int, variations: int) -> tuple[int, ...]:
    """`variations` counts next to `wanted`, the nearest first, the smaller of two before the larger: 4, 3, 5, 2, ...

    A side that is one tile stays whole; a side that is cut is cut always, so that no draw costs as much as no tiles.
    """
    if wanted == 1:
        return (1,)
    every = range(2, wanted + variations)
    return tuple(sorted(every, key=lambda n: (abs(n - wanted), n))[:variations])


def parts(side: int, count: int, shifted: bool = False) -> tuple[int, ...]:
    """Sizes of the `count` parts, nearly equal, into which a side is cut; they differ by at most 1 token.

    `shifted` moves every cut by half a part. Shifted windows that wrap around (Swin Transformer, Liu et al. 2021, section
    3.2) need a mask; here the halves at both ends stay smaller tiles of their own, so that there are `count + 1` parts.
    """
    count = min(count, side)
    if count == 1:
        return (side,)
    cuts = [(2 * i + shifted) * side // (2 * count) for i in range(count + (not shifted))]
    if shifted:
        cuts = [0, *cuts, side]
    return tuple(end - start for start, end in pairwise(cuts) if end > start)


class Cutter:
    """Cuts tokens (B, N, C) of a map into the tiles of one layout, tiles of equal size in one batch, and joins them.

    Attributes:
        shapes: (height, width) of the tiles of each batch, in tokens.
        key: equal for tiles that lie alike.
    """

    def __init__(self, layout: Layout, device: torch.device) -> None:
        rectangles = sorted(layout.rectangles, key=lambda tile: (tile.height, tile.width), reverse=True)
        sizes = [(tile.height, tile.width) for tile in rectangles]
        self.shapes: list[tuple[int, int]] = list(dict.fromkeys(sizes))
        self.key = ("tiles", layout.heights, layout.widths)
        self._tokens = [sizes.count((height, width)) * height * width for height, width in self.shapes]
        self._size = (sum(layout.heights), sum(layout.widths))
        numbered = torch.arange(self._size[0] * self._size[1], device=device).unflatten(0, self._size)
        self._order = torch.cat([numbered[y : y + h, x : x + w].flatten() for y, x, h, w in rectangles])
        self._back = self._order.argsort()

    def cut(self, tokens: Tensor) -> list[Tensor]:
        """(B, m*N, C), m maps of N tokens one after another -> for each of `shapes` (B*tiles, m*h*w, C).

        A tile holds its rectangle of every map. The tiles of one picture stand together, in the order of the layout.
        """
        maps = tokens.unflatten(1, (-1, len(self._order))).index_select(2, self._order)
        return [
            group.unflatten(2, (-1, height * width)).transpose(1, 2).flatten(2, 3).flatten(0, 1)
            for group, (height, width) in zip(maps.split(self._tokens, 2), self.shapes, strict=True)
        ]

    def join(self, tiles: Sequence[Tensor]) -> Tensor:
        """The tiles of one map, as `cut` gives them with m = 1 -> (B, N, C)."""
        groups = [group.reshape(-1, tokens, group.shape[-1]) for group, tokens in zip(tiles, self._tokens, strict=True)]
        return torch.cat(groups, 1).index_select(1, self._back)

    def cut_maps(self, maps: Tensor) -> list[Tensor]:
        """Maps (B, C, H, W) -> for each of `shapes` (B*tiles, C, h, w)."""
        tiles = self.cut(maps.flatten(2).transpose(1, 2))
        return [tile.transpose(1, 2).unflatten(2, shape) for tile, shape in zip(tiles, self.shapes, strict=True)]

    def join_maps(self, tiles: Sequence[Tensor]) -> Tensor:
        """The tiles as `cut_maps` gives them -> (B, C, H, W)."""
        tokens = self.join([tile.flatten(2).transpose(1, 2) for tile in tiles])
        return tokens.transpose(1, 2).unflatten(2, self._size).contiguous()
