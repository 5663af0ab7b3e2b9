"""HyperTile against plain loops over rectangles that are counted out by hand here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from contract import snapshot
from einops import rearrange
from hosts import HOSTS, ControlNetHook
from ldm.modules.diffusionmodules.model import AttnBlock
from torch import Tensor, nn
from unets import call, fresh, inputs

from lib_unetmod import HyperTile, modified, what_is_on
from lib_unetmod.core.config import Config
from lib_unetmod.core.depth import Depth
from lib_unetmod.core.patching import Edit
from lib_unetmod.core.registry import METHODS, method
from lib_unetmod.parts.attention.tokens import map_size, note_map_size, with_map_size
from lib_unetmod.playground.model import AutoencoderKL

pytestmark = pytest.mark.in_turn(60)

NEUTRAL = HyperTile(tile=0)
# The contract rolls a torus by half its size, which moves fixed halves and quarters onto each other. Its first evaluation
# draws two tiles a side of the third config, and shifts nothing in the fourth.
CONTRACT = [
    HyperTile(tile=32, depth=4, variations=1),
    HyperTile(tile=40, depth=1, variations=2),
    HyperTile(tile=32, depth=2, variations=1, shift=True),
]

# The first attentions of each level, by A1111's tables, which name the same blocks for SD1 and count SDXL's anew.
LEVELS = {
    "sd1": {
        1: "in.1 in.2 out.9 out.10 out.11",
        2: "in.4 in.5 out.6 out.7 out.8",
        3: "in.7 in.8 out.3 out.4 out.5",
        4: "mid",
    },
    "sdxl": {2: "in.4 in.5 out.3 out.4 out.5", 3: "in.7 in.8 mid out.0 out.1 out.2"},
}

#: Where a side of so many tokens is cut for tiles of 64 pixels, which are 8 tokens at level 1, 4 at 2 and 2 at 3 and 4.
CUTS = {
    1: {17: [0, 8, 17], 24: [0, 8, 16, 24], 9: [0, 9], 40: [0, 8, 16, 24, 32, 40], 16: [0, 8, 16]},
    2: {9: [0, 4, 9], 12: [0, 4, 8, 12], 5: [0, 5], 20: [0, 4, 8, 12, 16, 20], 8: [0, 4, 8]},
    3: {5: [0, 1, 3, 5], 6: [0, 2, 4, 6], 3: [0, 1, 3], 10: [0, 2, 4, 6, 8, 10], 4: [0, 2, 4]},
    4: {3: [0, 1, 3], 2: [0, 2], 5: [0, 1, 3, 5]},
}


def attentions(unet: nn.Module, family: str, level: int) -> Iterator[nn.Module]:
    for name in LEVELS[family].get(level, "").split():
        side, _, index = name.partition(".")
        block = {"in": unet.input_blocks, "out": unet.output_blocks}[side][int(index)] if index else unet.middle_block
        for inner in block[1].transformer_blocks:
            yield inner.attn1


def loop(attend: Callable[..., Tensor], x: Tensor, rows: list[int], columns: list[int], *contexts: Tensor) -> Tensor:
    """Attention in each rectangle between the cuts, one after another; keys are of the same rectangle of each context."""
    maps = [tokens.view(x.shape[0], rows[-1], columns[-1], -1) for tokens in (x, *contexts)]
    out = torch.zeros_like(maps[0])
    for top, bottom in pairwise(rows):
        for left, right in pairwise(columns):
            tile, *keys = [tokens[:, top:bottom, left:right].flatten(1, 2) for tokens in maps]
            attended = attend(tile, torch.cat(keys, 1)) if keys else attend(tile)
            out[:, top:bottom, left:right] = attended.unflatten(1, (bottom - top, right - left))
    return out.flatten(1, 2)


def looped(unet: nn.Module, family: str, depth: int, height: int, width: int) -> nn.Module:
    """The same U-Net with every self-attention of its first `depth` levels replaced by the loop."""
    first = min(LEVELS[family])
    for level in range(1, 5):
        if first <= level < first + depth:
            for attention in attentions(unet, family, level):
                plain, rows, columns = attention.forward, CUTS[level][height], CUTS[level][width]
                attention.forward = lambda x, *args, plain=plain, rows=rows, columns=columns, **kwargs: loop(
                    plain, x, rows, columns
                )
        height, width = (height + 1) // 2, (width + 1) // 2
    return unet


@dataclass(frozen=True, kw_only=True)
class Inner(Config):
    def changes_nothing(self) -> bool:
        return False


class Met(NamedTuple):
    """What an edit inside HyperTile meets at one call of a self-attention."""

    level: int
    batch: int
    tokens: int
    size: tuple[int, int]
    context_is_x: bool = False


@pytest.fixture
def seen():
    met = []

    def edits(config, unet, run) -> Iterator[Edit]:
        def look_at(level):
            def look(call, x, *args, **kwargs):
                met.append(Met(level, *x.shape[:2], map_size(run), kwargs.get("context") is x))
                return call(x, *args, **kwargs)

            return look

        for block in unet.blocks:
            yield from (note_map_size(layer, run) for layer in block.of_kind("attn"))
            yield from (Edit(inner.self_attention, look_at(block.level)) for inner in block.transformer_blocks)

    method(Inner, title="Inner", benefit="", at=Depth.KEYS)(edits)
    yield met
    del METHODS["inner"]


# Against the loop.


@pytest.mark.parametrize("family", ("sd1", "sdxl"))
@pytest.mark.parametrize("depth", (1, 2, 4))
@pytest.mark.parametrize("size", [(17, 24), (9, 40), (16, 16)], ids=str)
def test_tiles_equal_a_loop_over_rectangles(family, depth, size):
    host, step = HOSTS["a1111"], inputs(family, height=size[0], width=size[1])
    unet, reference = host.prepare(fresh(family)), looped(host.prepare(fresh(family)), family, depth, *size)
    with modified(unet, [HyperTile(tile=64, depth=depth, variations=1)]):
        out = host.forward(unet, **step)
    torch.testing.assert_close(out, host.forward(reference, **step), rtol=1e-5, atol=1e-5)
    assert not torch.allclose(out, host.forward(unet, **step), atol=1e-3)


def one_attention(unet: nn.Module) -> nn.Module:
    return unet.input_blocks[1][1].transformer_blocks[0].attn1


def tokens(count: int, batch: int = 2, seed: int = 0, channels: int = 32) -> Tensor:
    return torch.randn(batch, count, channels, generator=torch.Generator().manual_seed(seed))


class Alone:
    """A run in which `attend` calls one self-attention of level 1 alone, on a map of a given size."""

    def __init__(self, config: Config, *others: Config) -> None:
        self.unet = fresh("sd1")
        self.attention = one_attention(self.unet)
        self.plain = one_attention(fresh("sd1")).forward
        self.run = modified(self.unet, [config, *others])

    def __enter__(self) -> Alone:
        self.run.__enter__()
        call(self.unet, inputs("sd1", height=8, width=8))  # which begins a traversal, so that methods are active
        return self

    def __exit__(self, *error: object) -> None:
        self.run.__exit__(*error)

    def attend(self, size: tuple[int, int], x: Tensor, *args, **kwargs) -> Tensor:
        with with_map_size(self.run, size):
            return self.attention(x, *args, **kwargs)


@pytest.mark.parametrize(
    "size, tile, rows, columns",
    [
        ((127, 77), 128, [0, 15, 31, 47, 63, 79, 95, 111, 127], [0, 15, 30, 46, 61, 77]),
        ((77, 127), 256, [0, 38, 77], [0, 31, 63, 95, 127]),
        ((17, 24), 64, [0, 8, 17], [0, 8, 16, 24]),
        ((9, 40), 64, [0, 9], [0, 8, 16, 24, 32, 40]),
        ((1, 7), 16, [0, 1], [0, 1, 3, 5, 7]),
        ((13, 13), 32, [0, 4, 8, 13], [0, 4, 8, 13]),
    ],
)
def test_one_attention_of_any_size_equals_the_loop(size, tile, rows, columns):
    x = tokens(size[0] * size[1], batch=1)
    with Alone(HyperTile(tile=tile, variations=1)) as alone:
        out = alone.attend(size, x)
        torch.testing.assert_close(out, loop(alone.plain, x, rows, columns), rtol=1e-5, atol=1e-6)


def test_equal_tiles_are_the_published_rearrangement():
    x, cut = tokens(32 * 32), {"nh": 4, "nw": 4, "h": 8, "w": 8}
    with Alone(HyperTile(tile=64, variations=1)) as alone:
        tiles = alone.plain(rearrange(x, "b (nh h nw w) c -> (b nh nw) (h w) c", **cut))
        published = rearrange(tiles, "(b nh nw) (h w) c -> b (nh h nw w) c", **cut)
        torch.testing.assert_close(alone.attend((32, 32), x), published, rtol=1e-5, atol=1e-6)


def test_a_token_of_another_tile_changes_nothing_and_one_of_the_same_does():
    x = tokens(16 * 24, batch=1)
    with Alone(HyperTile(tile=64, variations=1)) as alone:
        before = alone.attend((16, 24), x)
        x[0, 3 * 24 + 7] += 1  # row 3, column 7: the first of 2 x 3 tiles
        changed = (alone.attend((16, 24), x) != before).any(-1).view(16, 24)
    assert changed[:8, :8].all() and changed.sum() == 64


def test_an_input_is_not_edited_and_the_result_is_fresh():
    x = tokens(16 * 16)
    kept = x.clone()
    with Alone(HyperTile(tile=64, variations=1)) as alone:
        out = alone.attend((16, 16), x)
        out += 1
        assert torch.equal(x, kept) and torch.equal(alone.attend((16, 16), x) + 1, out)


# Levels.


@pytest.mark.parametrize(
    "family, depths",
    [
        ("sd1", {1: [1], 2: [1, 2], 3: [1, 2, 3], 4: [1, 2, 3, 4]}),
        ("sdxl", {1: [2], 2: [2, 3], 3: [2, 3], 4: [2, 3]}),
    ],
)
def test_depth_counts_from_the_first_level_that_has_attention(family, depths):
    unet = fresh(family)
    for depth, levels in depths.items():
        expected = {one for level in levels for one in attentions(unet, family, level)}
        with modified(unet, [HyperTile(depth=depth)]):
            edited = {unet.get_submodule(path) for path in what_is_on(unet) if path.endswith("attn1")}
        assert edited == expected


def test_a_first_attention_that_sees_the_prompt_is_left_alone():
    unet = fresh("sd1")
    unet.input_blocks[1][1].transformer_blocks[0].disable_self_attn = True
    with modified(unet, [HyperTile()]):
        assert what_is_on(one_attention(unet)) == {} and what_is_on(unet.input_blocks[2][1].transformer_blocks[0].attn1)


def test_a_picture_of_one_tile_is_left_as_it_is():
    unet, step = fresh("sd1"), inputs("sd1")
    plain = call(unet, step)
    with modified(unet, [HyperTile(tile=128, depth=4, variations=8, shift=True)]) as run:
        for _ in range(4):
            run.new_evaluation()
            assert torch.equal(call(unet, step), plain)


# What changes from evaluation to evaluation.


def evaluations(
    seen: list[Met], config: HyperTile, seed: int = 0, number: int = 8, family: str = "sd1", **size: int
) -> list[list[Met]]:
    """What the inner edit met in each evaluation."""
    unet, step, met = fresh(family), inputs(family, batch=1, **size), []
    with modified(unet, [config, Inner()], seed=seed) as run:
        for _ in range(number):
            run.new_evaluation()
            seen.clear()
            call(unet, step)
            met.append(list(seen))
    return met


@pytest.mark.parametrize("family", ("sd1", "sdxl"))
@pytest.mark.long
def test_variations_follow_the_seed_and_differ_between_evaluations(seen, family):
    config = HyperTile(tile=32, depth=2, variations=3)
    first = evaluations(seen, config, seed=5, family=family)
    assert evaluations(seen, config, seed=5, family=family) == first
    assert evaluations(seen, config, seed=6, family=family) != first
    assert len({str(met) for met in first}) > 3


@pytest.mark.long
def test_variations_are_the_counts_next_to_the_wanted_one_for_height_and_width_apart(seen):
    every = evaluations(seen, HyperTile(tile=32, variations=3), number=60)
    drawn = {frozenset(met.size for met in one if met.level == 1) for one in every}
    # 16 tokens in about 4 parts of 4: 3 parts are 5 and 6 tokens, 4 are 4, 5 are 3 and 4.
    counts = ({5, 6}, {4}, {3, 4})
    assert drawn == {frozenset((h, w) for h in heights for w in widths) for heights in counts for widths in counts}


@pytest.mark.parametrize("family, layers", [("sd1", {1: 5, 2: 5, 3: 5, 4: 1}), ("sdxl", {2: 10, 3: 18})])
def test_all_layers_of_a_level_have_one_layout_in_an_evaluation(seen, family, layers):
    for one in evaluations(seen, HyperTile(tile=32, depth=4, variations=4), family=family, height=24, width=32):
        for level, number in layers.items():
            at_level = [met for met in one if met.level == level]
            of_one_layer = at_level[: len(at_level) // number]
            assert at_level == of_one_layer * number and len(set(of_one_layer)) == len(of_one_layer)
            assert sum(met.batch * met.tokens for met in of_one_layer) == (24 >> level - 1) * (32 >> level - 1)


def test_shift_moves_the_cuts_by_half_a_tile_in_every_second_evaluation():
    x = tokens(17 * 24, batch=1)
    unet = fresh("sd1")
    plain, attention = one_attention(fresh("sd1")).forward, one_attention(unet)
    expected = [
        loop(plain, x, [0, 8, 17], [0, 8, 16, 24]),
        loop(plain, x, [0, 4, 12, 17], [0, 4, 12, 20, 24]),
    ]
    with modified(unet, [HyperTile(tile=64, variations=1, shift=True)]) as run:
        for evaluation in range(4):
            run.new_evaluation()
            call(unet, inputs("sd1", height=8, width=8))
            with with_map_size(run, (17, 24)):
                torch.testing.assert_close(attention(x), expected[evaluation % 2], rtol=1e-5, atol=1e-6)


# With others.


def test_what_is_inside_sees_tiles_and_their_grid(seen):
    unet, step = fresh("sd1"), inputs("sd1", batch=2, height=16, width=24)
    with modified(unet, [HyperTile(tile=64, variations=1), Inner()]):
        call(unet, step)
    assert seen[:3] == [Met(1, 2 * 6, 64, (8, 8))] * 2 + [Met(2, 2, 8 * 12, (8, 12))]
    assert seen[-3:] == [Met(1, 2 * 6, 64, (8, 8))] * 3


def test_a_context_that_is_the_tokens_stays_that_inside(seen):
    x = tokens(16 * 16)
    with Alone(HyperTile(tile=64, variations=1), Inner()) as alone:
        expected = loop(alone.plain, x, [0, 8, 16], [0, 8, 16])
        seen.clear()
        torch.testing.assert_close(alone.attend((16, 16), x, context=x), expected, rtol=1e-5, atol=1e-6)
        assert seen == [Met(1, 2 * 4, 64, (8, 8), context_is_x=True)]


@pytest.mark.parametrize("by_position", (False, True))
@pytest.mark.parametrize("size, cuts", [((16, 16), ([0, 8, 16], [0, 8, 16])), ((13, 17), ([0, 6, 13], [0, 8, 17]))], ids=str)
def test_a_reference_context_is_tiled_map_by_map(size, cuts, by_position):
    x, one, two = (tokens(size[0] * size[1], seed=seed) for seed in range(3))
    context = torch.cat([x, one, two], 1)
    with Alone(HyperTile(tile=64, variations=1)) as alone:
        expected = loop(alone.plain, x, *cuts, x, one, two)
        out = alone.attend(size, x, context) if by_position else alone.attend(size, x, context=context)
        torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-6)
        assert alone.run.notes == []


@pytest.mark.parametrize(
    "x, given",
    [
        pytest.param(tokens(256), {"context": tokens(256 + 77)}, id="longer context"),
        pytest.param(tokens(200), {}, id="tokens merged by another extension"),
        pytest.param(tokens(256), {"mask": torch.ones(2, 256, dtype=torch.bool)}, id="mask"),
    ],
)
def test_what_does_not_fit_the_grid_is_left_whole_with_one_note(x, given):
    with Alone(HyperTile(tile=64, variations=1)) as alone:
        for _ in range(2):
            assert torch.equal(alone.attend((16, 16), x, **given), alone.plain(x, **given))
        assert len(alone.run.notes) == 1 and alone.run.notes[0].startswith("HyperTile: some layers run as without it")


def test_forges_separate_values_are_tiled_too():
    unet = HOSTS["forge"].prepare(fresh("sd1"))
    attention, plain = one_attention(unet), one_attention(HOSTS["forge"].prepare(fresh("sd1"))).forward
    x, keys, values = (tokens(16 * 24, seed=seed) for seed in range(3))
    rows, columns = [0, 8, 16], [0, 8, 16, 24]
    maps = [part.view(2, 16, 24, -1) for part in (x, keys, values)]
    expected = torch.zeros_like(maps[0])
    for top in rows[:-1]:
        for left in columns[:-1]:
            tile = [part[:, top : top + 8, left : left + 8].flatten(1, 2) for part in maps]
            out = plain(tile[0], context=tile[1], value=tile[2], transformer_options={})
            expected[:, top : top + 8, left : left + 8] = out.unflatten(1, (8, 8))
    with modified(unet, [HyperTile(tile=64, variations=1)]) as run:
        HOSTS["forge"].forward(unet, **inputs("sd1", height=8, width=8))
        with with_map_size(run, (16, 24)):
            out = attention(x, context=keys, value=values, transformer_options={"block": ("input", 1)})
    torch.testing.assert_close(out, expected.flatten(1, 2), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("family", ("sd1", "sdxl"))
@pytest.mark.parametrize("name", [name for name in HOSTS if name != "plain"])
def test_every_host_gives_what_the_plain_forward_gives(family, name):
    config, step = HyperTile(tile=32, depth=2, variations=3), inputs(family, height=16, width=24)
    results = []
    for host in (HOSTS["plain"], HOSTS[name]):
        unet = host.prepare(fresh(family))
        with modified(unet, [config], seed=3) as run:
            results.append(host.forward(unet, **step))
        assert run.notes == []
    torch.testing.assert_close(results[1], results[0], rtol=1e-4, atol=1e-5)


def test_with_a_reference_picture_of_controlnet():
    """Each tile of the picture also sees the same tile of the reference."""
    step, results = inputs("sd1", height=16, width=24), []
    for tiled in (True, False):
        unet = fresh("sd1")
        hook = ControlNetHook(unet, reference=True, bank=True)
        if tiled:
            with modified(unet, [HyperTile(tile=64, variations=1)]) as run:
                results.append(call(unet, step))
            assert run.notes == []
        else:
            for attention in attentions(unet, "sd1", 1):

                def in_loop(x, context, plain=attention.forward):
                    return loop(plain, x, [0, 8, 16], [0, 8, 16, 24], *context.split(16 * 24, 1))

                attention.forward = in_loop
            results.append(call(unet, step))
        hook.restore()
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-5)


# The autoencoder.


def vae() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = {"ch": 32, "ch_mult": (1, 1, 2, 2), "num_res_blocks": 1, "attn_resolutions": [], "in_channels": 3}
        config |= {"out_ch": 3, "resolution": 64, "z_channels": 4, "double_z": True, "dropout": 0.0}
        return AutoencoderKL(config).eval().requires_grad_(False)


def webui_forward(self, x: Tensor) -> Tensor:
    """A1111's way to write the same attention, which it puts on the class."""
    h = self.norm(x)
    q, k, v = (rearrange(part(h), "b c h w -> b (h w) c").contiguous() for part in (self.q, self.k, self.v))
    out = rearrange(F.scaled_dot_product_attention(q, k, v), "b (h w) c -> b c h w", h=x.shape[2])
    return x + self.proj_out(out)


