"""What a host says of its calls: rows by hand, and one value that the run takes in."""

from __future__ import annotations

import pytest
import torch
from unets import FAMILIES

from lib_unetmod import ConfigError, Guidance, HostCall, modified
from lib_unetmod.core.call import Rows


def test_rows_of_pictures_in_any_order_by_hand():
    rows = Rows((2, 3, 2, 3))  # the negative ones first
    assert rows.conditional == (2, 3) and rows.unconditional == (0, 1) and rows.conditional_of_unconditional == (2, 3)
    assert rows.signs == (-1, -1, 1, 1) and rows.in_pairs and len(rows) == 4
    x = torch.arange(4.0)[:, None]
    assert rows.take(x).flatten().tolist() == [2, 3] and rows.take(x).data_ptr() == x[2:].data_ptr()
    assert rows.take_unconditional(x).flatten().tolist() == [0, 1]
    assert rows.fill(rows.take(x)).flatten().tolist() == [2, 3, 2, 3]


def test_rows_that_are_no_neighbours_by_hand():
    rows = Rows((0, 0, 2, 2))
    x = torch.arange(4.0)
    assert rows.take(x).tolist() == [0, 2] and rows.fill(torch.tensor([5.0, 6.0])).tolist() == [5, 5, 6, 6]
    assert rows.signs == (1, -1, 1, -1) and rows.in_pairs


def test_what_has_not_a_batchs_rows_stays_as_it_is():
    rows, other, text = Rows((0, 0)), torch.zeros(3), {"a": 1}
    assert rows.take(other) is other and rows.take(text) is text and rows.take(torch.tensor(1.0)).ndim == 0
    assert rows.take([torch.arange(2), other])[0].tolist() == [0]


@pytest.mark.parametrize("rows", [Rows((0,)), Rows((0, 0, 0)), Rows((0, 1)), Rows((0, 1, 1))])
def test_rows_without_one_negative_row_for_each_picture_are_no_pairs(rows):
    assert not rows.in_pairs


def test_rows_may_be_given_as_a_tuple():
    assert Guidance(7.0, (0, 0)) == Guidance(7.0, Rows((0, 0))) and not Guidance(7.0).rows


def test_a_run_takes_in_what_a_host_says_at_once_or_in_parts():
    run = modified(FAMILIES["sd1"](), [], call=HostCall(Guidance(7.0, (0, 0)), prediction="v", seed=3))
    assert (run.guidance, run.prediction, run.pass_name, run.last_pass) == (Guidance(7.0, (0, 0)), "v", "first", True)
    run.told(HostCall(pass_name="hires", last_pass=False))
    assert (run.guidance, run.prediction, run.pass_name, run.last_pass) == (None, "eps", "hires", False)
    run.guidance, run.prediction, run.last_pass = Guidance(2.0), "v", True
    run.begin_pass("img2img")
    assert run.call == HostCall(Guidance(2.0), "v", "img2img", True, 0)
    with pytest.raises(ConfigError, match="pass_name is 'third'"):
        run.told(HostCall(pass_name="third"))
