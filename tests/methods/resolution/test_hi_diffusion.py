"""HiDiffusion against the U-Net's own blocks walked by a plain forward with the published operations written out."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from contract import snapshot
from hosts import HOSTS, ControlNetHook, residuals
from torch import nn
from unets import BLOCKS, DOWNSAMPLES, FAMILIES, RESBLOCKS, TRANSFORMER_BLOCKS, UPSAMPLES, call, embed, fresh, inputs

from lib_unetmod import (
    ConfigError,
    HiDiffusion,
    HyperTile,
    SkipBlocks,
    TokenDownsampling,
    inspect_unet,
    modified,
    what_is_on,
)
from lib_unetmod.core.patching import Edit, Installed
from lib_unetmod.core.target import Target
from lib_unetmod.methods.resolution.hi_diffusion import every_second, pooled
from lib_unetmod.parts.attention import shifted_windows as moving_windows
from lib_unetmod.parts.attention.shifted_windows import Windows, quarters_to_shift, window_shift
from lib_unetmod.parts.attention.tokens import map_size, with_map_size

pytestmark = pytest.mark.in_turn(60)

NEUTRAL = HiDiffusion(raunet=False, windows=False)
# At the contract's early evaluations both halves act, at progress 0.5 the windows. The first leaves level 2 of SD1 at its
# size, for methods that do less on maps that are small already.
CONTRACT = [
    HiDiffusion(above=0, auto=False, conv_block=6, conv_end=0.3, pool_block=8, pool_start=0.05, pool_end=0.3),
    HiDiffusion(above=0),
    HiDiffusion(above=0, auto=False, conv_end=0.3, pool_block=5, pool_end=0.2, window_levels=2),
]
RESIZES = True

#: Published places (input indices of the Downsample that strides and of the block that is pooled) and windowed blocks.
PLACES = {"sd1": (3, 4), "sd2": (3, 4), "inpainting": (3, 4), "sdxl": (6, 4), "ssd1b": (6, 4)}
WINDOWED = {
    "sd1": "in.1 in.2 out.9 out.10 out.11",
    "sd2": "in.1 in.2 out.9 out.10 out.11",
    "sdxl": "in.4 in.5 out.3 out.4 out.5",
}
sizes = pytest.mark.parametrize("size", [(16, 16), (32, 24), (17, 24), (9, 40), (13, 11)], ids=str)


def explicit(conv=None, pool=None, **others):
    """RAU-Net at these places at every progress and size."""
    placed = dict(conv_block=conv or 3, conv_end=float(conv is not None))
    placed |= dict(pool_block=pool or 4, pool_end=float(pool is not None))
    return HiDiffusion(**{"auto": False, "above": 0, "windows": False, **placed, **others})


def modified_call(unet, config, step, **told):
    with modified(unet, [config], **told):
        return call(unet, step)


def assert_close(a, b):
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


# The reference: a forward of its own.


def reference(unet, step, conv=None, pool=None, control=None, axes=(2, 2)):
    """The U-Net with `input_blocks[conv]`'s convolution at stride 4, and the result of `input_blocks[pool]` pooled.

    `control` is added to the skip connections and to the middle's result, by its mean over each cell where they are smaller.
    `axes` is 2 for each of height and width that is halved, and 1 for the other.
    """

    def controlled(h, index):
        return h if control is None else h + F.adaptive_avg_pool2d(control[index], h.shape[-2:])

    emb, h, skips, last = embed(unet, step["timesteps"], step["y"]), step["x"], [], len(unet.output_blocks) - 1
    for index, block in enumerate(unet.input_blocks):
        if index == conv:
            op, stride = block[0].op, tuple(2 * axis for axis in axes)
            h = F.conv2d(h, op.weight, op.bias, stride=stride, padding=axes, dilation=axes)
        else:
            h = walk(block, h, emb, step["context"])
        if index == pool:
            before = h.shape[-2:]
            h = F.avg_pool2d(h, axes, ceil_mode=True)
        skips.append(controlled(h, index))
    h = controlled(walk(unet.middle_block, h, emb, step["context"]), -1)
    for index, block in enumerate(unet.output_blocks):
        h = torch.cat([h, skips.pop()], 1)
        h = walk(block, h, emb, step["context"], skips[-1].shape[-2:] if skips else None)
        if pool is not None and index == last - pool:
            h = F.interpolate(h, before, mode="bicubic")
    return unet.out(h)


def walk(block, h, emb, context, size=None):
    for layer in block:
        if isinstance(layer, RESBLOCKS):
            h = layer(h, emb)
        elif isinstance(layer, UPSAMPLES):
            h = layer.conv(F.interpolate(h, size, mode="nearest"))
        elif isinstance(layer, (nn.Conv2d, *DOWNSAMPLES)):
            h = layer(h)
        else:
            h = layer(h, context)
    return h


def windows_by_hand(attention, x, size, shift):
    """Attention (B, N, C) in windows: rows and columns of a map whose counting begins at `shift`, in two halves each."""
    out = torch.zeros_like(x)
    halves = []
    for side, first in zip(size, shift, strict=True):
        order = [(first + i) % side for i in range(side)]
        halves.append([half for half in (order[: side // 2], order[side // 2 :]) if half])
    for rows, columns in itertools.product(*halves):
        tokens = [row * size[1] + column for row in rows for column in columns]
        out[:, tokens] = attention(x[:, tokens])
    return out


def windowed(unet, family, size, shifts):
    """The same U-Net with the attentions of `WINDOWED` in windows, the k-th rolled by quarters `shifts[k]`."""
    structure, down = inspect_unet(unet), 2 if family == "sdxl" else 1
    size = [-(-side // down) for side in size]
    attentions = [
        inner.self_attention for name in WINDOWED[family].split() for inner in structure.block(name).transformer_blocks
    ]
    for attention, quarters in zip(attentions, shifts, strict=True):
        shift = [-(-side // 2) // 4 * quarters for side in size]

        def forward(x, context=None, mask=None, attend=attention.forward, shift=shift, **_):
            return windows_by_hand(attend, x, size, shift)

        attention.forward = forward
    return len(attentions)


# RAU-Net.


@pytest.mark.parametrize("family", ("sd1", "sd2", "sdxl", "ssd1b", "refiner"))
@pytest.mark.parametrize("strides, pools", [(True, False), (False, True), (True, True)])
def test_raunet_equals_the_published_operations(family, strides, pools):
    step = inputs(family, height=24, width=32)
    conv, pool = PLACES.get(family, (6, 4))
    places = dict(conv=conv if strides else None, pool=pool if pools else None)
    out = modified_call(fresh(family), explicit(**places), step)
    assert_close(out, reference(fresh(family), step, **places))
    assert not torch.allclose(out, call(fresh(family), step), atol=1e-2)


@sizes
@pytest.mark.parametrize("family", ("sd1", "sdxl"))
def test_raunet_at_any_size_needs_no_host_that_aligns(family, size):
    """The plain forward raises where a map does not fit its skip connection."""
    step = inputs(family, height=size[0], width=size[1])
    conv, pool = PLACES[family]
    out = modified_call(fresh(family), explicit(conv, pool), step)
    assert_close(out, reference(fresh(family), step, conv, pool))


@pytest.mark.parametrize("family", ("sd1", "sdxl"))
@pytest.mark.long
def test_every_pair_of_blocks_that_is_allowed_works(family):
    structure, step = inspect_unet(FAMILIES[family]()), inputs(family, height=18, width=30, batch=1)
    for block in structure.input_blocks[1:]:
        place = "conv" if block.of_kind("down") else "pool"
        out = modified_call(fresh(family), explicit(**{place: block.index}), step)
        assert_close(out, reference(fresh(family), step, **{place: block.index}))


def convolution(*args, **kwargs):
    with torch.random.fork_rng(devices=[]):
        return nn.Conv2d(*args, **kwargs)


@pytest.mark.parametrize("size", [(8, 8), (9, 8), (7, 13), (2, 1), (1, 1), (6, 11)], ids=str)
def test_the_even_phase_makes_a_convolution_of_stride_4_and_dilation_2(size):
    conv = convolution(3, 5, 3, stride=2, padding=1).double()
    x = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0)).double()
    expected = F.conv2d(x, conv.weight, conv.bias, stride=4, padding=2, dilation=2)
    torch.testing.assert_close(conv(every_second(x)), expected)


@pytest.mark.parametrize("size", [(8, 8), (4, 12)], ids=str)
def test_the_even_phase_on_a_torus(size):
    conv = convolution(3, 5, 3, stride=2, padding=1, padding_mode="circular").double()
    x = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0)).double()
    expected = F.conv2d(F.pad(x, (2, 2, 2, 2), mode="circular"), conv.weight, conv.bias, stride=4, dilation=2)
    torch.testing.assert_close(conv(every_second(x)), expected)


def test_pooling_by_hand():
    x = torch.tensor([[[[1.0, 3.0, 5.0], [5.0, 7.0, 9.0], [2.0, 4.0, 8.0]]]])
    assert pooled(x).flatten().tolist() == [4, 7, 3, 8]
    assert pooled(x, "width").flatten().tolist() == [2, 5, 6, 9, 3, 8]
    assert pooled(x, "height").flatten().tolist() == [3, 5, 7, 2, 4, 8]


@pytest.mark.parametrize("axes, steps", [("height", (2, 1)), ("width", (1, 2))])
@pytest.mark.parametrize("size", [(16, 16), (17, 24)], ids=str)
@pytest.mark.parametrize("family", ("sd1", "sdxl"))
def test_one_side_alone_can_be_halved(axes, steps, size, family):
    host, step = HOSTS["forge"], inputs(family, height=size[0], width=size[1])
    unet = host.prepare(FAMILIES[family]())
    config = replace(explicit(*PLACES[family]), axes=axes)
    with modified(unet, [config]):
        out = host.forward(unet, **step)
    assert_close(out, reference(fresh(family), step, *PLACES[family], axes=steps))


@pytest.mark.parametrize("config", [explicit(3), explicit(pool=4), explicit(3, 4)])
@pytest.mark.long
def test_a_torus_stays_one(config):
    """Rolled by half its size, a multiple of every stride, the latent's answer is rolled."""
    unet, step = fresh("sd1"), inputs("sd1", height=64, width=64, batch=1)
    for module in unet.modules():
        if isinstance(module, nn.Conv2d):
            module.padding_mode = "circular"
    rolled = {**step, "x": step["x"].roll((32, 32), (2, 3))}
    torus = modified_call(unet, config, step)
    assert_close(modified_call(unet, config, rolled), torus.roll((32, 32), (2, 3)))


