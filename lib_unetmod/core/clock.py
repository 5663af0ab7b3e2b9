"""Where a run is: it counts evaluations, the calls of the U-Net in each and the traversals, and knows the progress.

Nothing here counts calls against a step total.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor


@dataclass
class Traversal:
    """One walk through the blocks. `ordinal` counts the walks of an evaluation; `memory` is gone with the walk.

    Attributes:
        ordinal: which walk of its evaluation this is.
        call: which call of the U-Net in its evaluation this walk belongs to: cond and uncond may be called apart.
        stream: what this walk continues from earlier evaluations: the same rows at the same size in the same place of the
            evaluation. None where nothing may be continued.
        latent_size: height and width of the latent that is walked.
        memory: what the walk carries from block to block.
    """

    ordinal: int = -1
    call: int = -1
    stream: Hashable | None = None
    latent_size: tuple[int, int] = (0, 0)
    memory: dict[Any, Any] = field(default_factory=dict)


class Clock:
    """Counts evaluations, the calls of the U-Net in each and the traversals, and knows the progress of the current one.

    A host that knows when its sampler calls the denoiser says so with `new_evaluation`; from then on only it begins
    evaluations. Without such a host a change of timestep begins one.
    """

    def __init__(self, timesteps: int = 1000) -> None:
        self.last_timestep = timesteps - 1
        self.evaluation = -1
        self.traversal = Traversal()
        self._given: Tensor | float | None = None
        self._call = -1
        self._announced = False

    @property
    def timestep(self) -> float | None:
        """0 = clean, T-1 = pure noise; None before the first call. Reading it waits for the device, once a call."""
        if isinstance(self._given, Tensor):
            self._given = float(self._given.flatten()[0])  # rows of one call share their timestep
        return self._given

    @property
    def progress(self) -> float:
        """0 = pure noise, 1 = clean; 0 before the first evaluation."""
        if self.timestep is None:
            return 0.0
        return min(max(1.0 - self.timestep / self.last_timestep, 0.0), 1.0)

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

    def _begin(self) -> None:
        self.evaluation += 1
        self._call = -1
        self.traversal = Traversal()
