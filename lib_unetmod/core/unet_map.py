"""What this U-Net has: its blocks and layers, levels, pairing, channels, attentions and family.

Everything is derived from the modules; there is no table of block numbers. The U-Nets of ldm, sgm, Forge, Forge Classic
and reForge share the attributes that are read here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from torch import nn


class UnsupportedUNet(ValueError):
    """The module given is no U-Net of the Stable Diffusion family; the message says in a sentence what it lacks."""


@dataclass(frozen=True, eq=False)
class Layer:
    """One child of a block. `kind` is "conv", "res", "attn", "down", "up" or "other"."""

    name: str
    kind: str
    module: nn.Module


@dataclass(frozen=True, eq=False)
class TransformerBlock:
    """One BasicTransformerBlock: self-attention, cross-attention and feed-forward, each added to its input."""

    name: str
    module: nn.Module

    @property
    def self_attention(self) -> nn.Module:
        return self.module.attn1

    @property
    def cross_attention(self) -> nn.Module | None:
        return getattr(self.module, "attn2", None)

    @property
    def attends_to_itself(self) -> bool:
        """Whether its first attention is a self-attention: in some models it looks at the prompt, and has no map."""
        return not getattr(self.module, "disable_self_attn", False)

    @property
    def feed_forward(self) -> nn.Module:
        return self.module.ff


@dataclass(frozen=True, eq=False)
class Block:
    """One element of `input_blocks` or `output_blocks`, or the middle block.

    Channels are counts, levels start at 1 (the latent's own resolution). A Downsample belongs to the level it leads to,
    an Upsample to the level it leaves; `out_level` is the level of what the block returns. `backbone_channels` are those
    of `h` as it comes in, `skip_channels` those of the skip connection joined to it (0 but in output blocks).
    """

    name: str
    side: str
    index: int
    layers: tuple[Layer, ...]
    level: int
    out_level: int
    backbone_channels: int
    skip_channels: int
    out_channels: int

    def of_kind(self, kind: str) -> tuple[Layer, ...]:
        return tuple(layer for layer in self.layers if layer.kind == kind)

    @cached_property
    def transformer_blocks(self) -> tuple[TransformerBlock, ...]:
        return tuple(
            TransformerBlock(f"{layer.name}.{k}", module)
            for layer in self.of_kind("attn")
            for k, module in enumerate(layer.module.transformer_blocks)
        )


@dataclass(frozen=True, eq=False)
class UNetMap:
    """The structure of one U-Net. `family` is "sd1", "sd2", "sdxl", "refiner" or "other"."""

    unet: nn.Module
    input_blocks: tuple[Block, ...]
    middle_block: Block
    output_blocks: tuple[Block, ...]
    family: str

    @property
    def blocks(self) -> tuple[Block, ...]:
        """All blocks in the order in which a traversal meets them."""
        return (*self.input_blocks, self.middle_block, *self.output_blocks)

    @property
    def levels(self) -> int:
        return self.middle_block.level

    @property
    def in_channels(self) -> int:
        """Channels of the latent that comes in: 4, or 9 for inpainting."""
        return self.input_blocks[0].backbone_channels

    @property
    def model_channels(self) -> int:
        """The width: channels after the first convolution (320 for SD1, SD2 and SDXL, 384 for the SDXL refiner)."""
        return self.input_blocks[0].out_channels

    @property
    def inpainting(self) -> bool:
        """Whether mask and masked picture come in beside the latent."""
        return self.in_channels == 9

    @property
    def pruned(self) -> bool:
        """Whether transformers were taken out of an SDXL, as in SSD-1B: the middle has none."""
        return self.family == "sdxl" and not self.middle_block.of_kind("attn")

    @cached_property
    def attention_levels(self) -> tuple[int, ...]:
        """Levels that have transformers, in ascending order; the middle is not counted."""
        sides = (*self.input_blocks, *self.output_blocks)
        return tuple(sorted({block.level for block in sides if block.transformer_blocks}))

    @property
    def first_attention_level(self) -> int | None:
        """The level nearest to the latent at which a block has transformers, the middle counted; None without any."""
        return min((block.level for block in self.blocks if block.transformer_blocks), default=None)

    @cached_property
    def insides(self) -> tuple[tuple[nn.Module, bool], ...]:
        """Each layer, and what other extensions act on inside it: its transformer blocks, attentions and their projections.

        With each, whether it is a layer.
        """
        return tuple(
            (module, module is layer.module)
            for block in self.blocks
            for layer in block.layers
            for module in (layer.module, *_insides_of(layer))
        )

    @property
    def out(self) -> nn.Sequential | None:
        """The layers after the last output block, whose answer is the U-Net's; None in a U-Net that ends otherwise."""
        out = getattr(self.unet, "out", None)
        return out if isinstance(out, nn.Sequential) and len(out) else None

    @property
    def out_norm(self) -> nn.Module | None:
        """The group norm among them, None where there is none."""
        return next((layer for layer in self.out or () if isinstance(layer, nn.GroupNorm)), None)

    @property
    def out_conv(self) -> nn.Module | None:
        """The convolution that is the last of them, None where it is none."""
        return self.out[-1] if self.out is not None and isinstance(self.out[-1], nn.Conv2d) else None

    def paired_output(self, index: int) -> Block:
        """The output block that gets the skip connection of `input_blocks[index]`."""
        return self.output_blocks[len(self.input_blocks) - 1 - index]

    def block(self, name: str) -> Block:
        """The block called `name` ("in.4", "mid", "out.7"); KeyError where there is none."""
        return self._by_name[name]

    @cached_property
    def _by_name(self) -> dict[str, Block]:
        return {block.name: block for block in self.blocks}


def _insides_of(layer: Layer) -> Iterator[nn.Module]:
    for inner in layer.module.transformer_blocks if layer.kind == "attn" else ():
        yield inner
        for attention in (inner.attn1, getattr(inner, "attn2", None)):
            if attention is not None:
                yield attention
                yield from attention.children()


def inspect_unet(unet: object) -> UNetMap:
    """Walk `unet` and return its map.

    Raises:
        UnsupportedUNet: for anything but an ldm-like U-Net, in one sentence.
    """
    _refuse_other_models(unet)
    input_layers = [_layers(f"in.{i}", block) for i, block in enumerate(unet.input_blocks)]
    output_layers = [_layers(f"out.{i}", block) for i, block in enumerate(unet.output_blocks)]

    level, channels, inputs = 1, _channels_of_latent(unet), []
    for index, layers in enumerate(input_layers):
        level += _has(layers, "down")
        out = _out_channels(layers, channels)
        inputs.append(Block(f"in.{index}", "input", index, layers, level, level, channels, 0, out))
        channels = out

    layers = _layers("mid", unet.middle_block)
    middle = Block("mid", "middle", 0, layers, level, level, channels, 0, _out_channels(layers, channels))

    channels, outputs = middle.out_channels, []
    for index, layers in enumerate(output_layers):
        skip = inputs[len(inputs) - 1 - index].out_channels
        out_level = level - _has(layers, "up")
        out = _out_channels(layers, channels)
        outputs.append(Block(f"out.{index}", "output", index, layers, level, out_level, channels, skip, out))
        level, channels = out_level, out

    if level != 1:
        raise UnsupportedUNet(
            f"{type(unet).__name__} ends at level {level} instead of 1: its Downsample and Upsample layers do not pair."
        )
    return UNetMap(unet, tuple(inputs), middle, tuple(outputs), _family(inputs, middle))


def _refuse_other_models(unet: object) -> None:
    if unet is None:
        raise UnsupportedUNet("There is no U-Net to modify: None was given.")
    inner = getattr(getattr(unet, "model", None), "diffusion_model", None)
    if inner is not None:
        raise UnsupportedUNet(f"{type(unet).__name__} holds a U-Net; give its model.diffusion_model instead.")
    parts = ("input_blocks", "middle_block", "output_blocks")
    missing = [part for part in parts if not isinstance(getattr(unet, part, None), nn.Module)]
    if missing:
        raise UnsupportedUNet(
            "Only the U-Nets of Stable Diffusion 1, 2, XL and their kin can be modified; "
            f"{type(unet).__name__} is of another kind (it has no {' and no '.join(missing)})."
        )
    if len(unet.input_blocks) != len(unet.output_blocks):
        raise UnsupportedUNet(
            f"{type(unet).__name__} has {len(unet.input_blocks)} input blocks and {len(unet.output_blocks)} output "
            "blocks, so that skip connections cannot be paired."
        )


def _layers(name: str, block: nn.Module) -> tuple[Layer, ...]:
    def numbered() -> Iterator[Layer]:
        seen: dict[str, int] = {}
        for module in _sequence_in(block):
            kind = _kind(module)
            number = seen[kind] = seen.get(kind, -1) + 1
            yield Layer(f"{name}.{kind}" if number == 0 else f"{name}.{kind}.{number}", kind, module)

    return tuple(numbered())


def _sequence_in(block: nn.Module) -> nn.Module:
    """The block's layers; Kohya hires.fix of another extension puts a module around them that is none."""
    if isinstance(block, (nn.Sequential, nn.ModuleList)):
        return block
    return next((inner for inner in block.modules() if isinstance(inner, nn.Sequential)), block)


def _kind(module: nn.Module) -> str:
    # By what a layer has rather than by its class, which differs from host to host; only the samplers need the name.
    if hasattr(module, "transformer_blocks"):
        return "attn"
    if hasattr(module, "in_layers") and hasattr(module, "out_layers"):
        return "res"
    if isinstance(module, nn.Conv2d):
        return "conv"
    return {"Downsample": "down", "Upsample": "up"}.get(_class_name(module), "other")


def _class_name(module: nn.Module) -> str:
    names = [cls.__name__ for cls in type(module).__mro__]
    return next((name for name in names if name in ("Downsample", "Upsample")), names[0])


def _has(layers: tuple[Layer, ...], kind: str) -> bool:
    return any(layer.kind == kind for layer in layers)


def _out_channels(layers: tuple[Layer, ...], default: int) -> int:
    counts = [getattr(layer.module, "out_channels", None) for layer in layers]
    return next((count for count in reversed(counts) if count is not None), default)


def _channels_of_latent(unet: nn.Module) -> int:
    first = next(iter(_sequence_in(unet.input_blocks[0])))
    channels = getattr(first, "in_channels", None)
    if channels is None:
        raise UnsupportedUNet(f"{type(unet).__name__} does not begin with a convolution, so its width is unknown.")
    return channels


def _family(inputs: list[Block], middle: Block) -> str:
    attention = {block.level for block in inputs if block.transformer_blocks}
    if middle.level == 4 and 1 in attention:
        projection = next(layer.module for block in inputs for layer in block.of_kind("attn")).proj_in
        return "sd2" if isinstance(projection, nn.Linear) else "sd1"
    if middle.level == 4 and attention:
        return "refiner"
    if middle.level == 3 and attention and 1 not in attention:
        return "sdxl"
    return "other"