def test_the_downsamples_convolution_stays_as_its_host_left_it():
    """A host's edit of the convolution's forward, as LoRA's, keeps acting, and attributes and weights are not touched."""
    unet, step, seen = fresh("sd1"), inputs("sd1"), []
    conv = unet.input_blocks[3][0].op
    under = conv.forward

    def hosts(x):
        seen.append((conv.stride, conv.padding, conv.dilation, tuple(x.shape[-2:])))
        return 2 * under(x)

    conv.forward = hosts
    out = modified_call(unet, explicit(3), step)
    assert seen == [((2, 2), (1, 1), (1, 1), (8, 8))]
    doubled = fresh("sd1")
    doubled.input_blocks[3][0].op.weight.mul_(2)
    doubled.input_blocks[3][0].op.bias.mul_(2)
    assert_close(out, reference(doubled, step, conv=3))


@pytest.mark.parametrize("name", HOSTS)
@pytest.mark.parametrize("size", [(16, 16), (17, 24)], ids=str)
@pytest.mark.parametrize("family", ("sd1", "sdxl"))
def test_every_host_gives_the_same(name, size, family):
    host, step = HOSTS[name], inputs(family, height=size[0], width=size[1])
    unet = host.prepare(FAMILIES[family]())
    before = snapshot(unet)
    with modified(unet, [explicit(*PLACES[family])]):
        out = host.forward(unet, **step)
    assert_close(out, reference(fresh(family), step, *PLACES[family]))
    assert snapshot(unet) == before


