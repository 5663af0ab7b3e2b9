"""Trains the f=8 autoencoder: latents are learned, of unit spread, and such that a U-Net can learn them.

* For its first steps the encoder is led to simple latents (`leading_latents`): colours first, else it finds edges
  and for long no hue.
* The decoder sees latents with some noise. That bounds what a latent can hold, and forgives what a U-Net leaves.
* Halved latents must decode to the halved picture (equivariance, Kouzelis et al. 2025): latents stay maps of the
  picture, which a U-Net learns sooner.
* A pull towards mean 0 and spread 1 keeps the scale; what is left of it is folded into the convolutions at the end.
"""

from __future__ import annotations

import copy
import random
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from ldm.modules.diffusionmodules import model as ldm_model
from torch import Tensor

from lib_unetmod.playground.model import AutoencoderKL
from training.ahead import ahead
from training.fast import compiled, half_convolutions, with_fast_norms
from training.latents import single
from training.muon import Muon
from training.scenes import Placed, joined, place, random_scene, render
from training.state import Budget, Log, Stopping, load_state, save_state

LOG_VARIANCE = -6.0
NOISE = 0.1
LED = 1000
PULL = 0.02
AVERAGING = 0.999
COOLING = 0.4  # the share of the budget, at its end, over which the rate falls to 0
STATISTICS = ((0.581, 0.139, -0.231, 0.0), (0.458, 0.416, 0.490, 0.220))  # of `leading_latents` over the pictures


def sample(emoji: int, pick: random.Random) -> Placed:
    """One picture of those trained on, of so many emoji: 3 in 10 as drawn, 2 moved on white, 5 scenes or on colours."""
    roll = pick.random()
    if roll < 0.5:
        return place([single(pick.randrange(emoji))], pick, *((0.0, 0.2) if roll < 0.3 else (1.0, 0.25)))
    return place([random_scene(emoji, pick, alone=0.4)], pick, 0.8, 0.2)


def batch_of(emoji: int, number: int, pick: random.Random) -> Placed:
    """So many of them."""
    return joined(sample(emoji, pick) for _ in range(number))


