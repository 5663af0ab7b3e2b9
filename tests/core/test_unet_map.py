"""The map against the published configurations of the U-Nets, written down here by hand."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import nn
from unets import FAMILIES, call, fresh, inputs

from lib_unetmod import UnsupportedUNet, inspect_unet


@dataclass(frozen=True)
class Expected:
    """Channels are multiples of the width: `entering` is the backbone `h` of each output block, from systems.md's table."""

    family: str
    levels: int
    attention_levels: tuple[int, ...]
    entering: tuple[int, ...]
    skips: tuple[int, ...]
    input_levels: tuple[int, ...]
    output_levels: tuple[int, ...]
    middle: tuple[str, ...] = ("res", "attn", "res")
    inpainting: bool = False
    pruned: bool = False


FOUR = dict(
    levels=4,
    entering=(4, 4, 4, 4, 4, 4, 4, 2, 2, 2, 1, 1),
    skips=(4, 4, 4, 4, 4, 2, 2, 2, 1, 1, 1, 1),
    input_levels=(1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4),
    output_levels=(4, 4, 4, 3, 3, 3, 2, 2, 2, 1, 1, 1),
)
THREE = dict(
    levels=3,
    entering=(4, 4, 4, 4, 2, 2, 2, 1, 1),
    skips=(4, 4, 2, 2, 2, 1, 1, 1, 1),
    input_levels=(1, 1, 1, 2, 2, 2, 3, 3, 3),
    output_levels=(3, 3, 3, 2, 2, 2, 1, 1, 1),
)
EXPECTED = {
    "sd1": Expected("sd1", attention_levels=(1, 2, 3), **FOUR),
    "sd2": Expected("sd2", attention_levels=(1, 2, 3), **FOUR),
    "inpainting": Expected("sd1", attention_levels=(1, 2, 3), inpainting=True, **FOUR),
    "sdxl": Expected("sdxl", attention_levels=(2, 3), **THREE),
    "refiner": Expected("refiner", attention_levels=(2, 3), **FOUR),
    "ssd1b": Expected("sdxl", attention_levels=(2, 3), middle=("res",), pruned=True, **THREE),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_structure(name):
    unet, expected = FAMILIES[name](), EXPECTED[name]
    found, width = inspect_unet(unet), FAMILIES[name]().model_channels
    assert (found.family, found.levels, found.model_channels) == (expected.family, expected.levels, width)
    assert found.attention_levels == expected.attention_levels
    assert tuple(block.level for block in found.input_blocks) == expected.input_levels
    assert tuple(block.level for block in found.output_blocks) == expected.output_levels
    assert tuple(block.backbone_channels // width for block in found.output_blocks) == expected.entering
    assert tuple(block.skip_channels // width for block in found.output_blocks) == expected.skips
    assert tuple(layer.kind for layer in found.middle_block.layers) == expected.middle
    assert (found.inpainting, found.pruned) == (expected.inpainting, expected.pruned)
    assert found.in_channels == (9 if expected.inpainting else 4)


@pytest.mark.parametrize("name", FAMILIES)
def test_channels_and_sizes_are_those_that_flow(name):
    """Hooks read what really enters and leaves each block; the map must have said so."""
    unet, height = fresh(name), 16
    found, flowed = inspect_unet(unet), {}
    for block in found.blocks:
        sequence = {"input": unet.input_blocks, "output": unet.output_blocks}.get(block.side)
        module = unet.middle_block if sequence is None else sequence[block.index]
        module.register_forward_hook(lambda m, args, out, name=block.name: flowed.update({name: (args[0].shape, out.shape)}))
    call(unet, inputs(name, height=height, width=height))
    for block in found.blocks:
        entered, left = flowed[block.name]
        assert entered[1] == block.backbone_channels + block.skip_channels
        assert left[1] == block.out_channels
        assert left[2] == height // 2 ** (block.out_level - 1)


@pytest.mark.parametrize("name", FAMILIES)
def test_skip_connections_pair_first_with_last(name):
    """A mark put on one input block's result alone must arrive in the skip channels of its paired output block."""
    unet = fresh(name)
    found = inspect_unet(unet)
    for index, block in enumerate(found.input_blocks):
        paired = found.paired_output(index)
        assert paired.index == len(found.input_blocks) - 1 - index
        assert paired.skip_channels == block.out_channels
    marked, seen = found.input_blocks[4], {}
    unet.input_blocks[4].register_forward_hook(lambda m, args, out: torch.full_like(out, 7.0))
    paired = found.paired_output(4)
    unet.output_blocks[paired.index].register_forward_pre_hook(lambda m, args: seen.update(x=args[0]))
    call(unet, inputs(name))
    assert (seen["x"][:, paired.backbone_channels :] == 7.0).all()
    assert seen["x"].shape[1] - paired.backbone_channels == marked.out_channels


@pytest.mark.parametrize(
    "name, block, depth",
    [("sd1", "in.4", 1), ("sdxl", "in.4", 2), ("sdxl", "mid", 3), ("ssd1b", "out.2", 10), ("sd1", "in.10", 0)],
)
def test_transformer_blocks(name, block, depth):
    unet, contexts = fresh(name), []
    inner = inspect_unet(unet).block(block).transformer_blocks
    assert len(inner) == depth

    def record(module, args, kwargs):
        contexts.append(kwargs.get("context", args[1] if len(args) > 1 else None))

    for one in inner:
        assert isinstance(one.self_attention.to_q, nn.Linear) and isinstance(one.feed_forward.net[2], nn.Linear)
        one.cross_attention.register_forward_pre_hook(record, with_kwargs=True)
    call(unet, inputs(name, tokens=11))
    assert [context.shape[1] for context in contexts] == [11] * depth


class DiT(nn.Module):
    def __init__(self):
        super().__init__()
        self.x_embedder, self.blocks = nn.Linear(4, 4), nn.ModuleList([nn.Linear(4, 4)])


def vae():
    from ldm.modules.diffusionmodules.model import Decoder

    return Decoder(
        ch=32, out_ch=3, ch_mult=(1, 2), num_res_blocks=1, attn_resolutions=[], in_channels=3, resolution=16, z_channels=4
    )


def holder():
    model = nn.Module()
    model.model = nn.Module()
    model.model.diffusion_model = FAMILIES["sd1"]()
    return model


def unpaired():
    unet = fresh("sd1")
    del unet.output_blocks[-1]
    return unet


@pytest.mark.parametrize(
    "make, sentence",
    [
        (lambda: None, "There is no U-Net to modify: None was given."),
        (DiT, "DiT is of another kind (it has no input_blocks and no middle_block and no output_blocks)."),
        (vae, "Decoder is of another kind (it has no input_blocks"),
        (holder, "give its model.diffusion_model instead"),
        (unpaired, "12 input blocks and 11 output blocks"),
        (lambda: "unet", "str is of another kind (it has no input_blocks"),
    ],
)
def test_anything_else_is_refused_in_a_sentence(make, sentence):
    with pytest.raises(UnsupportedUNet) as refusal, torch.random.fork_rng(devices=[]):
        inspect_unet(make())
    assert sentence in str(refusal.value) and str(refusal.value).endswith((".", "instead."))


@pytest.mark.parametrize("name", FAMILIES)
def test_the_last_layers(name):
    unet = FAMILIES[name]()
    found = inspect_unet(unet)
    assert (found.out, found.out_norm, found.out_conv) == (unet.out, unet.out[0], unet.out[2])


@pytest.mark.parametrize("out", (None, nn.Identity(), nn.Sequential(), nn.Sequential(nn.SiLU())), ids=repr)
def test_a_unet_may_end_otherwise(out):
    unet = fresh("sd1")
    unet.out = out
    found = inspect_unet(unet)
    assert (
        found.out_norm is None
        and found.out_conv is None
        and (found.out is None) == (not (isinstance(out, nn.Sequential) and len(out)))
    )