@pytest.mark.parametrize("name", ("controlnet", "controlnet_reference", "forge", "forge_classic", "reforge"))
@pytest.mark.parametrize("size", [(16, 16), (17, 24)], ids=str)
@pytest.mark.parametrize("family", ("sd1", "sdxl"))
def test_controls_residuals_act_on_the_smaller_maps_too(name, size, family):
    """In the hosts that drop residuals of another size, and in those that would resize them each in its way."""
    host, step = HOSTS[name], inputs(family, height=size[0], width=size[1])
    unet = host.prepare(FAMILIES[family]())
    control = residuals(unet, step["x"].shape)
    with modified(unet, [explicit(*PLACES[family])]):
        out = host.forward(unet, **step, control=[one.clone() for one in control])
    assert_close(out, reference(fresh(family), step, *PLACES[family], control))


@pytest.mark.parametrize("names", [("in.2",), ("in.4",), ("in.5",), ("in.4", "in.5")], ids=str)
def test_a_block_that_is_left_out_hands_on_the_map_before_it(names):
    """The plain forward raises where a map does not fit its skip connection."""
    unet, step = fresh("sd1"), inputs("sd1", height=18, width=30)
    with modified(unet, [SkipBlocks(blocks=names), explicit(3, 5)]):
        assert call(unet, step).isfinite().all()


