"""DeepShrink against kohya's rule in a plain re-written forward, and what it owes to hosts, caches and odd sizes."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hosts import HOSTS, residuals
from unets import (
    DOWNSAMPLES,
    FAMILIES,
    RESBLOCKS,
    SPATIAL_TRANSFORMERS,
    UPSAMPLES,
    call,
    embed,
    fresh,
    half_on_the_cpu,
    inputs,
)

from lib_unetmod import (
    ConfigError,
    DeepCache,
    DeepShrink,
    EncoderReuse,
    HyperTile,
    SkipBlocks,
    TokenMerging,
    inspect_unet,
    modified,
)
from lib_unetmod.core.target import Target
from lib_unetmod.methods.resolution.deep_shrink import glide
from lib_unetmod.parts.maps.hand_over import recovered
from lib_unetmod.parts.maps.shrunken import ShrinkStage

pytestmark = pytest.mark.in_turn(60)

NEUTRAL = DeepShrink(auto=False, factor=1)
# The contract rolls 16x16 latents by half, which only a shrunken map of 1x1 can follow below an 8x8 one: hence the means.
CONTRACT = [
    DeepShrink(auto=False, above=0, block=8, factor=4, method="area"),
    DeepShrink(auto=False, above=0, block=7, factor=4, method="area", early=True),
    DeepShrink(auto=False, above=0, block=2, factor=0.5, after_skip=False),
]


def explicit(**knobs):
    return DeepShrink(auto=False, above=0, **knobs)


def shared(family):
    """The U-Net that all tests share: the method leaves no trace on it."""
    return FAMILIES[family]()


def modified_call(family, config, step, host=None):
    unet = HOSTS[host].prepare(shared(family)) if host else shared(family)
    with modified(unet, [config]):
        return HOSTS[host].forward(unet, **step) if host else call(unet, step)


def size(x):
    return tuple(x.shape[-2:])


def kohya(unet, step, block, factor, factor_x=None, mode="bicubic", after_skip=True, early=False, control=None, second=None):
    """kohya's forward: shrink before an input block, resize h to its skip connection before each concatenation.

    An Upsample gives the size of what its Downsample was given. Early growth enlarges the middle's output and the skip
    connections to the sizes of the unmodified U-Net. `control` is added to the shrunken skip connections.
    """
    factors = factor, factor_x or factor

    def shrunk(length):
        return tuple(max(1, round(n / f)) for n, f in zip(length, factors, strict=True))

    def resized(h, to):
        return h if size(h) == tuple(to) else F.interpolate(h, to, mode=mode, align_corners=False if "bi" in mode else None)

    def run(layers, h):
        for layer in layers:
            if isinstance(layer, UPSAMPLES):
                h = layer.conv(F.interpolate(h, befores.pop(), mode="nearest"))
            elif isinstance(layer, RESBLOCKS):
                h = layer(h, emb)
            elif isinstance(layer, SPATIAL_TRANSFORMERS):
                h = layer(h, step["context"])
            else:
                h = layer(h)
        return h

    def controlled(h, index):
        return h if control is None else h + F.adaptive_avg_pool2d(control[index], size(h))

    emb, h, skips, befores, full = embed(unet, step["timesteps"], step["y"]), step["x"], [], [], []
    unmodified = size(h)
    for index, layers in enumerate(unet.input_blocks):
        if index == block and after_skip:
            h = resized(h, shrunk(size(h)))
        if isinstance(layers[0], DOWNSAMPLES):
            late = index == block - 1 and not after_skip
            befores.append(unmodified if early else shrunk(size(h)) if late else size(h))
            unmodified = tuple(-(-n // 2) for n in unmodified)
        h = run(layers, h)
        if index == block - 1 and not after_skip:
            h = resized(h, shrunk(size(h)))
        skips.append(controlled(h, index))
        full.append(unmodified)
    h = controlled(run(unet.middle_block, h), -1)
    for layers in unet.output_blocks:
        skip, unmodified = skips.pop(), full.pop()
        if early:
            skip = resized(skip, unmodified)
        h = run(layers, torch.cat([resized(h, size(skip)), skip], 1))
    return unet.out(resized(h, size(step["x"])))


def assert_close(a, b):
    torch.testing.assert_close(a, b, rtol=1e-4, atol=2e-5)


families = pytest.mark.parametrize("family", ("sd1", "sdxl"))


@families
@pytest.mark.parametrize("block, factor", [(0, 2), (1, 1.5), (3, 2), (4, 0.5), (6, 4), (8, 2)])
def test_equals_kohyas_forward(family, block, factor):
    step = inputs(family, height=16, width=24, batch=1)
    out = modified_call(family, explicit(block=block, factor=factor), step)
    assert torch.equal(out, kohya(shared(family), step, block, factor))
    assert not torch.allclose(out, call(shared(family), step), atol=1e-3)


@families
@pytest.mark.parametrize(
    "size, block, factor, factor_x, after_skip",
    [
        ((17, 24), 3, 2, 0, True),
        ((9, 40), 4, 2, 0, True),
        ((7, 7), 3, 2, 0, True),
        ((17, 24), 2, 3, 1, True),
        ((9, 40), 5, 1, 1.7, True),
        ((17, 24), 7, 1.3, 0.6, True),
        ((17, 24), 4, 2, 0, False),
        ((9, 40), 3, 2, 0, False),
        ((7, 7), 2, 1.5, 3, False),
        ((17, 13), 7, 0.6, 1.3, False),
    ],
)
def test_equals_kohyas_forward_at_odd_sizes_and_with_a_factor_an_axis(family, size, block, factor, factor_x, after_skip):
    """Where the U-Net's own Upsamples fit their skip connections, as Forge's do."""
    step = inputs(family, height=size[0], width=size[1], batch=1)
    config = explicit(block=block, factor=factor, factor_x=factor_x, after_skip=after_skip)
    out = modified_call(family, config, step, host="forge")
    assert_close(out, kohya(shared(family), step, block, factor, factor_x, after_skip=after_skip))


@families
@pytest.mark.parametrize("block", (0, 3))
@pytest.mark.parametrize("early", (False, True))
def test_a_plain_forward_takes_odd_sizes_where_every_upsample_is_in_the_region(family, block, early):
    """Without the method ldm's forward raises at this size, since its Upsamples double."""
    step = inputs(family, height=17, width=9, batch=1)
    with pytest.raises(RuntimeError, match="Sizes of tensors"):
        call(shared(family), step)
    out = modified_call(family, explicit(block=block, factor=2, early=early), step)
    assert out.shape == step["x"].shape and out.isfinite().all()
    if not early:
        assert_close(out, kohya(shared(family), step, block, 2))