def attention_by_hand(attention: nn.Module, x: Tensor, rows: list[int], columns: list[int]) -> Tensor:
    """ldm's AttnBlock with a softmax in each rectangle: only the product of queries and keys knows of tiles."""
    h = attention.norm(x)
    q, k, v = attention.q(h), attention.k(h), attention.v(h)
    out = torch.zeros_like(x)
    for top, bottom in pairwise(rows):
        for left, right in pairwise(columns):
            queries, keys, values = (part[:, :, top:bottom, left:right].flatten(2) for part in (q, k, v))
            weights = torch.softmax(queries.transpose(1, 2) @ keys / x.shape[1] ** 0.5, -1)
            mixed = values @ weights.transpose(1, 2)
            out[:, :, top:bottom, left:right] = mixed.unflatten(2, (bottom - top, right - left))
    return x + attention.proj_out(out)


@pytest.mark.parametrize("webui", (False, True))
@pytest.mark.parametrize("part", ("encoder", "decoder"))
def test_the_autoencoders_attention_equals_the_loop(part, webui, monkeypatch):
    if webui:
        monkeypatch.setattr(AttnBlock, "forward", webui_forward)
    autoencoder, unet = vae(), fresh("sd1")
    attention = getattr(autoencoder, part).mid.attn_1
    x = tokens(17 * 24, channels=64).transpose(1, 2).unflatten(2, (17, 24)) + torch.linspace(0, 3, 24)
    expected, before = attention_by_hand(attention, x, [0, 8, 17], [0, 8, 16, 24]), snapshot(autoencoder)
    whole = attention(x)
    with modified(unet, [HyperTile(tile=0, vae_tile=64)], vae=autoencoder) as run:
        call(unet, inputs("sd1"))
        torch.testing.assert_close(attention(x), expected, rtol=1e-5, atol=1e-5)
        assert torch.equal(attention(x[..., :8, :8]), type(attention).forward(attention, x[..., :8, :8]))
        assert run.notes == [] and what_is_on(unet).keys() == {"input_blocks.0.0", "out"}
    assert not torch.allclose(whole, expected, atol=1e-3)
    assert snapshot(autoencoder) == before and torch.equal(attention(x), whole)