# When each place acts.


@pytest.mark.parametrize(
    "family, trained, side, phases",
    [
        ("sd1", 64, 16, [(0.0, 3, None), (0.39, 3, None), (0.41, None, None)]),
        ("sd1", 32, 16, [(0.0, 3, 4), (0.29, 3, 4), (0.31, 3, None), (0.69, 3, None), (0.71, None, None)]),
        ("sdxl", 64, 16, [(0.0, 6, None), (0.15, 6, None), (0.17, None, 4), (0.39, None, 4), (0.41, None, None)]),
        ("sdxl", 32, 16, [(0.0, 6, 4), (0.29, 6, 4), (0.31, None, 4), (0.69, None, 4), (0.71, None, None)]),
    ],
)
def test_the_published_schedule(family, trained, side, phases, monkeypatch):
    """On small latents, for speed, whose bounds are taken as those of a model as large as the published ones."""
    monkeypatch.setattr("lib_unetmod.methods.resolution.hi_diffusion.at_trained_size", lambda progress, target: progress)
    for progress, conv, pool in phases:
        step = inputs(family, height=side, width=side, batch=1, timestep=999 * (1 - progress))
        out = modified_call(fresh(family), HiDiffusion(windows=False), step, trained_size=trained)
        assert_close(out, reference(fresh(family), step, conv, pool))


def settled(unet, target, **knobs):
    return HiDiffusion(**knobs).resolved(inspect_unet(unet), target)


def test_auto_halves_the_side_that_is_too_long():
    axes = {(1024, 1024): "both", (640, 1024): "width", (1024, 512): "height", (768, 1024): "both", (640, 640): "both"}
    for (height, width), expected in axes.items():
        assert settled(FAMILIES["sd1"](), Target(512, height, width)).axes == expected


def test_autos_settings_are_what_was_published():
    def decided(config):
        strided = (config.conv_block, config.conv_end) if config.conv_end else None
        return strided, (config.pool_block, config.pool_start, config.pool_end) if config.pool_end else None

    sd1, sdxl = FAMILIES["sd1"](), FAMILIES["sdxl"]()
    assert decided(settled(sd1, Target(512, 1024, 1024))) == ((3, 0.4), None)
    assert decided(settled(sd1, Target(512, 2040, 4096))) == ((3, 0.4), None)  # the smaller side counts
    assert decided(settled(sd1, Target(512, 2048, 2048))) == ((3, 0.7), (4, 0, 0.3))
    assert decided(settled(FAMILIES["inpainting"](), Target(512, 1024, 1024))) == ((3, 0.4), None)
    for unet in (sdxl, FAMILIES["ssd1b"]()):
        assert decided(settled(unet, Target(1024, 2048, 2048))) == ((6, 0.16), (4, 0.16, 0.4))
        assert decided(settled(unet, Target(1024, 4096, 4096))) == ((6, 0.3), (4, 0, 0.7))
    inpainting = fresh("sdxl")
    inpainting.input_blocks[0][0] = convolution(9, 32, 3, padding=1)
    assert decided(settled(inpainting, Target(1024, 2048, 2048))) == (None, (4, 0, 0.4))


def test_auto_ends_where_its_parts_do():
    unet, target = FAMILIES["sd1"](), Target(512, 1024, 1024)
    assert settled(unet, target).end == 1 and settled(unet, target, windows=False).end == 0.4
    assert settled(unet, target, windows=False, end=0.2).end == 0.2
    late = settled(unet, target, windows=False, start=0.6)
    assert (late.start, late.end) == (0.6, 0.6)
    by_hand = HiDiffusion(auto=False, conv_block=6)
    assert not settled(unet, target).auto and by_hand.resolved(inspect_unet(unet), target) is by_hand


