"""What a search found for each speed, and what it could not."""

from __future__ import annotations

from dataclasses import dataclass

from .trials import Trial


@dataclass(frozen=True)
class Tuned:
    """What was found for a speed.

    Attributes:
        word: the speed, as `2x`.
        best: of the methods, as judged.
        shipped: the plan that comes without tuning, judged on the same pictures; None where there is none.
        fewer_steps: the plain U-Net with as many steps as take no longer, on the same pictures; None where there are none.
        judged: whether it was drawn to its end, and not stopped before.
    """

    word: str
    best: Trial
    shipped: Trial | None = None
    fewer_steps: Trial | None = None
    judged: bool = True

    @property
    def beaten(self) -> bool:
        """Whether fewer steps come nearer to the plain picture in the same time."""
        return self.fewer_steps is not None and self.fewer_steps.error < self.best.error


@dataclass(frozen=True)
class Found:
    """All that was found, with what could not be.

    Attributes:
        tuned: by speed.
        problems: sentences.
        pictures: in how many plain pictures' time.
        stopped: whether the user stopped on the way.
    """

    tuned: tuple[Tuned, ...]
    problems: tuple[str, ...] = ()
    pictures: float = 0.0
    stopped: bool = False


@dataclass
class Best:
    """The nearest of what was tried so far, which is kept where the user stops."""

    trial: Trial | None = None

    def offer(self, trial: Trial) -> None:
        if self.trial is None or trial.error < self.trial.error:
            self.trial = trial
