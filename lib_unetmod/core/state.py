"""What methods keep: values of the current traversal or pass, and states that outlive an evaluation.

A state belongs to a state key (`Traversal.state_key`): what one traversal continues from the evaluation before. Cond and
uncond called apart have two, and so have calls with and without uncond where a sampler leaves it out now and then. Mixing
them up would give one prompt's features to the other. All states are let go when a pass ends and when the run does.

What all of them hold together is bounded in bytes. Streams come round in a circle, as the tiles of a large picture do, so
throwing out the oldest for a new one would leave none to go on from: once there is no room it is the new stream that is
refused, and its methods run in full.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from . import memory
from .clock import Clock, StateKey

T = TypeVar("T")
S = TypeVar("S")

#: Of streams, whatever they hold: one that holds no tensor is a few objects. 16K pictures in tiles make about 2000.
MOST_STREAMS = 4096
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
    bytes: int = 0


class PerStream(Generic[S]):
    """One state for each state key, made by `make` when the key is first met and the run's ledger has room for it.

    One whose place now does something else is let go, and so is one that was not met in the last
    `MOST_EVALUATIONS_UNMET` evaluations that met any.
    """

    def __init__(
        self,
        clock: Clock,
        ledger: Ledger,
        make: Callable[[], S],
        tensors: Callable[[S], Iterable[Tensor]] | None,
        title: str,
    ) -> None:
        self.title = title
        self._clock = clock
        self._ledger = ledger
        self._make = make
        self._tensors = tensors
        self._states: dict[StateKey, _Kept[S]] = {}
        self._evaluation = -1
        self._number = 0  # of evaluations in which a state was asked for

    def get(self) -> S | None:
        """The state of the current traversal's key.

        None where nothing may be kept, as in ControlNet's reference pass, and where there is no room for another stream:
        all slots of the run answer so for that stream, and what it would have gone on from is computed anew.
        """
        key = self._clock.traversal.state_key
        if key is None:
            return None
        if self._clock.evaluation != self._evaluation:
            self._evaluation = self._clock.evaluation
            self._number += 1
            self._let_go_of_unmet(key)
        kept = self._states.get(key)
        if kept is None:
            if not self._ledger.admits(key):
                return None
            kept = self._states[key] = _Kept(self._make())
        kept.met = self._number
        return kept.value

    def _let_go_of_unmet(self, met_now: StateKey) -> None:
        for key, kept in list(self._states.items()):
            if key != met_now and self._number - kept.met > MOST_EVALUATIONS_UNMET:
                self.let_go(key)

    def count(self) -> None:
        """Take the bytes that are now held into account; for the method to call after it has kept something."""
        key = self._clock.traversal.state_key
        kept = None if key is None else self._states.get(key)
        if kept is None or self._tensors is None:
            return
        held = sum(bytes_of(tensor) for tensor in self._tensors(kept.value))
        more, kept.bytes = held - kept.bytes, held
        self._ledger.changed(key, more)

    def let_go(self, key: StateKey) -> None:
        """Let go of one state, if it is kept here."""
        kept = self._states.pop(key, None)
        if kept is not None:
            self._ledger.left(key, kept.bytes)

    def clear(self) -> None:
        self._states.clear()

    def close(self) -> None:
        self._make = _closed

    def __len__(self) -> int:
        return len(self._states)

    def __contains__(self, key: StateKey) -> bool:
        return key in self._states

    @property
    def bytes_held(self) -> int:
        return sum(kept.bytes for kept in self._states.values())


class Ledger:
    """All slots that methods of a run have, and the bytes that they hold from one evaluation to the next.

    Attributes:
        device: where the traversals now compute, whose free memory decides where nobody said how much may be kept.
        bytes_held: by all streams together, as last counted.
        peak_bytes: the most that were held at the end of a count.
        slots: that methods made.
        moving: why nothing is kept now (`HostCall.moving`); empty where it is.
    """

    def __init__(self, clock: Clock, keep_bytes: int | None, notes: list[str]) -> None:
        """`keep_bytes` is the most that may be held; None = a share of what is free when a pass first keeps something."""
        self.device = torch.device("cpu")
        self.bytes_held = 0
        self.peak_bytes = 0
        self.slots: list[PerTraversal[Any] | PerPass[Any] | PerStream[Any]] = []
        self.moving = ""
        self._clock = clock
        self._keep_bytes = keep_bytes
        self._notes = notes
        self._told: set[str] = set()
        self._limit: int | None = None
        self._of_stream: dict[StateKey, int] = {}
        self._most_of_stream = 0

    def admits(self, key: StateKey) -> bool:
        """Whether a stream may be kept. All slots of one traversal get the same answer: one that began to keep a stream
        counts on the others, as a skipped span does on the cache around it."""
        answers = self._clock.traversal.slots.setdefault(self, {})
        if key not in answers:
            answers[key] = self._stays() and (key in self._of_stream or self._has_room(key))
        return answers[key]

    def changed(self, key: StateKey, more: int) -> None:
        """A slot holds `more` bytes than before for a stream, which is let go of where that is too much."""
        self._of_stream[key] = self._of_stream.get(key, 0) + more
        self.bytes_held += more
        self._most_of_stream = max(self._most_of_stream, self._of_stream[key])
        if self.bytes_held > self._most():
            self._refuse_for_bytes()
            self._let_go(key)
            self._clock.traversal.slots.setdefault(self, {})[key] = False
        self.peak_bytes = max(self.peak_bytes, self.bytes_held)

    def left(self, key: StateKey, bytes_less: int) -> None:
        """A slot has let go of a stream of which it held so many bytes."""
        self.bytes_held -= bytes_less
        self._of_stream[key] -= bytes_less
        if not any(key in slot for slot in self._streams()):
            del self._of_stream[key]

    def clear(self) -> None:
        """Let go of all that is kept."""
        for slot in self.slots:
            slot.clear()
        self._of_stream.clear()
        self._most_of_stream = self.bytes_held = 0
        self._limit = None

    def close(self) -> None:
        """The slots are not used any longer, and do not refer to the methods that made them."""
        self.clear()
        for slot in self.slots:
            slot.close()
        self.slots.clear()

    def _stays(self) -> bool:
        if self.moving:
            self._note(self.moving)
        return not self.moving

    def _has_room(self, key: StateKey) -> bool:
        for other in list(self._of_stream):
            if other.place == key.place and other.doing != key.doing:
                self._let_go(other)
        # A new stream will come to hold as much as others do.
        if self.bytes_held + self._most_of_stream > self._most():
            self._refuse_for_bytes()
            return False
        if len(self._of_stream) >= MOST_STREAMS:
            self._note(
                f"each step has more than {MOST_STREAMS} U-Net runs, of which the rest ran in full. Use larger tiles."
            )
            return False
        self._of_stream[key] = 0
        return True

    def _let_go(self, key: StateKey) -> None:
        for slot in self._streams():
            slot.let_go(key)
        self._of_stream.pop(key, None)

    def _streams(self) -> list[PerStream[Any]]:
        return [slot for slot in self.slots if isinstance(slot, PerStream)]

    def _most(self) -> int:
        if self._limit is None:
            self._limit = memory.kept_by_itself(self.device) if self._keep_bytes is None else self._keep_bytes
        return self._limit

    def _refuse_for_bytes(self) -> None:
        self._note(
            f"what is kept between steps has reached {round(self._most() / 1e6, 1):g} MB, so the rest ran in full. Raise "
            "Memory limit in Settings, UNet Mod (keep_bytes in Python), or use fewer tiles."
        )

    def _note(self, text: str) -> None:
        if text in self._told:
            return
        self._told.add(text)
        streams = self._streams()
        titles = dict.fromkeys(slot.title for slot in [slot for slot in streams if slot.bytes_held] or streams if slot.title)
        self._notes.append(f"{' and '.join(titles) or 'UNet Mod'}: {text}")


def _closed() -> Any:
    raise RuntimeError("The run that this belonged to has ended.")
