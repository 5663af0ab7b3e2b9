"""SkipBlocks against a plain forward that is written out again here, and against itself named in other words."""

from __future__ import annotations

import pytest
import torch
from contract import snapshot
from torch import nn
from unets import FAMILIES, call, embed, fresh, inputs

from lib_unetmod import ConfigError, SkipBlocks, modified
from lib_unetmod.core.target import Target
from lib_unetmod.core.upcoming_picture import UpcomingPass, UpcomingPicture

pytestmark = pytest.mark.in_turn(60)

NEUTRAL = SkipBlocks()
CONTRACT = [
    SkipBlocks(middle=True),
    SkipBlocks(levels=1),
    SkipBlocks(middle=True, levels=2),
    SkipBlocks(blocks=("in.4.self", "out.3.cross", "in.5.ff", "out.4.res", "in.7")),
    SkipBlocks(blocks=("in.4.attn@0-0.4", "out.3.ff@0.2-0.8", "mid.res.1@0.3-1")),
]


def skipped(unet, config, step):
    with modified(unet, [config]):
        return call(unet, step)


def forward_without(unet: nn.Module, step: dict, inputs_left_out=(), middle=True, outputs_left_out=(), fit=None):
    """The U-Net's forward as ldm and sgm write it, with blocks that are left out handing `h` on unchanged.

    `fit` is applied to `h` after the last input block that is left out.
    """
    emb, context, h, skips = embed(unet, step["timesteps"], step["y"]), step["context"], step["x"], []
    for i, block in enumerate(unet.input_blocks):
        if i not in inputs_left_out:
            h = block(h, emb, context)
        skips.append(h)
    h = h if fit is None else fit(h)
    if middle:
        h = unet.middle_block(h, emb, context)
    for i, block in enumerate(unet.output_blocks):
        skip = skips.pop()
        if i not in outputs_left_out:
            h = block(torch.cat([h, skip], 1), emb, context)
    return unet.out(h)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("size", [(16, 16), (8, 24)], ids=str)
def test_without_the_middle(family, size):
    unet, step = fresh(family), inputs(family, height=size[0], width=size[1])
    expected = forward_without(unet, step, middle=False)
    assert torch.equal(skipped(unet, SkipBlocks(middle=True), step), expected)
    assert torch.equal(skipped(unet, SkipBlocks(blocks=("mid",)), step), expected)
    assert torch.equal(forward_without(unet, step), call(unet, step))


@pytest.mark.parametrize("family", ("sd1", "sd2", "inpainting", "refiner"))
@pytest.mark.parametrize("middle", (True, False))
def test_level_4_hands_input_8_to_output_3(family, middle):
    unet, step = fresh(family), inputs(family, height=16, width=24)
    expected = forward_without(unet, step, (9, 10, 11), not middle, (0, 1, 2))
    assert torch.equal(skipped(unet, SkipBlocks(middle=middle, levels=1), step), expected)


def test_no_layer_of_a_skipped_level_is_run():
    unet, ran = fresh("sd1"), []
    left_out = [*unet.input_blocks[9:], unet.middle_block, *unet.output_blocks[:3]]
    for module in (part for block in left_out for layer in block for part in layer.modules()):
        if not list(module.children()):
            module.register_forward_hook(lambda module, args, out: ran.append(module))
    skipped(unet, SkipBlocks(middle=True, levels=1), inputs("sd1"))
    assert ran == []


@pytest.mark.parametrize(
    "family, levels, left_in, left_out, widening",
    [
        ("sd1", 2, range(6, 12), range(6), (7,)),
        ("sd1", 3, range(3, 12), range(9), (4,)),
        ("sdxl", 1, range(6, 9), range(3), (7,)),
        ("sdxl", 2, range(3, 9), range(6), (4,)),
        ("ssd1b", 1, range(6, 9), range(3), (7,)),
    ],
)
def test_deeper_levels_are_widened_by_the_models_own_shortcut(family, levels, left_in, left_out, widening):
    unet, step = fresh(family), inputs(family)
    shortcuts = [unet.input_blocks[i][0].skip_connection for i in widening]
    assert all(isinstance(shortcut, nn.Conv2d) and shortcut.kernel_size == (1, 1) for shortcut in shortcuts)
    expected = forward_without(unet, step, left_in, False, left_out, fit=nn.Sequential(*shortcuts))
    assert torch.equal(skipped(unet, SkipBlocks(middle=True, levels=levels, fit="shortcut"), step), expected)


