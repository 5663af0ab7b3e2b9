"""What a picture is drawn from, checked where it is made: every wrong value costs one sentence that names it."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from typing import Any

from PIL import Image

from ..core.knobs import shortened
from .samplers import SAMPLERS, SCHEDULE_TYPES, TRAILING, evaluations

#: The U-Net halves a latent three times, and a latent is an eighth of its picture.
SIZE_STEP = 64
SIZES = (64, 1024)
#: With 61 steps, rounding in diffusers' "trailing" spacing adds one at timestep -1.
STEPS = (1, 60)
CFG = (1.0, 30.0)
SEEDS = (-1, 2**32 - 1)

#: What users call each field: its label on the page, and its name in every sentence.
LABELS = {
    "prompt": "Prompt",
    "negative_prompt": "Negative prompt",
    "seed": "Seed",
    "steps": "Sampling steps",
    "sampler": "Sampling method",
    "schedule": "Schedule type",
    "cfg": "CFG scale",
    "width": "Width",
    "height": "Height",
    "image": "Start picture",
    "strength": "Denoising strength",
}


class SettingsError(ValueError):
    """Settings that no picture can be drawn from; the message is one sentence that names the value to change."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """One picture's settings.

    Attributes:
        prompt: what to draw; may be empty.
        negative_prompt: what to keep away from; acts where `cfg` is above 1.
        seed: 0 to 2**32 - 1, or -1 for one that is drawn.
        steps: 1 to 60 sampler steps.
        sampler: a key of `samplers.SAMPLERS`.
        schedule: a key of `samplers.SCHEDULE_TYPES`; "automatic" is what AUTOMATIC1111 takes for the sampler.
        cfg: classifier-free guidance, 1 to 30; at 1 the negative prompt has no effect.
        width, height: pixels, 64 to 1024; rounded up to multiples of 64.
        image: with a picture here it is img2img, which begins from it.
        strength: of img2img, denoising strength, 0 (one step, little noise) to 1 (all steps, from pure noise).

    Raises:
        SettingsError: for a value out of these ranges.
    """

    prompt: str = ""
    negative_prompt: str = ""
    seed: int = 0
    steps: int = 20
    sampler: str = "euler"
    schedule: str = TRAILING
    cfg: float = 4.0
    width: int = 128
    height: int = 128
    image: Image.Image | None = None
    strength: float = 0.5

    def __post_init__(self) -> None:
        for name in ("prompt", "negative_prompt"):
            if not isinstance(getattr(self, name), str):
                raise SettingsError(f"{LABELS[name]} is {shortened(getattr(self, name))}; it takes text.")
        for name, (low, high) in {"seed": SEEDS, "steps": STEPS, "width": SIZES, "height": SIZES}.items():
            object.__setattr__(self, name, int(number(name, getattr(self, name), low, high, whole=True)))
        for name, (low, high) in {"cfg": CFG, "strength": (0.0, 1.0)}.items():
            object.__setattr__(self, name, number(name, getattr(self, name), low, high, whole=False))
        for name, known in {"sampler": SAMPLERS, "schedule": SCHEDULE_TYPES}.items():
            if not isinstance(getattr(self, name), str) or getattr(self, name) not in known:
                raise SettingsError(f"{LABELS[name]} is {shortened(getattr(self, name))}; it takes {' or '.join(known)}.")

    @property
    def evaluations(self) -> int:
        """How often the sampler calls the U-Net: in img2img for the part of the steps that `strength` leaves."""
        return evaluations(self.sampler, self.schedule, self.steps, self.steps_taken)

    @property
    def steps_taken(self) -> int:
        """Steps that are taken: all, or in img2img `strength` of them, rounded, and at least one."""
        return self.steps if self.image is None else max(1, round(self.steps * self.strength))

    def settled(self) -> tuple[Settings, list[str]]:
        """These settings as they are used, sizes rounded up and a seed drawn where it is -1, and what changed in words."""
        width, height = (-(-side // SIZE_STEP) * SIZE_STEP for side in (self.width, self.height))
        notes = []
        if (width, height) != (self.width, self.height):
            notes.append(
                f"The size {self.width}x{self.height} is rounded up to {width}x{height}: both sides must be multiples of "
                f"{SIZE_STEP}."
            )
        if self.cfg == 1 and self.negative_prompt.strip():
            notes.append("The negative prompt has no effect at CFG 1.")
        seed = secrets.randbelow(2**32) if self.seed == -1 else self.seed
        return replace(self, width=width, height=height, seed=seed), notes


def number(name: str, value: Any, low: float, high: float, whole: bool) -> float:
    """`value` if the field `name` takes it.

    Raises:
        SettingsError: for anything else, with the field's label, what came and what may come instead.
    """
    kind = "a whole number" if whole else "a number"
    said = "empty" if value is None else shortened(value)
    refusal = SettingsError(f"{LABELS[name]} is {said}; it takes {kind} from {low:g} to {high:.10g}.")
    # Bounds before anything else: a whole number may have more digits than a float can hold. NaN lies in no bounds.
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise refusal
    if whole and value != int(value):
        raise refusal
    return value
