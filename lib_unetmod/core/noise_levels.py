"""The noise levels at which samplers of the WebUI evaluate: AUTOMATIC1111's schedule types, as progress.

From modules/sd_schedulers.py of 1.10.1 and k-diffusion's sampling.py, for the noise schedule of Stable Diffusion.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from .noise import progress_at, sigma_at

LAST = 999  # timestep of pure noise
_MOST, _LEAST = sigma_at(0.0), sigma_at(1.0)


def even(steps: int) -> list[float]:
    return [index / max(steps - 1, 1) for index in range(steps)]


def _karras(steps: int) -> list[float]:
    most, least = (sigma ** (1 / 7) for sigma in (_MOST, _LEAST))
    return [progress_at((most + share * (least - most)) ** 7) for share in even(steps)]


def _exponential(steps: int) -> list[float]:
    return [progress_at(_MOST * (_LEAST / _MOST) ** share) for share in even(steps)]


def _kl_optimal(steps: int) -> list[float]:
    most, least = math.atan(_MOST), math.atan(_LEAST)
    return [progress_at(math.tan(most + index / steps * (least - most))) for index in range(steps)]


def _ddim(steps: int) -> list[float]:
    return [1 - timestep / LAST for timestep in reversed(range(1, LAST + 1, max((LAST + 1) // steps, 1)))]


def ddim_timesteps(steps: int) -> list[int]:
    """Those of the DDIM sampler, which knows no schedule type, rising: of 3 steps 1, 334, 667 and 999."""
    return [min(timestep + 1, LAST) for timestep in range(0, LAST + 1, max((LAST + 1) // steps, 1))]


#: By the names that the page shows: progress of each step's beginning, of so many steps.
SCHEDULES: dict[str, Callable[[int], list[float]]] = {
    "Uniform": even,
    "Normal": even,
    "Karras": _karras,
    "Exponential": _exponential,
    "Polyexponential": _exponential,
    "SGM Uniform": lambda steps: [index / steps for index in range(steps)],
    "Simple": lambda steps: [int(index * (LAST + 1) / steps) / LAST for index in range(steps)],
    "KL Optimal": _kl_optimal,
    "DDIM": _ddim,
}