@pytest.mark.parametrize(
    "fit, widened",
    [("repeat", lambda h: torch.cat([h, h], 1)), ("zeros", lambda h: torch.cat([h, torch.zeros_like(h)], 1))],
)
def test_other_ways_to_widen(fit, widened):
    unet, step = fresh("sdxl"), inputs("sdxl")
    expected = forward_without(unet, step, range(6, 9), False, range(3), fit=widened)
    assert torch.equal(skipped(unet, SkipBlocks(middle=True, levels=1, fit=fit), step), expected)


def test_the_kept_middle_runs_at_the_resolution_of_the_entry():
    unet, step, seen = fresh("sdxl"), inputs("sdxl", height=16, width=24), []
    unet.middle_block.register_forward_hook(lambda module, args, out: seen.append(args[0].shape))
    unet.middle_block[0].register_forward_hook(lambda module, args, out: seen.append(out.shape))
    expected = forward_without(unet, step, range(6, 9), True, range(3), fit=unet.input_blocks[7][0].skip_connection)
    assert seen.pop()[-2:] == (8, 12)
    seen.clear()
    assert torch.equal(skipped(unet, SkipBlocks(levels=1, fit="shortcut"), step), expected)
    assert seen[0][-2:] == (8, 12)


# Single parts: what is left out is the branch that is added, so zeroing the branch in the weights must do the same.


def zeroed(unet: nn.Module, *branches: nn.Module) -> nn.Module:
    for branch in branches:
        for parameter in branch.parameters():
            parameter.zero_()
    return unet


@pytest.mark.parametrize(
    "name, branches",
    [
        ("in.4.self", lambda u: [u.input_blocks[4][1].transformer_blocks[0].attn1.to_out[0]]),
        ("in.4.cross", lambda u: [u.input_blocks[4][1].transformer_blocks[0].attn2.to_out[0]]),
        ("in.4.ff", lambda u: [u.input_blocks[4][1].transformer_blocks[0].ff.net[2]]),
        ("in.4.attn", lambda u: [u.input_blocks[4][1].proj_out]),
        ("in.4.res", lambda u: [u.input_blocks[4][0].out_layers[-1]]),
        ("in.4", lambda u: [u.input_blocks[4][0].out_layers[-1], u.input_blocks[4][1].proj_out]),
        ("out.5.res", lambda u: [u.output_blocks[5][0].out_layers[-1]]),
        ("out.5", lambda u: [u.output_blocks[5][0].out_layers[-1], u.output_blocks[5][1].proj_out]),
        ("mid.res.1", lambda u: [u.middle_block[2].out_layers[-1]]),
        ("mid.attn", lambda u: [u.middle_block[1].proj_out]),
    ],
)
@pytest.mark.parametrize("family", ("sd1", "sdxl"))
def test_a_single_part(family, name, branches):
    if family == "sdxl" and name in ("in.4.self", "in.4.cross", "in.4.ff"):
        name += ".0"  # level 2 of SDXL has two transformer layers
    unet, edited, step = fresh(family), fresh(family), inputs(family)
    zeroed(edited, *branches(edited))
    torch.testing.assert_close(skipped(unet, SkipBlocks(blocks=(name,)), step), call(edited, step), rtol=1e-5, atol=1e-6)


def test_a_part_without_number_means_all_of_its_kind():
    unet, step = fresh("sdxl"), inputs("sdxl")
    every = skipped(unet, SkipBlocks(blocks=("in.7.self",)), step)
    assert torch.equal(skipped(unet, SkipBlocks(blocks=("in.7.self.0", "in.7.self.1", "in.7.self.2")), step), every)