def test_the_autoencoder_decodes_as_the_last_evaluation_was():
    autoencoder, unet = vae(), fresh("sd1")
    latent = tokens(16 * 16, channels=4).transpose(1, 2).unflatten(2, (16, 16))
    whole = autoencoder.decode(latent)
    config = {"tile": 64, "vae_tile": 64}
    with modified(unet, [HyperTile(**config)], vae=autoencoder):
        assert torch.equal(autoencoder.decode(latent), whole)
        call(unet, inputs("sd1", timestep=20))
        tiled = autoencoder.decode(latent)
        assert not torch.allclose(tiled, whole, atol=1e-4) and tiled.isfinite().all()
    with modified(unet, [HyperTile(end=0.9, **config)], vae=autoencoder):
        call(unet, inputs("sd1", timestep=500))
        assert torch.equal(autoencoder.decode(latent), tiled)
        call(unet, inputs("sd1", timestep=20))
        assert torch.equal(autoencoder.decode(latent), whole)


def test_an_error_inside_the_autoencoders_attention_leaves_no_trace():
    autoencoder, unet = vae(), fresh("sd1")
    attention = autoencoder.decoder.mid.attn_1
    x = tokens(16 * 16, channels=64).transpose(1, 2).unflatten(2, (16, 16))
    fail = [True]
    attention.q.register_forward_pre_hook(lambda *_: 1 / 0 if fail[0] else None)
    with modified(unet, [HyperTile(tile=0, vae_tile=64)], vae=autoencoder):
        call(unet, inputs("sd1"))
        with pytest.raises(ZeroDivisionError):
            attention(x)
        fail[0] = False
        expected = attention_by_hand(attention, x, [0, 8, 16], [0, 8, 16])
        torch.testing.assert_close(attention(x), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("without", (None, nn.Identity()))
def test_there_may_be_no_autoencoder_or_another_one(without):
    unet, step = fresh("sd1"), inputs("sd1")
    plain = call(unet, step)
    with modified(unet, [HyperTile(tile=0, vae_tile=64)], vae=without):
        assert torch.equal(call(unet, step), plain)


# Words.


def test_defaults_act_on_the_first_level_of_a_picture_of_512_pixels(seen):
    for one in evaluations(seen, HyperTile(), number=3, height=64, width=64):
        assert all(met.tokens <= 32 * 32 for met in one)
        assert sum(met.batch * met.tokens for met in one if met.level == 1) == 5 * 64 * 64


def test_summary():
    assert HyperTile().summary() == "HyperTile 256 px"
    assert HyperTile(tile=0, vae_tile=128, end=0.5).summary() == "HyperTile VAE 128 px 0-0.5"
    assert HyperTile(tile=64, vae_tile=128).summary() == "HyperTile 64 px, VAE 128 px"


def test_says_when_a_picture_is_too_small_to_be_cut():
    unet, step = fresh("sd1"), inputs("sd1", height=16, width=16)
    with modified(unet, [HyperTile(tile=256)]) as run:
        assert torch.equal(call(unet, step), call(fresh("sd1"), step))
    assert len(run.notes) == 1 and "HyperTile does nothing: 128x128 is below" in run.notes[0]
