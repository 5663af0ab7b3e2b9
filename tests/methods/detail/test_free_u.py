"""FreeU against the published forward, written out here with its Fourier transform, and against values by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hosts import HOSTS
from torch import Tensor, nn
from unets import FAMILIES, call, embed, fresh, inputs

from lib_unetmod import ConfigError, DeepCache, FreeU, SkipBlocks, inspect_unet, modified
from lib_unetmod.core.patching import Edit, Installed
from lib_unetmod.core.registry import METHODS
from lib_unetmod.core.target import Target
from lib_unetmod.methods.detail.free_u import FreeUStage, by_structure, reweighted, scaled_window
from tests.parts.maps.test_low_frequencies import by_fft

pytestmark = pytest.mark.in_turn(60)

NEUTRAL = FreeU(b1=1, b2=1, s1=1, s2=1)
CONTRACT = [
    FreeU(),
    FreeU(version=1, b1=1.2, b2=1, s1=1, s2=0.7, b3=1.1, s3=0.9, offset1=0.75, cutoff2=0.5, high2=1.2, width3=1),
]

BY_HAND = {"b1": 1.3, "b2": 1.4, "s1": 0.9, "s2": 0.2}


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def modified_call(unet, config, step):
    with modified(unet, [config]):
        return call(unet, step)


# The published forward. Its Fourier filter and version 2's norm are those of its README, the rest of ljleb's extension.


def structure(h: Tensor) -> Tensor:
    mean = h.mean(1).unsqueeze(1)
    rows = mean.view(len(mean), -1)
    most, least = (value[:, None, None, None] for value in (rows.max(-1).values, rows.min(-1).values))
    return (mean - least) / (most - least)


def weigh(h: Tensor, skip: Tensor, version: int, b: float, s: float, offset=0.0, width=0.5, high=1.0, cutoff=0.0):
    channels = h.shape[1]
    inside = [math.floor(offset * channels) + i for i in range(round(width * channels))]
    mask = torch.zeros(channels)
    mask[[i % channels for i in inside]] = 1
    factor = b if version == 1 else 1 + (b - 1) * structure(h)
    return h * (1 + mask[None, :, None, None] * (factor - 1)), by_fft(skip, s, high, cutoff).to(skip.dtype)


def published(unet: nn.Module, step: dict, version: int, stages: dict[int, tuple]) -> Tensor:
    """The U-Net's forward as ldm and sgm write it. `stages`: channels of h over the width -> what `weigh` takes."""
    emb, context, h, skips = embed(unet, step["timesteps"], step["y"]), step["context"], step["x"], []
    for block in unet.input_blocks:
        h = block(h, emb, context)
        skips.append(h)
    h = unet.middle_block(h, emb, context)
    for block in unet.output_blocks:
        skip = skips.pop()
        times = h.shape[1] // unet.model_channels
        if times in stages:
            h, skip = weigh(h, skip, version, *stages[times])
        h = block(torch.cat([h, skip], 1), emb, context)
    return unet.out(h)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("version", (1, 2))
@pytest.mark.parametrize("size", [(16, 16), (8, 24)], ids=str)
def test_is_the_published_forward(family, version, size):
    unet, step = fresh(family), inputs(family, height=size[0], width=size[1])
    expected = published(unet, step, version, {4: (1.3, 0.9), 2: (1.4, 0.2)})
    out = modified_call(unet, FreeU(version=version, **BY_HAND), step)
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-5)
    assert (expected - call(unet, step)).abs().max() > 1e-2


