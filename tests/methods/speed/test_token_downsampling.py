"""TokenDownsampling against self-attention written out again on keys that torch itself resized."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from contract import snapshot
from hosts import HOSTS, ControlNetHook
from unets import ATTENTIONS, TRANSFORMER_BLOCKS, call, fresh, inputs, sd1

from lib_unetmod import ConfigError, TokenDownsampling, TokenMerging, inspect_unet, modified
from lib_unetmod.methods.speed.token_downsampling import nearest_exact, resized
from lib_unetmod.parts.attention.tokens import with_map_size

pytestmark = pytest.mark.in_turn(60)

NEUTRAL = TokenDownsampling(factor=1, factor_2=1)
# The contract rolls a picture by half its width, which only factors that divide its map can follow; others are tried below.
CONTRACT = [TokenDownsampling(), TokenDownsampling(factor=4, factor_2=2)]


def modified_call(unet, config, step):
    with modified(unet, [config]):
        return call(unet, step)


def attention(module, x, context):
    """Multi-head attention (B, N, C) as ldm and sgm define it, with separate keys' tokens (B, M, C)."""

    def heads(t):
        return t.unflatten(-1, (module.heads, -1)).transpose(1, 2)

    q, k, v = heads(module.to_q(x)), heads(module.to_k(context)), heads(module.to_v(context))
    weights = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(-1)
    return module.to_out((weights @ v).transpose(1, 2).flatten(2))


