"""What a U-Net's answer says of the picture: the clean latent or the noise that it means, and an answer that means them.

A U-Net is given x = (x0 + s n) / sqrt(s^2 + 1), of the clean latent x0, the noise n and its level s (k-diffusion's sigma).
It answers with n ("eps") or with v = (n - s x0) / sqrt(s^2 + 1) ("v"; Salimans & Ho 2022, "Progressive Distillation for Fast
Sampling of Diffusion Models", section 4). All tensors are (B, 4, h, w).
"""

from __future__ import annotations

from torch import Tensor


def clean_of(x: Tensor, answer: Tensor, sigma: float, prediction: str) -> Tensor:
    """The clean latent that the U-Net's `answer` to `x` means."""
    c = _scale(sigma)
    return c * x - c * sigma * answer if prediction == "v" else x / c - sigma * answer


def noise_of(x: Tensor, answer: Tensor, sigma: float, prediction: str) -> Tensor:
    """The noise that it means."""
    c = _scale(sigma)
    return c * answer + c * sigma * x if prediction == "v" else answer


def answer_of_clean(x: Tensor, clean: Tensor, sigma: float, prediction: str) -> Tensor:
    """The answer to `x` that means this clean latent; `sigma` must be above 0."""
    c = _scale(sigma)
    return (c * x - clean) / (c * sigma) if prediction == "v" else (x / c - clean) / sigma


def answer_of_noise(x: Tensor, noise: Tensor, sigma: float, prediction: str) -> Tensor:
    """The answer to `x` that means this noise."""
    c = _scale(sigma)
    return noise / c - sigma * x if prediction == "v" else noise


def _scale(sigma: float) -> float:
    """By what a latent is multiplied on its way into the U-Net."""
    return (sigma**2 + 1) ** -0.5