@pytest.mark.parametrize("family", ("sd2", "inpainting", "refiner", "ssd1b"))
def test_every_family(family):
    step = inputs(family, batch=1)
    out = modified_call(family, explicit(block=4), step)
    assert_close(out, kohya(shared(family), step, 4, 2))


@pytest.mark.parametrize("knobs", [{}, {"early": True}, {"factor": 0.5, "method": "bilinear"}], ids=str)
def test_a_torus_stays_one(knobs):
    """Rolling the latent rolls the answer; SDXL's three levels leave enough cells for it at half the size."""
    unet, step = fresh("sdxl"), inputs("sdxl", batch=1)
    for module in unet.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.padding_mode = "circular"
    with modified(unet, [explicit(**knobs)]):
        rolled = call(unet, {**step, "x": step["x"].roll((8, 8), (2, 3))})
        assert_close(rolled, call(unet, step).roll((8, 8), (2, 3)))


@pytest.mark.parametrize("mode", ("bilinear", "area", "nearest-exact"))
def test_equals_kohyas_forward_with_other_interpolations(mode):
    step = inputs("sdxl", height=16, width=24, batch=1)
    out = modified_call("sdxl", explicit(method=mode.removesuffix("-exact")), step)
    assert_close(out, kohya(shared("sdxl"), step, 3, 2, mode=mode))


