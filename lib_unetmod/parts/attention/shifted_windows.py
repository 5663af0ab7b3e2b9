"""Self-attention within windows that lie elsewhere each time: the quarters of a map that was rolled.

HiDiffusion's MSW-MSA (Zhang et al. 2024, section 4.2): windows half as high and wide as the map, rolled by 0 to 3 quarters
of a window. Of two evaluations in a row the one draws among even and the other among odd quarters, and so do two attentions
in a row, so that the same windows never follow each other.

They are Swin Transformer's windows (Liu et al. 2021) with neither a fixed size nor a mask: rolling brings opposite edges of
the picture into one window, and they attend to each other. Odd sizes are cut into unequal windows, exactly; the published
code resizes such maps there and back. Tiles lie within the windows, and what acts on tokens works on what a window or tile
holds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor

from ...core.patching import Edit
from ...core.run import Run
from ...core.size import Size
from ...core.unet_map import Block
from .local_attention import attending_locally
from .tiling import Cutter, Layout, parts
from .tokens import note_map_size


class Windows:
    """A map of tokens of `size`, rolled up and left by `shift` tokens and cut in half on both sides.

    Attributes:
        size: height and width of the map.
        shapes: (height, width) of the windows of each batch, in tokens.
        key: equal for windows that lie alike.
    """

    def __init__(self, size: Size, shift: Size, device: torch.device) -> None:
        self.size = size
        self.key = ("windows", size, shift)
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
        y, x = self._shift
        if not (y or x):
            return tokens
        height, width = self.size
        maps = tokens.unflatten(1, (-1, height, width))
        return maps.roll((sign * y, sign * x), (2, 3)).flatten(1, 3)


def in_shifted_windows(blocks: Iterable[Block], run: Run, title: str, key: str) -> Iterator[Edit]:
    """Edits of the self-attentions of `blocks`, in the order of a traversal.

    `title` is the method's, for notes; `key` that of its draws.
    """
    blocks = list(blocks)
    inner = [each for block in blocks for each in block.transformer_blocks if each.attends_to_itself]
    windows = run.per_traversal(dict)  # for the attentions of one traversal to share

    def windows_of(ordinal: int) -> Callable[[Size, torch.device], Windows]:
        def shifted(size: Size, device: torch.device) -> Windows:
            draws = torch.randint(2, (len(inner),), generator=run.generator(key)).tolist()
            shift = window_shift(size, quarters_to_shift(run.clock.evaluation + ordinal, draws[ordinal]))
            made = windows.get()
            if (size, shift, device) not in made:
                made[size, shift, device] = Windows(size, shift, device)
            return made[size, shift, device]

        return shifted

    for block in blocks:
        for layer in block.of_kind("attn"):
            yield note_map_size(layer, run)
    for ordinal, each in enumerate(inner):
        yield Edit(each.self_attention, attending_locally(title, run, windows_of(ordinal)))


def quarters_to_shift(number: int, draw: int) -> int:
    """0 to 3, of which `draw` (0 or 1) picks one of two: 0 and 2 for even numbers, 1 and 3 for odd ones."""
    return number % 2 + 2 * draw


def window_shift(size: Size, quarters: int) -> Size:
    """Tokens to roll by: `quarters` quarters of a window of ceil(H/2) x ceil(W/2), each rounded down to whole tokens."""
    height, width = size
    return (height + 1) // 2 // 4 * quarters, (width + 1) // 2 // 4 * quarters
