"""Tiny, real Stable Diffusion U-Nets for the tests: the classes of ldm and sgm, a tenth as wide.

Block layout, pairing, attention placement and argument passing are those of the published configurations; only the
widths, the context and the label sizes shrink (and SDXL's transformer depth of 10 to 3).

| family | class | sources | in / out blocks | transformer depth by level, middle |
|---|---|---|---|---|
| sd1 | ldm | v1-inference.yaml | 12 / 12 | 1 1 1 -, 1 |
| sd2 | ldm | v2-inference.yaml | 12 / 12 | 1 1 1 -, 1 (linear projections) |
| inpainting | ldm | v1-inpainting-inference.yaml | 12 / 12 | as sd1, 9 input channels |
| sdxl | sgm | sd_xl_base.yaml | 9 / 9 | - 2 3, 3 |
| refiner | sgm | sd_xl_refiner.yaml | 12 / 12 | - 4 4 -, 4 |
| ssd1b | sgm, pruned | segmind/SSD-1B, as Forge and reForge build it | 9 / 9 | see `SSD1B_DEPTHS` |

Builders are cached: every caller gets the same module. Use `fresh(family)` for a copy that a test may spoil.
All weights are seeded and frozen, the modules in eval mode, and torch's global random state is left alone.
"""

from __future__ import annotations

import copy
import functools
import logging
import zlib
from collections.abc import Callable
from typing import Any

import pytest
import torch
from imaginairy.modules.sgm import attention as sgm_attention
from imaginairy.modules.sgm.diffusionmodules import openaimodel as sgm
from ldm.modules import attention as ldm_attention
from ldm.modules.diffusionmodules import openaimodel as ldm
from torch import Tensor, nn

# As shipped, imaginairy's U-Net imports a SpatialTransformer that does not take the arguments sgm's U-Net gives it.
sgm.SpatialTransformer = sgm_attention.SpatialTransformer
# It warns once per transformer when one context size stands for several depths, which is what every SDXL config does.
logging.getLogger(sgm_attention.__name__).setLevel(logging.ERROR)

# The same layer in ldm and in sgm, for isinstance.
UNETS = (ldm.UNetModel, sgm.UNetModel)
BLOCKS = (ldm.TimestepEmbedSequential, sgm.TimestepEmbedSequential)
RESBLOCKS = (ldm.ResBlock, sgm.ResBlock)
UPSAMPLES = (ldm.Upsample, sgm.Upsample)
DOWNSAMPLES = (ldm.Downsample, sgm.Downsample)
SPATIAL_TRANSFORMERS = (ldm.SpatialTransformer, sgm.SpatialTransformer)
TRANSFORMER_BLOCKS = (ldm_attention.BasicTransformerBlock, sgm_attention.BasicTransformerBlock)
ATTENTIONS = (ldm_attention.CrossAttention, sgm_attention.CrossAttention)

#: SSD-1B's transformer blocks per U-Net block; a block that is not named has no transformer. The middle block keeps
#: one ResBlock only (`transformer_depth_middle: -1`; diffusers: "UNetMidBlock2D", no attention, no extra layers).
SSD1B_DEPTHS = {
    "input": {4: 2, 5: 2, 7: 4, 8: 4},
    "output": {0: 4, 1: 4, 2: 10, 3: 2, 4: 1, 5: 1},
}


@functools.cache
def sd1(width: int = 32, in_channels: int = 4) -> nn.Module:
    """SD1.x: four levels, one transformer block wherever there is attention, 1x1 convolutions as its projections."""
    return _build(
        "sd1",
        ldm.UNetModel,
        image_size=32,
        in_channels=in_channels,
        out_channels=4,
        model_channels=width,
        channel_mult=[1, 2, 4, 4],
        num_res_blocks=2,
        attention_resolutions=[4, 2, 1],
        num_heads=4,
        use_spatial_transformer=True,
        transformer_depth=1,
        context_dim=24,
        legacy=False,
        use_checkpoint=False,
    )