def coarser_forward(unet, factors, step):
    """The U-Net's own forward with each attn1 swapped for `attention` over keys that F.interpolate made coarser.

    `factors` gives the factor for each channel count: the levels of SD1 and SDXL differ in it.
    """
    unet = fresh(lambda: unet)
    latent = step["x"].shape[-2] * step["x"].shape[-1]

    def coarser(module, factor):
        def forward(x, context=None, mask=None, **_):
            down = round((latent / x.shape[1]) ** 0.5)
            height, width = -(-step["x"].shape[-2] // down), -(-step["x"].shape[-1] // down)
            size = [math.ceil(side / factor) for side in (height, width)]
            image = x.transpose(1, 2).unflatten(2, (height, width))
            return attention(module, x, F.interpolate(image, size, mode="nearest-exact").flatten(2).transpose(1, 2))

        return forward

    for module in unet.modules():
        if isinstance(module, TRANSFORMER_BLOCKS):
            channels = module.attn1.to_q.in_features
            assert isinstance(module.attn1, ATTENTIONS)
            if factors.get(channels, 1) > 1:
                module.attn1.forward = coarser(module.attn1, factors[channels])
    return call(unet, step)


@pytest.mark.parametrize("factor, factor_2", [(2, 1), (1.5, 2), (3, 1), (1, 2.5), (4, 2)])
@pytest.mark.parametrize("family, channels", [("sd1", (32, 64)), ("sd2", (32, 64)), ("sdxl", (64, 128))])
@pytest.mark.parametrize("size", [(16, 16), (16, 40)], ids=str)
def test_equals_attention_over_resized_keys(family, channels, factor, factor_2, size):
    step = inputs(family, height=size[0], width=size[1])
    expected = coarser_forward(fresh(family), dict(zip(channels, (factor, factor_2), strict=True)), step)
    out = modified_call(fresh(family), TokenDownsampling(factor=factor, factor_2=factor_2), step)
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(out, call(fresh(family), step), atol=1e-3)


@pytest.mark.parametrize("factor", [1.5, 2, 2.5, 3, 4.5, 5])
def test_positions_are_those_of_nearest_exact(factor):
    for length in range(1, 200):
        new = int(-(-length // factor))
        line = torch.arange(length, dtype=torch.float64)[None, None]
        expected = F.interpolate(line, (new,), mode="nearest-exact")[0, 0].long()
        assert torch.equal(nearest_exact(length, factor), expected)


def test_each_of_several_maps_is_resized():
    """Two 2x3 maps by hand at factor 2: 1x2 tokens stay, of row 1 and columns 0 and 2 (nearest to 0.75 and 2.25)."""
    maps = torch.arange(12.0)[None, :, None]
    assert resized(maps, (2, 3), 2).flatten().tolist() == [3, 5, 9, 11]


@pytest.mark.parametrize("family, acting", [("sd1", 1), ("sdxl", 2), ("refiner", 2), ("ssd1b", 2)])
def test_counts_from_the_first_level_with_attention(family, acting):
    unet = fresh(family)
    with modified(unet, [TokenDownsampling()]) as run:
        edited = {
            block.level
            for block in run.map.blocks
            for inner in block.transformer_blocks
            if "forward" in vars(inner.self_attention)
        }
        assert edited == {acting}


def test_queries_stay_and_every_token_is_answered():
    """One query differs, one answer differs: the token that changes is none of those that serve as keys."""
    unet = fresh("sd1")
    layer = inspect_unet(unet).input_blocks[1].of_kind("attn")[0]
    attn1 = layer.module.transformer_blocks[0].attn1
    x = torch.randn(1, 16, 32, generator=torch.Generator().manual_seed(0))
    changed = x.clone()
    changed[0, 0] += 1  # at factor 2, of a 4x4 map the keys are tokens 5, 7, 13 and 15
    with modified(unet, [TokenDownsampling()]) as run:
        begin_walk(unet)
        with with_map_size(run, (4, 4)):
            differs = (attn1(x) - attn1(changed)).abs().amax(-1)[0] > 1e-6
    assert differs.tolist() == [True] + [False] * 15


def begin_walk(unet):
    """Methods act from the moment a traversal begins; one is begun here, to try a single layer by hand after it."""
    call(unet, inputs("sd1", batch=1, height=8, width=8))


def one_attention(call_attention):
    """What the first attn1 of SD1 answers when `call_attention(attn1, x)` calls it with a 4x6 map x (2, 24, 32)."""
    unet = fresh("sd1")
    attn1 = inspect_unet(unet).input_blocks[1].of_kind("attn")[0].module.transformer_blocks[0].attn1
    x = torch.randn(2, 24, 32, generator=torch.Generator().manual_seed(0))
    with modified(unet, [TokenDownsampling()]) as run:
        begin_walk(unet)
        with with_map_size(run, (4, 6)):
            out = call_attention(attn1, x)
    return out, attn1, x, run.notes


def keys(x):
    return F.interpolate(x.transpose(1, 2).unflatten(2, (4, 6)), (2, 3), mode="nearest-exact").flatten(2).transpose(1, 2)


@pytest.mark.parametrize(
    "way",
    [
        lambda attn1, x: attn1(x),
        lambda attn1, x: attn1(x, None),
        lambda attn1, x: attn1(x, x),
        lambda attn1, x: attn1(x, context=x),
        lambda attn1, x: attn1(x, context=None, mask=None),
        lambda attn1, x: attn1(x, context=x.clone(), mask=None),
    ],
)
def test_ways_to_pass_the_context(way):
    out, attn1, x, notes = one_attention(way)
    torch.testing.assert_close(out, attention(attn1, x, keys(x)), rtol=1e-5, atol=1e-6)
    assert notes == []


def test_reference_appends_maps():
    bank = torch.randn(2, 24, 32, generator=torch.Generator().manual_seed(1))
    out, attn1, x, notes = one_attention(lambda attn1, x: attn1(x, context=torch.cat([x, bank], 1)))
    expected = attention(attn1, x, torch.cat([keys(x), keys(bank)], 1))
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-6)
    assert notes == []


def test_stands_aside_for_keys_that_are_no_maps():
    context = torch.randn(2, 31, 32, generator=torch.Generator().manual_seed(1))
    out, attn1, x, notes = one_attention(lambda attn1, x: attn1(x, context=context))
    torch.testing.assert_close(out, attention(attn1, x, context), rtol=1e-5, atol=1e-6)
    assert len(notes) == 1 and notes[0].startswith("Token downsampling is off in some layers: ")


def test_forges_separate_values_are_resized_with_the_keys():
    host, seen = HOSTS["forge"], {}
    unet = host.prepare(sd1())
    attn1 = inspect_unet(unet).input_blocks[1].of_kind("attn")[0].module.transformer_blocks[0].attn1
    attn1.forward = lambda x, context=None, value=None, **_: seen.update(context=context, value=value) or x.clone()
    x = torch.randn(1, 24, 32, generator=torch.Generator().manual_seed(0))
    with modified(unet, [TokenDownsampling()]) as run:
        host.forward(unet, **inputs("sd1", batch=1, height=8, width=8))
        with with_map_size(run, (4, 6)):
            attn1(x, context=x, value=2 * x, transformer_options={})
    assert torch.equal(seen["context"], keys(x)) and torch.equal(seen["value"], 2 * keys(x))


def test_tiles_are_resized_by_themselves():
    """Rows that are tiles: what a foreign tiling hands in is resized by the tile's own size."""
    unet = fresh("sd1")
    layer = inspect_unet(unet).input_blocks[1].of_kind("attn")[0]
    attn1 = layer.module.transformer_blocks[0].attn1
    tiles = torch.randn(8, 12, 32, generator=torch.Generator().manual_seed(0))
    with modified(unet, [TokenDownsampling()]) as run:
        begin_walk(unet)
        with with_map_size(run, (8, 8)), with_map_size(run, (4, 3)):
            out = attn1(tiles)
    image = tiles.transpose(1, 2).unflatten(2, (4, 3))
    expected = F.interpolate(image, (2, 2), mode="nearest-exact").flatten(2).transpose(1, 2)
    torch.testing.assert_close(out, attention(attn1, tiles, expected), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("bank", (False, True))
def test_with_controlnets_reference(bank):
    """Every pass of the reference goes through; the bank doubles the keys, which then are two maps."""
    unet, step = fresh("sd1"), inputs("sd1")
    before = snapshot(unet)
    hook = ControlNetHook(unet, reference=True, bank=bank)
    plain = call(unet, step)
    with modified(unet, [TokenDownsampling(factor_2=2)]) as run:
        out = call(unet, step)
    assert run.notes == [] and out.isfinite().all() and not torch.equal(out, plain)
    hook.restore()
    assert {path: kinds[2:] for path, kinds in snapshot(unet).items()} == {p: kinds[2:] for p, kinds in before.items()}


@pytest.mark.parametrize("size", [(17, 24), (9, 40), (8, 8), (11, 13)], ids=str)
def test_fractions_at_odd_sizes(size):
    host = HOSTS["a1111"]
    unet, step = host.prepare(sd1()), inputs("sd1", height=size[0], width=size[1], batch=1)
    with modified(unet, [TokenDownsampling(factor=1.5, factor_2=2.5)]) as run:
        out = host.forward(unet, **step)
    assert out.shape == step["x"].shape and out.isfinite().all() and run.notes == []


def test_token_merging_inside_merges_the_queries_only():
    """Both on: the merged queries ask the coarser keys of the whole map."""
    unet, step, seen = fresh("sd1"), inputs("sd1"), {}
    attn1 = inspect_unet(unet).input_blocks[1].of_kind("attn")[0].module.transformer_blocks[0].attn1
    under = attn1.forward

    def noting(x, context=None, mask=None):
        seen.update(queries=x.shape, keys=context.shape)
        return under(x, context=context, mask=mask)

    attn1.forward = noting
    with modified(unet, [TokenDownsampling(), TokenMerging()]):
        call(unet, step)
    assert seen["queries"] == (2, 128, 32) and seen["keys"] == (2, 64, 32)


def test_where_attn1_looks_at_the_prompt_nothing_is_done():
    unet = fresh("sd1")
    for module in unet.modules():
        if isinstance(module, TRANSFORMER_BLOCKS):
            module.disable_self_attn = True
    with modified(unet, [TokenDownsampling()]):
        assert not any("forward" in vars(m) for m in unet.modules() if isinstance(m, ATTENTIONS))


def test_summary_and_refusals():
    assert TokenDownsampling().summary() == "ToDo 2"
    assert TokenDownsampling(factor=1.5, factor_2=2, end=0.6).summary() == "ToDo 1.5/2 0-0.6"
    assert not TokenDownsampling().neutral and NEUTRAL.neutral
    with pytest.raises(ConfigError, match="factor is 6"):
        TokenDownsampling(factor=6)
