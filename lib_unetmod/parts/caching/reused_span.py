"""A span of blocks that is run in some evaluations and answered from memory in the others: what caches of steps share.

A full walk keeps what the answering blocks return. In a walk that reuses, no layer of the span runs: the answering blocks
return what the predictor makes of what they returned before, all others zeros of the shape they last had, which nothing
reads. Each stream of walks (`streams.py`) has a memory of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from ...core.patching import Edit
from ...core.unet_map import Block
from ..blocks.skipped_span import replaced
from .cadence import Cadence
from .predictors import Predictor

if TYPE_CHECKING:
    from ...core.run import Run


class Doubt(Protocol):
    """A further say in whether a walk may reuse, from what enters the span (B, C, H, W)."""

    def allows(self, h: Tensor) -> bool: ...

    def ran_in_full(self) -> None: ...

    @property
    def nbytes(self) -> int: ...


@dataclass(eq=False)
class _Memory:
    """What one stream keeps: when it was run in full, what the blocks returned then, and what had come in."""

    cadence: Cadence
    doubt: Doubt | None
    answers: dict[Block, Predictor] = field(default_factory=dict)
    shapes: dict[Block, torch.Size] = field(default_factory=dict)
    entered: tuple[torch.Size, torch.dtype, torch.device] | None = None
    complete: bool = False

    @property
    def nbytes(self) -> int:
        return sum(answer.nbytes for answer in self.answers.values()) + (self.doubt.nbytes if self.doubt else 0)


@dataclass(eq=False)
class _Walk:
    memory: _Memory
    reuses: bool
    sample: Tensor


@dataclass(eq=False)
class ReusedSpan:
    """Run `blocks`, neighbours in the order of a traversal, now and then, and answer from memory in between.

    Attributes:
        title: the method's, for notes.
        blocks: the span.
        answering: blocks of the span whose output something after it reads.
        run: the run whose streams keep the memory.
        cadence: makes the count of one stream.
        predictor: makes the predictor of one block's output.
        doubt: makes a further say of one stream, where there is one.
    """

    title: str
    blocks: Sequence[Block]
    answering: Collection[Block]
    run: Run
    cadence: Callable[[], Cadence]
    predictor: Callable[[], Predictor]
    doubt: Callable[[], Doubt] | None = None

    def __post_init__(self) -> None:
        self._memories = self.run.streams(lambda: _Memory(self.cadence(), self.doubt() if self.doubt else None))

    def edits(self) -> Iterator[Edit]:
        yield Edit(self.blocks[0].layers[0].module, self._decide)
        for block in self.blocks:
            answer = self._answer if block in self.answering else self._zeros
            yield from replaced(block, lambda x, block=block, answer=answer: answer(block), when=self._reuses)
            yield Edit(block.layers[-1].module, self._keep(block))

    def _decide(self, call: Callable[..., Tensor], x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        memory = self._memories.current()
        if memory is not None:
            entered = (x.shape, x.dtype, x.device)
            allowed = memory.doubt is None or memory.doubt.allows(x)
            # Each is asked in every walk, so that both know of all of them.
            reuses = memory.cadence.reuses(self.run.clock) and allowed
            reuses = reuses and memory.complete and memory.entered == entered
            memory.entered = entered
            if memory.cadence.too_few_steps:
                self.run.note(
                    f"{self.title} ran in full where an evaluation makes more than its reach of progress: with so few steps "
                    "neighbouring evaluations have too little in common."
                )
            self.run.traversal.memory[self] = _Walk(memory, reuses, x)
            if not reuses:
                memory.complete = False
                memory.cadence.ran_in_full()
                if memory.doubt is not None:
                    memory.doubt.ran_in_full()
        return call(x, *args, **kwargs)

    def _keep(self, block: Block) -> Callable[..., Tensor]:
        def keeping(call: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
            out = call(*args, **kwargs)
            walk = self._walk
            if walk is not None and not walk.reuses:
                self._remember(walk.memory, block, out)
            return out

        return keeping

    def _remember(self, memory: _Memory, block: Block, out: Tensor) -> None:
        memory.shapes[block] = out.shape
        if block in self.answering:
            if block not in memory.answers:
                memory.answers[block] = self.predictor()
            memory.answers[block].keep(out, self.run.clock.progress)
        if block is self.blocks[-1]:
            memory.complete = True
            self._memories.count()

    @property
    def _walk(self) -> _Walk | None:
        return self.run.traversal.memory.get(self)

    def _reuses(self) -> bool:
        walk = self._walk
        return walk is not None and walk.reuses

    def _answer(self, block: Block) -> Tensor:
        return self._walk.memory.answers[block].predict(self.run.clock.progress)

    def _zeros(self, block: Block) -> Tensor:
        walk = self._walk
        return walk.sample.new_zeros(walk.memory.shapes[block])