@pytest.mark.parametrize(
    "blocks, sentence",
    [
        ("in.12", "this U-Net has in.0 to in.11, mid, and out.0 to out.11"),
        ("inn.4", "this U-Net has in.0"),
        ("in.4.attention", "after in.4 may come res, attn, self, cross, ff"),
        ("in.4.res.one", "after in.4 may come"),
        ("in.4.res.0.1", "after in.4 may come"),
        ("in.9", "in.9 has nothing to leave out"),
        ("in.10.attn", "in.10 has only 1 ResBlock"),
        ("in.4.res.1", "in.4 has only 1 ResBlock and 1 transformer and 1 transformer layer"),
        ("mid.in.4", "after mid may come"),
        ("../../etc/passwd", "this U-Net has in.0"),
        ("in.4.ff@half", "after @ come two numbers from 0 to 1"),
        ("in.4.ff@0.5", "after @ come"),
        ("in.4.ff@0.5-0.5", "the lower first"),
        ("in.4.ff@0.5-2", "after @ come"),
        ("in.4.ff@nan-1", "after @ come"),
    ],
)
def test_names_that_do_not_exist_are_refused(blocks, sentence):
    unet = fresh("sd1")
    before = snapshot(unet)
    with pytest.raises(ConfigError, match="SkipBlocks: blocks names") as refusal:
        modified(unet, [SkipBlocks(blocks=blocks)]).__enter__()
    assert sentence in str(refusal.value) and snapshot(unet) == before


def test_a_part_is_left_out_in_its_window_alone():
    windowed, always = SkipBlocks(blocks="in.4.ff@0.25-0.75 mid.attn@0.5-1"), SkipBlocks(blocks="in.4.ff")
    unet = fresh("sd1")

    def drawn(config, progress):
        return skipped(unet, config, inputs("sd1") | {"timesteps": torch.full((2,), 999 * (1 - progress))})

    assert torch.equal(drawn(windowed, 0.1), drawn(NEUTRAL, 0.1))
    assert torch.equal(drawn(windowed, 0.4), drawn(always, 0.4))
    assert torch.equal(drawn(windowed, 0.6), drawn(SkipBlocks(blocks="in.4.ff mid.attn"), 0.6))
    assert torch.equal(drawn(windowed, 1.0), drawn(SkipBlocks(blocks="mid.attn"), 1.0))


def test_parts_that_are_left_out_in_other_phases_are_other_phases_for_caches():
    config = SkipBlocks(blocks="in.4.ff@0.25-0.75 mid.attn@0.5-1")
    keys = [config.cache_key(progress) for progress in (0.1, 0.3, 0.6, 1.0)]
    assert len(set(keys)) == 4 and keys[1] == config.cache_key(0.4)


@pytest.mark.parametrize("steps, idle", [((0.0, 0.3), False), ((0.0, 0.1, 0.9), True), (None, False)])
def test_where_no_step_falls_into_the_windows_that_is_said(steps, idle):
    one = UpcomingPass("first", Target(512, 512, 512), 2, evaluations=steps)
    reason = SkipBlocks(blocks="in.4.ff@0.25-0.75").idle_reason(UpcomingPicture(None, (one,)))
    assert bool(reason) is idle


def test_more_levels_than_there_are_is_refused():
    with pytest.raises(ConfigError, match="levels is 3, but this U-Net has 3 levels"):
        modified(fresh("sdxl"), [SkipBlocks(levels=3)]).__enter__()


def test_summary():
    assert SkipBlocks(middle=True).summary() == "Skip blocks middle"
    assert SkipBlocks(middle=True, levels=2, end=0.8).summary() == "Skip blocks middle, 2 levels 0-0.8"
    assert SkipBlocks(blocks="in.4 mid.attn").summary() == "Skip blocks in.4, mid.attn"
