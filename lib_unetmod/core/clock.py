"""Where a run is: it counts evaluations, the calls of the U-Net in each and the traversals, and knows the progress.

Nothing here counts calls against a step total.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

from torch import Tensor


class StateKey(NamedTuple):
    """What a traversal continues from earlier evaluations.

    Attributes:
        place: the same rows at the same size in the same place of the evaluation.
        doing: which methods act, and in which phase: what one set of them left is not for another.
        splits: what else tells it from others of the same place.
    """

    place: Hashable
    doing: Hashable
    splits: tuple[Hashable, ...] = ()


@dataclass(eq=False)
class Traversal:
    """One walk through the blocks. `ordinal` counts those of an evaluation.

    Attributes:
        ordinal: which of its evaluation it is.
        call: which call of the U-Net in its evaluation it belongs to: cond and uncond may be called apart.
        latent_size: height and width of the latent.
        place: of its `StateKey`; None where nothing may be continued.
        told_doing: gives `doing` of its `StateKey`, when it is first needed.
        slots: what the run's `PerTraversal` slots hold, by slot.
    """

    ordinal: int = -1
    call: int = -1
    latent_size: tuple[int, int] = (0, 0)
    place: Hashable | None = None
    told_doing: Callable[[], Hashable] = tuple
    slots: dict[Any, Any] = field(default_factory=dict)
    _splits: tuple[Hashable, ...] = ()

    @property
    def continues(self) -> bool:
        """Whether anything may be continued from earlier evaluations."""
        return self.place is not None

    @property
    def state_key(self) -> StateKey | None:
        """Under which state is kept for later evaluations; None where nothing may be."""
        return StateKey(self.place, self._doing, self._splits) if self.continues else None

    def split(self, key: Hashable) -> None:
        """What is kept from traversals that were split so is not for others, nor the other way round."""
        self._splits = (*self._splits, key)

    @cached_property
    def _doing(self) -> Hashable:
        return self.told_doing()


class Clock:
    """Counts evaluations, the calls of the U-Net in each and the traversals, and knows the progress of the current one.

    Attributes:
        evaluation: number of the current evaluation, from 0, in all passes; -1 before the first.
        evaluations: how many the current pass makes, None where the host has not said.

    A host that knows when its sampler calls the denoiser says so with `new_evaluation`; from then on only it begins
    evaluations. Without such a host a change of timestep begins one.
    """

    def __init__(self, timesteps: int = 1000) -> None:
        self.last_timestep = timesteps - 1
        self.evaluation = -1
        self.evaluations: int | None = None
        self._before_pass = -1
        self.traversal = Traversal()
        self._given: Tensor | float | None = None
        self._call = -1
        self._announced = False

    @property
    def evaluation_of_pass(self) -> int:
        """Number of the current evaluation in its pass, from 0."""
        return self.evaluation - self._before_pass - 1

    def begin_pass(self, evaluations: int | None) -> None:
        """The next evaluation is the first of a pass, which makes this many; None where nobody knows how many."""
        self._before_pass, self.evaluations = self.evaluation, evaluations

    @property
    def given(self) -> Tensor | float | None:
        """The timestep as it was given, for reading it later; a number where something has read it already."""
        return self._given

    @property
    def timestep(self) -> float | None:
        """0 = clean, T-1 = pure noise; None before the first call. Reading it waits for the device, once a call."""
        if isinstance(self._given, Tensor):
            self._given = float(self._given.flatten()[0])  # rows of one call share their timestep
        return self._given

    @property
    def progress(self) -> float:
        """0 = pure noise, 1 = clean; 0 before the first evaluation."""
        return 0.0 if self.timestep is None else self.progress_at(self.timestep)

    def progress_at(self, timestep: float) -> float:
        """0 = pure noise, 1 = clean, at another timestep than the current one."""
        return min(max(1.0 - timestep / self.last_timestep, 0.0), 1.0)

    def new_evaluation(self) -> None:
        """Announce one call of the sampler's denoiser, which may enter the U-Net several times."""
        self._announced = True
        self._begin()

    def at_timestep(self, timestep: Tensor | float) -> None:
        """The U-Net is called with this timestep, one for all rows or (B,): 0 = clean, T-1 = pure noise."""
        before = None if self._announced else self.timestep
        self._given = timestep
        if not self._announced and self.timestep != before:
            self._begin()
        self._call += 1

    def new_traversal(self) -> None:
        """`input_blocks[0]` is entered."""
        self.traversal = Traversal(self.traversal.ordinal + 1, self._call)

    def end_traversals(self) -> None:
        """What was kept for the last traversal is let go."""
        self.traversal = Traversal(self.traversal.ordinal, self.traversal.call, self.traversal.latent_size)

    def _begin(self) -> None:
        self.evaluation += 1
        self._call = -1
        self.traversal = Traversal()