@functools.cache
def sd2(width: int = 32) -> nn.Module:
    """SD2.x: SD1's layout with linear projections, a fixed size per head, and another context size."""
    return _build(
        "sd2",
        ldm.UNetModel,
        image_size=32,
        in_channels=4,
        out_channels=4,
        model_channels=width,
        channel_mult=[1, 2, 4, 4],
        num_res_blocks=2,
        attention_resolutions=[4, 2, 1],
        num_head_channels=16,
        use_spatial_transformer=True,
        use_linear_in_transformer=True,
        transformer_depth=1,
        context_dim=32,
        legacy=False,
        use_checkpoint=False,
    )


def inpainting(width: int = 32) -> nn.Module:
    """SD1.x inpainting: the latent, the mask and the masked image's latent make nine input channels."""
    return sd1(width, in_channels=9)


@functools.cache
def sdxl(width: int = 32) -> nn.Module:
    """SDXL base: three levels, none with attention at full resolution, depth 3 where the original has 10."""
    return _build("sdxl", sgm.UNetModel, **_sdxl_config(width, depth=[1, 2, 3]))


@functools.cache
def refiner(width: int = 32) -> nn.Module:
    """SDXL refiner: four levels, attention on the two in between and in the middle (width 384 in the original)."""
    return _build(
        "refiner",
        sgm.UNetModel,
        in_channels=4,
        out_channels=4,
        model_channels=width,
        channel_mult=[1, 2, 4, 4],
        num_res_blocks=2,
        attention_resolutions=[4, 2],
        num_head_channels=16,
        transformer_depth=4,
        context_dim=[40] * 4,
        use_linear_in_transformer=True,
        num_classes="sequential",
        adm_in_channels=80,
        use_checkpoint=False,
    )


@functools.cache
def ssd1b(width: int = 32) -> nn.Module:
    """SSD-1B: an SDXL base built deep, then pruned to `SSD1B_DEPTHS`; its middle block is a single ResBlock."""
    unet = _build("ssd1b", sgm.UNetModel, **_sdxl_config(width, depth=[1, 2, 10]))
    del unet.middle_block[1:]
    for side, blocks in (("input", unet.input_blocks), ("output", unet.output_blocks)):
        for index, block in enumerate(blocks):
            for layer in block:
                if isinstance(layer, SPATIAL_TRANSFORMERS):
                    # sgm gives every block of a level one depth, 2 at level 2, which is enough for level 2 here.
                    del layer.transformer_blocks[SSD1B_DEPTHS[side][index] :]
    return unet


FAMILIES: dict[str, Callable[[], nn.Module]] = {
    "sd1": sd1,
    "sd2": sd2,
    "inpainting": inpainting,
    "sdxl": sdxl,
    "refiner": refiner,
    "ssd1b": ssd1b,
}


def fresh(family: str | Callable[[], nn.Module]) -> nn.Module:
    """A copy of a family's U-Net that nobody shares."""
    return copied(_resolve(family))


def copied(unet: nn.Module) -> nn.Module:
    """A copy of a U-Net as it was built, with weights of its own: `copy.deepcopy`'s result at a twentieth of its time."""
    made = unet.__class__.__new__(unet.__class__)
    vars(made).update({name: value.copy() if isinstance(value, dict) else value for name, value in vars(unet).items()})
    assert "forward" not in vars(unet), "someone's wrapper would go on to the layer that was copied"
    for own in (made._parameters, made._buffers):
        own.update({name: copy.deepcopy(value) for name, value in own.items()})
    made._modules.update({name: None if child is None else copied(child) for name, child in made._modules.items()})
    return made


