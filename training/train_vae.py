"""Trains the f=8 autoencoder. What the latents are is fixed beforehand; encoder and decoder are taught it apart.

Four numbers for 8x8 pixels: the mean colour and one detail (`raw_latents`). Learned latents would draw sharper, but
after twenty minutes on two cores they had found edges and hardly a hue, while these let the U-Net start at once and
in parallel; and they are smooth, which a U-Net learns sooner. The decoder's task is then to draw a picture from its
16x16 thumbnail.

The loss weighs the bands of a Laplacian pyramid: edges (its fine levels) count as much as masses (its coarse ones),
which is what a perceptual net would be asked for here; it needs no foreign weights.
"""

from __future__ import annotations

import math
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from ldm.modules.diffusionmodules import model as ldm_model
from torch import Tensor

from lib_unetmod.playground.model import AutoencoderKL
from training.data import RUNS, SIZE
from training.state import Progress, load_state, save_state

STATE = RUNS / "vae.safetensors"
LOG_VARIANCE = -6.0
STATISTICS = ((0.581, 0.139, -0.231, 0.0), (0.458, 0.416, 0.490, 0.220))  # of `raw_latents` over the pictures


def placed(pictures: Tensor, zoom: Tensor, angle: Tensor, mirror: Tensor, shift: Tensor) -> Tensor:
    """Pictures (B, 3, 128, 128) shrunk by zoom, turned, mirrored where -1, shifted (B, 2); outside is white."""
    theta = torch.stack(
        [
            torch.stack([mirror * zoom * angle.cos(), -zoom * angle.sin(), shift[:, 0]], 1),
            torch.stack([mirror * zoom * angle.sin(), zoom * angle.cos(), shift[:, 1]], 1),
        ],
        1,
    )
    grid = F.affine_grid(theta.to(pictures), [len(pictures), 3, SIZE, SIZE], align_corners=False)
    return F.grid_sample(pictures - 1, grid, align_corners=False) + 1


def augmented(pictures: Tensor, number: int, generator: torch.Generator) -> Tensor:
    """A batch (number, 3, 128, 128) of random pictures, a quarter mirrored, half turned, shifted, scaled."""
    x = pictures[torch.randint(len(pictures), (number,), generator=generator)]
    u = torch.rand(number, 6, generator=generator)
    some = (u[:, 0] < 0.5).float()
    return placed(
        x,
        1 + some * (u[:, 1] * 0.5 - 0.2),
        some * (u[:, 2] - 0.5) * 0.5,
        1 - 2 * (u[:, 3] < 0.25).float(),
        some[:, None] * (u[:, 4:] - 0.5) * 0.3,
    )


def picture_distance(a: Tensor, b: Tensor, levels: int = 4) -> Tensor:
    """Absolute and squared differences, and the bands of the difference's Laplacian pyramid; colour weighs double."""
    luma = (a - b).mean(1, keepdim=True)
    difference = torch.cat([luma, 2 * (a - b - luma)], 1)
    total = 1.5 * difference.abs().mean() + difference.square().mean()
    for _ in range(levels):
        coarse = F.avg_pool2d(difference, 2)
        total = total + 0.5 * (difference - F.interpolate(coarse, scale_factor=2, mode="bilinear")).abs().mean()
        difference = coarse
    return total + difference.abs().mean()


def raw_latents(pictures: Tensor) -> Tensor:
    """(B, 4, H/8, W/8): of each 8x8 pixels the mean colour as luma and two differences, and a detail.

    The detail is how much lighter the upper left quarter is than the whole. Of the simple choices tried it lets
    neighbours predict the pixels best (21.0 dB by linear regression; colours alone 19.6; the best linear four 21.3).
    """
    red, green, blue = F.avg_pool2d(pictures, 8).unbind(1)
    luma = (red + green + blue) / 3
    corner = F.avg_pool2d(pictures.mean(1, keepdim=True), 4)[:, 0, ::2, ::2]
    return torch.stack([luma, red - green, blue - (red + green) / 2, corner - luma], 1)


def wanted_latents(pictures: Tensor) -> Tensor:
    """Scaled latents (B, 4, H/8, W/8) the encoder is taught: `raw_latents` with mean 0 and spread 1 per channel."""
    mean, spread = (pictures.new_tensor(values).view(-1, 1, 1) for values in STATISTICS)
    return (raw_latents(pictures) - mean) / spread


def fold_scale(vae: AutoencoderKL, scale: float) -> None:
    """From latents of unit spread to ldm's convention: the U-Net's latent is `scale` times the encoder's.

    Folding by 1 / scale undoes it.
    """
    with torch.no_grad():
        channels = len(vae.quant_conv.weight) // 2
        vae.quant_conv.weight[:channels] /= scale
        vae.quant_conv.bias[:channels] /= scale
        vae.quant_conv.bias[channels:] -= 2 * math.log(scale)
        vae.post_quant_conv.weight *= scale


def trained(vae: AutoencoderKL, scale: float, state: Path = STATE) -> bool:
    """Fills `vae` with the weights trained so far, in ldm's convention; False where there are none."""
    if not state.is_file():
        return False
    load_state(state, vae)
    fold_scale(vae, scale)
    return True


def train(
    vae: AutoencoderKL, pictures: Tensor, minutes: float, batch: int = 8, rate: float = 2e-3, state: Path = STATE
) -> None:
    """Trains for so many minutes in all, over restarts; the rate falls to 0 at their end. Latents have unit spread."""
    ldm_model.nonlinearity = F.silu  # the same function, in one pass over memory instead of three
    vae.to(memory_format=torch.channels_last).train().requires_grad_(True)
    optimizer = torch.optim.AdamW(vae.parameters(), lr=rate, betas=(0.9, 0.99), weight_decay=1e-4, fused=True)
    spent, samples = load_state(state, vae, optimizer)
    step = samples // batch
    generator = torch.Generator().manual_seed(samples)
    progress, last, saved = Progress("vae", minutes), time.time(), time.time()
    while spent < minutes * 60:
        part = spent / (minutes * 60)
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1, (step + 1) / 100) * (0.5 + 0.5 * math.cos(math.pi * part))
        x = augmented(pictures.cpu(), batch, generator).to(pictures.device)
        x = x.contiguous(memory_format=torch.channels_last)
        wanted = wanted_latents(x)
        # the encoder's task is easy: a quarter of the pictures suffices
        mean, logvar = vae.moments(x[: batch // 4])
        encoding = (mean - wanted[: batch // 4]).square().mean() + 0.01 * (logvar - LOG_VARIANCE).square().mean()
        # the U-Net's latents will be a little off: the decoder learns to forgive that much
        noise = 0.2 * torch.rand(batch, 1, 1, 1, device=x.device) * torch.randn_like(wanted)
        distance = picture_distance(vae.decode(wanted + noise), x)
        optimizer.zero_grad(set_to_none=True)
        (distance + encoding).backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        step += 1
        now = time.time()
        spent, last = spent + now - last, now
        progress.show(spent, step, step * batch, distance=distance.item(), encoding=encoding.item())
        if now - saved > 60 or spent >= minutes * 60:
            save_state(state, vae, optimizer, spent, step * batch)
            saved = now
    vae.eval()
