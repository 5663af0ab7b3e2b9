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
from training.data import RUNS, Captions
from training.state import Progress, load_state, save_state
from training.train_vae import placed, wanted_latents

STATE = RUNS / "unet.safetensors"
DROPOUT = 0.12
AVERAGING = 0.998
SNR_KNEE = 10.0
SHAPING = (0.12, 0.82)


def latent_bank(pictures: Tensor, moved: int = 4) -> Tensor:
    """Scaled latents (N, variants, 4, 16, 16): as it is, mirrored, and `moved` shifted and scaled a little."""
    generator = torch.Generator().manual_seed(1)
    variants = [pictures, pictures.flip(-1)]
    for _ in range(moved):
        u = torch.rand(len(pictures), 3, generator=generator).to(pictures) - 0.5
        variants.append(placed(pictures, 1.08 + 0.16 * u[:, 0], 0 * u[:, 0], 1 + 0 * u[:, 0], 0.1 * u[:, 1:]))
    return torch.stack([wanted_latents(each) for each in variants], 1)


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


def pick(bank: Tensor, index: Tensor, generator: torch.Generator) -> Tensor:
    """Latents of the items: eight in ten as they are, one in ten mirrored, one in ten moved."""
    roll = torch.rand(len(index), generator=generator)
    moved = torch.randint(2, bank.shape[1], (len(index),), generator=generator)
    variant = torch.where(roll < 0.8, 0, torch.where(roll < 0.9, 1, moved))
    return bank[index, variant]


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
    bank: Tensor,
    captions: Captions,
    minutes: float,
    batch: int = 16,
    rate: float = 1e-3,
    state: Path = STATE,
    publish: Callable[[dict[str, Tensor], int], None] | None = None,
    publish_every: float = 600.0,
) -> None:
    """Trains for so many minutes in all, over restarts; the model ends with the averaged weights.

    `publish(averaged weights by name, samples seen)` is called now and then, so that there is early something to use.
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
    spent, samples = load_state(state, learner, optimizer, averaged=averaged)
    step = resumed = samples // batch
    first, share = workers.rank() == 0, batch // workers.number()
    generator = torch.Generator().manual_seed(1000 * samples + workers.rank())
    captions.random.seed(1000 * samples + workers.rank())
    order: list[int] = []
    progress, last, saved, published = Progress("unet", minutes), time.time(), time.time(), time.time()
    while spent < minutes * 60:
        part = spent / (minutes * 60)
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1, (step - resumed + 1) / 200) * (0.5 + 0.5 * math.cos(math.pi * part))
        while len(order) < share:
            order += torch.randperm(len(bank), generator=generator).tolist()
        drawn, order = order[:share], order[share:]
        prompts = ["" if captions.random.random() < DROPOUT else captions.draw(i) for i in drawn]
        latents = pick(bank, torch.tensor(drawn), generator).contiguous(memory_format=torch.channels_last)
        loss = loss_of(model, latents.to(model.device), prompts, generator)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        now = time.time()
        spent, last = workers.average_gradients(parameters, spent + now - last), now
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        step, samples = step + 1, samples + batch
        if not first:
            continue
        with torch.no_grad():
            torch._foreach_lerp_(averages, parameters, 1 - min(AVERAGING, (step + 1) / (step + 10)))
        progress.show(spent, step, samples, loss=loss.item())
        done = spent >= minutes * 60
        if done or now - saved > 120:
            save_state(state, learner, optimizer, spent, samples, averaged=averaged)
            saved = now
        if publish and (done or now - published > publish_every):
            publish(averaged.state_dict(), samples)
            published = now
    model.unet.load_state_dict(averaged["unet"].state_dict())
    model.text_encoder.load_state_dict(averaged["text_encoder"].state_dict())
    learner.eval()
