"""Pictures by the small checkpoint in batches, as the studies of speed and of size draw them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from benchmarks.timing import seconds_now
from lib_unetmod import Config, modified
from lib_unetmod.core.call import Guidance, HostCall
from lib_unetmod.playground.model import SmallModel
from lib_unetmod.playground.samplers import SAMPLERS, TRAILING, Course

if TYPE_CHECKING:
    from benchmarks.checkpoint import Checkpoint

CFG, SEED = 4.0, 5


@torch.inference_mode()
def drawn(
    model: SmallModel | Checkpoint,
    prompts: Sequence[str],
    sampler: str,
    steps: int,
    configs: Iterable[Config] = (),
    size: tuple[int, int] | None = None,
    seed: int = SEED,
    begin_from: tuple[Tensor, int] | None = None,
    decoded: bool = False,
    schedule: str = TRAILING,
    cfg: float = CFG,
) -> tuple[Tensor, float]:
    """Latents (B, 4, h, w), and the seconds of their U-Net evaluations.

    Args:
        size: height and width in pixels; None for the trained square.
        begin_from: clean latents (B, 4, h, w) to begin from, and how many of the `steps` to take: hires fix's second pass.
        schedule: a key of `samplers.SCHEDULE_TYPES`.
        cfg: scale of classifier-free guidance.
        decoded: give pictures (B, 3, 8h, 8w) in [-1, 1] instead, decoded while the methods are on, some of which act there.
    """
    clean, taken = begin_from or (None, steps)
    course = Course(sampler, steps, taken, model.prediction_type, model.device, schedule)
    count, trained = len(prompts), model.architecture["trained_size"]
    height, width = size or (trained, trained)
    withal, without = (_conditions(model, each, height, width) for each in (list(prompts), [""] * count))
    conditions = {name: torch.cat([withal[name], without[name]]) for name in withal}
    # On the CPU, so that a seed gives the same noise on every device.
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(count, 4, height // 8, width // 8, generator=generator).to(model.device)
    seconds = 0.0
    call = HostCall(
        Guidance(cfg, (*range(count), *range(count))),
        prediction="v" if model.prediction_type == "v_prediction" else "eps",
        pass_name="hires" if begin_from else "first",
        seed=seed,
        evaluations=len(course.timesteps),
        sampler=SAMPLERS[sampler].label,
        schedule=course.schedule,
    )
    with modified(model.unet, configs, call=call, vae=model.vae if decoded else None, trained_size=trained) as run:

        def denoise(x: Tensor, timestep: Tensor) -> Tensor:
            nonlocal seconds
            run.new_evaluation()
            began = seconds_now()
            both = torch.cat([x, x]).to(model.dtype)
            prediction = model.unet(both, timesteps=timestep.to(x.device).expand(2 * count), **conditions)
            seconds += seconds_now() - began
            guided, unguided = prediction.float().chunk(2)
            return unguided + cfg * (guided - unguided)

        latent = course.run(course.begin(noise, clean), denoise, generator)
        # One at a time, since a batch of large pictures fills memory.
        return (torch.cat([model.decode(one[None]) for one in latent]) if decoded else latent), seconds


def _conditions(model: SmallModel | Checkpoint, prompts: Sequence[str], height: int, width: int) -> dict[str, Tensor]:
    """What the U-Net is called with beside latent and timestep."""
    if isinstance(model, SmallModel):
        return {"context": model.encode_prompt(list(prompts))}
    return model.conditions(prompts, height, width)