def test_a_picture_of_the_trained_size_is_left_alone():
    unet, step = fresh("sd1"), inputs("sd1", timestep=900)
    with modified(unet, [HiDiffusion()], trained_size=128) as run:
        assert torch.equal(call(unet, step), call(fresh("sd1"), step))
    assert len(run.notes) == 1 and "is not above 1.3 x native" in run.notes[0]


@pytest.mark.parametrize(
    "family, config, said",
    [
        ("sd1", explicit(conv=4), "conv_block is 4, where this U-Net has no Downsample; choose 3, 6 or 9"),
        ("sdxl", explicit(conv=9), "conv_block is 9, where this U-Net has no Downsample; choose 3 or 6"),
        ("sdxl", explicit(pool=10), "pool_block is 10, where this U-Net has no block that can be pooled; choose 1, 2, 4"),
        ("sd1", explicit(pool=6), "pool_block is 6, .* choose 1, 2, 4, 5, 7, 8, 10 or 11"),
    ],
)
def test_places_that_cannot_work_are_refused(family, config, said):
    unet = FAMILIES[family]()
    before = snapshot(unet)
    with pytest.raises(ConfigError, match=said):
        modified(unet, [config]).__enter__()
    assert snapshot(unet) == before


def test_places_that_are_off_are_not_looked_at():
    with modified(fresh("sdxl"), [explicit(conv=6, pool_block=9)]), modified(fresh("sd1"), [explicit(pool=4, conv_block=5)]):
        pass


def test_a_window_of_pooling_that_ends_before_it_starts_is_refused():
    with pytest.raises(ConfigError, match=r"pool_start is 0.5 and pool_end is 0.4; pool_start must not be above pool_end"):
        HiDiffusion(auto=False, pool_start=0.5, pool_end=0.4)
    assert HiDiffusion(auto=False, pool_start=0.5, pool_end=0).conv_end == 0.4


# Window attention.


@sizes
@pytest.mark.parametrize("family", ("sd1", "sdxl"))
@pytest.mark.parametrize("quarters", (0, 1, 2, 3))
def test_windows_equal_loops_over_them(family, size, quarters, monkeypatch):
    host, step = HOSTS["a1111"], inputs(family, height=size[0], width=size[1])
    monkeypatch.setattr(moving_windows, "quarters_to_shift", lambda number, draw: quarters)
    unet, expected = fresh(family), fresh(family)
    windowed(expected, family, size, [quarters] * (10 if family == "sdxl" else 5))
    with modified(unet, [HiDiffusion(above=0, raunet=False)]) as run:
        out = host.forward(unet, **step)
    assert_close(out, host.forward(expected, **step))
    assert run.notes == []
    assert not torch.allclose(out, host.forward(fresh(family), **step), atol=1e-3)


def test_rolled_windows_by_hand():
    """A 4x4 map rolled by one: the first window holds rows and columns 1 and 2."""
    windows = Windows((4, 4), (1, 1), torch.device("cpu"))
    tokens = torch.arange(16.0)[None, :, None]
    (cut,) = windows.cut(tokens)
    assert cut.squeeze(-1).tolist() == [[5, 6, 9, 10], [7, 4, 11, 8], [13, 14, 1, 2], [15, 12, 3, 0]]
    assert torch.equal(windows.join([cut]), tokens)


@pytest.mark.parametrize("size, shift", [((5, 7), (2, 3)), ((1, 6), (0, 1)), ((1, 1), (0, 0)), ((3, 3), (0, 2))])
def test_windows_of_several_maps_at_odd_sizes(size, shift):
    windows, count = Windows(size, shift, torch.device("cpu")), size[0] * size[1]
    tokens = torch.arange(2.0 * count)[None, :, None]
    both, first = windows.cut(tokens), windows.cut(tokens[:, :count])
    for tile, one in zip(both, first, strict=True):
        assert torch.equal(tile, torch.cat([one, one + count], 1))
    assert torch.equal(windows.join(first), tokens[:, :count])


