"""What methods keep: values of the current traversal or pass, and states that outlive an evaluation.

A state belongs to a state key (`Traversal.state_key`): what one traversal continues from the evaluation before. Cond and
uncond called apart have two, and so have calls with and without uncond where a sampler leaves it out now and then. Mixing
them up would give one prompt's features to the other. All states are let go when a pass ends and when the run does.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from torch import Tensor

from .clock import Clock, StateKey

T = TypeVar("T")
S = TypeVar("S")

#: Two prompts joined by AND and one negative prompt, each called apart, with and without uncond, are five.
MOST_STATES = 8
#: A sampler that leaves uncond out in every second step of two evaluations comes back after three.
MOST_EVALUATIONS_UNMET = 4


def bytes_of(tensor: Tensor) -> int:
    """Bytes of a tensor's numbers. (`Tensor.nbytes` is younger than torch 2.0.1.)"""
    return tensor.numel() * tensor.element_size()


class PerTraversal(Generic[T]):
    """A value of the current traversal, made by `make` when it is first asked for, and gone with the traversal."""

    def __init__(self, clock: Clock, make: Callable[[], T]) -> None:
        self._clock = clock
        self._make = make

    def get(self) -> T:
        slots = self._clock.traversal.slots
        if self not in slots:
            slots[self] = self._make()
        return slots[self]

    def set(self, value: T) -> None:
        self._clock.traversal.slots[self] = value

    def take(self) -> T:
        """The value, which is not kept any longer."""
        value = self.get()
        self._clock.traversal.slots.pop(self)
        return value

    def clear(self) -> None:
        """Values go with their traversal."""

    def close(self) -> None:
        self._make = _closed


class PerPass(Generic[T]):
    """A value made by `make` when it is first asked for in a pass, and let go when the pass ends."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._made: list[T] = []

    def get(self) -> T:
        if not self._made:
            self._made.append(self._make())
        return self._made[0]

    def clear(self) -> None:
        self._made.clear()

    def close(self) -> None:
        self._make = _closed


@dataclass(eq=False)
class _Kept(Generic[S]):
    value: S
    met: int = 0


class PerStream(Generic[S]):
    """One state for each state key, made by `make` when the key is first met.

    At most `MOST_STATES` stay. One whose place now does something else is let go, and so is one that was not met in the
    last `MOST_EVALUATIONS_UNMET` evaluations that met any.
    """

    def __init__(
        self, clock: Clock, ledger: Ledger, make: Callable[[], S], tensors: Callable[[S], Iterable[Tensor]] | None
    ) -> None:
        self._clock = clock
        self._ledger = ledger
        self._make = make
        self._tensors = tensors
        self._states: OrderedDict[StateKey, _Kept[S]] = OrderedDict()
        self._evaluation = -1
        self._number = 0  # of evaluations in which a state was asked for

    def get(self) -> S | None:
        """The state of the current traversal's key; None where nothing may be kept, as in ControlNet's reference pass."""
        key = self._clock.traversal.state_key
        if key is None:
            return None
        if self._clock.evaluation != self._evaluation:
            self._evaluation = self._clock.evaluation
            self._number += 1
        state = self._states.pop(key, None) or _Kept(self._make())
        state.met = self._number
        self._let_go_of_stale(key)
        self._states[key] = state
        while len(self._states) > MOST_STATES:
            self._states.popitem(last=False)
        return state.value

    def _let_go_of_stale(self, key: StateKey) -> None:
        for other, state in list(self._states.items()):
            does_something_else = other.place == key.place and other.doing != key.doing
            if does_something_else or self._number - state.met > MOST_EVALUATIONS_UNMET:
                del self._states[other]

    def count(self) -> None:
        """Take the bytes that are now held into account; for the method to call after it has kept something."""
        self._ledger.count()

    def clear(self) -> None:
        self._states.clear()

    def close(self) -> None:
        self._make = _closed

    def __len__(self) -> int:
        return len(self._states)

    @property
    def bytes_held(self) -> int:
        if self._tensors is None:
            return 0
        return sum(bytes_of(tensor) for state in self._states.values() for tensor in self._tensors(state.value))


class Ledger:
    """All slots that methods of a run have, and the most bytes that they held from one evaluation to the next."""

    def __init__(self) -> None:
        self.peak_bytes = 0
        self.slots: list[PerTraversal[Any] | PerPass[Any] | PerStream[Any]] = []

    @property
    def bytes_held(self) -> int:
        return sum(slot.bytes_held for slot in self.slots if isinstance(slot, PerStream))

    def count(self) -> None:
        self.peak_bytes = max(self.peak_bytes, self.bytes_held)

    def clear(self) -> None:
        """Let go of all that is kept."""
        for slot in self.slots:
            slot.clear()

    def close(self) -> None:
        """The slots are not used any longer, and do not refer to the methods that made them."""
        self.clear()
        for slot in self.slots:
            slot.close()
        self.slots.clear()


def _closed() -> Any:
    raise RuntimeError("The run that this belonged to has ended.")
