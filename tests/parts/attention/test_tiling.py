"""Layouts counted out by hand, and cutting against slices of the map."""

from __future__ import annotations

import pytest
import torch
from einops import rearrange

from lib_unetmod.parts.attention.tiling import Cutter, Layout, counts_near, parts, tile_count

CPU = torch.device("cpu")


def numbers(height: int, width: int, batch: int = 1, channels: int = 1) -> torch.Tensor:
    """Tokens (batch, height * width, channels) that are all different."""
    return torch.arange(batch * height * width * channels, dtype=torch.float32).view(batch, height * width, channels)


@pytest.mark.parametrize(
    "side, tile, expected", [(16, 8, 2), (17, 8, 2), (19, 8, 2), (20, 8, 3), (5, 8, 1), (1, 8, 1), (9, 2.5, 4)]
)
def test_a_side_makes_about_side_over_tile_parts(side, tile, expected):
    assert tile_count(side, tile) == expected


@pytest.mark.parametrize(
    "wanted, variations, expected",
    [
        (4, 1, (4,)),
        (4, 2, (4, 3)),
        (4, 5, (4, 3, 5, 2, 6)),
        (2, 3, (2, 3, 4)),
        (3, 4, (3, 2, 4, 5)),
        (7, 6, (7, 6, 8, 5, 9, 4)),
        (1, 3, (1,)),
    ],
)
def test_counts_near_the_wanted_one(wanted, variations, expected):
    assert counts_near(wanted, variations) == expected


@pytest.mark.parametrize(
    "side, count, shifted, expected",
    [
        (16, 2, False, (8, 8)),
        (17, 2, False, (8, 9)),
        (127, 4, False, (31, 32, 32, 32)),
        (16, 2, True, (4, 8, 4)),
        (24, 3, True, (4, 8, 8, 4)),
        (17, 2, True, (4, 8, 5)),
        (9, 1, True, (9,)),
        (3, 5, False, (1, 1, 1)),
    ],
)
def test_parts_by_hand(side, count, shifted, expected):
    assert parts(side, count, shifted) == expected


def test_parts_of_every_side_are_nearly_equal_and_make_it_up():
    for side in range(1, 140):
        for count in range(1, side + 1):
            plain, shifted = parts(side, count), parts(side, count, shifted=True)
            assert sum(plain) == sum(shifted) == side
            assert len(plain) == count and max(plain) - min(plain) <= 1
            assert min(shifted) >= 1 and max(shifted) <= max(plain)
            if 1 < count <= side // 2:
                inner, half = shifted[1:-1], side / count / 2
                assert len(shifted) == count + 1 and max(inner) - min(inner) <= 1
                assert abs(shifted[0] - half) < 1 and abs(shifted[-1] - half) < 1


def test_shifted_cuts_lie_in_the_middle_of_the_tiles():
    for side in range(2, 140):
        for count in range(2, side // 2 + 1):
            plain = torch.tensor(parts(side, count)).cumsum(0)[:-1]
            shifted = torch.tensor(parts(side, count, shifted=True)).cumsum(0)[:-1]
            assert not set(plain.tolist()) & set(shifted.tolist())
            middles = (torch.arange(count) + 0.5) * side / count
            assert (shifted - middles).abs().max() < 1


def test_rectangles_in_reading_order():
    layout = Layout((2, 3), (4, 1))
    assert layout.tiles == 4
    assert layout.rectangles == ((0, 0, 2, 4), (0, 4, 2, 1), (2, 0, 3, 4), (2, 4, 3, 1))


LAYOUTS = [
    Layout(parts(height, rows, shifted), parts(width, columns, shifted))
    for height, width in ((1, 1), (5, 7), (17, 24), (9, 40), (16, 16), (31, 8))
    for rows, columns in ((1, 1), (1, 3), (2, 2), (4, 5))
    for shifted in (False, True)
]


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_tiles_are_the_rectangles_of_the_map_and_cover_it_once(layout):
    height, width = sum(layout.heights), sum(layout.widths)
    tokens = numbers(height, width, batch=2, channels=3)
    cutter = Cutter(layout, CPU)
    batches = cutter.cut(tokens)
    assert len(set(cutter.shapes)) == len(cutter.shapes) == len(batches)
    assert sum(batch.shape[0] * batch.shape[1] for batch in batches) == 2 * height * width

    left_to_find = {}
    for shape, batch in zip(cutter.shapes, batches, strict=True):
        left_to_find[shape] = list(batch.unflatten(0, (2, -1)).transpose(0, 1))
    for top, left, h, w in layout.rectangles:
        expected = tokens.view(2, height, width, 3)[:, top : top + h, left : left + w].flatten(1, 2)
        assert torch.equal(left_to_find[h, w].pop(0), expected)
    assert not any(left_to_find.values())
    assert torch.equal(cutter.join(batches), tokens)


def test_nearly_equal_parts_make_at_most_four_batches():
    for height in range(1, 60, 7):
        for width in range(1, 60, 5):
            assert len(Cutter(Layout(parts(height, min(4, height)), parts(width, min(3, width))), CPU).shapes) <= 4


def test_equal_tiles_stand_as_hyper_tile_arranges_them():
    tokens = numbers(12, 8, batch=2, channels=5)
    published = rearrange(tokens, "b (nh h nw w) c -> (b nh nw) (h w) c", nh=3, h=4, nw=2, w=4)
    (tiles,) = Cutter(Layout((4, 4, 4), (4, 4)), CPU).cut(tokens)
    assert torch.equal(tiles, published)


def test_a_tile_holds_its_rectangle_of_every_map():
    one, two = numbers(5, 6, batch=2, channels=3), -numbers(5, 6, batch=2, channels=3)
    cutter = Cutter(Layout((2, 3), (3, 3)), CPU)
    together = cutter.cut(torch.cat([one, two], 1))
    for both, first, second in zip(together, cutter.cut(one), cutter.cut(two), strict=True):
        assert torch.equal(both, torch.cat([first, second], 1))


def test_maps_are_cut_and_joined_as_tokens_are():
    maps = numbers(5, 7, batch=2, channels=3).transpose(1, 2).unflatten(2, (5, 7))
    cutter = Cutter(Layout((2, 3), (7,)), CPU)
    tiles = cutter.cut_maps(maps)
    assert torch.equal(tiles[0], maps[:, :, 2:]) and torch.equal(tiles[1], maps[:, :, :2])
    assert torch.equal(cutter.join_maps(tiles), maps)