@pytest.mark.parametrize("family", ("sd1", "sdxl"))
@pytest.mark.parametrize("version", (1, 2))
def test_three_stages_with_windows_and_cutoffs_are_the_extensions_forward(family, version):
    unet, step = fresh(family), inputs(family, height=16, width=24)
    of_stages = [(1.3, 0.5, 0.75, 0.5, 1.2, 0.5), (0.8, 1.4, 0.5, 0.25, 0.9, 1.0), (1.2, 0.7, 0.0, 1.0, 1.1, 0.3)]
    names = ("b", "s", "offset", "width", "high", "cutoff")
    given = {f"{names[i]}{stage + 1}": values[i] for stage, values in enumerate(of_stages) for i in range(6)}
    out = modified_call(unet, FreeU(version=version, **given), step)
    expected = published(unet, step, version, dict(zip((4, 2, 1), of_stages, strict=True)))
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "family, stages",
    [
        ("sd1", (range(7), range(7, 10), range(10, 12))),
        ("sd2", (range(7), range(7, 10), range(10, 12))),
        ("refiner", (range(7), range(7, 10), range(10, 12))),
        ("sdxl", (range(4), range(4, 7), range(7, 9))),
        ("ssd1b", (range(4), range(4, 7), range(7, 9))),
    ],
)
def test_stages_go_by_the_channels_of_the_backbone(family, stages):
    unet = inspect_unet(fresh(family))
    for stage, blocks in enumerate(stages, start=1):
        config = replace(NEUTRAL, **{f"b{stage}": 1.2})
        edited = [edit.module for edit in METHODS["free_u"].edits(config, unet, None)]
        assert edited == [unet.output_blocks[i].layers[0].module for i in blocks]


# Presets.


@pytest.mark.parametrize(
    "family, first, second",
    [
        ("sd1", (1.2, 1.4, 0.9, 0.2), (1.5, 1.6, 0.9, 0.2)),
        ("inpainting", (1.2, 1.4, 0.9, 0.2), (1.5, 1.6, 0.9, 0.2)),
        ("sd2", (1.1, 1.2, 0.9, 0.2), (1.4, 1.6, 0.9, 0.2)),
        ("sdxl", (1.1, 1.2, 0.6, 0.4), (1.3, 1.4, 0.9, 0.2)),
        ("refiner", (1.1, 1.2, 0.6, 0.4), (1.3, 1.4, 0.9, 0.2)),
        ("ssd1b", (1.1, 1.2, 0.6, 0.4), (1.3, 1.4, 0.9, 0.2)),
    ],
)
def test_auto_is_what_is_published_for_the_family(family, first, second):
    unet, step = fresh(family), inputs(family)
    for version, (b1, b2, s1, s2) in ((1, first), (2, second)):
        auto = FreeU(version=version)
        assert factors(auto, family) == (b1, b2, s1, s2, 1, 1)
        spelled_out = FreeU(version=version, b1=b1, b2=b2, s1=s1, s2=s2)
        assert torch.equal(modified_call(unet, auto, step), modified_call(unet, spelled_out, step))


def factors(config: FreeU, family: str) -> tuple[float, ...]:
    settled = config.resolved(inspect_unet(FAMILIES[family]()), Target(512, 512, 512))
    return tuple(getattr(settled, name) for name in ("b1", "b2", "s1", "s2", "b3", "s3"))


def test_a_chosen_preset_holds_for_every_family():
    for family in FAMILIES:
        assert factors(FreeU(preset="SD1.4"), family)[:4] == (1.3, 1.4, 0.9, 0.2)
        assert factors(FreeU(preset="SD1.4", version=1), family)[:4] == (1.2, 1.4, 0.9, 0.2)


def test_what_is_given_is_done_and_the_preset_fills_in_the_rest():
    for family in FAMILIES:
        assert factors(FreeU(**BY_HAND, b3=1.1, s3=0), family) == (1.3, 1.4, 0.9, 0.2, 1.1, 0)
        assert factors(FreeU(preset="SDXL", **BY_HAND), family)[:4] == (1.3, 1.4, 0.9, 0.2)
    assert factors(FreeU(b1=1.2), "sd1") == (1.2, 1.6, 0.9, 0.2, 1, 1)
    assert factors(FreeU(b1=1, s2=0), "sd2") == (1, 1.6, 0.9, 0, 1, 1)
    assert factors(FreeU(b1=-0.5, b3=-1), "sdxl") == (-0.5, 1.4, 0.9, 0.2, 1, 1)


def test_the_summary_says_which():
    assert FreeU().summary() == "FreeU v2 auto"
    assert FreeU(version=1, preset="SDXL", b1=1.2, end=0.6).summary() == "FreeU v1 SDXL b1 1.2 0-0.6"
    assert FreeU(**BY_HAND, b3=1.1).summary() == "FreeU v2 b1 1.3 b2 1.4 s1 0.9 s2 0.2 b3 1.1"


