"""What a method keeps from one evaluation to later ones, apart for each stream of traversals.

A stream is what one walk through the blocks continues from the evaluation before: cond and uncond called apart are two,
and so are calls with and without uncond where a sampler leaves it out now and then. Mixing them up would give one
prompt's features to the other. A store is emptied when a pass begins and when the run ends.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from .run import Run


class Holder(Protocol):
    """What can be kept: it says how many bytes of tensors it holds."""

    @property
    def nbytes(self) -> int: ...


S = TypeVar("S", bound=Holder)

#: Two prompts joined by AND and one negative prompt, each called apart, with and without uncond, are five.
MOST_STREAMS = 8


class Streams(Generic[S]):
    """One state for each stream, made by `new` when the stream is first met; those used last stay, at most `limit`."""

    def __init__(self, run: Run, new: Callable[[], S], limit: int = MOST_STREAMS) -> None:
        self.peak_bytes = 0
        self._run = run
        self._new = new
        self._limit = limit
        self._states: OrderedDict[Hashable, S] = OrderedDict()

    def current(self) -> S | None:
        """The state of the current traversal's stream; None where nothing may be kept, as in ControlNet's reference pass."""
        stream = self._run.traversal.stream
        if stream is None:
            return None
        state = self._states.pop(stream, None) or self._new()
        self._states[stream] = state
        while len(self._states) > self._limit:
            self._states.popitem(last=False)
        return state

    def count(self) -> None:
        """Take the bytes now held into `peak_bytes`; for the method to call after it has kept something."""
        self.peak_bytes = max(self.peak_bytes, sum(state.nbytes for state in self._states.values()))

    def clear(self) -> None:
        self._states.clear()