@families
@pytest.mark.parametrize("block, factor, after_skip", [(3, 2, True), (4, 1.5, False), (8, 0.5, True), (8, 2, False)])
def test_early_growth_runs_the_output_blocks_at_full_size(family, block, factor, after_skip):
    step = inputs(family, height=17, width=24, batch=1)
    config = explicit(block=block, factor=factor, early=True, after_skip=after_skip)
    expected = kohya(shared(family), step, block, factor, early=True, after_skip=after_skip)
    assert_close(modified_call(family, config, step, host="forge"), expected)


@families
@pytest.mark.parametrize("node_block, before", [(3, False), (4, False), (4, True)])
def test_comfyuis_and_forges_node_names_the_block_before(family, node_block, before):
    """The node as patches of Forge's forward: h is shrunk after a block, and resized to each skip connection."""

    def shrink(h, options):
        return F.interpolate(h, scale_factor=0.5, mode="bicubic") if options["block"] == ("input", node_block) else h

    def grow(h, skip, options):
        return (F.interpolate(h, skip.shape[-2:], mode="bicubic") if h.shape != skip.shape else h), skip

    patches = {f"input_block_patch{'' if before else '_after_skip'}": [shrink], "output_block_patch": [grow]}
    step, host = inputs(family, height=32, width=16, batch=1), HOSTS["forge"]
    expected = host.forward(host.prepare(shared(family)), **step, transformer_options={"patches": patches})
    out = modified_call(family, explicit(block=node_block + 1, after_skip=not before), step, host="forge")
    assert_close(out, expected)


def test_a_level_is_named_by_its_first_block():
    step = inputs("sd1", batch=1)
    for level, block in ((1, 0), (2, 3), (3, 6), (4, 9)):
        named = modified_call("sd1", explicit(level=level), step)
        assert torch.equal(named, modified_call("sd1", explicit(block=block), step))


@pytest.mark.parametrize("dtype", (torch.bfloat16, half_on_the_cpu()))
def test_half_precision(dtype):
    step = inputs("sd1", height=16, width=24, batch=1)
    exact = modified_call("sd1", explicit(), step)
    with torch.autocast("cpu", dtype=dtype):
        half = modified_call("sd1", explicit(), step).float()
    assert (half - exact).abs().mean() < 0.05 * exact.abs().mean()


# ControlNet.


@families
@pytest.mark.parametrize(
    "size, knobs",
    [
        ((16, 16), {}),
        ((9, 40), {}),
        ((17, 24), {"after_skip": False}),
        ((16, 16), {"block": 4, "factor": 0.5}),
        ((17, 24), {"factor_x": 1}),
    ],
    ids=str,
)
def test_control_acts_in_every_host_as_the_mean_over_each_cell(family, size, knobs):
    """Also in the hosts that drop residuals of another size."""
    step = inputs(family, height=size[0], width=size[1], batch=1)
    control = residuals(shared(family), step["x"].shape)
    config = explicit(**knobs)
    expected = kohya(shared(family), step, config.block, 2, control=control) if not knobs else None
    results = {}
    for name in ("controlnet", "forge", "forge_classic", "reforge"):
        unet = HOSTS[name].prepare(shared(family))
        with modified(unet, [config]):
            results[name] = HOSTS[name].forward(unet, **step, control=[one.clone() for one in control])
    for name, out in results.items():
        # sd-webui-controlnet resizes a whole map to its skip connection where the U-Net's own sizes are odd.
        if size == (16, 16) or name != "controlnet":
            assert_close(out, results["forge"])
            if expected is not None:
                assert_close(out, expected)
        assert out.isfinite().all()
    uncontrolled = modified_call(family, config, step, host="forge")
    assert not torch.allclose(results["forge"], uncontrolled, atol=1e-3)


def test_what_was_added_to_the_enlarged_map_is_taken_back_with_it():
    inner = torch.tensor([[[[1.0, 2.0]]]])
    handed_over = torch.tensor([[[[1.0, 1, 2, 2], [1, 1, 2, 2]]]])
    assert recovered(handed_over, inner).flatten().tolist() == [1, 2]
    added = torch.tensor([[[[4.0, 0, 0, 8], [0, 0, 0, 8]]]])
    assert recovered(handed_over + added, inner).flatten().tolist() == [2, 6]


