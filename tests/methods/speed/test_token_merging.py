"""TokenMerging against tomesd on the same U-Nets, merging by hand, and what it may keep and for how long."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module

import pytest
import torch
from contract import snapshot
from hosts import HOSTS, ControlNetHook
from torch import nn
from unets import ATTENTIONS, call, fresh, inputs, sd1

from benchmarks.twins import call_twin, diffusers_twin
from lib_unetmod import ConfigError, HyperTile, TokenMerging, inspect_unet, modified
from lib_unetmod.methods.speed import token_merging
from lib_unetmod.methods.speed.token_merging import Matching, destinations, match, mean_of_members, nearest_destinations
from lib_unetmod.parts.attention.tokens import with_map_size

pytestmark = pytest.mark.in_turn(60)

NEUTRAL = TokenMerging(ratio=0)
# The contract rolls a picture by half its width, which a drawn pattern cannot follow; random patterns are tried below.
CONTRACT = [
    TokenMerging(),
    TokenMerging(cross_attention=True, mlp=True, stride_x=4, share="side", refresh=1),
]

EACH = {"share": "block", "refresh": 1}


def modified_call(unet, config, step):
    with modified(unet, [config]):
        return call(unet, step)


def first_transformer_block(unet):
    return inspect_unet(unet).input_blocks[1].transformer_blocks[0].module


@pytest.fixture
def tomesd():
    # Here and not above: the contract test imports this file and needs no tomesd.
    return import_module("tomesd")


def holding(unet):
    """`unet` where tomesd looks for it in a latent-diffusion model."""
    holder = nn.Module()
    holder.model = nn.Module()
    holder.model.diffusion_model = unet
    return holder


def tomesd_arguments(config):
    return {
        "ratio": config.ratio,
        "max_downsample": config.max_downsample,
        "sx": config.stride_x,
        "sy": config.stride_y,
        "use_rand": False,
        "merge_attn": config.attention,
        "merge_crossattn": config.cross_attention,
        "merge_mlp": config.mlp,
    }


LIKE_TOMESD = [
    TokenMerging(**EACH),
    TokenMerging(ratio=0.2, **EACH),
    TokenMerging(ratio=0.95, **EACH),
    TokenMerging(ratio=0.75, stride_x=4, **EACH),
    TokenMerging(ratio=0.6, stride_x=2, stride_y=4, max_downsample=2, **EACH),
    TokenMerging(cross_attention=True, **EACH),
    TokenMerging(mlp=True, **EACH),
    TokenMerging(ratio=0.4, attention=False, cross_attention=True, mlp=True, max_downsample=4, **EACH),
    TokenMerging(ratio=0.3, max_downsample=8, **EACH),
]


@pytest.mark.parametrize("config", LIKE_TOMESD, ids=range(len(LIKE_TOMESD)))
@pytest.mark.parametrize(
    "family, size", [("sd1", (16, 16)), ("sd1", (32, 16)), ("sd1", (16, 24)), ("sd2", (16, 32)), ("inpainting", (16, 16))]
)
def test_equals_tomesd(tomesd, family, config, size, monkeypatch):
    unet, patched = fresh(family), fresh(family)
    step = without_ties(monkeypatch, unet, config, size)
    tomesd.apply_patch(holding(patched), **tomesd_arguments(config))
    expected = call(patched, step)
    torch.testing.assert_close(modified_call(unet, config, step), expected, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(expected, call(unet, step), atol=1e-3)


def test_equals_tomesd_on_diffusers(tomesd, monkeypatch):
    """An independent forward with the same weights, patched by tomesd."""
    unet, config = fresh("sd1"), TokenMerging(cross_attention=True, **EACH)
    step = without_ties(monkeypatch, unet, config, (16, 16))
    twin = diffusers_twin(sd1())
    tomesd.apply_patch(twin, **tomesd_arguments(config))
    torch.testing.assert_close(modified_call(unet, config, step), call_twin(twin, step), rtol=1e-5, atol=1e-5)


def without_ties(monkeypatch, unet, config, size):
    """Arguments of a call in which no choice hangs on rounding: another similarity is never within 2e-6 of one that counts.

    Two implementations that add in another order would choose differently there, and both be right.
    """
    real, closest = token_merging.match, []

    def noting_ties(tokens, chosen, merged):
        unit = tokens.double() / tokens.double().norm(dim=-1, keepdim=True)
        sources = [n for n in range(tokens.shape[1]) if n not in set(chosen.tolist())]
        similar = unit[:, sources] @ unit[:, chosen].transpose(1, 2)
        # A second best that cannot be, where there is but one destination.
        two = torch.nn.functional.pad(similar, (0, 1), value=-2.0).topk(2).values
        two = two.gather(1, two[..., :1].argsort(1, descending=True).expand_as(two))
        closest.append((two[:, :merged, 0] - two[:, :merged, 1]).min())
        if merged < len(sources):
            closest.append((two[:, merged - 1, 0] - two[:, merged, 0]).min())
        return real(tokens, chosen, merged)

    for seed in range(20):
        step = inputs(unet, height=size[0], width=size[1], seed=seed)
        monkeypatch.setattr(token_merging, "match", noting_ties)
        closest.clear()
        modified_call(unet, config, step)
        monkeypatch.setattr(token_merging, "match", real)
        if min(closest) > 2e-6:
            return step
    raise AssertionError("no seed of 20 is free of ties")


# By hand.


def test_merge_and_unmerge_by_hand():
    """A 2x4 map with cells of 2x2: destinations are tokens 0 and 2. Angles, in degrees, tell who resembles whom."""
    degrees = torch.tensor([0.0, 10, 90, 80, 45, 2, 70, 88])
    # Nearest to 0 (token 0): 5 by 2, 1 by 10. Nearest to 90 (token 2): 7 by 2, 3 by 10, 6 by 20. Token 4 by 45.
    tokens = torch.stack([degrees.deg2rad().cos(), degrees.deg2rad().sin()], 1)[None]
    lengths = torch.tensor([1.0, 3, 2, 5, 1, 4, 2, 1])[None, :, None]  # the angle alone counts
    chosen = destinations((2, 4), (2, 2), None)
    assert chosen.tolist() == [0, 2]

    matching = match(tokens * lengths, chosen, merged=5)
    x = torch.tensor([1.0, 2, 4, 8, 16, 32, 64, 128])[None, :, None]
    merged = matching.merge(x)
    # 0 takes 5 and 1; 2 takes 7, 3 and 6; 4 is left.
    torch.testing.assert_close(merged.flatten(), torch.tensor([(1 + 32 + 2) / 3, (4 + 128 + 8 + 64) / 4, 16]))
    low, high, own = 35 / 3, 51.0, 16.0
    expected = torch.tensor([low, low, high, high, own, low, high, high])
    torch.testing.assert_close(matching.unmerge(merged).flatten(), expected)

    fewer = match(tokens * lengths, chosen, merged=2)  # 5 and 7 only
    assert fewer.merge(x).flatten()[:2].tolist() == [16.5, 66]
    assert sorted(fewer.merge(x).flatten()[2:].tolist()) == [2, 8, 16, 64]
    assert fewer.unmerge(fewer.merge(x)).flatten().tolist() == [16.5, 2, 66, 8, 16, 16.5, 64, 66]


def test_rows_are_matched_by_themselves():
    tokens = torch.randn(3, 48, 8, generator=torch.Generator().manual_seed(0))
    x = torch.randn(3, 48, 5, generator=torch.Generator().manual_seed(1))
    chosen = destinations((6, 8), (2, 2), None)
    together = match(tokens, chosen, 20)
    for row in range(3):
        alone = match(tokens[row : row + 1], chosen, 20)
        torch.testing.assert_close(together.merge(x)[row], alone.merge(x[row : row + 1])[0])
        assert torch.equal(together.unmerge(together.merge(x))[row], alone.unmerge(alone.merge(x[row : row + 1]))[0])


def test_search_in_pieces_finds_the_same(monkeypatch):
    tokens = torch.randn(3, 60, 8, generator=torch.Generator().manual_seed(0))
    chosen = destinations((6, 10), (2, 2), None)
    sources = torch.tensor([n for n in range(60) if n not in chosen.tolist()])
    unit = tokens / tokens.norm(dim=-1, keepdim=True)
    expected = (unit[:, sources] @ unit[:, chosen].transpose(1, 2)).max(-1)
    for at_once in (1, 15, 100, 900, 10**6):
        monkeypatch.setattr(token_merging, "SIMILARITIES_AT_ONCE", at_once)
        similarity, nearest = nearest_destinations(tokens, sources, chosen)
        torch.testing.assert_close(similarity, expected.values)
        assert torch.equal(nearest, expected.indices)


def test_means_without_embedding_bag_and_of_many_in_half_precision():
    """4000 times 3.0 sums to 12000, which float16 stops counting at 8192 when it adds one at a time."""
    place = torch.tensor([0] * 4000 + [1, 2, 2])
    matching = Matching(place, torch.arange(4003), torch.tensor([0, 4000, 4001]))
    x = torch.tensor([3.0] * 4000 + [5, 1, 2])[:, None].expand(-1, 4).to(torch.float16).contiguous()
    assert mean_of_members(x, matching)[:, 0].tolist() == [3, 5, 1.5]

    sums = token_merging.mean_by_adding(x, matching)
    assert sums.dtype == x.dtype and sums[:, 3].tolist() == [3, 5, 1.5]


# Any size, any stride.


@pytest.mark.parametrize("size", [(17, 24), (9, 40), (8, 8), (11, 13)], ids=str)
@pytest.mark.parametrize("strides", [(2, 2), (4, 2), (3, 5), (8, 8)], ids=str)
def test_any_size_and_stride(size, strides):
    host = HOSTS["a1111"]
    unet, step = host.prepare(sd1()), inputs("sd1", height=size[0], width=size[1], batch=1)
    config = TokenMerging(stride_x=strides[0], stride_y=strides[1], max_downsample=8, cross_attention=True, mlp=True)
    for random in (False, True):
        with modified(unet, [replace(config, random=random)]) as run:
            out = host.forward(unet, **step)
        assert out.shape == step["x"].shape and out.isfinite().all() and run.notes == []


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (2, 3), (9, 40), (7, 7), (16, 16)])
@pytest.mark.parametrize("stride", [(2, 2), (4, 2), (3, 8)])
@pytest.mark.parametrize("seed", [None, 0, 1])
def test_one_destination_a_cell(size, stride, seed):
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    chosen = destinations(size, stride, generator).tolist()
    high, wide = min(stride[0], size[0]), min(stride[1], size[1])
    cells = [(token // size[1] // high, token % size[1] // wide) for token in chosen]
    assert cells == [(y, x) for y in range(size[0] // high) for x in range(size[1] // wide)]
    if seed is None:
        assert all(token // size[1] % high == 0 and token % size[1] % wide == 0 for token in chosen)


@pytest.mark.parametrize("family, levels", [("sd1", {1}), ("sdxl", {2}), ("refiner", {2}), ("ssd1b", {2})])
def test_levels_count_from_the_first_with_attention(family, levels):
    def edited(max_downsample):
        unet = fresh(family)
        with modified(unet, [TokenMerging(max_downsample=max_downsample)]) as run:
            blocks = [block for block in run.map.blocks if block.transformer_blocks]
            on = {b.level for b in blocks if any("forward" in vars(t.self_attention) for t in b.transformer_blocks)}
            return on, {b.level for b in blocks}

    assert edited(1)[0] == levels
    assert edited(2)[0] == {level + k for level in levels for k in (0, 1)} & edited(2)[1]
    assert edited(8)[0] == edited(8)[1]


# Random destinations.


def patterns(monkeypatch, config, run_calls, seed=0):
    """The destinations drawn in a run, one list for each search."""
    drawn, real = [], token_merging.destinations

    def noting(size, stride, generator):
        chosen = real(size, stride, generator)
        drawn.append(chosen.tolist())
        return chosen

    monkeypatch.setattr(token_merging, "destinations", noting)
    unet = fresh("sd1")
    with modified(unet, [config], seed=seed) as run:
        run_calls(run, unet)
    monkeypatch.setattr(token_merging, "destinations", real)
    return drawn


def test_random_patterns_follow_seed_and_evaluation(monkeypatch):
    config, steps = TokenMerging(random=True, share="walk", refresh=1), [inputs("sd1", timestep=t) for t in (900, 500)]

    def two(run, unet):
        for step in steps:
            call(unet, step)

    first, second = patterns(monkeypatch, config, two)
    assert first != second and len(set(first)) == 64
    assert patterns(monkeypatch, config, two) == [first, second]
    assert first not in patterns(monkeypatch, config, two, seed=1)

    def cond_and_uncond_apart(run, unet):
        for row in (0, 1):
            call(unet, {name: value if value is None else value[row : row + 1] for name, value in steps[0].items()})

    assert patterns(monkeypatch, config, cond_and_uncond_apart) == [first, first]


@pytest.mark.parametrize("share", ("block", "side", "walk"))
def test_random_rows_do_not_depend_on_each_other(share):
    config, step = TokenMerging(random=True, share=share, cross_attention=True, mlp=True), inputs("sd1", batch=3)
    whole = modified_call(fresh("sd1"), config, step)
    for row in range(3):
        alone = {name: value if value is None else value[row : row + 1] for name, value in step.items()}
        torch.testing.assert_close(modified_call(fresh("sd1"), config, alone)[0], whole[row], rtol=1e-4, atol=1e-5)


# What is searched once and used again.


def searches(monkeypatch, config, run_calls, unet=None):
    """How many searches a run makes, and the run."""
    count, real = [], token_merging.match
    monkeypatch.setattr(token_merging, "match", lambda *args: count.append(args) or real(*args))
    unet = unet or fresh("sd1")
    with modified(unet, [config]) as run:
        run_calls(run, unet)
    monkeypatch.setattr(token_merging, "match", real)
    return len(count), run


@pytest.mark.parametrize(
    "share, family, max_downsample, expected",
    [
        ("block", "sd1", 1, 5),
        ("side", "sd1", 1, 2),
        ("walk", "sd1", 1, 1),
        ("side", "sd1", 8, 7),  # two sides of three levels, and the middle
        ("walk", "sd1", 8, 4),
        ("side", "sdxl", 1, 2),
        ("walk", "sdxl", 2, 2),  # the middle shares with level 3
        ("side", "sdxl", 2, 5),
    ],
)
@pytest.mark.parametrize("parts", [{}, {"cross_attention": True, "mlp": True}])
def test_a_search_is_shared(monkeypatch, share, family, max_downsample, expected, parts):
    config = TokenMerging(share=share, max_downsample=max_downsample, **parts)
    count, _ = searches(monkeypatch, config, lambda run, unet: call(unet, inputs(family)), fresh(family))
    assert count == expected


def test_a_shared_search_is_the_first_layers(monkeypatch):
    """Sharing in the walk equals tomesd's forward in which every layer is given the first layer's matching."""
    unet, step, kept = fresh("sd1"), inputs("sd1"), []
    real = token_merging.match
    expected = modified_call(unet, TokenMerging(share="walk"), step)
    monkeypatch.setattr(token_merging, "match", lambda *args: kept.append(real(*args)) or kept[0])
    assert torch.equal(modified_call(unet, TokenMerging(share="block"), step), expected)
    assert len(kept) == 5


@pytest.mark.long
def test_refresh(monkeypatch):
    times = (900, 800, 700, 600, 500, 400)

    def calls(run, unet):
        for t in times:
            call(unet, inputs("sd1", timestep=t, seed=t))

    def count(refresh, share="walk"):
        return searches(monkeypatch, TokenMerging(share=share, refresh=refresh), calls)[0]

    assert [count(refresh) for refresh in (1, 2, 3, 4, 10)] == [6, 3, 2, 2, 1]
    assert count(3, "side") == 4
    assert count(3, "block") == 10


def test_a_kept_search_is_the_one_of_the_evaluation_that_made_it():
    first, second = inputs("sd1", timestep=900, seed=1), inputs("sd1", timestep=800, seed=2)
    unet = fresh("sd1")
    with modified(unet, [TokenMerging(refresh=2)]) as run:
        call(unet, first)
        reused = call(unet, second)
    assert run.kept_bytes > 0
    assert not torch.allclose(reused, modified_call(unet, TokenMerging(), second), atol=1e-4)
    third = inputs("sd1", timestep=700, seed=3)
    with modified(unet, [TokenMerging(refresh=2)]):
        searched_again = [call(unet, step) for step in (first, second, third)][-1]
    assert torch.equal(searched_again, modified_call(unet, TokenMerging(), third))


def test_a_kept_search_serves_no_other_rows_sizes_or_dtypes(monkeypatch):
    unlike = [
        inputs("sd1", timestep=900),
        inputs("sd1", timestep=800, batch=1),
        inputs("sd1", timestep=700, height=24),
        inputs("sd1", timestep=600, height=8, width=32),  # as many tokens as the first, in another map
    ]

    def calls(run, unet):
        for step in unlike:
            run.new_evaluation()
            call(unet, step)

    assert searches(monkeypatch, TokenMerging(share="walk", refresh=10), calls)[0] == 4

    def half(run, unet):
        run.new_evaluation()
        call(unet, unlike[0])
        run.new_evaluation()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            call(unet, unlike[0])

    assert searches(monkeypatch, TokenMerging(share="walk", refresh=10), half)[0] == 2


def test_cond_and_uncond_apart_keep_their_own(monkeypatch):
    steps = [inputs("sd1", timestep=t, seed=t) for t in (900, 800)]

    def apart(run, unet):
        for step in steps:
            for row in (0, 1):
                call(unet, {name: value if value is None else value[row : row + 1] for name, value in step.items()})

    assert searches(monkeypatch, TokenMerging(share="walk", refresh=2), apart)[0] == 2


def test_a_new_pass_forgets(monkeypatch):
    def calls(run, unet):
        for t, pass_name in ((900, "first"), (800, "hires")):
            run.begin_pass(pass_name)
            call(unet, inputs("sd1", timestep=t))

    assert searches(monkeypatch, TokenMerging(share="walk", refresh=10), calls)[0] == 2


# Other keys, other tokens.


def seen_by_attention(unet, config, attend, size):
    """The shapes that reach attn1's own forward when `attend(attn1)` is called in place of the layer's work."""
    block, seen = first_transformer_block(unet), {}

    def own(x, context=None, **kwargs):
        seen.update(x=x, context=context, **kwargs)
        return x + 0

    block.attn1.forward = own
    block.forward = lambda x, context=None: attend(block.attn1, x)
    with modified(unet, [config]) as run:
        call(unet, inputs("sd1", batch=1, height=size[0], width=size[1]))
    return seen, run.notes


@pytest.mark.parametrize("given", ["context", "value"])
def test_keys_that_are_the_queries_are_merged_with_them(given):
    seen, notes = seen_by_attention(fresh("sd1"), TokenMerging(), lambda attn1, x: attn1(x, **{given: x}), (8, 8))
    assert seen["x"].shape == (1, 32, 32) and seen[given] is seen["x"] and notes == []


def test_keys_of_their_own_are_left_alone():
    own = torch.zeros(1, 128, 32)
    seen, notes = seen_by_attention(fresh("sd1"), TokenMerging(), lambda attn1, x: attn1(x, context=own), (8, 8))
    assert seen["x"].shape == (1, 32, 32) and seen["context"] is own and notes == []


def test_masks_and_foreign_token_counts_are_left_alone():
    mask = torch.zeros(1, 64)
    seen, _ = seen_by_attention(fresh("sd1"), TokenMerging(), lambda attn1, x: attn1(x, mask=mask), (8, 8))
    assert seen["x"].shape == (1, 64, 32)
    short = lambda attn1, x: attn1(x[:, :40]).repeat(1, 2, 1)[:, :64]  # noqa: E731
    seen, notes = seen_by_attention(fresh("sd1"), TokenMerging(), short, (8, 8))
    assert seen["x"].shape == (1, 40, 32)
    assert len(notes) == 1 and notes[0].startswith("Token merging is off in some layers: ")


def test_tiles_are_searched_by_themselves(monkeypatch):
    """Four 4x4 tiles of an 8x8 map: what an outer edit hands in is matched as it comes."""
    unet = fresh("sd1")
    box = {}

    def tiled(attn1, x):
        tiles = x.unflatten(1, (2, 4, 2, 4)).transpose(2, 3).flatten(0, 2).flatten(1, 2)
        box["tiles"] = tiles
        with with_map_size(box["run"], (4, 4)):
            box["out"] = attn1(tiles)
        return x + 0

    block = first_transformer_block(unet)
    block.attn1.forward = lambda x, context=None: x * 2
    block.forward = lambda x, context=None: tiled(block.attn1, x)
    with modified(unet, [TokenMerging()]) as box["run"]:
        call(unet, inputs("sd1", batch=1, height=8, width=8))
    matching = match(box["tiles"], destinations((4, 4), (2, 2), None), 8)
    torch.testing.assert_close(box["out"], 2 * matching.unmerge(matching.merge(box["tiles"])))


@pytest.mark.parametrize(
    "share, refresh, variations, expected",
    [
        ("block", 1, 1, 15),  # five layers, three evaluations
        ("block", 3, 1, 5),
        ("walk", 3, 1, 1),
        ("walk", 1, 1, 3),
        ("side", 3, 1, 2),
    ],
)
def test_tiles_that_lie_alike_share_a_search(monkeypatch, share, refresh, variations, expected):
    """Four tiles of equal size are one batch, so that an attention makes one search for them."""
    tiles = HyperTile(tile=64, variations=variations)
    real, count, unet = token_merging.match, [], fresh("sd1")
    monkeypatch.setattr(token_merging, "match", lambda *args: count.append(args[0].shape) or real(*args))
    with modified(unet, [TokenMerging(share=share, refresh=refresh), tiles]) as run:
        for timestep in (900, 880, 860):
            run.new_evaluation()
            call(unet, inputs("sd1", timestep=timestep))
    assert len(count) == expected and {shape[:2] for shape in count} == {(2 * 4, 64)}


def test_tiles_that_lie_elsewhere_are_searched_anew(monkeypatch):
    count, real, unet = [], token_merging.match, fresh("sd1")
    monkeypatch.setattr(token_merging, "match", lambda *args: count.append(1) or real(*args))
    with modified(unet, [TokenMerging(refresh=3, share="walk"), HyperTile(tile=64, variations=1, shift=True)]) as run:
        for timestep in (900, 880, 860):
            run.new_evaluation()
            call(unet, inputs("sd1", timestep=timestep))
    assert len(count) == 1 + 4  # the third evaluation has the first one's tiles; shifted ones are of four sizes


@pytest.mark.parametrize("bank", (False, True))
def test_with_controlnets_reference(bank, monkeypatch):
    unet, steps = fresh("sd1"), [inputs("sd1", timestep=t) for t in (900, 800)]
    hook = ControlNetHook(unet, reference=True, bank=bank)
    plain = [call(unet, step) for step in steps]

    def calls(run, unet):
        for step, without in zip(steps, plain, strict=True):
            out = call(unet, step)
            assert out.isfinite().all() and not torch.equal(out, without)

    # The reference pass searches for itself in each evaluation; the other pass keeps its search.
    count, run = searches(monkeypatch, TokenMerging(share="walk", refresh=2), calls, unet)
    assert count == 3 and run.notes == []
    hook.restore()


def test_under_a1111s_own_token_merging(tomesd):
    """Both on: tomesd has merged the tokens before ours sees them, which stands aside and says so."""
    unet, step = fresh("sd1"), inputs("sd1")
    tomesd.apply_patch(holding(unet), use_rand=False)
    alone = call(unet, step)
    before = snapshot(unet)
    with modified(unet, [TokenMerging()]) as run:
        assert torch.equal(call(unet, step), alone)
    assert len(run.notes) == 1 and snapshot(unet) == before


# Knobs.


@pytest.mark.parametrize(
    "smallest, acts",
    [
        ({}, True),
        ({"min_width": 192}, True),
        ({"min_width": 256}, False),
        ({"min_height": 128}, True),
        ({"min_height": 192}, False),
        ({"min_width": 128, "min_height": 192}, False),
    ],
)
def test_smallest_size(smallest, acts):
    """A latent of 16 x 24 is a picture 192 wide and 128 high."""
    unet, step = fresh("sd1"), inputs("sd1", height=16, width=24)
    config = TokenMerging(cross_attention=True, **smallest)
    assert torch.equal(modified_call(unet, config, step), call(unet, step)) == (not acts)


def test_summary_shows_the_ratio_that_acts():
    assert TokenMerging().summary() == "ToMe 0.5"
    assert TokenMerging(ratio=0.9).summary() == "ToMe 0.75"
    assert TokenMerging(ratio=0.9, stride_x=4, start=0.2).summary() == "ToMe 0.88 0.2-1"
    assert TokenMerging(ratio=0.9, stride_x=4, stride_y=4).summary() == "ToMe 0.9"


def test_neutral_settings():
    assert NEUTRAL.neutral and TokenMerging(attention=False).neutral and TokenMerging(stride_x=1, stride_y=1).neutral
    assert not TokenMerging().neutral and not TokenMerging(attention=False, mlp=True).neutral


def test_refusals():
    with pytest.raises(ConfigError, match="max_downsample is 9"):
        TokenMerging(max_downsample=9)
    with pytest.raises(ConfigError, match="share is 'row'"):
        TokenMerging(share="row")
    assert TokenMerging(max_downsample="4").max_downsample == 4


def test_no_attention_is_refused():
    unet = fresh("sd1")
    for block in [*unet.input_blocks, unet.middle_block, *unet.output_blocks]:
        for index in reversed(range(len(block))):
            if any(isinstance(module, ATTENTIONS) for module in block[index].modules()):
                del block[index]
    with pytest.raises(ConfigError, match="no attention"):
        modified(unet, [TokenMerging()]).__enter__()
