"""Muon (Jordan et al. 2024): momentum whose update of a convolution has all its singular values about 1.

Adam, decoupled, for what is no matrix. The step is scaled as in Liu et al. (2025), so that Adam's rates fit.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor


def orthogonalised(matrices: Tensor, steps: int = 5) -> Tensor:
    """About U Vᵀ of each matrix (..., R, C) = U S Vᵀ, by a quintic Newton-Schulz iteration, in bfloat16."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrices.bfloat16()
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        product = x @ x.mT
        x = a * x + (b * product + c * product @ product) @ x
    return (x.mT if tall else x).to(matrices.dtype)


class Muon(torch.optim.Optimizer):
    """Muon for weights of at least two dimensions and 16 rows and columns, Adam for the others.

    A group of parameters with `turned` false takes Adam altogether: embeddings, whose rows are no directions of a map.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 1e-3,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 1e-4,
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "betas": betas, "weight_decay": weight_decay, "turned": True}
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """One step with the gradients as they are."""
        for group in self.param_groups:
            weights = [weight for weight in group["params"] if weight.grad is not None]
            turned = [group["turned"] and w.ndim > 1 and min(w.shape[0], w[0].numel()) >= 16 for w in weights]
            for of, step in ((True, self._turn), (False, self._adam)):
                chosen = [weight for weight, each in zip(weights, turned, strict=True) if each is of]
                if chosen:
                    torch._foreach_mul_(chosen, 1 - group["lr"] * group["weight_decay"])
                    step(chosen, [weight.grad for weight in chosen], group)

    def _kept(self, weights: list[Tensor], *names: str) -> list[list[Tensor]]:
        """What the state holds of each weight under each name; zeros at first."""
        for weight in weights:
            for name in names:
                if name not in self.state[weight]:
                    self.state[weight][name] = torch.zeros_like(weight)
        return [[self.state[weight][name] for weight in weights] for name in names]

    def _turn(self, weights: list[Tensor], gradients: list[Tensor], group: dict[str, Any]) -> None:
        (momenta,) = self._kept(weights, "momentum")
        torch._foreach_lerp_(momenta, gradients, 1 - group["momentum"])
        ahead = torch._foreach_lerp(gradients, momenta, group["momentum"])
        alike: dict[tuple[int, int], list[int]] = {}  # weights of one shape are turned together
        for number, weight in enumerate(weights):
            alike.setdefault((weight.shape[0], weight[0].numel()), []).append(number)
        for shape, numbers in alike.items():
            updates = orthogonalised(torch.stack([ahead[number].flatten(1) for number in numbers]))
            for number, update in zip(numbers, updates, strict=True):
                weights[number].add_(update.view_as(weights[number]), alpha=-group["lr"] * 0.2 * max(shape) ** 0.5)

    def _adam(self, weights: list[Tensor], gradients: list[Tensor], group: dict[str, Any]) -> None:
        first, second = group["betas"]
        means, squares = self._kept(weights, "mean", "square")
        for weight in weights:
            self.state[weight]["step"] = self.state[weight].get("step", torch.zeros(())) + 1
        number = self.state[weights[0]]["step"].item()
        torch._foreach_lerp_(means, gradients, 1 - first)
        torch._foreach_mul_(squares, second)
        torch._foreach_addcmul_(squares, gradients, gradients, 1 - second)
        spreads = torch._foreach_div(squares, 1 - second**number)
        torch._foreach_sqrt_(spreads)
        torch._foreach_add_(spreads, 1e-8)
        torch._foreach_addcdiv_(weights, means, spreads, -group["lr"] / (1 - first**number))