# Stages and windows.


def factors_at(config, *progresses):
    return [None if stage is None else (stage.block, stage.y, stage.x) for stage in map(config.stage, progresses)]


def test_the_second_stage_follows_the_first():
    config = explicit(block=3, factor=4, end=0.2, second_block=4, second_factor=2, second_factor_x=1, second_end=0.4)
    assert (config.window.start, config.window.end) == (0, 0.4)
    assert factors_at(config, 0, 0.19, 0.2, 0.39) == [(3, 4, 4), (3, 4, 4), (4, 2, 1), (4, 2, 1)]
    assert replace(config, second_factor=1, second_factor_x=2).window.end == 0.4
    assert replace(config, second_factor=1).window.end == replace(config, second_end=0.2).window.end == 0.2


def test_the_factor_glides_to_one():
    """By hand: over the last half of 0 to 0.4, at 0.3 half of the way from 3 to 1, or from 1/2 to 1, is left."""
    config = explicit(factor=3, factor_x=0.5, end=0.4, smooth=0.5)
    assert factors_at(config, 0.0, 0.2) == [(3, 3, 0.5)] * 2
    assert factors_at(config, 0.3)[0] == pytest.approx((3, 2, 0.75))
    assert factors_at(config, 0.4) == [None]
    assert [glide(p, 0.2, 0.6, 1) for p in (0.2, 0.3, 0.6)] == pytest.approx([1, 0.75, 0])
    assert glide(0.59, 0.2, 0.6, 0) == 1


def test_only_the_last_stage_glides():
    config = explicit(factor=4, end=0.2, second_factor=2, second_end=0.4, smooth=1)
    assert factors_at(config, 0.19) == [(3, 4, 4)]
    assert factors_at(config, 0.2, 0.3)[0] == (4, 2, 2)
    assert factors_at(config, 0.3)[0] == pytest.approx((4, 1.5, 1.5))


@pytest.mark.parametrize("timestep, block, factor", [(999, 3, 4), (850, 3, 4), (790, 4, 2), (650, 4, 2), (590, None, 1)])
def test_stages_and_window_edges_in_a_run(timestep, block, factor):
    config = explicit(factor=4, end=0.2, second_block=4, second_factor=2, second_end=0.4)
    step = inputs("sd1", height=16, width=24, timestep=timestep, batch=1)
    out = modified_call("sd1", config, step)
    if block is None:
        assert torch.equal(out, call(shared("sd1"), step))
    else:
        assert_close(out, kohya(shared("sd1"), step, block, factor))


def test_smooth_exit_in_a_run():
    """Progress 0.3 of 0 to 0.4: 16 / 2 = 8 rows and columns of level 1 are left of the factor 3."""
    step = inputs("sd1", timestep=999 * 0.7, batch=1)
    out = modified_call("sd1", explicit(factor=3, end=0.4, smooth=0.5), step)
    assert_close(out, kohya(shared("sd1"), step, 3, 2))


# Auto.


