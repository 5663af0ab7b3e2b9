"""What is measured: the real ldm U-Net of SD1.5 at full width, with random weights, and inputs for it."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from ldm.modules import attention
from ldm.modules.diffusionmodules.openaimodel import UNetModel
from torch import Tensor, nn


def sd15_config(width: int = 320) -> dict[str, Any]:
    """v1-inference.yaml's; `width` is its model_channels."""
    return {
        "image_size": 32,
        "in_channels": 4,
        "out_channels": 4,
        "model_channels": width,
        "channel_mult": [1, 2, 4, 4],
        "num_res_blocks": 2,
        "attention_resolutions": [4, 2, 1],
        "num_heads": 8,
        "use_spatial_transformer": True,
        "transformer_depth": 1,
        "context_dim": 768,
        "legacy": False,
        "use_checkpoint": False,
    }


def sd15(width: int = 320) -> nn.Module:
    """SD1.5's U-Net, with its zero-initialised layers filled."""
    torch.manual_seed(0)
    unet = UNetModel(**sd15_config(width))
    for module in unet.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)) and not module.weight.any():
            nn.init.normal_(module.weight, std=0.5 * module.weight[0].numel() ** -0.5)
    return unet.eval().requires_grad_(False)


def sd15_inputs(side: int, batch: int = 2) -> dict[str, Tensor]:
    """Keyword arguments of one call: a latent (batch, 4, side, side), timesteps and 77 tokens of context."""
    generator = torch.Generator().manual_seed(1)
    return {
        "x": torch.randn(batch, 4, side, side, generator=generator),
        "timesteps": torch.full((batch,), 500.0),
        "context": torch.randn(batch, 77, 768, generator=generator),
    }


def options(parser: argparse.ArgumentParser, rounds: int) -> argparse.Namespace:
    """The command line, with the width of SD1.5's U-Net, the side of its latents, and how often each way is run."""
    parser.add_argument("--width", type=int, default=320)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=rounds)
    return parser.parse_args()


def subject(chosen: argparse.Namespace) -> tuple[nn.Module, dict[str, Tensor]]:
    """The U-Net and its inputs by `options`: in half precision on a GPU where there is one."""
    on, dtype = ("cuda", torch.float16) if torch.cuda.is_available() else ("cpu", torch.float32)
    inputs = sd15_inputs(chosen.side)
    return sd15(chosen.width).to(on, dtype), {name: value.to(on, dtype) for name, value in inputs.items()}


@contextmanager
def scaled_dot_product_attention(of: type[nn.Module] = attention.CrossAttention) -> Iterator[None]:
    """torch's attention in ldm's CrossAttention, as the WebUI puts it there; a 64x64 latent's map need not exist then."""
    original = of.forward

    def forward(self: nn.Module, x: Tensor, context: Tensor | None = None, **others: object) -> Tensor:
        context = x if context is None else context
        heads = (self.to_q(x), self.to_k(context), self.to_v(context))
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in heads)
        return self.to_out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(-2))

    of.forward = forward
    try:
        yield
    finally:
        of.forward = original
