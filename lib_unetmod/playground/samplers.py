"""The samplers: diffusers' schedulers under the WebUI's names, and which part of their steps a picture takes.

The noise levels lie "trailing" (Lin et al. 2024, table 2), which draws best with the small model: the first is pure noise at
any number of steps, so that a picture of one step begins where the model was trained to begin. Or they are those of one of
AUTOMATIC1111's schedule types; pictures are then k-diffusion's. LCM has a spacing of its own.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import diffusers
import torch
from torch import Tensor

from ..core.noise import progress_at, sigma_at
from ..core.noise_levels import LAST, SCHEDULES, ddim_timesteps

#: SD1's noise schedule (v1-inference.yaml); betas are linear in their square roots.
NOISE_SCHEDULE = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
}


#: The only schedule type of the sampler of that name.
DDIM = "DDIM"


@dataclass(frozen=True)
class Sampler:
    """One sampler.

    Attributes:
        label: its name for people.
        scheduler: diffusers'.
        options: what that is built with.
        automatic: the schedule type that AUTOMATIC1111 takes for it; empty where it has a spacing of its own.
        midway: whether the second call of a step is made halfway to the next noise level, in the logarithm, and not there.
    """

    label: str
    scheduler: type
    options: dict[str, Any] = field(default_factory=lambda: {"timestep_spacing": "trailing"})
    automatic: str = "Uniform"
    midway: bool = False


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
    "dpm++sde": Sampler("DPM++ SDE", diffusers.DPMSolverSDEScheduler, automatic="Karras", midway=True),
    "unipc": Sampler("UniPC", diffusers.UniPCMultistepScheduler),
    "heun": Sampler("Heun", diffusers.HeunDiscreteScheduler),
    "ddim": Sampler(
        "DDIM",
        diffusers.DDIMScheduler,
        {"timestep_spacing": "trailing", "clip_sample": False},
        automatic=DDIM,
    ),
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
    if not automatic or schedule == TRAILING:
        return ""
    return automatic if schedule == "automatic" or automatic == DDIM else SCHEDULE_TYPES[schedule]


def evaluations(sampler: str, schedule: str, steps: int, steps_taken: int) -> int:
    """Calls of the U-Net where the last `steps_taken` of `steps` steps are taken.

    A second-order sampler makes two a step, but for the last. DDIM as AUTOMATIC1111 has it counts whole timesteps: of 20
    steps it makes 19 calls, of 60 steps 62, of which the same share is left out.
    """
    if schedule_type(sampler, schedule) == DDIM:
        return max(len(_of_ddim(steps)) - 1 - (steps - steps_taken), 1)
    return SAMPLERS[sampler].scheduler.order * (steps_taken - 1) + 1


def _of_ddim(steps: int) -> list[int]:
    """Timesteps of its calls, falling, and where it ends; of one step AUTOMATIC1111 makes no call, and draws noise."""
    timesteps = ddim_timesteps(steps)[::-1]
    return timesteps if len(timesteps) > 1 else [LAST, *timesteps]


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
        if of_webui == DDIM:
            self._scheduler.timesteps = torch.tensor(_of_ddim(steps)[:-1], device=self._scheduler.timesteps.device)
        elif of_webui:
            self._take(SCHEDULES[of_webui](steps))
        left_out = len(self._scheduler.timesteps) - evaluations(sampler, schedule, steps, steps_taken)
        if hasattr(self._scheduler, "set_begin_index"):  # DDIM's goes by the timesteps
            self._scheduler.set_begin_index(left_out)
        self.timesteps: Tensor = self._scheduler.timesteps[left_out:]

    def _take(self, levels: Sequence[float]) -> None:
        """Evaluate at these, as progress, and end clean."""
        sigmas = [sigma_at(level) for level in levels]
        timesteps = [(1 - level) * LAST for level in levels]
        of_order = self._scheduler.order
        sigmas = [sigmas[0], *(sigma for sigma in sigmas[1:] for _ in range(of_order)), 0.0]
        timesteps = [timesteps[0], *(timestep for timestep in timesteps[1:] for _ in range(of_order))]
        if self._sampler.midway:
            between = ((one * other) ** 0.5 for one, other in pairwise(sigmas[:-1:of_order]))
            timesteps[1::of_order] = [(1 - progress_at(sigma)) * LAST for sigma in between]
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
        if hasattr(self._scheduler, "noise_sampler_seed"):  # of a Brownian motion, whose steps overlap
            self._scheduler.noise_sampler_seed = int(torch.randint(2**63 - 1, (), generator=generator))
        for timestep in self.timesteps:
            prediction = denoise(self._scheduler.scale_model_input(latent, timestep), timestep)
            latent = self._scheduler.step(prediction, timestep, latent, return_dict=False, **drawing)[0]
        return latent
