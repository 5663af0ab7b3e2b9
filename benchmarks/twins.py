"""The same weights in diffusers' U-Net, an independent forward that published implementations act on."""

from __future__ import annotations

import torch
from diffusers import UNet2DConditionModel
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint
from torch import Tensor, nn

from lib_unetmod import inspect_unet


def diffusers_twin(unet: nn.Module) -> UNet2DConditionModel:
    """A diffusers U-Net with the weights of `unet`, an ldm U-Net of SD1's topology at any width."""
    width, structure = unet.model_channels, inspect_unet(unet)
    attention = structure.input_blocks[1].transformer_blocks[0].cross_attention
    with torch.random.fork_rng(devices=[]):  # the untrained weights are drawn, and thrown away
        twin = UNet2DConditionModel(
            block_out_channels=[width, 2 * width, 4 * width, 4 * width],
            layers_per_block=2,
            down_block_types=["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
            up_block_types=["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
            cross_attention_dim=attention.to_k.in_features,
            attention_head_dim=attention.heads,  # the number of heads, whatever its name
        )
    prefix = "model.diffusion_model."
    state = {prefix + key: value for key, value in unet.state_dict().items()}
    twin.load_state_dict(convert_ldm_unet_checkpoint(state, twin.config))
    first = next(unet.parameters())
    return twin.eval().requires_grad_(False).to(first.device, first.dtype)


def call_twin(twin: UNet2DConditionModel, step: dict) -> Tensor:
    """One evaluation of the twin: x (B, 4, H, W), timesteps (B,) of one value, context (B, tokens, size)."""
    return twin(step["x"], step["timesteps"][0], step["context"], return_dict=False)[0]
