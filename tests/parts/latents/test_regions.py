"""Ratios to regions, with every part counted out by hand."""

from __future__ import annotations

from fractions import Fraction as F

import pytest
import torch

from lib_unetmod.parts.latents.regions import MOST, Region, parse_regions

WHOLE = (F(0), F(1))


@pytest.mark.parametrize("text", ("1,2,1", "1 2 1", " 1, 2 ,1 ", "0.5,1,0.5"))
def test_ratios_are_parts_side_by_side_or_beneath_each_other(text):
    spans = [(F(0), F(1, 4)), (F(1, 4), F(3, 4)), (F(3, 4), F(1))]
    assert parse_regions(text, "columns") == tuple(Region(WHOLE, span) for span in spans)
    assert parse_regions(text, "rows") == tuple(Region(span, WHOLE) for span in spans)


@pytest.mark.parametrize("text", ("2,1,3;3,4,6", "2,1,3|3,4,6"))
def test_groups_begin_with_their_own_share(text):
    """The extension's own example: two sub-regions of 2:3, cut 1:3 and 4:6."""
    spans = [(F(0), F(1, 4)), (F(1, 4), F(1)), (F(0), F(2, 5)), (F(2, 5), F(1))]
    groups = [(F(0), F(2, 5))] * 2 + [(F(2, 5), F(1))] * 2
    assert parse_regions(text, "columns") == tuple(Region(group, span) for group, span in zip(groups, spans, strict=True))
    assert parse_regions(text, "rows") == tuple(Region(span, group) for group, span in zip(groups, spans, strict=True))


def test_a_group_of_its_share_alone_is_uncut():
    assert parse_regions("1|3", "columns") == (Region((F(0), F(1, 4)), WHOLE), Region((F(1, 4), F(1)), WHOLE))
    assert parse_regions("1", "rows") == (Region(WHOLE, WHOLE),)


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "1,", ",1", "1,,1", "1,0", "0", "-1,1", "1e3", "nan", "inf", "1|", "|", "a", "1,1,x"),
        *("__import__('os')", "1/2", "1234567", "1.1234567", "１"),
    ],
)
def test_anything_else_is_refused_in_a_sentence(text):
    with pytest.raises(ValueError, match="it takes ratios above 0, such as"):
        parse_regions(text, "columns")


def test_there_are_only_so_many():
    assert len(parse_regions(",".join("1" * MOST), "columns")) == MOST
    for text in (",".join("1" * (MOST + 1)), "|".join(["1,1,1"] * 40), "|".join("1" * (MOST + 1))):
        with pytest.raises(ValueError, match=f"up to {MOST} regions"):
            parse_regions(text, "rows")


def test_shares_of_a_map_are_exact_in_proportion():
    left, right = parse_regions("1,2", "columns")
    like = torch.zeros(1)
    assert left.share((2, 6), like).tolist() == [[1, 1, 0, 0, 0, 0]] * 2
    # A third of seven is two and a third.
    torch.testing.assert_close(left.share((1, 7), like), torch.tensor([[1, 1, 1 / 3, 0, 0, 0, 0]]))
    torch.testing.assert_close(right.share((1, 7), like), torch.tensor([[0, 0, 2 / 3, 1, 1, 1, 1]]))


@pytest.mark.parametrize("size", [(17, 24), (9, 40), (3, 1), (128, 77)], ids=str)
@pytest.mark.parametrize("split", ("rows", "columns"))
def test_shares_add_up_to_every_cell_and_to_the_ratios(size, split):
    regions = parse_regions("2,1,3,1|1,1|4,2,5", split)
    shares = torch.stack([region.share(size, torch.zeros((), dtype=torch.float64)) for region in regions])
    torch.testing.assert_close(shares.sum(0), torch.ones(size, dtype=torch.float64))
    areas = shares.sum((1, 2)) / (size[0] * size[1])
    expected = [2 / 7 * 1 / 5, 2 / 7 * 3 / 5, 2 / 7 * 1 / 5, 1 / 7, 4 / 7 * 2 / 7, 4 / 7 * 5 / 7]
    torch.testing.assert_close(areas, torch.tensor(expected, dtype=torch.float64))
