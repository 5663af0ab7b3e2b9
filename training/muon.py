"""Muon (Jordan et al. 2024): momentum whose update of a convolution has all its singular values about 1.

Adam, decoupled, for what is no matrix. The step is scaled as in Liu et al. (2025), so that Adam's rates fit.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


def orthogonalised(matrix: Tensor, steps: int = 5) -> Tensor:
    """About U Vᵀ of the matrix (R, C) = U S Vᵀ, by a quintic Newton-Schulz iteration, in bfloat16."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrix.bfloat16()
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    x = x / (x.norm() + 1e-7)
    for _ in range(steps):
        product = x @ x.T
        x = a * x + (b * product + c * product @ product) @ x
    return (x.T if tall else x).to(matrix.dtype)


class Muon(torch.optim.Optimizer):
    """Muon for weights of at least two dimensions and 16 rows and columns, Adam for the others."""

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 1e-3,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 1e-4,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """One step with the gradients as they are."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                if weight.ndim > 1 and min(weight.shape[0], weight[0].numel()) >= 16:
                    self._turned(weight, self.state[weight], group)
                else:
                    self._adam(weight, self.state[weight], group)

    @staticmethod
    def _turned(weight: Tensor, state: dict[str, Tensor], group: dict[str, float]) -> None:
        if not state:
            state["momentum"] = torch.zeros_like(weight)
        state["momentum"].lerp_(weight.grad, 1 - group["momentum"])
        update = orthogonalised(weight.grad.lerp(state["momentum"], group["momentum"]).flatten(1))
        weight.add_(update.view_as(weight), alpha=-group["lr"] * 0.2 * max(update.shape) ** 0.5)

    @staticmethod
    def _adam(weight: Tensor, state: dict[str, Tensor], group: dict[str, tuple[float, float]]) -> None:
        if not state:
            state.update(step=torch.zeros(()), mean=torch.zeros_like(weight), square=torch.zeros_like(weight))
        first, second = group["betas"]
        state["step"] += 1
        state["mean"].lerp_(weight.grad, 1 - first)
        state["square"].lerp_(weight.grad.square(), 1 - second)
        number = state["step"].item()
        spread = (state["square"] / (1 - second**number)).sqrt_().add_(1e-8)
        weight.addcdiv_(state["mean"], spread, value=-group["lr"] / (1 - first**number))
