"""A span of blocks that is entered, not run, and left with some tensor: what skipping and every cache of steps share.

`SkippedSpan` carries `h` that enters the first block to the end of the last one; `reuse.py` leaves its spans with what was
kept. In between every block still returns a tensor of its right shape (zeros), so that a host's joining of skip connections
and ControlNet's residuals find what they expect.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ...core.patching import Edit
from ...core.unet_map import Block

if TYPE_CHECKING:
    from ...core.run import Run


def replaced(block: Block, result: Callable[[Tensor], Tensor], when: Callable[[], bool] | None = None) -> Iterator[Edit]:
    """Edits by which a block does not run but returns `result(x)` of what enters it, in the walks for which `when` says so.

    A block is its layers to hosts that walk them themselves: the first returns the result, the others pass it on.
    """

    def in_place_of_block(call: Callable[..., Tensor], x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return result(x) if when is None or when() else call(x, *args, **kwargs)

    def pass_on(call: Callable[..., Tensor], x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return x if when is None or when() else call(x, *args, **kwargs)

    first, *others = block.layers
    yield Edit(first.module, in_place_of_block)
    for layer in others:
        yield Edit(layer.module, pass_on)


@dataclass(eq=False)
class _Carried:
    h: Tensor
    size: tuple[int, int]


@dataclass(eq=False)
class _Last:
    """What one stream carried in its last walk, for one whose entry a cache around this span answers from memory."""

    carried: _Carried | None = None

    @property
    def nbytes(self) -> int:
        return 0 if self.carried is None else self.carried.h.nbytes


@dataclass(eq=False)
class SkippedSpan:
    """Leave out `blocks`, neighbours in the order of a traversal, but run those in `kept` on what is carried.

    Attributes:
        blocks: the span.
        run: the run whose traversal's memory holds `h` on the way.
        fit: `fit(h, channels)` gives `h` (B, C, H, W) the channels that a kept block or the block after the span expects.
        kept: blocks of the span that are run, on `h` at the resolution of the span's entry.
    """

    blocks: Sequence[Block]
    run: Run
    fit: Callable[[Tensor, int], Tensor]
    kept: Collection[Block] = ()

    def __post_init__(self) -> None:
        self._last = self.run.streams(_Last)

    @property
    def entry_level(self) -> int:
        first = self.blocks[0]
        return first.level - bool(first.of_kind("down"))

    def edits(self) -> Iterator[Edit]:
        for block in self.blocks:
            wrap = self._kept_edits if block in self.kept else self._left_out_edits
            yield from wrap(block)

    def _left_out_edits(self, block: Block) -> Iterator[Edit]:
        def result(x: Tensor) -> Tensor:
            if block is self.blocks[0]:
                self._enter(x)
            return self._leave(block) if block is self.blocks[-1] else self._zeros(block)

        return replaced(block, result, when=lambda: block is self.blocks[0] or self._is_carried())

    def _kept_edits(self, block: Block) -> Iterator[Edit]:
        def run_on_carried(call: Callable[..., Tensor], x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            return call(self.fit(self._carried.h, block.backbone_channels), *args, **kwargs)

        def carry_result(call: Callable[..., Tensor], x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            self._carried.h = call(x, *args, **kwargs)
            return self._zeros(block)

        # The last layer's edit comes first, so that it stands outside where one layer is both.
        yield Edit(block.layers[-1].module, carry_result)
        yield Edit(block.layers[0].module, run_on_carried)

    @property
    def _carried(self) -> _Carried:
        return self.run.traversal.memory[self]

    def _is_carried(self) -> bool:
        """Whether there is something to carry; a cache may have answered the entry, and never have seen the span enter."""
        memory = self.run.traversal.memory
        if self not in memory:
            last = self._last.current()
            if last is None or last.carried is None:
                return False
            memory[self] = last.carried
        return True

    def _enter(self, h: Tensor) -> None:
        # A copy: hosts keep `h` as a skip connection and add ControlNet's residuals to it in place.
        self.run.traversal.memory[self] = _Carried(h.clone(), (h.shape[-2], h.shape[-1]))

    def _leave(self, block: Block) -> Tensor:
        carried = self._carried
        last = self._last.current()
        if last is not None:
            last.carried = carried
            self._last.count()
        return self.fit(carried.h, block.out_channels)

    def _zeros(self, block: Block) -> Tensor:
        carried = self._carried
        height, width = carried.size
        for _ in range(block.out_level - self.entry_level):
            height, width = (height + 1) // 2, (width + 1) // 2
        return carried.h.new_zeros(carried.h.shape[0], block.out_channels, height, width)
