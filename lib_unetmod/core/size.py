"""Height and width of maps, in that order."""

from __future__ import annotations

from torch import Tensor

#: Height and width, in cells of a map, in tokens or in steps along both.
Size = tuple[int, int]


def size_of(x: Tensor) -> Size:
    """Of maps (B, C, H, W)."""
    return x.shape[-2], x.shape[-1]
