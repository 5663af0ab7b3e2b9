"""The same weights in diffusers' U-Net, an independent forward that published implementations act on.

diffusers takes seconds to import, so it is imported when a twin is made.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lib_unetmod import inspect_unet


def diffusers_twin(unet: nn.Module) -> nn.Module:
    """A diffusers U-Net that shares the weights of `unet`, an ldm U-Net of SD1's topology at any width."""
    width, structure = unet.model_channels, inspect_unet(unet)
    attention = structure.input_blocks[1].transformer_blocks[0].cross_attention
    return _with_weights_of(
        unet,
        block_out_channels=[width, 2 * width, 4 * width, 4 * width],
        layers_per_block=2,
        down_block_types=["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"],
        up_block_types=["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3,
        cross_attention_dim=attention.to_k.in_features,
        attention_head_dim=attention.heads,  # the number of heads, whatever its name
    )


def sdxl_twin(unet: nn.Module) -> nn.Module:
    """The same for an sgm U-Net of SDXL's layout, with its labels as class labels."""
    width, structure = unet.model_channels, inspect_unet(unet)
    depths = [1] + [len(structure.block(name).transformer_blocks) for name in ("in.4", "in.7")]
    heads = [structure.block(name).transformer_blocks[0].self_attention.heads for name in ("in.4", "in.7")]
    return _with_weights_of(
        unet,
        block_out_channels=[width, 2 * width, 4 * width],
        layers_per_block=2,
        down_block_types=["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
        up_block_types=["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
        transformer_layers_per_block=depths,
        attention_head_dim=[heads[0] // 2, *heads],  # the number of heads, whatever its name
        use_linear_projection=True,
        cross_attention_dim=structure.block("in.4").transformer_blocks[0].cross_attention.to_k.in_features,
        class_embed_type="projection",
        projection_class_embeddings_input_dim=unet.label_emb[0][0].in_features,
    )


def _with_weights_of(unet: nn.Module, **config: Any) -> nn.Module:
    from diffusers import UNet2DConditionModel
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

    with torch.device("meta"):  # no weights are drawn, only to be thrown away
        twin = UNet2DConditionModel(**config)
    state = {"model.diffusion_model." + key: value for key, value in unet.state_dict().items()}
    shared, own = convert_ldm_unet_checkpoint(state, twin.config), twin.state_dict()
    assert {name: weight.shape for name, weight in shared.items()} == {name: weight.shape for name, weight in own.items()}
    for name, weight in shared.items():  # `load_state_dict(assign=True)`, which torch 2.0 has not
        module, _, parameter = name.rpartition(".")
        setattr(twin.get_submodule(module), parameter, nn.Parameter(weight))
    return twin.eval().requires_grad_(False)


def call_twin(twin: nn.Module, step: dict) -> Tensor:
    """One evaluation: x (B, 4, H, W), timesteps (B,) of one value, context (B, tokens, size), for SDXL y (B, labels)."""
    labels = {} if step.get("y") is None else {"class_labels": step["y"]}
    return twin(step["x"], step["timesteps"][0], step["context"], return_dict=False, **labels)[0]
