"""The samplers: diffusers' schedulers under the WebUI's names, and which part of their steps a picture takes.

All but LCM space their timesteps "trailing" (Lin et al. 2024, table 2): the first is pure noise at any number of steps, so
that a picture of one step begins where the model was trained to begin. LCM's own spacing does the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import diffusers
import torch
from torch import Tensor

#: SD1's noise schedule (v1-inference.yaml); betas are linear in their square roots.
NOISE_SCHEDULE = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
}


@dataclass(frozen=True)
class Sampler:
    """One sampler: its name for people, its scheduler, what that is built with, and whether it draws noise on the way."""

    label: str
    scheduler: type
    options: dict[str, Any] = field(default_factory=lambda: {"timestep_spacing": "trailing"})
    draws_noise: bool = False

    def evaluations(self, steps: int) -> int:
        """Calls of the U-Net in `steps` steps: a second-order sampler makes two per step, but for the last."""
        return self.scheduler.order * (steps - 1) + 1


SAMPLERS: dict[str, Sampler] = {
    "euler": Sampler("Euler", diffusers.EulerDiscreteScheduler),
    "euler-a": Sampler("Euler a", diffusers.EulerAncestralDiscreteScheduler, draws_noise=True),
    "dpm++2m": Sampler("DPM++ 2M", diffusers.DPMSolverMultistepScheduler),
    "heun": Sampler("Heun", diffusers.HeunDiscreteScheduler),
    # It takes its steps out of as many as its model was distilled on, which must not be fewer.
    "lcm": Sampler("LCM-like", diffusers.LCMScheduler, {"original_inference_steps": 100}, draws_noise=True),
}


class Course:
    """One picture's way from noise to a latent: a scheduler set to its steps, begun where `steps_taken` are left.

    Attributes:
        timesteps: (evaluations,), those of the U-Net, falling from at most 999 to at least 0.
    """

    def __init__(
        self, sampler: str, steps: int, steps_taken: int, prediction_type: str, device: torch.device | str = "cpu"
    ) -> None:
        self._sampler = SAMPLERS[sampler]
        self._scheduler = self._sampler.scheduler(**NOISE_SCHEDULE, prediction_type=prediction_type, **self._sampler.options)
        self._scheduler.set_timesteps(steps, device=device)
        left_out = (steps - steps_taken) * self._scheduler.order
        self._scheduler.set_begin_index(left_out)
        self.timesteps: Tensor = self._scheduler.timesteps[left_out:]

    def begin(self, noise: Tensor, clean: Tensor | None = None) -> Tensor:
        """The latent to begin from, as `noise` (B, 4, h, w): noise alone, or the clean latent with noise on it."""
        if clean is None:
            return noise * self._scheduler.init_noise_sigma
        return self._scheduler.add_noise(clean, noise, self.timesteps[:1])

    def run(self, latent: Tensor, denoise: Callable[[Tensor, Tensor], Tensor], generator: torch.Generator) -> Tensor:
        """Walk `latent` (B, 4, h, w) from what `begin` returned to a clean one.

        Args:
            denoise: called with the U-Net's input (B, 4, h, w) and a timestep (0-dimensional); returns the prediction.
            generator: for samplers that draw noise on the way.
        """
        drawing = {"generator": generator} if self._sampler.draws_noise else {}
        for timestep in self.timesteps:
            prediction = denoise(self._scheduler.scale_model_input(latent, timestep), timestep)
            latent = self._scheduler.step(prediction, timestep, latent, return_dict=False, **drawing)[0]
        return latent
