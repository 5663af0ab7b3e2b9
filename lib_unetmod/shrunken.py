"""A region of a walk that runs on a smaller map, inside a host that goes on as if it had the usual size.

What passes between blocks keeps the size that the host expects: a shrunken map is handed over enlarged, and the next block
goes on with the shrunken one itself and with whatever the host has added to the enlarged one meanwhile. So ControlNet's
residuals and skip connections fit at any factor and size, in hosts that would drop, resize or refuse them otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from .resize import resize, scaled
from .run import Run
from .tokens import Grid
from .unet_map import Block, UNetMap


@dataclass(frozen=True)
class Stage:
    """Before which input block the map is divided by which factors, in height and in width."""

    block: int
    down: float
    across: float

    def size(self, of: Grid) -> Grid:
        return scaled(of, self.down, self.across)


@dataclass(eq=False)
class ShrunkenWalk:
    """One walk with a shrunken region: the maps in it at their own size, and the sizes that the host knows.

    Attributes:
        stage: where the region begins, and by how much it is smaller.
        method: how maps are shrunk and grown; see `resize`.
        after_skip: the skip connection of the block before the region keeps its full size.
        early: the map and the skip connections grow right after the middle block.
        h: the map between two blocks, where it is shrunken.
        skips: shrunken skip connections, by the index of their input block.
        entered: size at which each input block ran; for one whose result alone is shrunken, what it would have been.
        known: size of every skip connection for the host.
        outer: size for the host of the map with which the current block was entered.
    """

    stage: Stage
    unet: UNetMap
    run: Run
    method: str
    after_skip: bool
    early: bool
    h: Tensor | None = None
    skips: dict[int, Tensor] = field(default_factory=dict)
    entered: dict[int, Grid] = field(default_factory=dict)
    known: dict[int, Grid] = field(default_factory=dict)
    outer: Grid = (0, 0)

    @property
    def first_skip(self) -> int:
        """Index of the first input block whose skip connection is shrunken."""
        return self.stage.block if self.after_skip else max(self.stage.block - 1, 0)

    def enter(self, block: Block, x: Tensor) -> Tensor:
        """What `block` is to run on, in place of the `x` that the host gives it."""
        self.outer = _size(x)
        if block.side == "input":
            return self._enter_input(block.index, x)
        if block.side == "middle":
            return taken_back(x, self.h)
        return self._enter_output(block, x)

    def leave(self, block: Block, out: Tensor) -> Tensor:
        """What the host gets, in place of what `block` gave."""
        if block.side == "input":
            return self._leave_input(block, out)
        if block.side == "middle":
            return self._grow(out, self.outer) if self.early else self._hand_over(out, self.outer)
        return self._leave_output(block, out)

    def upsampled_size(self, block: Block) -> Grid | None:
        """Size that the Upsample of an output block gives: what the Downsample of its pair was given."""
        pair = self._pair(block)
        return None if self.early or pair < self.first_skip else self.entered[pair]

    def _enter_input(self, index: int, x: Tensor) -> Tensor:
        if index < self.stage.block:
            self.entered[index] = self.stage.size(self.outer)
            return x
        inner = self._resize(x, self.stage.size(self.outer)) if self.h is None else taken_back(x, self.h)
        self.entered[index] = _size(inner)
        return inner

    def _leave_input(self, block: Block, out: Tensor) -> Tensor:
        if block.index < self.first_skip:
            self.known[block.index] = _size(out)
            return out
        if block.index < self.stage.block:
            known = _size(out)
            out = self._resize(out, self.stage.size(known))
        else:
            known = _halved(self.outer) if block.of_kind("down") else self.outer
        self.known[block.index] = known
        self.skips[block.index] = out
        return self._hand_over(out, known)

    def _enter_output(self, block: Block, x: Tensor) -> Tensor:
        skip = self.skips.pop(self._pair(block), None)
        if skip is None:
            return x
        if self.early:
            h, known = x[:, : block.backbone_channels], x[:, block.backbone_channels :]
            return torch.cat([h, self._grow(taken_back(known, skip), self.outer)], 1)
        return taken_back(x, torch.cat([self._grow(self.h, _size(skip)), skip], 1))

    def _leave_output(self, block: Block, out: Tensor) -> Tensor:
        pair = self._pair(block)
        if pair < self.first_skip:
            return out
        known = self.known[pair - 1] if pair > 0 else self.run.traversal.latent_size
        if self.early or pair == self.first_skip:
            self.h = None
            return self._grow(out, known)
        return self._hand_over(out, known)

    def _pair(self, output: Block) -> int:
        return len(self.unet.input_blocks) - 1 - output.index

    def _hand_over(self, inner: Tensor, size: Grid) -> Tensor:
        self.h = inner
        return resize(inner, size, _CARRIED_BY)

    def _grow(self, x: Tensor, size: Grid) -> Tensor:
        return x if _size(x) == size else self._resize(x, size)

    def _resize(self, x: Tensor, size: Grid) -> Tensor:
        return resize(x, size, self.method, self.run.wraps)


#: How a shrunken map is enlarged for the host: any way will do, for it is taken back exactly.
_CARRIED_BY = "nearest"


def taken_back(received: Tensor, inner: Tensor) -> Tensor:
    """The map `inner` (B, C, h, w) that was handed over enlarged, with what was added to it since.

    `received` (B, C, H, W) is that enlarged map plus what the host added, whose mean over each cell of `inner` counts.
    """
    if _size(received) == _size(inner):
        return received
    added = received - resize(inner, _size(received), _CARRIED_BY)
    return inner + resize(added, _size(inner), "area")


def _size(x: Tensor) -> Grid:
    return x.shape[-2], x.shape[-1]


def _halved(size: Grid) -> Grid:
    """What a Downsample leaves: its convolution has stride 2 and padding 1."""
    return (size[0] + 1) // 2, (size[1] + 1) // 2
