"""Trains U-Net and text encoder together on the autoencoder's latents: v-prediction on SD1's noise schedule.

Sources: v-prediction (Salimans & Ho 2022), classifier-free guidance by dropped prompts (Ho & Salimans 2022), loss
weights in the manner of min-SNR (Hang et al. 2023).
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from pathlib import Path
from types import MethodType

import torch
import torch.nn.functional as F
from ldm.modules.attention import CrossAttention
from torch import Tensor, nn

from lib_unetmod.playground.model import SmallModel
from training import workers
from training.data import Captions
from training.latents import Latents
from training.state import Log, Stopping, load_state, save_state

DROPOUT = 0.12
AVERAGING = 0.9995
SNR_KNEE = 10.0
SHAPING = (0.12, 0.82)


def _sdpa(self: CrossAttention, x: Tensor, context: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
    """ldm's attention through torch's fused kernel: the same result, several times as fast."""
    context = x if context is None else context
    q, k, v = (
        part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
        for part in (self.to_q(x), self.to_k(context), self.to_v(context))
    )
    return self.to_out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


def with_fast_attention(unet: nn.Module) -> nn.Module:
    for module in unet.modules():
        if isinstance(module, CrossAttention):
            module.forward = MethodType(_sdpa, module)
    return unet


def loss_of(model: SmallModel, latents: Tensor, prompts: list[str], generator: torch.Generator) -> Tensor:
    """The mean weighted squared error of v over a batch of latents (B, 4, h, w)."""
    number = len(latents)
    # one timestep from each of B equal strata: the same expectation, less variance than B free draws
    strata = (torch.arange(number) + torch.rand(number, generator=generator)) / number
    # three in ten from all of them, the others from those where a picture takes its shape
    strata = torch.where(strata < 0.3, strata / 0.3, SHAPING[0] + (SHAPING[1] - SHAPING[0]) * (strata - 0.3) / 0.7)
    timesteps = (strata * len(model.alphas_cumprod)).long().clamp(max=len(model.alphas_cumprod) - 1).to(latents.device)
    a = model.alphas_cumprod[timesteps].view(-1, 1, 1, 1)
    noise = torch.randn(latents.shape, generator=generator).to(latents)
    noisy = a.sqrt() * latents + (1 - a).sqrt() * noise
    target = a.sqrt() * noise - (1 - a).sqrt() * latents
    v = model.unet(noisy, timesteps, context=model.encode_prompt(prompts))
    weight = SNR_KNEE / (SNR_KNEE + a / (1 - a))  # nearly clean latents teach little
    return (weight * (v - target).square()).mean()


def train(
    model: SmallModel,
    latents: Latents,
    captions: Captions,
    samples: int,
    state: Path,
    batch: int = 16,
    rate: float = 1e-3,
    seen: int = 0,
    minutes: float = math.inf,
    publish: Callable[[dict[str, Tensor], int], None] | None = None,
    publish_every: float = 1800.0,
) -> None:
    """Trains until so many samples in all have been seen, over restarts; the rate falls to 0 at their end.

    Or until so many minutes of this process' CPU time are over, or a signal asks to stop. `seen` is how many samples
    the model comes with where there is no state. The model ends with the averaged weights. `publish(averaged weights
    by name, samples seen)` is called now and then, so that there is early something to use.
    """
    learner = (
        nn.ModuleDict(
            {
                "unet": with_fast_attention(model.unet.to(memory_format=torch.channels_last)),
                "text_encoder": model.text_encoder,
            }
        )
        .train()
        .requires_grad_(True)
    )
    averaged = copy.deepcopy(learner).requires_grad_(False)
    parameters, averages = list(learner.parameters()), list(averaged.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=rate, betas=(0.9, 0.99), weight_decay=0.01, fused=True)
    before, counted = load_state(state, learner, optimizer, averaged=averaged)
    seen = counted if state.is_file() else seen
    step = resumed = seen // batch
    first, share = workers.rank() == 0, batch // workers.number()
    generator = torch.Generator().manual_seed(1000 * seen + workers.rank())
    captions.random.seed(1000 * seen + workers.rank())
    stopping, stop = Stopping(), 0.0
    log, started, saved, published = Log("unet", samples, seen), time.process_time(), time.time(), time.time()
    while seen < samples and not stop:
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1, (step - resumed + 1) / 200) * (0.5 + 0.5 * math.cos(math.pi * seen / samples))
        scenes, drawn = latents.draw(share)
        prompts = ["" if captions.random.random() < DROPOUT else captions.prompt(scene) for scene in scenes]
        loss = loss_of(model, drawn.contiguous(memory_format=torch.channels_last).to(model.device), prompts, generator)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        over = bool(stopping) or time.process_time() - started > minutes * 60
        stop = workers.average_gradients(parameters, float(over))  # where one stops, all do
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        step, seen = step + 1, seen + batch
        if not first:
            continue
        with torch.no_grad():
            torch._foreach_lerp_(averages, parameters, 1 - min(AVERAGING, (step + 1) / (step + 10)))
        log.add(seen, loss=loss.item())
        done = bool(stop) or seen >= samples
        if done or time.time() - saved > 240:
            save_state(state, learner, optimizer, before + time.process_time() - started, seen, averaged=averaged)
            saved = time.time()
        if publish and (done or time.time() - published > publish_every):
            publish(averaged.state_dict(), seen)
            published = time.time()
    model.unet.load_state_dict(averaged["unet"].state_dict())
    model.text_encoder.load_state_dict(averaged["text_encoder"].state_dict())
    learner.eval()
