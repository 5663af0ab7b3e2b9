"""The four quarters of a map that was rolled, so that they lie elsewhere each time, for self-attention within them.

Windows of half the map's height and width, as Swin Transformer's (Liu et al. 2021) but with neither a fixed size nor a mask:
rolling brings opposite edges of the picture into one window, and they attend to each other. Odd sides make windows that
differ by one token; their tokens are neither resized nor padded.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...core.size import Size
from .tiling import Cutter, Layout, parts


class Windows:
    """A map of tokens of `size`, rolled up and left by `shift` tokens and cut in half on both sides.

    Attributes:
        size: height and width of the map.
        shapes: (height, width) of the windows of each batch, in tokens.
    """

    def __init__(self, size: Size, shift: Size, device: torch.device) -> None:
        self.size = size
        self._shift = shift
        self._cutter = Cutter(Layout(parts(size[0], 2), parts(size[1], 2)), device)
        self.shapes = self._cutter.shapes

    def cut(self, tokens: Tensor) -> list[Tensor]:
        """(B, m*N, C), m maps of N tokens one after another -> for each of `shapes` (B*windows, m*h*w, C)."""
        return self._cutter.cut(self._rolled(tokens, -1))

    def join(self, windows: Sequence[Tensor]) -> Tensor:
        """The windows of one map, as `cut` gives them with m = 1 -> (B, N, C)."""
        return self._rolled(self._cutter.join(windows), 1)

    def _rolled(self, tokens: Tensor, sign: int) -> Tensor:
        down, across = self._shift
        if not (down or across):
            return tokens
        height, width = self.size
        maps = tokens.unflatten(1, (-1, height, width))
        return maps.roll((sign * down, sign * across), (2, 3)).flatten(1, 3)


def window_shift(size: Size, quarters: int) -> Size:
    """Tokens to roll by: `quarters` quarters of a window of ceil(H/2) x ceil(W/2), each rounded down to whole tokens."""
    height, width = size
    return (height + 1) // 2 // 4 * quarters, (width + 1) // 2 // 4 * quarters
