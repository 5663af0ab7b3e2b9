"""Plans by hand: their letters for other numbers of evaluations, and what is refused."""

from __future__ import annotations

import pytest

from lib_unetmod import ConfigError
from lib_unetmod.parts.caching.plan import StepPlan, even, swapped

pytestmark = pytest.mark.in_turn(60)


@pytest.mark.parametrize(
    "letters, evaluations, stretched",
    [
        ("FPFP", 4, "FPFP"),
        ("FPFP", 8, "FPFPFPFP"),
        ("FFFFPPPP", 4, "FFPP"),  # full ones stay where they are gathered
        ("FPPP", 2, "FP"),
        ("FPPP", 1, "F"),
        ("FFPP", 6, "FFPFPP"),
        ("F", 5, "FFFFF"),
    ],
)
def test_stretched(letters, evaluations, stretched):
    assert StepPlan(letters).stretched(evaluations).letters == stretched


@pytest.mark.parametrize("evaluations", range(1, 60))
def test_any_length_begins_with_a_full_one_and_has_its_share(evaluations):
    plan = StepPlan("FPFPFPFPFPFPPFPFPFFP").stretched(evaluations)
    assert len(plan) == evaluations and plan.letters[0] == "F"
    assert plan.letters.count("F") == max(round(0.5 * evaluations), 1)


def test_even_plans():
    assert even(9, 1 / 3).letters == "FPPFPPFPP"
    assert even(5, 0.5).letters in ("FPFPP", "FPPFP")
    assert even(4, 1).letters == "FFFF"
    assert even(4, 0.01).letters == "FPPP"


@pytest.mark.parametrize(
    "letters, number, moved",
    [
        ("FPFPFPFP", 1, "FPFPFPPF"),
        ("FPFPFPFP", 2, "FPFPPPFF"),
        ("FPFPFPPF", 1, "FPFPFPPF"),
        ("FPFP", 0, "FPFP"),
        ("FPPP", 1, "FPPF"),  # one more: the first of all stays
    ],
)
def test_the_last_in_full_at_the_same_cost(letters, number, moved):
    assert StepPlan(letters).with_fulls_moved_last(number).letters == moved


def test_two_letters_exchanged():
    assert swapped(StepPlan("FPFP"), (1, 2)).letters == "FFPP"


@pytest.mark.parametrize("letters", ("", "P", "fp", "FA", "FD", "F" * 1001))
def test_refused(letters):
    with pytest.raises(ConfigError, match="plan is"):
        StepPlan(letters)