@pytest.mark.parametrize(
    "family, trained, height, width, block, factor, factor_x, end, second",
    [
        # A square of twice the side: kohya's own 3, 2 and 650 of 1000; before the attention of SDXL begins.
        ("sd1", 512, 1024, 1024, 3, 2, 2, 0.35, None),
        ("sd2", 768, 1536, 1536, 3, 2, 2, 0.35, None),
        ("sdxl", 1024, 2048, 2048, 4, 2, 2, 0.35, None),
        ("refiner", 1024, 2048, 2048, 4, 2, 2, 0.35, None),
        ("ssd1b", 1024, 2048, 2048, 4, 2, 2, 0.35, None),
        # 0.35 + 0.15 log2(1.5) - 0.15 = 0.288
        ("sd1", 512, 768, 768, 3, 1.5, 1.5, 0.29, None),
        # 0.35 + 0.15 log2(3) - 0.15 = 0.438; the way back in two steps, by sqrt(3)
        ("sd1", 512, 1536, 1536, 3, 3, 3, 0.44, (1.73, 1.73, 0.59)),
        ("sd1", 512, 2048, 2048, 3, 4, 4, 0.5, (2, 2, 0.65)),
        # Never later than half of the way
        ("sd1", 512, 4096, 4096, 3, 8, 8, 0.5, (2.83, 2.83, 0.65)),
        # Each side by itself: twice as wide, twice as high, 1.5 and 2.25 times
        ("sd1", 512, 512, 1024, 3, 1, 2, 0.35, None),
        ("sd1", 512, 1024, 512, 3, 2, 1, 0.35, None),
        ("sd1", 512, 768, 1152, 3, 1.5, 2.25, 0.38, None),
        # 2048x384 has the area of three trained squares; its height is not enlarged, and 384 x 683 has the area of one
        ("sd1", 512, 384, 2048, 3, 1, 3, 0.44, (1, 1.73, 0.59)),
        # Not larger at all: nothing is shrunk, nothing enlarged
        ("sd1", 512, 512, 512, 3, 1, 1, 0.2, None),
        ("sd1", 512, 256, 256, 3, 1, 1, 0.2, None),
    ],
)
def test_auto(family, trained, height, width, block, factor, factor_x, end, second):
    chosen = DeepShrink().resolved(inspect_unet(shared(family)), Target(trained, height, width))
    assert not chosen.auto
    assert (chosen.block, chosen.factor, chosen.factor_x, chosen.end) == (block, factor, factor_x, end)
    assert chosen.two_stages == (second is not None)
    if second:
        assert (chosen.second_factor, chosen.second_factor_x, chosen.second_end) == second
        assert chosen.second_block == block


def test_auto_keeps_the_bounds_that_were_set():
    unet, target = inspect_unet(shared("sd1")), Target(512, 1024, 1024)
    assert DeepShrink(end=0.2).resolved(unet, target).end == 0.2
    assert DeepShrink(start=0.8).resolved(unet, target).window.empty
    assert DeepShrink(start=0.803).resolved(unet, target).end == 0.803  # rounded it would lie before the start
    large = Target(512, 2048, 2048)
    assert DeepShrink(end=0.2).resolved(unet, large).window.end == 0.2
    assert DeepShrink(end=0.6).resolved(unet, large).window.end == 0.6
    assert DeepShrink(start=0.8).resolved(unet, large).window.empty


@families
def test_auto_in_a_run_shrinks_to_the_trained_size_until_its_end(family):
    """0.35 has noise 2.74; a quarter of it, for 128 pixels instead of 512, is there at 0.75, timestep 249.75."""
    step = inputs(family, height=32, width=32, timestep=251, batch=1)
    late = {**step, "timesteps": torch.full((1,), 248.0)}
    expected = kohya(shared(family), step, {"sd1": 3, "sdxl": 4}[family], 2), call(shared(family), late)
    with modified(shared(family), [DeepShrink()], trained_size=128):
        assert_close(call(shared(family), step), expected[0])
        assert torch.equal(call(shared(family), late), expected[1])


def test_hires_fix_first_small_then_large_in_one_run():
    unet = shared("sd1")
    small, large = (inputs("sd1", height=side, width=side, timestep=900, batch=1) for side in (16, 32))
    expected = call(unet, small), kohya(unet, large, 3, 2)
    with modified(unet, [DeepShrink()], trained_size=128) as run:
        assert torch.equal(call(unet, small), expected[0])
        run.begin_pass("hires")
        assert_close(call(unet, large), expected[1])
    assert run.notes == []
    with modified(unet, [DeepShrink()], trained_size=128) as run:
        call(unet, small)
    assert run.notes == [
        "Deep Shrink does nothing: 128x128 is not above 1.3 x native 128 px. Lower Minimum size to use it here."
    ]


# With the others.


