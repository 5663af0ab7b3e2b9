"""The judge of large pictures, by squared differences, on pictures of which the answer is known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from benchmarks.judging import Judge, checks, ends_and_middle, fine_detail

SIDE = 16


def squared(a: Tensor, b: Tensor) -> Tensor:
    return (a[:, None] - b[None]).square().mean((2, 3, 4))


@pytest.fixture
def subjects() -> Tensor:
    """One subject a prompt: a dark shape on white, high and narrow, low and wide, and a frame."""
    pictures = torch.ones(3, 3, SIDE, SIDE)
    pictures[0, :, 2:14, 6:10] = -1
    pictures[1, :, 6:10, 2:14] = -1
    pictures[2, :, 2:14, 2:14] = -1
    pictures[2, :, 5:11, 5:11] = 1
    return pictures


@pytest.fixture
def judge(subjects: Tensor) -> Judge:
    return Judge(squared, torch.stack([subjects, subjects]))


def test_a_subject_is_recognised_by_its_own_prompt_at_any_size(judge: Judge, subjects: Tensor) -> None:
    for scale in (1, 3):
        said = judge(subjects.repeat_interleave(scale, 2).repeat_interleave(scale, 3))
        assert said["recognised"] == [1, 1, 1] and said["distance"] == [0, 0, 0] and "repeated" not in said
    assert judge(subjects[[1, 0, 2]])["recognised"] == [0, 0, 1]


def test_a_wide_picture_may_hold_its_subject_stretched_or_in_its_middle_not_twice(judge: Judge, subjects: Tensor) -> None:
    said = checks(judge, subjects)
    for name in ("stretched", "in the middle"):
        assert said[name]["recognised"] == [1, 1, 1] and said[name]["repeated"] == [0, 0, 0]
    assert said["twice"]["recognised"] == [0, 0, 0] and said["twice"]["repeated"] == [1, 1, 1]


def test_a_tall_picture_is_judged_as_a_wide_one(judge: Judge, subjects: Tensor) -> None:
    said = judge(torch.cat([subjects, subjects], 2))
    assert said["repeated"] == [1, 1, 1]


def test_ends_and_middle() -> None:
    columns = torch.arange(8.0).expand(1, 3, 4, 8)
    first, last, middle = (one[0, 0, 0].tolist() for one in ends_and_middle(columns, 4))
    assert (first, last, middle) == ([0, 1, 2, 3], [4, 5, 6, 7], [2, 3, 4, 5])


def test_fine_detail_is_what_half_the_side_cannot_hold() -> None:
    checked = torch.ones(1, 3, 8, 8)
    checked[..., ::2, ::2] = checked[..., 1::2, 1::2] = -1
    assert fine_detail(checked, 4).item() == pytest.approx(1, abs=0.02)
    assert fine_detail(torch.linspace(-1, 1, 8).expand(1, 3, 8, 8), 4).item() < 0.02
