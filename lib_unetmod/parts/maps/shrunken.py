"""A region of a traversal that runs on a smaller map, from an input block to its paired output block."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from ...core.size import Size, size_of
from ...core.unet_map import Block
from .hand_over import HandOver
from .resize import resize, scaled


@dataclass(frozen=True)
class ShrinkStage:
    """Before which input block the map is divided by which factors, in height and in width."""

    block: int
    y: float
    x: float

    def size(self, of: Size) -> Size:
        return scaled(of, self.y, self.x)


@dataclass(eq=False, kw_only=True)
class ShrunkenMaps(HandOver):
    """One traversal with a shrunken region.

    Attributes:
        stage: where the region begins, and by how much it is smaller.
        interpolation: how maps are shrunk and grown; see `resize`.
        after_skip: the skip connection of the block before the region keeps its full size.
        early: the map and the skip connections grow right after the middle block.
        entered: size at which each input block ran; for one whose result alone is shrunken, what it would have been.
    """

    stage: ShrinkStage
    interpolation: str
    after_skip: bool
    early: bool
    entered: dict[int, Size] = field(default_factory=dict)

    @property
    def first_skip(self) -> int:
        """Index of the first input block whose skip connection is shrunken."""
        return self.stage.block if self.after_skip else max(self.stage.block - 1, 0)

    def enter(self, block: Block, x: Tensor) -> Tensor:
        inner = super().enter(block, x)
        if block.side != "input":
            return inner
        if block.index == self.stage.block and self.h is None:
            inner = self._resize(x, self.stage.size(self.outer))
        self.entered[block.index] = self.stage.size(self.outer) if block.index < self.stage.block else size_of(inner)
        return inner

    def joined(self, h: Tensor, skip: Tensor) -> tuple[Tensor, Tensor]:
        return (h, self._grow(skip, self.outer)) if self.early else (self._grow(h, size_of(skip)), skip)

    def leave(self, block: Block, out: Tensor) -> Tensor:
        if block.side == "input":
            if self.first_skip <= block.index < self.stage.block:
                out = self._resize(out, self.stage.size(size_of(out)))
        elif self._grows_after(block):
            out = self._grow(out, self.host_size(block))
        return super().leave(block, out)

    def upsampled_size(self, block: Block) -> Size | None:
        """Size that the Upsample of an output block gives: what the Downsample of its pair was given."""
        pair = self.pair(block)
        return None if self.early or pair < self.first_skip else self.entered[pair]

    def _grows_after(self, block: Block) -> bool:
        if block.side == "middle":
            return self.early
        return self.pair(block) == self.first_skip or (self.early and self.pair(block) > self.first_skip)

    def _grow(self, x: Tensor, size: Size) -> Tensor:
        return x if size_of(x) == size else self._resize(x, size)

    def _resize(self, x: Tensor, size: Size) -> Tensor:
        return resize(x, size, self.interpolation, self.run.circular)
