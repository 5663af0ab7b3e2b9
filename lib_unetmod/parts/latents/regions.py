"""Regions of a picture from ratios such as `1,2` or `1,2,1|2,1`, in parts of its sides, and their shares of a map's cells.

`1,2` are two parts, the second twice as large. With `|` (or `;`) there are groups: the first number of each is its own share
of the picture, and the others are the ratios of its parts. Parts of a group lie side by side ("columns") and groups beneath
each other, or the other way round ("rows"). So `1,2,1|2,1` in columns is an upper third, its left part twice as large as its
right, and two lower thirds that are one part. These are the words of Regional Prompter and of CD-Tuner's colour map.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import torch
from torch import Tensor

MOST = 64

_NUMBER = re.compile(r"[0-9]{1,6}(\.[0-9]{1,6})?")
_UNCUT = [Fraction(1)]

Span = tuple[Fraction, Fraction]


@dataclass(frozen=True)
class Region:
    """A rectangle: where it begins and ends, in parts of the height and of the width."""

    rows: Span
    columns: Span

    def share(self, size: tuple[int, int], like: Tensor) -> Tensor:
        """(H, W): how much of each cell of a map lies in the region, 0 to 1; a cell on its edge belongs to it in part."""
        rows, columns = (_overlap(span, side) for span, side in zip((self.rows, self.columns), size, strict=True))
        return torch.outer(torch.tensor(rows), torch.tensor(columns)).to(like.device, like.dtype)


def parse_regions(text: str, split: str) -> tuple[Region, ...]:
    """The regions in the order of `text`; `split` is how groups are cut, "columns" or "rows".

    Raises:
        ValueError: for anything else, with a sentence's end that says what may stand there.
    """
    groups = [[_number(word) for word in re.split(r"\s*,\s*|\s+", group.strip())] for group in re.split(r"[|;]", text)]
    if len(groups) == 1:
        groups = [[Fraction(1), *groups[0]]]
    cells = [
        (share, part)
        for share, group in zip(_spans([group[0] for group in groups]), groups, strict=True)
        for part in _spans(group[1:] or _UNCUT)
    ]
    if len(cells) > MOST:
        raise ValueError(f"it takes up to {MOST} regions")
    return tuple(Region(share, part) if split == "columns" else Region(part, share) for share, part in cells)


def _number(word: str) -> Fraction:
    if not _NUMBER.fullmatch(word) or not Fraction(word):
        raise ValueError("it takes ratios above 0, such as 1,1 or 1,2,1|2,1")
    return Fraction(word)


def _spans(ratios: Sequence[Fraction]) -> list[Span]:
    """Neighbouring parts of 0 to 1, as large as the ratios say."""
    total, edges = sum(ratios), [Fraction(0)]
    for ratio in ratios:
        edges.append(edges[-1] + ratio / total)
    return list(pairwise(edges))


def _overlap(span: Span, side: int) -> list[float]:
    begin, end = (edge * side for edge in span)
    return [float(max(min(end, cell + 1) - max(begin, cell), 0)) for cell in range(side)]
