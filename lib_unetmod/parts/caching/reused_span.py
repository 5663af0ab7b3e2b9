"""A span of blocks that is run in some evaluations and answered from memory in the others: what caches of steps share.

A full traversal keeps what the answering blocks return. In one that reuses, no layer of the span runs: the answering blocks
return what the predictor makes of what they returned before, all others zeros of the shape they last had, which nothing
reads. Each stream of traversals (`core/state.py`) has a memory of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from ...core.edits import after, before
from ...core.patching import Edit
from ...core.run import Run
from ...core.state import PerTraversal
from ...core.unet_map import Block
from ..blocks.skipped_span import replaced
from .cadence import Cadence
from .predictors import Predictor


class Veto(Protocol):
    """A further say in whether a traversal may reuse, from what enters the span (B, C, H, W)."""

    def allows(self, h: Tensor) -> bool: ...

    def ran_in_full(self) -> None: ...

    def tensors(self) -> Iterable[Tensor]:
        """Those that are kept from one evaluation to the next."""


@dataclass(eq=False)
class _Memory:
    """What one stream keeps: when it was run in full, what the blocks returned then, and what had come in."""

    cadence: Cadence
    veto: Veto | None
    answers: dict[Block, Predictor] = field(default_factory=dict)
    shapes: dict[Block, torch.Size] = field(default_factory=dict)
    entered: tuple[torch.Size, torch.dtype, torch.device] | None = None
    complete: bool = False

    def tensors(self) -> Iterator[Tensor]:
        for answer in self.answers.values():
            yield from answer.tensors()
        if self.veto is not None:
            yield from self.veto.tensors()


@dataclass(eq=False)
class _Decision:
    """Whether this traversal reuses; `sample` is what entered the span."""

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
        run: the run that keeps the memory.
        cadence: makes the count of one stream.
        predictor: makes the predictor of one block's output.
        veto: makes a further say of one stream, where there is one.
    """

    title: str
    blocks: Sequence[Block]
    answering: Collection[Block]
    run: Run
    cadence: Callable[[], Cadence]
    predictor: Callable[[], Predictor]
    veto: Callable[[], Veto] | None = None

    def __post_init__(self) -> None:
        self._memories = self.run.per_stream(self._new_memory, _Memory.tensors)
        self._decision: PerTraversal[_Decision | None] = self.run.per_traversal(lambda: None)
        self._has_reused = self._was_too_far = False

    def _new_memory(self) -> _Memory:
        return _Memory(self.cadence(), self.veto() if self.veto else None)

    def edits(self) -> Iterator[Edit]:
        yield before(self.blocks[0].layers[0].module, self._decide)
        for block in self.blocks:
            answer = self._answer if block in self.answering else self._zeros
            yield from replaced(block, partial(answer, block), when=self._reuses)
            yield after(block.layers[-1].module, partial(self._keep, block))

    def _decide(self, x: Tensor) -> Tensor:
        memory = self._memories.get()
        if memory is None:
            return x
        entered = (x.shape, x.dtype, x.device)
        allowed = memory.veto is None or memory.veto.allows(x)
        # Each is asked in every traversal, so that both know of all of them.
        reuses = memory.cadence.advance(self.run.clock) and allowed
        reuses = reuses and memory.complete and memory.entered == entered
        memory.entered = entered
        self._has_reused |= reuses
        self._was_too_far |= memory.cadence.too_few_steps
        if note := memory.cadence.note(self.title, self.run.clock):
            self.run.note(note)
        # Where nothing at all is reused, the run says so, and why.
        if self._has_reused and self._was_too_far:
            self.run.note(
                f"{self.title}: some steps ran fully, because they are too far apart. Use more sampling steps or raise Max. "
                "jump."
            )
        self._decision.set(_Decision(memory, reuses, x))
        if not reuses:
            memory.complete = False
            memory.cadence.ran_in_full()
            if memory.veto is not None:
                memory.veto.ran_in_full()
        return x

    def _keep(self, block: Block, out: Tensor) -> Tensor:
        decision = self._decision.get()
        if decision is not None and not decision.reuses:
            self._remember(decision.memory, block, out)
        return out

    def _remember(self, memory: _Memory, block: Block, out: Tensor) -> None:
        memory.shapes[block] = out.shape
        if block in self.answering:
            if block not in memory.answers:
                memory.answers[block] = self.predictor()
            memory.answers[block].keep(out, self.run.clock.progress)
        if block is self.blocks[-1]:
            memory.complete = True
            self._memories.count()

    def _reuses(self) -> bool:
        decision = self._decision.get()
        return decision is not None and decision.reuses

    def _answer(self, block: Block, x: Tensor) -> Tensor:
        return self._decision.get().memory.answers[block].predict(self.run.clock.progress)

    def _zeros(self, block: Block, x: Tensor) -> Tensor:
        decision = self._decision.get()
        return decision.sample.new_zeros(decision.memory.shapes[block])
