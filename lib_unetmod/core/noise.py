"""How noisy a latent is at a progress, by the noise schedule that Stable Diffusion was trained with.

A latent at noise sigma is x0 + sigma * noise; the U-Net is given that divided by sqrt(sigma^2 + 1). SD1, SD2, SDXL and the
refiner share the schedule: 1000 betas, linear in their square roots from 0.00085 to 0.012.
"""

from __future__ import annotations

from functools import cache

import numpy as np


def sigma_at(progress: float) -> float:
    """Noise at a progress, 0 = pure noise (14.6), 1 = clean (0.03); between two timesteps log(sigma) is linear."""
    log_sigmas = _log_sigmas()
    timestep = (1 - progress) * (len(log_sigmas) - 1)
    return float(np.exp(np.interp(timestep, np.arange(len(log_sigmas)), log_sigmas)))


def progress_at(sigma: float) -> float:
    """The progress with this much noise, the inverse of `sigma_at`; less than there is at the end is 1."""
    log_sigmas = _log_sigmas()
    timestep = np.interp(np.log(sigma), log_sigmas, np.arange(len(log_sigmas)))
    return float(1 - timestep / (len(log_sigmas) - 1))


@cache
def _log_sigmas() -> np.ndarray:
    kept = np.cumprod(1 - np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2)
    return np.log((1 - kept) / kept) / 2


def prediction_correction(progress: float, prediction: str) -> float:
    """How much a U-Net's answer must change for the clean latent it means to change as its input does.

    The clean latent is (u - sqrt(1 - a) eps) / sqrt(a) or sqrt(a) u - sqrt(1 - a) v of the input u, where a = 1 / (sigma^2 +
    1). A host computes it with the input that it gave, so that with another, u + d, there is d / sqrt(a) or sqrt(a) d
    missing, which is what eps - d / sqrt(1 - a) or v - d sqrt(a / (1 - a)) brings.

    Args:
        prediction: what the U-Net predicts, "eps" or "v".
    """
    sigma = sigma_at(progress)
    return 1 / sigma if prediction == "v" else (1 + sigma**-2) ** 0.5