def test_shifts_are_quarters_of_a_window():
    assert [window_shift((64, 96), k) for k in range(4)] == [(0, 0), (8, 12), (16, 24), (24, 36)]
    assert window_shift((17, 6), 3) == (6, 0)  # windows of 9 and 3, of whose quarters 2 and 0 tokens are whole


@pytest.mark.long
def test_no_two_shifts_in_a_row_are_the_same(monkeypatch):
    """Neither of one attention in two evaluations nor of two attentions in one; all four come up, from the seed alone."""
    seen, plain = [], window_shift
    monkeypatch.setattr(
        moving_windows, "window_shift", lambda size, quarters: seen.append(quarters) or plain(size, quarters)
    )

    def shifts(seed):
        seen.clear()
        unet = fresh("sd1")
        state = torch.get_rng_state()
        with modified(unet, [HiDiffusion(above=0, raunet=False)], seed=seed) as run:
            for timestep in range(900, 880, -1):
                run.new_evaluation()
                call(unet, inputs("sd1", batch=1, height=8, width=8, timestep=timestep))
        assert torch.equal(torch.get_rng_state(), state)
        return [seen[i : i + 5] for i in range(0, 100, 5)]

    drawn = shifts(1)
    assert len(drawn) == 20 and {one for walk in drawn for one in walk} == {0, 1, 2, 3}
    for before, after in itertools.pairwise(drawn):
        assert all(a != b for a, b in zip(before, after, strict=True))
    for walked in drawn:
        assert all(a != b for a, b in itertools.pairwise(walked))
    assert shifts(1) == drawn and shifts(2) != drawn
    assert [quarters_to_shift(n, d) for n, d in [(4, 0), (4, 1), (7, 0), (7, 1)]] == [0, 2, 1, 3]


@pytest.mark.parametrize("family, levels, first", [("sd1", 1, 1), ("sd1", 3, 1), ("sdxl", 1, 2), ("sdxl", 2, 2)])
def test_levels_count_from_the_first_with_attention(family, levels, first):
    unet = fresh(family)
    with modified(unet, [explicit(windows=True, window_levels=levels)]) as run:
        on = set(what_is_on(unet))
        names = {module: name for name, module in unet.named_modules()}
        inside = {block.level for block in run.map.blocks for t in block.transformer_blocks if names[t.self_attention] in on}
        assert inside == set(range(first, first + levels))
        if levels == 1:
            edited = {b.name for b in run.map.blocks if any(names[t.self_attention] in on for t in b.transformer_blocks)}
            assert edited == set(WINDOWED[family].split())


def first_attention(call_attention):
    """What the first attn1 of SD1 answers within windows of 2x3 when `call_attention(attn1, x)` gives it a 4x6 map."""
    unet = fresh("sd1")
    attn1 = inspect_unet(unet).input_blocks[1].transformer_blocks[0].self_attention
    x = torch.randn(2, 24, 32, generator=torch.Generator().manual_seed(0))
    with modified(unet, [HiDiffusion(above=0, raunet=False)]) as run:
        call(unet, inputs("sd1", batch=1, height=8, width=8))  # from the beginning of a walk on, methods act
        with with_map_size(run, (4, 6)):
            return call_attention(attn1, x), attn1, x, run.notes


@pytest.mark.parametrize(
    "way",
    [
        lambda attn1, x: attn1(x),
        lambda attn1, x: attn1(x, None),
        lambda attn1, x: attn1(x, context=x),
        lambda attn1, x: attn1(x, context=x.clone(), mask=None),
    ],
)
def test_ways_to_pass_the_context(way):
    out, attn1, x, notes = first_attention(way)
    assert_close(out, windows_by_hand(attn1, x, (4, 6), (0, 0)))
    assert notes == []


def test_a_reference_picture_is_cut_into_the_same_windows():
    bank = torch.randn(2, 24, 32, generator=torch.Generator().manual_seed(1))
    out, attn1, x, notes = first_attention(lambda attn1, x: attn1(x, context=torch.cat([x, bank], 1)))
    left_upper = [row * 6 + column for row in (0, 1) for column in (0, 1, 2)]
    keys = torch.cat([x[:, left_upper], bank[:, left_upper]], 1)
    assert_close(out[:, left_upper], attn1(x[:, left_upper], context=keys))
    assert notes == []


