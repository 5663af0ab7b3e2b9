"""What is known of a call's rows, by hand."""

from __future__ import annotations

import pytest
import torch

from lib_unetmod import Guidance
from lib_unetmod.core.call import UNTOLD, Prompts, Rows
from lib_unetmod.core.call_rows import CallRows, rows_of_call

REASON = "they come apart."


def context(*values, tokens=77):
    """Rows of embeddings, each of one number."""
    return torch.tensor(values, dtype=torch.float32)[:, None, None].expand(-1, tokens, 8)


PROMPTS = Prompts(context(1, 2), context(7, 8, tokens=154))


def test_nobody_says_anything():
    assert rows_of_call(None, None, None, 2) == CallRows(reason=UNTOLD)
    assert rows_of_call(Guidance(7.0), {}, None, 2) == CallRows(reason=UNTOLD)
    assert rows_of_call(Guidance(7.0, reason=REASON), {}, None, 2) == CallRows(reason=REASON)


def test_a_call_with_all_rows_of_an_evaluation_or_with_the_prompts_alone():
    rows = Rows((0, 1, 0, 1))
    assert rows_of_call(Guidance(7.0, rows), None, None, 4) == CallRows((True, True, False, False), rows)
    assert rows_of_call(Guidance(7.0, rows), None, None, 2) == CallRows((True, True), Rows((0, 1)))


def test_other_parts_of_the_batch_together_are_no_secret():
    """As AnimateDiff's windows of frames and Tiled Diffusion's tiles come: three of four rows, or eight."""
    rows = Rows((0, 1, 0, 1))
    told = rows_of_call(Guidance(7.0, rows), None, None, 3)
    assert told.conditional is None and "an extension splits the batch" in told.reason
    mixed = context(1, 7, 1, 7)
    told = rows_of_call(Guidance(7.0, Rows((0, 0)), prompts=PROMPTS), None, mixed, 4)
    assert told.conditional == (True, False, True, False) and "an extension splits the batch" in told.reason
    for alone in (context(1, 2, 1), context(7, 8, 7)):
        assert rows_of_call(Guidance(7.0, Rows((0, 0)), prompts=PROMPTS), None, alone, 3).reason == ""


@pytest.mark.parametrize(
    "chunks, batch, conditional, rows, words",
    [
        ([1, 0], 4, (False, False, True, True), (2, 3, 2, 3), ""),
        ([0, 1], 2, (True, False), (0, 0), ""),
        ([0], 2, (True, True), (0, 1), ""),
        ([1], 2, (False, False), None, "do not run together"),
        ([1, 0, 0], 3, (False, True, True), None, "AND"),
        ([0, 0], 2, (True, True), None, "AND"),
    ],
)
def test_chunks_of_a_fork(chunks, batch, conditional, rows, words):
    for guidance in (None, Guidance(7.0)):
        told = rows_of_call(guidance, {"cond_or_uncond": chunks}, None, batch)
        assert told.conditional == conditional and told.rows == (None if rows is None else Rows(rows))
        assert words in told.reason and bool(words) == bool(told.reason)
    assert rows_of_call(Guidance(7.0, reason=REASON), {"cond_or_uncond": chunks}, None, batch).reason == REASON


def test_chunks_that_do_not_fit_are_not_believed():
    assert rows_of_call(None, {"cond_or_uncond": [0, 1]}, None, 3) == CallRows(reason=UNTOLD)


@pytest.mark.parametrize(
    "given, kinds",
    [
        (context(1, 2), (True, True)),
        (context(8), (False,)),
        (context(8, tokens=77), (False,)),  # cut off by the host
        (context(2, 7), (True, False)),
        (context(7, 3), None),
        (context(1).repeat(1, 1, 2), None),
        (context(1).half(), (True,)),
    ],
)
def test_rows_told_by_their_prompts(given, kinds):
    told = rows_of_call(Guidance(1.0, reason=REASON, prompts=PROMPTS), None, given, len(given))
    assert told == CallRows(kinds, None, REASON)
    assert told.all_unconditional == (kinds == (False,)) and told.all_conditional == (kinds in ((True, True), (True,)))


def test_a_prompt_that_is_its_own_negative_prompt_cannot_be_told():
    same = Prompts(context(1), context(1, 2))
    assert same.kinds(context(1)) is None and same.kinds(context(2)) == (False,)
