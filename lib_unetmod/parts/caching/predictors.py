"""What a cached span gives back in an evaluation that does not run it, from what it returned in those that did.

`PREDICTORS` names the ways; each is made once for each tensor that is kept. A forecast of higher order joins by another
class here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from torch import Tensor


class Predictor(Protocol):
    """Keeps copies of a tensor (B, C, H, W) as the evaluations give it, and says what it would be at another progress."""

    def keep(self, value: Tensor, progress: float) -> None:
        """Take in what the span returned at `progress` (0 = pure noise, 1 = clean)."""

    def predict(self, progress: float) -> Tensor:
        """A fresh tensor for the evaluation at `progress`."""

    def tensors(self) -> Iterable[Tensor]:
        """Those that are kept."""


class LastValue:
    """The last one again, as DeepCache (Ma et al. 2024, section 3.2) and Faster Diffusion (Li et al. 2023) do."""

    def __init__(self) -> None:
        self._last: Tensor | None = None

    def keep(self, value: Tensor, progress: float) -> None:
        # Copies, in and out: hosts add ControlNet's residuals to what a block returns in place.
        self._last = value.clone()

    def predict(self, progress: float) -> Tensor:
        return self._last.clone()

    def tensors(self) -> Iterable[Tensor]:
        return () if self._last is None else (self._last,)


class LinearForecast:
    """The straight line through the last two, the first order of TaylorSeer (Liu et al. 2025, equation 3), over progress.

    With one kept value, or two at the same progress, it is the last value. The line is followed for at most as far beyond
    the last value as the two are apart.
    """

    def __init__(self) -> None:
        self._kept: list[tuple[Tensor, float]] = []

    def keep(self, value: Tensor, progress: float) -> None:
        self._kept = [*self._kept[-1:], (value.clone(), progress)]

    def predict(self, progress: float) -> Tensor:
        last, at = self._kept[-1]
        before, earlier = self._kept[0]
        if at <= earlier or before.shape != last.shape or before.dtype != last.dtype:
            return last.clone()
        return last + (last - before) * min((progress - at) / (at - earlier), 1.0)

    def tensors(self) -> Iterable[Tensor]:
        return [value for value, _ in self._kept]


PREDICTORS: dict[str, Callable[[], Predictor]] = {"reuse": LastValue, "linear": LinearForecast}
