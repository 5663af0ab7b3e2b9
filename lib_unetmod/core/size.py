"""Height and width of maps, in that order."""

from __future__ import annotations

from torch import Tensor

#: Height and width, in cells of a map, in tokens or in steps along both.
Size = tuple[int, int]


def halved(size: Size) -> Size:
    """What a Downsample leaves: its convolution has stride 2 and padding 1."""
    return (size[0] + 1) // 2, (size[1] + 1) // 2


def size_of(x: Tensor) -> Size:
    """Of maps (B, C, H, W)."""
    return x.shape[-2], x.shape[-1]