@families
@pytest.mark.parametrize("cache", [DeepCache(interval=3), EncoderReuse(interval=3)], ids=lambda cache: type(cache).__name__)
@pytest.mark.parametrize("knobs", [{}, {"smooth": 0.5, "after_skip": False}], ids=str)
def test_caches_begin_anew_where_the_size_changes(family, cache, knobs):
    """Across the window's end a plain forward would raise for what was kept at another size; nothing of it may be used."""
    unet = shared(family)
    before = [inputs(family, batch=1, seed=timestep, timestep=timestep) for timestep in (740, 720, 700, 680, 660)]
    after = inputs(family, batch=1, timestep=640)
    expected = call(unet, after)
    with modified(unet, [explicit(end=0.35, **knobs), cache]) as run:
        for step in before:
            run.new_evaluation()
            assert call(unet, step).isfinite().all()
        run.new_evaluation()
        assert torch.equal(call(unet, after), expected)


@families
@pytest.mark.parametrize(
    "other",
    [
        SkipBlocks(middle=True, levels=1),
        SkipBlocks(levels=2),
        SkipBlocks(blocks=("in.4", "out.5.attn")),
        DeepCache(),
        EncoderReuse(),
        HyperTile(tile=32),
        TokenMerging(),
    ],
    ids=lambda other: other.summary(),
)
@pytest.mark.parametrize(
    "host, knobs",
    [
        ("controlnet", {}),
        ("forge", {"block": 5, "early": True}),
        ("plain", {"block": 7, "factor": 1.5, "after_skip": False}),
    ],
    ids=str,
)
def test_with_other_methods_at_odd_sizes_and_control(family, other, knobs, host):
    config, host = explicit(**knobs), HOSTS[host]
    size = (16, 24) if host.mismatch is None else (17, 26)
    unet = host.prepare(shared(family))
    control = None if host.mismatch is None else residuals(unet, (1, 4, *size))
    with modified(unet, [config, other]) as run:
        for timestep in (900, 890):
            step = inputs(family, height=size[0], width=size[1], batch=1, timestep=timestep)
            run.new_evaluation()
            added = None if control is None else [one.clone() for one in control]
            out = host.forward(unet, **step, control=added)
            assert out.shape == step["x"].shape and out.isfinite().all()


# Settings.


@pytest.mark.parametrize(
    "knobs, message",
    [
        ({"block": 9}, "block is 9, but this U-Net has input blocks 0 to 8; choose at most 8"),
        ({"level": 4}, "level is 4, but this U-Net has 3 levels; choose at most 3"),
        ({"second_factor": 2, "second_block": 9, "end": 0.3}, "second_block is 9, .* choose at most 8"),
    ],
)
def test_blocks_that_the_unet_does_not_have_are_refused(knobs, message):
    with pytest.raises(ConfigError, match=message), modified(shared("sdxl"), [explicit(**knobs)]):
        pass


def test_settings_that_do_not_count_are_not_refused():
    for config in (DeepShrink(block=20), explicit(block=20, level=2), explicit(second_block=20)):
        with modified(shared("sdxl"), [config]):
            pass


def test_a_factor_of_width_near_zero_is_refused():
    with pytest.raises(ConfigError, match=r"factor_x is 0.1; it takes 0 or a number from 0.25 to 8"):
        DeepShrink(factor_x=0.1)


def test_neutral_by_every_factor():
    assert NEUTRAL.neutral and explicit(factor=1, factor_x=1).neutral
    assert not explicit(factor=1, factor_x=2).neutral and not DeepShrink().neutral
    assert not explicit(factor=1, end=0.3, second_factor=2).neutral


def test_sizes_of_a_stage():
    assert ShrinkStage(3, 2, 1.5).size((17, 24)) == (8, 16) and ShrinkStage(3, 8, 8).size((3, 3)) == (1, 1)
    assert math.isclose(ShrinkStage(3, 0.5, 0.5).size((8, 8))[0], 16)


def test_summaries():
    assert DeepShrink().summary() == "Deep Shrink auto"
    assert explicit(end=0.35).summary() == "Deep Shrink 1/2 at block 3 0-0.35"
    second = explicit(level=2, factor_x=3, end=0.2, second_factor=1.5)
    assert second.summary() == "Deep Shrink 1/3x2 at level 2 0-0.2, then 1/1.5 to 0.5"
