"""Trains U-Net and text encoder together on the autoencoder's latents: v-prediction on SD1's noise schedule.

Sources: v-prediction (Salimans & Ho 2022), classifier-free guidance by dropped prompts (Ho & Salimans 2022), loss
weights in the manner of min-SNR (Hang et al. 2023).
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from pathlib import Path

import torch
from ldm.modules.diffusionmodules import openaimodel
from torch import Tensor, nn

from lib_unetmod.playground.model import SmallModel
from training.fast import compiled, timestep_embedding, with_fast_attention
from training.latents import Latents
from training.muon import Muon
from training.state import Budget, Log, Stopping, load_state, save_state

DROPOUT = 0.12
AVERAGING = 0.999
SNR_KNEE = 10.0
SHAPING = (0.12, 0.82)
COOLING = 0.6  # the share of the budget, at its end, over which the rate falls to 0


def corrupted(model: SmallModel, latents: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Noisy latents, their timesteps (B,), v and the loss' weights (B, 1, 1, 1) of latents (B, 4, h, w)."""
    number, device = len(latents), latents.device
    # one timestep from each of B equal strata: the same expectation, less variance than B free draws
    strata = (torch.arange(number, device=device) + torch.rand(number, generator=generator, device=device)) / number
    # three in ten from all of them, the others from those where a picture takes its shape
    strata = torch.where(strata < 0.3, strata / 0.3, SHAPING[0] + (SHAPING[1] - SHAPING[0]) * (strata - 0.3) / 0.7)
    timesteps = (strata * len(model.alphas_cumprod)).long().clamp(max=len(model.alphas_cumprod) - 1)
    a = model.alphas_cumprod[timesteps].view(-1, 1, 1, 1)
    noise = torch.randn(latents.shape, generator=generator, device=device)
    noisy, v = a.sqrt() * latents + (1 - a).sqrt() * noise, a.sqrt() * noise - (1 - a).sqrt() * latents
    return noisy, timesteps, v, SNR_KNEE / (SNR_KNEE + a / (1 - a))  # nearly clean latents teach little


def train(
    model: SmallModel,
    latents: Latents,
    budget: Budget,
    state: Path,
    batch: int = 16,
    rate: float = 1e-3,
    seen: int = 0,
    compile: bool = True,
    publish: Callable[[dict[str, Tensor], int], None] | None = None,
    publish_every: float = 1800.0,
    log_every: float = 60.0,
) -> None:
    """Trains until the budget is spent, over restarts, or a signal asks to stop.

    `seen` is how many samples the model comes with where there is no state. The model ends with the averaged weights.
    `publish(averaged weights by name, samples seen)` is called every so many seconds and at the end, so that there is
    early something to use.
    """
    device = model.device
    openaimodel.timestep_embedding = timestep_embedding
    unet = with_fast_attention(model.unet.to(memory_format=torch.channels_last))
    learner = nn.ModuleDict({"unet": unet, "text_encoder": model.text_encoder}).train().requires_grad_(True)
    averaged = copy.deepcopy(learner).requires_grad_(False)
    parameters, averages = list(learner.parameters()), list(averaged.parameters())
    embeddings = [each.weight for each in learner.modules() if isinstance(each, nn.Embedding)]
    others = [each for each in parameters if not any(each is embedding for embedding in embeddings)]
    optimizer = Muon([{"params": others}, {"params": embeddings, "turned": False}], lr=rate, weight_decay=0.01)
    before, counted = load_state(state, learner, optimizer, averaged=averaged)
    seen = counted if state.is_file() else seen
    step = resumed = seen // batch
    generator = torch.Generator(device).manual_seed(1000 * seen)
    nothing = model.tokenizer([""]).to(device)
    stopping = Stopping()
    log, started, saved, published = Log("unet", seen, log_every), time.time(), time.time(), time.time()

    def predicted(noisy: Tensor, timesteps: Tensor, tokens: Tensor) -> Tensor:
        return model.unet(noisy, timesteps, context=model.text_encoder(input_ids=tokens).last_hidden_state)

    predict = compiled(predicted, device, compile)
    while (spent := budget.spent(seen, before + time.time() - started)) < 1 and not stopping:
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1, (step - resumed + 1) / 200, (1 - spent) / COOLING)
        drawn, tokens = latents.draw(batch)
        dropped = torch.rand(batch, 1, generator=generator, device=device) < DROPOUT
        noisy, timesteps, v, weight = corrupted(model, drawn, generator)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            guess = predict(
                noisy.contiguous(memory_format=torch.channels_last), timesteps, torch.where(dropped, nothing, tokens)
            )
        loss = (weight * (v - guess.float()).square()).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        step, seen = step + 1, seen + batch
        with torch.no_grad():
            torch._foreach_lerp_(averages, parameters, 1 - min(AVERAGING, (step - resumed + 1) / (step - resumed + 10)))
        log.add(spent, seen, loss=loss.detach())
        if time.time() - saved > 240:
            save_state(state, learner, optimizer, before + time.time() - started, seen, averaged=averaged)
            saved = time.time()
        if publish and time.time() - published > publish_every:
            publish(averaged.state_dict(), seen)
            published = time.time()
    save_state(state, learner, optimizer, before + time.time() - started, seen, averaged=averaged)
    if publish:
        publish(averaged.state_dict(), seen)
    model.unet.load_state_dict(averaged["unet"].state_dict())
    model.text_encoder.load_state_dict(averaged["text_encoder"].state_dict())
    learner.eval()