def test_neutral_is_what_multiplies_by_one():
    assert NEUTRAL.neutral and replace(NEUTRAL, offset1=0.5, cutoff2=1).neutral
    assert replace(NEUTRAL, b1=2, width1=0).neutral
    for acting in ({"b3": 1.1}, {"s3": 0.9}, {"high2": 0.9}, {"b1": -1}):
        assert not replace(NEUTRAL, **acting).neutral


def test_a_unet_without_a_stage_goes_without_it_and_is_refused_where_nothing_is_left():
    whole = inspect_unet(fresh("sdxl"))
    shallow = replace(whole, output_blocks=whole.output_blocks[4:])
    edits = METHODS["free_u"].edits
    assert len(list(edits(FreeU(**BY_HAND), shallow, None))) == 3
    with pytest.raises(
        ConfigError, match=r"^FreeU: this U-Net has no stage 1 \(128 channels\); set b and s of another stage\.$"
    ):
        list(edits(replace(NEUTRAL, b1=1.2), shallow, None))
    assert list(edits(NEUTRAL, shallow, None)) == []


# Backbone.


@pytest.mark.parametrize(
    "offset, width, scaled",
    [
        (0, 0.5, [0, 1, 2, 3, 4]),
        (1, 0.5, [0, 1, 2, 3, 4]),
        (0.5, 0.5, [5, 6, 7, 8, 9]),
        (0.8, 0.5, [8, 9, 0, 1, 2]),
        (0.3, 0.2, [3, 4]),
        (0.7, 1, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
        (0, 1, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
        (0.4, 0, []),
    ],
)
def test_the_window_wraps(offset, width, scaled):
    h = torch.ones(2, 10, 3, 2)
    out = scaled_window(h, 3.0, offset, width)
    assert out[:, scaled].eq(3).all() and out.sum() == 2 * 6 * (10 + 2 * len(scaled))
    assert h.eq(1).all()


def test_version_2_by_hand():
    # Means over channels 1, 2, 3, 5 of one row, 0, 0, 0, 8 of the other: each row is normalised by itself.
    means = torch.tensor([[1.0, 2.0, 3.0, 5.0], [0.0, 0.0, 0.0, 8.0]]).view(2, 1, 2, 2)
    h = means + torch.tensor([-1.0, 1.0, -2.0, 2.0]).view(1, 4, 1, 1)
    expected = torch.tensor([[1, 1.125, 1.25, 1.5], [1, 1, 1, 1.5]]).view(2, 1, 2, 2)
    torch.testing.assert_close(by_structure(h, 1.5), expected)


@pytest.mark.parametrize("value", (0.0, 3.0, -65504.0))
@pytest.mark.parametrize("dtype", (torch.float32, torch.float16, torch.bfloat16, torch.float64))
def test_version_2_leaves_a_map_alone_that_is_the_same_everywhere(value, dtype):
    h = torch.full((2, 8, 5, 3), value, dtype=dtype)
    assert by_structure(h, 1.6).eq(1).all()
    assert torch.equal(reweighted(h, 4, FreeUStage(1.6, 1, 0, 0.5, 1, 0), 2), h)


@pytest.mark.parametrize("dtype, eps", [(torch.bfloat16, 2**-8), (torch.float16, 2**-11)])
@pytest.mark.parametrize("version", (1, 2))
def test_half_precision_rounds_the_result_alone(dtype, eps, version):
    x = noise(2, 24, 17, 9).to(dtype)
    stage = FreeUStage(1.5, 0.2, 0.25, 0.5, 1.0, 0.0)
    out, exact = reweighted(x, 16, stage, version), reweighted(x.double(), 16, stage, version)
    assert out.dtype == dtype and ((out.double() - exact).abs() <= eps * exact.abs() + 1e-5).all()


@pytest.mark.parametrize("version", (1, 2))
def test_nothing_that_comes_in_is_changed(version):
    x = noise(2, 24, 6, 6)
    before = x.clone()
    for stage in (FreeUStage(1.5, 0.2, 0, 0.5, 1, 0), FreeUStage(1, 0.2, 0, 0.5, 1, 0), FreeUStage(1.5, 1, 0, 0.5, 1, 0)):
        out = reweighted(x, 16, stage, version)
        assert torch.equal(x, before) and out.untyped_storage().data_ptr() != x.untyped_storage().data_ptr()


@pytest.mark.parametrize("name", HOSTS)
def test_skip_connections_and_what_enters_a_block_stay_as_they_are(name):
    unet = HOSTS[name].prepare(fresh("sd1"))
    kept: list[tuple[Tensor, Tensor]] = []

    def watch(call, x, *args, **kwargs):
        kept.append((x, x.clone()))
        out = call(x, *args, **kwargs)
        kept.append((out, out.clone()))
        return out

    watching = Installed()
    watching.add([Edit(block.layers[0].module, watch) for block in inspect_unet(unet).blocks], "watch", -1)
    with modified(unet, [FreeU()]):
        HOSTS[name].forward(unet, **inputs("sd1"))
    watching.remove()
    assert len(kept) >= 50 and all(torch.equal(now, before) for now, before in kept)


# When.


@pytest.mark.parametrize(
    "start, end, strengths",
    [
        (0.2, 0.8, {0.2: 0, 0.25: 0.25, 0.3: 0.5, 0.4: 1, 0.6: 1, 0.7: 0.5, 0.8: 0}),
        (0.0, 0.8, {0.0: 1, 0.1: 1, 0.6: 1, 0.75: 0.25}),
        (0.2, 1.0, {0.3: 0.5, 0.9: 1, 1.0: 1}),
        (0.4, 0.6, {0.45: 0.25, 0.5: 0.5, 0.55: 0.25}),
        (0.0, 1.0, {0.0: 1, 0.5: 1, 1.0: 1}),
    ],
)
def test_soft_edges(start, end, strengths):
    config = FreeU(start=start, end=end, soft=0.2)
    for progress, strength in strengths.items():
        assert config.strength(progress) == pytest.approx(strength)
        assert replace(config, soft=0).strength(progress) == 1


@pytest.mark.parametrize("version", (1, 2))
def test_half_way_through_a_soft_edge_every_factor_is_half_way_to_its_own(version):
    unet, step = fresh("sd1"), inputs("sd1", timestep=999 * 0.7)
    config = FreeU(version=version, **BY_HAND, high1=0.8, cutoff1=0.5, start=0.2, soft=0.2)
    expected = published(unet, step, version, {4: (1.15, 0.95, 0.0, 0.5, 0.9, 0.5), 2: (1.2, 0.6)})
    torch.testing.assert_close(modified_call(unet, config, step), expected, rtol=1e-4, atol=1e-5)
    at_start = inputs("sd1", timestep=999 * 0.8)
    plain = call(unet, at_start)
    torch.testing.assert_close(modified_call(unet, config, at_start), plain, rtol=1e-4, atol=1e-5)


# With other methods.


def test_a_layer_left_out_by_name_gets_what_is_made_of_its_blocks_input():
    unet, step = fresh("sd1"), inputs("sd1")
    block = unet.output_blocks[4]
    with modified(unet, [FreeU(version=1, **BY_HAND), SkipBlocks(blocks=("out.4.res",))]):
        out = call(unet, step)
    shortcut = block[0].skip_connection
    block[0].forward = lambda x, emb: shortcut(x)
    expected = published(unet, step, 1, {4: (1.3, 0.9), 2: (1.4, 0.2)})
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-5)


def test_what_a_cache_keeps_does_not_grow():
    """Steps answered from memory weigh what is kept each time anew: equal calls give equal answers."""
    unet, step = fresh("sd1"), inputs("sd1")
    with modified(unet, [FreeU(), DeepCache(interval=4)]) as run:
        first, *others = [run.new_evaluation() or call(unet, step) for _ in range(4)]
    torch.testing.assert_close(first, modified_call(unet, FreeU(), step))
    for out in others:
        torch.testing.assert_close(out, first)


@pytest.mark.parametrize("dtype", (torch.float32, torch.float16, torch.bfloat16))
def test_version_2_takes_no_notice_of_rounding(dtype):
    """A map that is the same everywhere but for the last digit of its numbers: its mean tells nothing of its cells."""
    same = noise(1, 320, 1, 1).expand(1, 320, 4, 4).to(dtype)
    rounded = (
        torch.nextafter(same, torch.full_like(same, torch.inf))
        if dtype == torch.float32
        else same * (1 + torch.finfo(dtype).eps)
    )
    almost = torch.where(noise(1, 320, 4, 4) > 0, rounded, same)
    torch.testing.assert_close(by_structure(almost, 1.6), torch.ones(1, 1, 4, 4))
