"""SD1.5's and SDXL's U-Net at true size with random weights, made on the device, or a checkpoint's; and inputs for them.

In half precision they are as hosts run them without autocast: the norms compute in half precision too, and the embedding of
the timestep is cast to it.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from imaginairy.modules.sgm import attention as sgm_attention
from imaginairy.modules.sgm.diffusionmodules import openaimodel as sgm
from ldm.modules.diffusionmodules import openaimodel as ldm
from safetensors import safe_open
from torch import Tensor, nn

from benchmarks.subjects import scaled_dot_product_attention, sd15_config

# As shipped, imaginairy's U-Net imports a SpatialTransformer that does not take the arguments sgm's U-Net gives it.
sgm.SpatialTransformer = sgm_attention.SpatialTransformer
# It warns once per transformer when one context size stands for several depths, which is what every SDXL config does.
logging.getLogger(sgm_attention.__name__).setLevel(logging.ERROR)

#: Where a single-file checkpoint keeps its U-Net.
PREFIX = "model.diffusion_model."


@dataclass(frozen=True)
class Model:
    """A U-Net's layout.

    Attributes:
        name: as the tables have it.
        family: its family's name.
        context: size of a token of the prompt.
        labels: how many labels it takes beside the prompt, 0 for none.
    """

    name: str
    family: str
    context: int
    labels: int

    def built(self, width: int) -> nn.Module:
        if self.family == "sdxl":
            return sgm.UNetModel(**_sdxl_config(width, self.context, self.labels))
        return ldm.UNetModel(**(sd15_config(width) if self.family == "sd1" else _sd2_config(width, self.context)))


SD15 = Model("SD1.5", "sd1", context=768, labels=0)
SD2 = Model("SD2.1", "sd2", context=1024, labels=0)
SDXL = Model("SDXL", "sdxl", context=2048, labels=2816)


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def data_type() -> torch.dtype:
    """Half precision on a GPU; a CPU has few operations in it."""
    return torch.float16 if torch.cuda.is_available() else torch.float32


def unet_of(model: Model, width: int = 320, checkpoint: Path | None = None) -> nn.Module:
    """The U-Net on the device, with a checkpoint's weights or random ones."""
    with torch.device("meta"):
        unet = model.built(width)
    unet.to(data_type()).to_empty(device=device())
    if checkpoint is None:
        _draw(unet)
    else:
        unet.load_state_dict(weights_in(checkpoint))
    if data_type() == torch.float16:
        _compute_in_half(unet)
    return unet.eval().requires_grad_(False)


def weights_in(checkpoint: Path, prefix: str = PREFIX) -> dict[str, Tensor]:
    """The U-Net's weights, or those of another part, in a single-file checkpoint in safetensors format."""
    with safe_open(checkpoint, "pt") as file:
        return {key.removeprefix(prefix): file.get_tensor(key) for key in file.keys() if key.startswith(prefix)}  # noqa: SIM118


def model_in(checkpoint: Path) -> Model:
    """Which of the models a checkpoint is one of."""
    key = f"{PREFIX}input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight"
    with safe_open(checkpoint, "pt") as file:
        context = file.get_slice(key).get_shape()[1] if key in file.keys() else 0  # noqa: SIM118 - it is no dict
    for model in (SD15, SD2, SDXL):
        if model.context == context:
            return model
    raise ValueError(f"{checkpoint.name} is no checkpoint of SD1, SD2 or SDXL.")


def inputs_of(model: Model, side: int, rows: int) -> dict[str, Tensor]:
    """Keyword arguments of one call: a latent (rows, 4, side, side), timesteps, 77 tokens of context, labels for SDXL."""
    generator = torch.Generator().manual_seed(1)

    def noise(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).to(device(), data_type())

    inputs = {
        "x": noise(rows, 4, side, side),
        "timesteps": torch.full((rows,), 900.0, device=device()),
        "context": noise(rows, 77, model.context),
    }
    return inputs | ({"y": noise(rows, model.labels)} if model.labels else {})


@contextmanager
def as_hosts_run_it() -> Iterator[None]:
    """No gradients, and torch's attention in ldm's and sgm's classes."""
    with (
        torch.inference_mode(),
        scaled_dot_product_attention(),
        scaled_dot_product_attention(sgm_attention.CrossAttention),
    ):
        yield


def let_go() -> None:
    """Give back the memory of what nobody holds any more."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _draw(unet: nn.Module) -> None:
    """Random weights for all layers, those among them that start at zero and would hide their blocks from the output."""
    generator = torch.Generator(device()).manual_seed(0)
    for module in unet.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.weight.data.normal_(std=(3 * module.weight[0].numel()) ** -0.5, generator=generator)
        elif isinstance(module, (nn.GroupNorm, nn.LayerNorm)):
            module.weight.data.fill_(1)
        elif not list(module.parameters(recurse=False)):
            continue
        if module.bias is not None:
            module.bias.data.zero_()


def _compute_in_half(unet: nn.Module) -> None:
    unet.dtype = torch.float16
    unet.time_embed.register_forward_pre_hook(lambda module, args: (args[0].to(torch.float16),))
    for module in unet.modules():
        if isinstance(module, nn.GroupNorm):
            module.__class__ = nn.GroupNorm  # ldm's and sgm's own class goes through single precision


def _sd2_config(width: int, context: int) -> dict[str, Any]:
    """v2-inference.yaml's."""
    config = {**sd15_config(width), "context_dim": context, "num_head_channels": min(64, width)}
    config.pop("num_heads")
    return config | {"use_linear_in_transformer": True}


def _sdxl_config(width: int, context: int, labels: int) -> dict[str, Any]:
    """sd_xl_base.yaml's."""
    return {
        "in_channels": 4,
        "out_channels": 4,
        "model_channels": width,
        "channel_mult": [1, 2, 4],
        "num_res_blocks": 2,
        "attention_resolutions": [4, 2],
        "num_head_channels": min(64, width),
        "transformer_depth": [1, 2, 10],
        "context_dim": context,
        "use_linear_in_transformer": True,
        "num_classes": "sequential",
        "adm_in_channels": labels,
        "use_checkpoint": False,
    }
