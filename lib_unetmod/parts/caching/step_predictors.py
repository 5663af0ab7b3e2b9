"""What the U-Net would answer in an evaluation that is not run, from its answers in those that were.

`STEP_PREDICTORS` names the ways. Each keeps what it needs of the last evaluations that ran, apart for each row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

import torch
from torch import Tensor

from ..latents.predictions import answer_of_clean, answer_of_noise, clean_of, noise_of


class StepPredictor(Protocol):
    """Takes in what the U-Net is given and answers, (B, 4, h, w) in single precision, and answers in its place."""

    def keep(self, x: Tensor, answer: Tensor, sigma: float, prediction: str) -> None:
        """Take in an evaluation that ran at noise level `sigma`; `prediction` is "eps" or "v"."""

    def predict(self, x: Tensor, sigma: float, prediction: str) -> Tensor:
        """A fresh tensor: the answer to `x` at another noise level."""

    def tensors(self) -> Iterable[Tensor]:
        """Those that are kept."""


class LastClean:
    """The clean latent of the last evaluation again: nothing new is learned of the picture, and the sampler goes on to it.

    With Euler the steps up to the next evaluation that runs are then one step over all of them.
    """

    def __init__(self) -> None:
        self._clean: Tensor | None = None

    def keep(self, x: Tensor, answer: Tensor, sigma: float, prediction: str) -> None:
        self._clean = clean_of(x, answer, sigma, prediction)

    def predict(self, x: Tensor, sigma: float, prediction: str) -> Tensor:
        return answer_of_clean(x, self._clean, sigma, prediction)

    def tensors(self) -> Iterable[Tensor]:
        return () if self._clean is None else (self._clean,)


class SecantClean:
    """The clean latent of the last evaluation, and where the latent turns back, a part of the way back with it.

    Strong guidance makes the path swing: one step overshoots, the next turns back, and a clean latent that is only repeated
    swings wider. With the last two evaluations that ran, the rank-one secant of Broyden (1965) says how far back this is:
    for each row g = <x - x1, x1 - x0> / |x1 - x0|^2, cut to `bounds`, and clean1 + g (clean1 - clean0). Not forwards: on a
    smooth path the last clean latent alone is nearer, and there the two are the same.
    """

    #: How far it may go, in the last change.
    bounds = (-0.5, 0.0)

    def __init__(self) -> None:
        self._kept: list[tuple[Tensor, Tensor]] = []

    def keep(self, x: Tensor, answer: Tensor, sigma: float, prediction: str) -> None:
        self._kept = [*self._kept, (x.clone(), clean_of(x, answer, sigma, prediction))][-2:]

    def predict(self, x: Tensor, sigma: float, prediction: str) -> Tensor:
        last_x, last = self._kept[-1]
        if len(self._kept) == 1:
            return answer_of_clean(x, last, sigma, prediction)
        first_x, first = self._kept[0]
        change, moved = (last_x - first_x).flatten(1), (x - last_x).flatten(1)
        along = (moved * change).sum(1) / change.square().sum(1).clamp_min(1e-12)
        share = along.clamp(*self.bounds).view(-1, *[1] * (x.ndim - 1))
        return answer_of_clean(x, last + share * (last - first), sigma, prediction)

    def tensors(self) -> Iterable[Tensor]:
        return [tensor for pair in self._kept for tensor in pair]


class NoisePolynomial:
    """The noise on the polynomial over sigma through the last `order` + 1 evaluations, or as many as there are.

    The first order of TaylorSeer (Liu et al. 2025, equation 3) is the line, with differences by sigma in place of steps.
    """

    def __init__(self, order: int) -> None:
        self._order = order
        self._kept: list[tuple[Tensor, float]] = []

    def keep(self, x: Tensor, answer: Tensor, sigma: float, prediction: str) -> None:
        earlier = [one for one in self._kept if one[1] != sigma]
        self._kept = [*earlier, (noise_of(x, answer, sigma, prediction).clone(), sigma)][-self._order - 1 :]

    def predict(self, x: Tensor, sigma: float, prediction: str) -> Tensor:
        return answer_of_noise(x, self.noise_at(sigma), sigma, prediction)

    def noise_at(self, sigma: float) -> Tensor:
        weights = _lagrange([at for _, at in self._kept], sigma)
        return sum(weight * noise for weight, (noise, _) in zip(weights, self._kept, strict=True))

    def tensors(self) -> Iterable[Tensor]:
        return [noise for noise, _ in self._kept]


class Blend:
    """The mean of the line and the parabola: the one lags where the other overshoots."""

    def __init__(self) -> None:
        self._line, self._parabola = NoisePolynomial(1), NoisePolynomial(2)

    def keep(self, x: Tensor, answer: Tensor, sigma: float, prediction: str) -> None:
        for one in (self._line, self._parabola):
            one.keep(x, answer, sigma, prediction)

    def predict(self, x: Tensor, sigma: float, prediction: str) -> Tensor:
        noise = torch.lerp(self._line.noise_at(sigma), self._parabola.noise_at(sigma), 0.5)
        return answer_of_noise(x, noise, sigma, prediction)

    def tensors(self) -> Iterable[Tensor]:
        return [*self._line.tensors(), *self._parabola.tensors()]


def _lagrange(nodes: list[float], at: float) -> list[float]:
    """Weights of values at `nodes` in the value at `at` of the polynomial through them."""
    weights = []
    for node in nodes:
        weight = 1.0
        for other in nodes:
            if other != node:
                weight *= (at - other) / (node - other)
        weights.append(weight)
    return weights


STEP_PREDICTORS: dict[str, Callable[[], StepPredictor]] = {
    "secant": SecantClean,
    "x0": LastClean,
    "linear": lambda: NoisePolynomial(1),
    "quadratic": lambda: NoisePolynomial(2),
    "blend": Blend,
}
