"""Pictures by the small checkpoint in batches, as the studies of speed and of size draw them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from benchmarks.timing import seconds_now
from lib_unetmod import Config, modified
from lib_unetmod.core.call import Guidance, HostCall
from lib_unetmod.playground.model import SmallModel
from lib_unetmod.playground.samplers import SAMPLERS, TRAILING, Course

CFG, SEED = 4.0, 5


@torch.inference_mode()
def drawn(
    model: SmallModel,
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
    course = Course(sampler, steps, taken, model.prediction_type, schedule=schedule)
    count, trained = len(prompts), model.architecture["trained_size"]
    height, width = size or (trained, trained)
    context = torch.cat([model.encode_prompt(list(prompts)), model.encode_prompt([""] * count)])
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(count, 4, height // 8, width // 8, generator=generator)
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
            prediction = model.unet(torch.cat([x, x]), timesteps=timestep.expand(2 * count), context=context)
            seconds += seconds_now() - began
            withal, without = prediction.chunk(2)
            return without + cfg * (withal - without)

        latent = course.run(course.begin(noise, clean), denoise, generator)
        # One at a time, since a batch of large pictures fills memory.
        return (torch.cat([model.decode(one[None]) for one in latent]) if decoded else latent), seconds
