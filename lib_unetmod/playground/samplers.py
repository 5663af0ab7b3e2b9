"""The samplers: diffusers' schedulers under the WebUI's names, and which part of their steps a picture takes.

The noise levels lie "trailing" (Lin et al. 2024, table 2), which draws best with the small model: the first is pure noise at
any number of steps, so that a picture of one step begins where the model was trained to begin. Or they are those of one of
AUTOMATIC1111's schedule types; pictures are then k-diffusion's. LCM has a spacing of its own.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import diffusers
import torch
from torch import Tensor

from ..core.noise import sigma_at
from ..core.noise_levels import LAST, SCHEDULES

#: SD1's noise schedule (v1-inference.yaml); betas are linear in their square roots.
NOISE_SCHEDULE = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
}


@dataclass(frozen=True)
class Sampler:
    """One sampler.

    Attributes:
        label: its name for people.
        scheduler: diffusers'.
        options: what that is built with.
        automatic: the schedule type that AUTOMATIC1111 takes for it; empty where it has a spacing of its own.
    """

    label: str
    scheduler: type
    options: dict[str, Any] = field(default_factory=lambda: {"timestep_spacing": "trailing"})
    automatic: str = "Uniform"

    def evaluations(self, steps: int) -> int:
        """Calls of the U-Net in `steps` steps: a second-order sampler makes two per step, but for the last."""
        return self.scheduler.order * (steps - 1) + 1


SAMPLERS: dict[str, Sampler] = {
    "euler": Sampler("Euler", diffusers.EulerDiscreteScheduler),
    "euler-a": Sampler("Euler a", diffusers.EulerAncestralDiscreteScheduler),
    "dpm++2m": Sampler("DPM++ 2M", diffusers.DPMSolverMultistepScheduler, automatic="Karras"),
    "dpm++2m-sde": Sampler(
        "DPM++ 2M SDE",
        diffusers.DPMSolverMultistepScheduler,
        {"timestep_spacing": "trailing", "algorithm_type": "sde-dpmsolver++"},
        automatic="Exponential",
    ),
    "unipc": Sampler("UniPC", diffusers.UniPCMultistepScheduler),
    "heun": Sampler("Heun", diffusers.HeunDiscreteScheduler),
    # It takes its steps out of as many as its model was distilled on, which must not be fewer.
    "lcm": Sampler("LCM-like", diffusers.LCMScheduler, {"original_inference_steps": 100}, automatic=""),
}

TRAILING = "trailing"
#: By what they are called here: AUTOMATIC1111's schedule types; "automatic" is the sampler's own, "trailing" diffusers'.
SCHEDULE_TYPES: dict[str, str] = {
    TRAILING: "",
    "automatic": "Automatic",
    "uniform": "Uniform",
    "karras": "Karras",
    "exponential": "Exponential",
    "sgm-uniform": "SGM Uniform",
}


def schedule_type(sampler: str, schedule: str) -> str:
    """The schedule type of AUTOMATIC1111 that `schedule`, a key of `SCHEDULE_TYPES`, is with a sampler; empty: trailing."""
    automatic = SAMPLERS[sampler].automatic
    return (automatic if schedule == "automatic" else SCHEDULE_TYPES[schedule]) if automatic else ""


class Course:
    """One picture's way from noise to a latent: a scheduler set to its steps, begun where `steps_taken` are left.

    Attributes:
        timesteps: (evaluations,), those of the U-Net, falling from at most 999 to at least 0.
        schedule: how its noise levels are spaced, as `HostCall.schedule` has it.
    """

    def __init__(
        self,
        sampler: str,
        steps: int,
        steps_taken: int,
        prediction_type: str,
        device: torch.device | str = "cpu",
        schedule: str = TRAILING,
    ) -> None:
        self._sampler = SAMPLERS[sampler]
        self._scheduler = self._sampler.scheduler(**NOISE_SCHEDULE, prediction_type=prediction_type, **self._sampler.options)
        self._scheduler.set_timesteps(steps, device=device)
        self._begins_with = self._scheduler.init_noise_sigma
        of_webui = schedule_type(sampler, schedule)
        self.schedule = of_webui.lower() or TRAILING
        if of_webui:
            self._take(SCHEDULES[of_webui](steps))
        left_out = (steps - steps_taken) * self._scheduler.order
        self._scheduler.set_begin_index(left_out)
        self.timesteps: Tensor = self._scheduler.timesteps[left_out:]

    def _take(self, levels: Sequence[float]) -> None:
        """Evaluate at these, as progress, and end clean."""
        sigmas = [sigma_at(level) for level in levels]
        timesteps = [(1 - level) * LAST for level in levels]
        of_order = self._scheduler.order
        sigmas = [sigmas[0], *(sigma for sigma in sigmas[1:] for _ in range(of_order)), 0.0]
        timesteps = [timesteps[0], *(timestep for timestep in timesteps[1:] for _ in range(of_order))]
        known = self._scheduler.sigmas
        self._scheduler.sigmas = torch.tensor(sigmas, dtype=known.dtype, device=known.device)
        self._scheduler.timesteps = torch.tensor(timesteps, dtype=torch.float32, device=self._scheduler.timesteps.device)
        # k-diffusion begins with as much noise as the first level has; some schedulers keep latents scaled as the U-Net's.
        scaled = self._scheduler.init_noise_sigma == 1
        self._begins_with = sigmas[0] * ((sigmas[0] ** 2 + 1) ** -0.5 if scaled else 1)

    def begin(self, noise: Tensor, clean: Tensor | None = None) -> Tensor:
        """The latent to begin from, as `noise` (B, 4, h, w): noise alone, or the clean latent with noise on it."""
        if clean is None:
            return noise * self._begins_with
        return self._scheduler.add_noise(clean, noise, self.timesteps[:1])

    def run(self, latent: Tensor, denoise: Callable[[Tensor, Tensor], Tensor], generator: torch.Generator) -> Tensor:
        """Walk `latent` (B, 4, h, w) from what `begin` returned to a clean one.

        Args:
            denoise: called with the U-Net's input (B, 4, h, w) and a timestep (0-dimensional); returns the prediction.
            generator: for samplers that draw noise on the way.
        """
        # Older diffusers draw noise that they do not use, from the global state where they are given no generator.
        takes = inspect.signature(self._scheduler.step).parameters
        drawing = {"generator": generator} if "generator" in takes else {}
        for timestep in self.timesteps:
            prediction = denoise(self._scheduler.scale_model_input(latent, timestep), timestep)
            latent = self._scheduler.step(prediction, timestep, latent, return_dict=False, **drawing)[0]
        return latent