def held(cutouts: Tensor, number: int = 24) -> dict[str, Tensor]:
    """Three sets of pictures, always the same, to measure on: as drawn, moved and turned, scenes."""
    pick = random.Random(1)
    alone = [single(i * len(cutouts) // number) for i in range(number)]
    scenes = [random_scene(len(cutouts), pick) for _ in alone]
    sets = {"drawn": place(alone, pick, 0.0), "moved": place(alone, pick, 1.0, 0.5), "scenes": place(scenes, pick)}
    return {name: render(cutouts, placed) for name, placed in sets.items()}


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """Mean over the pictures (B, 3, H, W) in [-1, 1], in dB: a scalar."""
    return (10 * torch.log10(4 / (a.clamp(-1, 1) - b).square().mean((1, 2, 3)))).mean()


@torch.no_grad()
def measure(vae: AutoencoderKL, pictures: dict[str, Tensor]) -> dict[str, float]:
    """PSNR of what comes back, without noise, per set of pictures."""

    def through(x: Tensor) -> Tensor:
        return vae.decode(vae.moments(x)[0]).float()

    return {
        name: round(psnr(torch.cat([through(x) for x in each.split(8)]), each).item(), 2) for name, each in pictures.items()
    }


def picture_distance(a: Tensor, b: Tensor, levels: int = 3) -> Tensor:
    """Absolute and squared differences, and the bands of the difference's Laplacian pyramid; colour weighs double.

    The bands are for sharpness: edges (the fine ones) count as much as masses (the coarse ones). The squares are
    what PSNR measures.
    """
    luma = (a - b).mean(1, keepdim=True)
    difference = torch.cat([luma, 2 * (a - b - luma)], 1)
    total = difference.abs().mean() + 6 * difference.square().mean()
    for _ in range(levels):
        coarse = F.avg_pool2d(difference, 2)
        total = total + 0.4 * (difference - F.interpolate(coarse, scale_factor=2, mode="bilinear")).abs().mean()
        difference = coarse
    return total + difference.abs().mean()


def leading_latents(pictures: Tensor) -> Tensor:
    """(B, 4, H/8, W/8), of mean 0 and spread 1: of 8x8 pixels luma, two differences of colour, a detail.

    The detail is how much lighter the upper left quarter is than the whole.
    """
    red, green, blue = F.avg_pool2d(pictures, 8).unbind(1)
    luma = (red + green + blue) / 3
    corner = F.avg_pool2d(pictures.mean(1, keepdim=True), 4)[:, 0, ::2, ::2]
    mean, spread = (pictures.new_tensor(values).view(-1, 1, 1) for values in STATISTICS)
    return (torch.stack([luma, red - green, blue - (red + green) / 2, corner - luma], 1) - mean) / spread


@torch.no_grad()
def fold(vae: AutoencoderKL, mean: Tensor, spread: Tensor) -> None:
    """Latents become (latent - mean) / spread per channel, in the quant convolutions; pictures stay what they were."""
    channels = len(mean)
    vae.quant_conv.weight[channels:] = 0
    vae.quant_conv.bias[channels:] = LOG_VARIANCE - 2 * spread.log()
    vae.quant_conv.weight[:channels] /= spread.view(-1, 1, 1, 1)
    vae.quant_conv.bias[:channels] = (vae.quant_conv.bias[:channels] - mean) / spread
    vae.post_quant_conv.bias += vae.post_quant_conv.weight[:, :, 0, 0] @ mean
    vae.post_quant_conv.weight *= spread.view(1, -1, 1, 1)


@torch.no_grad()
def normalise(vae: AutoencoderKL, cutouts: Tensor, scale: float, number: int = 192) -> None:
    """To latents of mean 0 and spread 1 / `scale` per channel over the pictures trained on: ldm's convention."""
    pick = random.Random(2)
    pictures = (render(cutouts, batch_of(len(cutouts), 16, pick)) for _ in range(number // 16))
    latents = torch.cat([vae.moments(x)[0].float() for x in pictures]).transpose(0, 1).flatten(1)
    fold(vae, latents.mean(1), latents.std(1) * scale)


def train(
    vae: AutoencoderKL,
    cutouts: Tensor,
    budget: Budget,
    state: Path,
    batch: int = 4,
    rate: float = 1e-3,
    seen: int = 0,
    workers: int = 0,
    compile: bool = True,
    log_every: float = 60.0,
    done: Callable[[AutoencoderKL, int, dict[str, float]], None] | None = None,
) -> None:
    """Trains until the budget is spent, over restarts, or a signal asks to stop; `cutouts` are on the device of `vae`.

    `seen` is how many samples `vae` comes with where there is no state. `vae` ends with the averaged weights.
    `done(averaged, samples, PSNR)` is called whenever the state is saved. Lines are logged every so many seconds.
    """
    device = cutouts.device
    ldm_model.nonlinearity = F.silu  # the same function, in one pass over memory instead of three
    learner = with_fast_norms(copy.deepcopy(vae).to(memory_format=torch.channels_last).train().requires_grad_(True))
    averaged = copy.deepcopy(learner).requires_grad_(False)
    parameters, averages = list(learner.parameters()), list(averaged.parameters())
    optimizer = Muon(parameters, lr=rate)
    before, counted = load_state(state, learner, optimizer, averaged=averaged)
    seen = counted if state.is_file() else seen
    step = resumed = seen // batch
    generator = torch.Generator(device).manual_seed(seen)
    source = ahead(partial(batch_of, len(cutouts), batch), seen, workers)
    moments = torch.stack([torch.zeros(4), torch.ones(4)]).to(device)  # running mean and mean square per channel
    pictures, stopping = held(cutouts), Stopping()
    log, started, saved, measured = Log("vae", seen, log_every), time.time(), time.time(), time.time()

    def save(figures: dict[str, float]) -> None:
        save_state(state, learner, optimizer, before + time.time() - started, seen, averaged=averaged)
        if done:
            done(averaged, seen, figures)

    def there_and_back(x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Latents as they are and with noise; how far the picture is that comes back, and its PSNR."""
        mean = learner.moments(x)[0].float()
        latents = mean + noise
        back = learner.decode(latents).float()
        return mean, latents, picture_distance(back, x), psnr(back.detach(), x)

    go = compiled(there_and_back, device, compile)
    while (spent := budget.spent(seen, before + time.time() - started)) < 1 and not stopping:
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1, (step - resumed + 1) / 100, (1 - spent) / COOLING)
        x = render(cutouts, next(source)).contiguous(memory_format=torch.channels_last)
        side = x.shape[-1] // 8
        noise = NOISE * torch.rand(batch, 1, 1, 1, generator=generator, device=device)
        noise = noise * torch.randn(batch, 4, side, side, generator=generator, device=device)
        with half_convolutions(device):
            mean, latents, distance, decibels = go(x, noise)
            halved = learner.decode(F.avg_pool2d(latents[: batch // 4], 2)).float()
        loss = distance + 0.25 * picture_distance(halved, F.avg_pool2d(x[: batch // 4], 2))
        with torch.no_grad():
            now = torch.stack([mean.mean((0, 2, 3)), mean.square().mean((0, 2, 3))])
            moments.lerp_(now, 0.02)
        # the gradient of mean² + (mean square - 1)² of all latents, of which a batch is too small a part
        off = 2 * moments[0] * mean.mean((0, 2, 3)) + 2 * (moments[1] - 1) * mean.square().mean((0, 2, 3))
        loss = loss + PULL * off.sum()
        if step < LED:
            loss = loss + (1 - step / LED) * (mean - leading_latents(x)).square().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        step, seen = step + 1, seen + batch
        with torch.no_grad():
            torch._foreach_lerp_(averages, parameters, 1 - min(AVERAGING, (step - resumed + 1) / (step - resumed + 10)))
        log.add(spent, seen, distance=distance.detach(), psnr=decibels, norm=norm, spread=mean.detach().std())
        if time.time() - saved > 240:
            figures = {}
            if time.time() - measured > 420:
                figures, measured = measure(averaged, pictures), time.time()
                log.line(spent, seen, **figures)
            save(figures)
            saved = time.time()
    figures = measure(averaged, pictures)
    log.line(spent, seen, **figures)
    save(figures)
    vae.load_state_dict(averaged.state_dict())
    vae.eval()
