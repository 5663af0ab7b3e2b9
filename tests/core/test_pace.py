"""What evaluations took, by a clock that the test sets."""

from __future__ import annotations

import pytest
import torch

from lib_unetmod.core import pace
from lib_unetmod.core.pace import Pace


class Pass:
    """Evaluations of as many seconds as are given; those that are negative are changed by a method."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.changes = 100.0, 0
        monkeypatch.setattr(pace.time, "perf_counter", lambda: self.now)
        self.pace = Pace(lambda: self.changes, torch.device("cpu"))

    def takes(self, *seconds: float) -> None:
        for one in seconds:
            self.pace.evaluation_begins()
            self.now += abs(one)
            self.changes += one < 0
        self.pace.pass_ends()


@pytest.fixture
def drawn(monkeypatch):
    return Pass(monkeypatch)


def test_evaluations_that_no_method_changed_say_what_all_would_have_taken(drawn):
    """Of the first, which took longer once, the median of the others knows nothing: 6 evaluations of 2 seconds."""
    drawn.takes(9, -0.1, 2, -0.1, 2, 2.2)
    assert drawn.pace.seconds == pytest.approx(15.4) and drawn.pace.evaluations == 6
    assert drawn.pace.plain == pytest.approx(6 * 2)


def test_the_first_counts_where_no_other_ran_as_it_is(drawn):
    drawn.takes(3, -1, -1)
    assert drawn.pace.plain == pytest.approx(3 * 3)


def test_each_pass_has_evaluations_of_its_own_length(drawn):
    drawn.takes(1, 1, -0.1)
    drawn.now += 50  # decoded, enlarged and encoded
    drawn.takes(4, 4, -0.5)
    assert drawn.pace.seconds == pytest.approx(2.1 + 8.5) and drawn.pace.plain == pytest.approx(3 * 1 + 3 * 4)


def test_where_nothing_was_changed_all_took_what_it_took(drawn):
    drawn.takes(9, 2, 2)
    assert drawn.pace.plain == drawn.pace.seconds == pytest.approx(13)


def test_nothing_is_known_of_a_pass_that_methods_changed_throughout(drawn):
    drawn.takes(1, 1, -0.1)
    drawn.takes(-0.5, -0.5)
    drawn.takes(1, 1)
    assert drawn.pace.plain is None and drawn.pace.evaluations == 7


def test_a_pass_without_evaluations_changes_nothing(drawn):
    drawn.takes()
    assert (drawn.pace.seconds, drawn.pace.evaluations, drawn.pace.plain) == (0.0, 0, 0.0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_the_devices_own_time_is_told():
    changes = 0
    timed = Pace(lambda: changes, torch.device("cuda"))
    x = torch.randn(4096, 4096, device="cuda")
    for _ in range(4):
        timed.evaluation_begins()
        for _ in range(10):
            x = (x @ x).tanh()
    timed.pass_ends()
    assert timed.evaluations == 4 and timed.plain > 0 and 0.5 < timed.plain / timed.seconds < 2