def inputs(
    unet_or_family: nn.Module | str,
    batch: int = 2,
    height: int = 16,
    width: int = 16,
    tokens: int = 77,
    seed: int = 0,
    timestep: float = 500,
    prompt: int = 0,
) -> dict[str, Any]:
    """Arguments for one call, sized for this U-Net: `seed` draws the latent, `prompt` what a whole picture is called with.

    x (batch, in_channels, height, width), timesteps (batch,), context (batch, tokens, context size), and
    y (batch, label size), or None where the U-Net takes no labels. Height and width are those of the latent. ldm and
    sgm want multiples of 8 (of 4 for SDXL); the hosts that align sizes take any.
    """
    unet = _resolve(unet_or_family)
    latents, prompts = (torch.Generator().manual_seed(number) for number in (seed, 1000 + prompt))
    context_size = next(m.to_k.in_features for name, m in unet.named_modules() if name.endswith("attn2"))
    of_labels = None if unet.num_classes is None else unet.label_emb[0][0].in_features
    return {
        "x": torch.randn(batch, unet.in_channels, height, width, generator=latents),
        "timesteps": torch.full((batch,), float(timestep)),
        "context": torch.randn(batch, tokens, context_size, generator=prompts),
        "y": None if of_labels is None else torch.randn(batch, of_labels, generator=prompts),
    }


def half_on_the_cpu() -> Any:
    """float16 as a parameter, skipped where torch has no convolutions in it on the CPU."""
    too_old = tuple(int(part) for part in torch.__version__.split(".")[:2]) < (2, 4)
    return pytest.param(torch.float16, marks=pytest.mark.skipif(too_old, reason="float16 on the CPU wants torch 2.4"))


def call(unet: nn.Module, inputs: dict[str, Any]) -> Tensor:
    """One evaluation, with `y` only where the U-Net has labels; returns (batch, 4, height, width)."""
    labels = {} if unet.num_classes is None else {"y": inputs["y"]}
    return unet(inputs["x"], timesteps=inputs["timesteps"], context=inputs["context"], **labels)


def embed(unet: nn.Module, timesteps: Tensor, y: Tensor | None) -> Tensor:
    """The vector every ResBlock gets, (batch, 4 * model_channels), from timesteps (batch,) and y (batch, labels)."""
    source = ldm if isinstance(unet, ldm.UNetModel) else sgm
    emb = unet.time_embed(source.timestep_embedding(timesteps, unet.model_channels, repeat_only=False))
    return emb if unet.num_classes is None else emb + unet.label_emb(y)


def _resolve(unet: nn.Module | str | Callable[[], nn.Module]) -> nn.Module:
    if isinstance(unet, str):
        return FAMILIES[unet]()
    return unet if isinstance(unet, nn.Module) else unet()


def _sdxl_config(width: int, depth: list[int]) -> dict[str, Any]:
    return {
        "in_channels": 4,
        "out_channels": 4,
        "model_channels": width,
        "channel_mult": [1, 2, 4],
        "num_res_blocks": 2,
        "attention_resolutions": [4, 2],
        "num_head_channels": 16,
        "transformer_depth": depth,
        "context_dim": 64,
        "use_linear_in_transformer": True,
        "num_classes": "sequential",
        "adm_in_channels": 88,
        "use_checkpoint": False,
    }


def _build(seed: str, unet_class: type[nn.Module], **config: Any) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(zlib.crc32(seed.encode()))
        unet = unet_class(**config)
        _fill_zeros(unet)
    return unet.eval().requires_grad_(False)


def _fill_zeros(unet: nn.Module) -> None:
    """Give the projections that ldm and sgm start at zero random weights, else no block would show in the output.

    Each of them follows a GroupNorm or closes a residual branch, so a standard deviation of `gain / sqrt(fan_in)`
    bounds every branch whatever the size of the map.
    """
    for module in unet.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)) and not module.weight.any():
            fan_in = module.weight[0].numel()
            nn.init.normal_(module.weight, std=0.7 * fan_in**-0.5)
            nn.init.normal_(module.bias, std=0.05)
