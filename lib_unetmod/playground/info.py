"""What the model has and which methods there are, in text."""

from __future__ import annotations

import textwrap
from itertools import groupby

from torch import nn

from ..core.config import SHARED_KNOBS, knobs
from ..core.knobs import Knob
from ..core.registry import METHODS, Method
from ..core.unet_map import Block, inspect_unet
from .model import SmallModel

_WIDTH = 110


def about_model(model: SmallModel) -> str:
    """Its parts with their parameters, the U-Net's blocks, the sizes it takes, and the words it knows."""
    unet = inspect_unet(model.unet)
    trained = model.architecture.get("trained_size")
    attention = ", ".join(map(str, unet.attention_levels))
    lines = [
        f"U-Net         {unet.family} layout, {unet.levels} levels, {len(unet.blocks)} blocks, {_parameters(model.unet)}",
        f"              {unet.model_channels} channels wide, attention on levels {attention}, {model.prediction_type}",
        f"Text encoder  {_parameters(model.text_encoder)}, {len(model.tokenizer.words)} words",
        f"VAE           {_parameters(model.vae)}, 8 pixels to a latent's one",
        f"Sizes         multiples of 64 pixels{f', trained at {trained}' if trained else ''}",
        "",
        "Block    Level  Channels in       out  Layers",
    ]
    lines += [_block_line(block) for block in unet.blocks]
    words = textwrap.fill(
        " ".join(sorted(model.tokenizer.words)) or "none", _WIDTH, initial_indent="  ", subsequent_indent="  "
    )
    return "\n".join([*lines, "", "Words it knows", words])


def about_methods() -> str:
    """Every method with its idea and its knobs, and the knobs that all share."""
    shared = [knob for knob in knobs(next(iter(METHODS.values())).config) if knob.name in SHARED_KNOBS]
    lines = ["Methods, set with --set METHOD.KNOB=VALUE; each knob stands with its default and what it takes"]
    for method in sorted(METHODS.values(), key=lambda method: method.at):
        lines += ["", *_method_lines(method)]
    return "\n".join([*lines, "", "Every method has", *map(_knob_lines, shared)])


def _method_lines(method: Method) -> list[str]:
    own = [knob for knob in knobs(method.config) if knob.name not in SHARED_KNOBS]
    return [f"{method.name} ({method.group})", _wrapped(method.idea, 2), *map(_knob_lines, own)]


def _knob_lines(knob: Knob) -> str:
    default = knob.to_text(knob.default) or "none"
    unit = f" {knob.unit}" if knob.unit else ""
    return f"    {knob.name} = {default}    {knob.domain()}{unit}\n{_wrapped(knob.help, 8)}"


def _wrapped(text: str, indent: int) -> str:
    return textwrap.fill(text, _WIDTH, initial_indent=" " * indent, subsequent_indent=" " * indent)


def _block_line(block: Block) -> str:
    channels = f"{block.backbone_channels}" + (f" + {block.skip_channels}" if block.skip_channels else "")
    kinds = [(kind, len(list(layers))) for kind, layers in groupby(layer.kind for layer in block.layers)]
    layers = " ".join(kind if count == 1 else f"{count}x{kind}" for kind, count in kinds)
    return f"{block.name:8} {block.level:5}  {channels:>11}  {block.out_channels:>8}  {layers}"


def _parameters(module: nn.Module) -> str:
    return f"{sum(parameter.numel() for parameter in module.parameters()) / 1e6:.2f} M parameters"