def test_stands_aside_for_tokens_that_are_no_map():
    context = torch.randn(2, 31, 32, generator=torch.Generator().manual_seed(1))
    out, attn1, x, notes = first_attention(lambda attn1, x: attn1(x, context=context))
    assert_close(out, attn1(x, context=context))
    assert len(notes) == 1 and notes[0].startswith("HiDiffusion: some layers run as without it")


@pytest.mark.parametrize("bank", (False, True))
def test_with_controlnets_reference(bank):
    unet, step = fresh("sd1"), inputs("sd1", height=17, width=24, timestep=900)
    hook = ControlNetHook(unet, reference=True, bank=bank)
    with modified(unet, [HiDiffusion(above=0)]) as run:
        out = call(unet, step)
    assert run.notes == [] and out.isfinite().all()
    hook.restore()
    assert bank or not torch.allclose(out, reference(fresh("sd1"), step), atol=1e-2)


@pytest.mark.parametrize("inner, inside", [(HyperTile(tile=32, variations=1), 16), (TokenDownsampling(), 64)])
def test_tiles_and_coarser_keys_lie_within_the_windows(inner, inside):
    """Of a 16x16 map windows are 8x8; tiles of 32 pixels are 4x4 tokens of them, coarser keys 4x4 for 8x8 queries."""
    unet, seen = fresh("sd1"), {}
    attn1 = inspect_unet(unet).input_blocks[1].transformer_blocks[0].self_attention
    under = attn1.forward

    def noting(x, *args, **kwargs):
        context = args[0] if args else kwargs.get("context")
        seen.update(queries=x.shape[1], keys=(x if context is None else context).shape[1])
        return under(x, *args, **kwargs)

    attn1.forward = noting
    with modified(unet, [inner, HiDiffusion(above=0, raunet=False)]) as run:
        call(unet, inputs("sd1"))
    assert (seen["queries"], seen["keys"]) == (inside, 16) and run.notes == []


def test_where_attn1_looks_at_the_prompt_nothing_is_done():
    unet = fresh("sd1")
    for module in unet.modules():
        if isinstance(module, TRANSFORMER_BLOCKS):
            module.disable_self_attn = True
    with modified(unet, [HiDiffusion(above=0)]):
        assert not any("attn1" in name for name in what_is_on(unet))


def test_grids_inside_pooled_blocks_are_those_of_the_pooled_maps():
    """On SDXL the windows of in.5 and out.3 are of maps that in.4's pooling made half as large."""
    unet, seen = fresh("sdxl"), {}
    with modified(unet, [explicit(pool=4, windows=True)]) as run:
        installed = Installed()
        for name in ("in.4", "in.5", "out.3", "out.4", "out.5"):

            def note(call, *args, name=name, **kwargs):
                seen[name] = map_size(run)
                return call(*args, **kwargs)

            module = run.map.block(name).transformer_blocks[0].self_attention
            installed.add([Edit(module, note)], "test", 99)
        with torch.no_grad():
            call(unet, inputs("sdxl", height=16, width=24))
        installed.remove()
    # Inside, a grid is that of a window.
    assert seen == {"in.4": (4, 6), "in.5": (2, 3), "out.3": (2, 3), "out.4": (2, 3), "out.5": (4, 6)}


def test_summaries_and_what_is_neutral():
    assert HiDiffusion().summary() == "HiDiffusion auto"
    assert HiDiffusion(windows=False, end=0.6).summary() == "HiDiffusion RAU-Net auto 0-0.6"
    by_hand = HiDiffusion(auto=False, pool_start=0.2, pool_end=0.5)
    assert by_hand.summary() == "HiDiffusion strided at 3 to 0.4, pooled at 4 0.2-0.5, windows"
    assert HiDiffusion(raunet=False).summary() == "HiDiffusion windows"
    assert NEUTRAL.neutral and not HiDiffusion().neutral
    assert HiDiffusion(auto=False, windows=False, conv_end=0).neutral
    assert HiDiffusion(auto=False, windows=False, conv_end=0, pool_start=0.4, pool_end=0.4).neutral
    assert not replace(NEUTRAL, raunet=True).neutral
    assert all(isinstance(block, BLOCKS) for block in fresh("sd1").input_blocks)
