"""A span of blocks that is entered, not run, and left with some tensor: what skipping and every cache of steps share.

`SkippedSpan` carries `h` that enters the first block to the end of the last one; `reused_span.py` leaves its spans with what
was kept. In between every block still returns a tensor of its right shape (zeros), so that a host's joining of skip
connections and ControlNet's residuals find what they expect.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from torch import Tensor

from ...core.edits import around_block, instead
from ...core.patching import Edit
from ...core.run import Run
from ...core.size import Size, halved, size_of
from ...core.unet_map import Block


def replaced(block: Block, result: Callable[[Tensor], Tensor], when: Callable[[], bool]) -> Iterator[Edit]:
    """Edits by which a block does not run but returns `result(x)` of what enters it, in traversals where `when` says so.

    A block is its layers to hosts that walk them themselves: the first returns the result, the others pass it on.
    """
    first, *others = block.layers
    yield instead(first.module, lambda layer, x: result(x) if when() else layer(x))
    for other in others:
        yield instead(other.module, lambda layer, x: x if when() else layer(x))


@dataclass(eq=False)
class _Carried:
    h: Tensor
    size: Size


@dataclass(eq=False)
class _Last:
    """What one stream carried in its last traversal, for one whose entry a cache around this span answers from memory."""

    carried: _Carried | None = None

    def tensors(self) -> list[Tensor]:
        return [] if self.carried is None else [self.carried.h]


@dataclass(eq=False)
class SkippedSpan:
    """Leave out `blocks`, neighbours in the order of a traversal, but run those in `kept` on what is carried.

    Attributes:
        blocks: the span.
        run: the run that keeps `h` on the way.
        fit: `fit(h, channels)` gives `h` (B, C, H, W) the channels that a kept block or the block after the span expects.
        kept: blocks of the span that are run, on `h` at the resolution of the span's entry.
    """

    blocks: Sequence[Block]
    run: Run
    fit: Callable[[Tensor, int], Tensor]
    kept: Collection[Block] = ()

    def __post_init__(self) -> None:
        self._last = self.run.per_stream(_Last, _Last.tensors)
        self._now = self.run.per_traversal(self._carried_last)

    @property
    def entry_level(self) -> int:
        first = self.blocks[0]
        return first.level - bool(first.of_kind("down"))

    def edits(self) -> Iterator[Edit]:
        for block in self.blocks:
            if block in self.kept:
                yield from around_block(block, partial(self._run_on_carried, block), partial(self._carry_result, block))
            else:
                yield from replaced(block, partial(self._result, block), partial(self._is_left_out, block))

    def _is_left_out(self, block: Block) -> bool:
        return block is self.blocks[0] or self._now.get() is not None

    def _result(self, block: Block, x: Tensor) -> Tensor:
        if block is self.blocks[0]:
            # A copy: hosts keep `h` as a skip connection and add ControlNet's residuals to it in place.
            self._now.set(_Carried(x.clone(), size_of(x)))
        return self._leave(block) if block is self.blocks[-1] else self._zeros(block)

    def _run_on_carried(self, block: Block, x: Tensor) -> Tensor:
        carried = self._now.get()
        return x if carried is None else self.fit(carried.h, block.backbone_channels)

    def _carry_result(self, block: Block, out: Tensor) -> Tensor:
        carried = self._now.get()
        if carried is None:
            return out
        carried.h = out
        return self._zeros(block)

    def _carried_last(self) -> _Carried | None:
        """What was carried before, where a cache answered the entry and the span was never entered."""
        last = self._last.get()
        return None if last is None else last.carried

    def _leave(self, block: Block) -> Tensor:
        carried = self._now.get()
        last = self._last.get()
        if last is not None:
            last.carried = carried
            self._last.count()
        return self.fit(carried.h, block.out_channels)

    def _zeros(self, block: Block) -> Tensor:
        carried = self._now.get()
        size = carried.size
        for _ in range(block.out_level - self.entry_level):
            size = halved(size)
        return carried.h.new_zeros(carried.h.shape[0], block.out_channels, *size)
