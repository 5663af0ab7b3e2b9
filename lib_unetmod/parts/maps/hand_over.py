"""Maps of another size than the host expects, handed over at the size that it does.

What passes between blocks keeps, for the host, the size that it has in the unmodified U-Net: a shrunken map is handed over
enlarged, and the next block goes on with the shrunken one itself and with whatever the host has added to the enlarged one
meanwhile. So ControlNet's residuals and skip connections fit at any factor and size, in hosts that would drop, resize or
refuse them otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from ...core.depth import Depth
from ...core.edits import around_block
from ...core.patching import Edit
from ...core.run import Run
from ...core.size import Size, halved, size_of
from ...core.state import PerTraversal
from ...core.unet_map import Block, UNetMap
from .resize import resize


@dataclass(eq=False)
class HandOver:
    """One traversal: the maps as they are, where they have not the host's size, and the sizes that the host knows.

    Attributes:
        h: the map between two blocks.
        skips: skip connections, by the index of their input block.
        sizes: size of every skip connection as it is, by the same.
        known: size of every skip connection for the host.
        outer: size for the host of the map with which the current block was entered.
    """

    unet: UNetMap
    run: Run
    h: Tensor | None = None
    skips: dict[int, Tensor] = field(default_factory=dict)
    sizes: dict[int, Size] = field(default_factory=dict)
    known: dict[int, Size] = field(default_factory=dict)
    outer: Size = (0, 0)

    def enter(self, block: Block, x: Tensor) -> Tensor:
        """What `block` is to run on, in place of the `x` that the host gives it."""
        self.outer = size_of(x)
        if block.side != "output":
            return recovered(x, self.h)
        skip = self.skips.pop(self.pair(block), None)
        if skip is None and self.h is None:
            return x
        h, theirs = x[:, : block.backbone_channels], x[:, block.backbone_channels :]
        return torch.cat(self.joined(recovered(h, self.h), recovered(theirs, skip)), 1)

    def joined(self, h: Tensor, skip: Tensor) -> tuple[Tensor, Tensor]:
        """Both at one size, for the concatenation."""
        return h, skip

    def leave(self, block: Block, out: Tensor) -> Tensor:
        """What the host gets, in place of what `block` gave."""
        size, self.h = self.host_size(block), None
        if block.side == "input":
            self.known[block.index], self.sizes[block.index] = size, size_of(out)
        if size_of(out) == size or (block.side == "output" and self.pair(block) - 1 not in self.skips):
            # Where a map only meets a skip connection of the host's own, how the two fit is the host's business.
            return out
        self.h = out
        if block.side == "input":
            self.skips[block.index] = out
        return resize(out, size, _CARRIED_BY)

    def host_size(self, block: Block) -> Size:
        """Size that what leaves the current `block` has in the unmodified U-Net."""
        if block.side == "output":
            pair = self.pair(block)
            return self.known[pair - 1] if pair > 0 else self.run.traversal.latent_size
        return halved(self.outer) if block.of_kind("down") else self.outer

    def skip_size(self, output: Block) -> Size | None:
        """Size of the skip connection that `output` gets, as it is."""
        return self.sizes.get(self.pair(output))

    def pair(self, output: Block) -> int:
        """Index of the input block whose skip connection `output` gets."""
        return len(self.unet.input_blocks) - 1 - output.index


def handed_over(unet: UNetMap, hand_over: PerTraversal[HandOver | None], at: Depth | None = None) -> Iterator[Edit]:
    """Two edits of every block, by which maps enter and leave it.

    Args:
        hand_over: that of the traversal, made when its first block is entered; None leaves the traversal alone.
        at: of these edits, where it is not their method's. See `Edit`.
    """

    def entering(block: Block, x: Tensor) -> Tensor:
        now = hand_over.get()
        return x if now is None else now.enter(block, x)

    def leaving(block: Block, out: Tensor) -> Tensor:
        now = hand_over.get()
        return out if now is None else now.leave(block, out)

    for block in unet.blocks:
        yield from around_block(block, partial(entering, block), partial(leaving, block), at)


#: How a map is resized for the host: any way will do, for it is recovered exactly.
_CARRIED_BY = "nearest"


def recovered(received: Tensor, inner: Tensor | None) -> Tensor:
    """The map `inner` (B, C, h, w) that was handed over resized, with what was added to it since.

    `received` (B, C, H, W) is that resized map plus what the host added, whose mean over each cell of `inner` counts.
    Without an `inner` the host was handed the map itself.
    """
    if inner is None or size_of(received) == size_of(inner):
        return received
    added = received - resize(inner, size_of(received), _CARRIED_BY)
    return inner + resize(added, size_of(inner), "area")
