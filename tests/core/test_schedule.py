from __future__ import annotations

import pytest

from lib_unetmod.core.clock import Clock
from lib_unetmod.core.schedule import ProgressRange
from lib_unetmod.core.state import PerTraversal


@pytest.mark.parametrize(
    "start, end, inside, outside",
    [
        (0.0, 1.0, (0.0, 0.5, 1.0), ()),
        (0.2, 0.8, (0.2, 0.5), (0.0, 0.1999, 0.8, 1.0)),
        (0.5, 1.0, (0.5, 1.0), (0.4999,)),
        (0.0, 0.5, (0.0,), (0.5, 1.0)),
        (0.3, 0.3, (), (0.0, 0.3, 1.0)),
        (1.0, 1.0, (), (1.0,)),
    ],
)
def test_window(start, end, inside, outside):
    window = ProgressRange(start, end)
    assert all(window.holds(p) for p in inside) and not any(window.holds(p) for p in outside)
    assert window.always == (start == 0 and end == 1) and window.empty == (start == end)


def test_progress_runs_from_noise_to_clean():
    clock = Clock(timesteps=1000)
    assert clock.progress == 0.0
    for timestep, progress in ((999, 0.0), (499.5, 0.5), (0, 1.0), (-1, 1.0), (1200, 0.0)):
        clock.at_timestep(timestep)
        assert clock.progress == pytest.approx(progress)


def test_a_change_of_timestep_begins_an_evaluation():
    clock = Clock()
    for timestep in (900, 900, 500, 500, 900):
        clock.at_timestep(timestep)
    assert clock.evaluation == 2


def test_an_announcing_host_alone_begins_evaluations():
    clock = Clock()
    for timestep in (900, 900, 500):
        clock.new_evaluation()
        clock.at_timestep(timestep)
        clock.at_timestep(timestep)
    assert clock.evaluation == 2


def test_traversals_count_within_an_evaluation_and_forget():
    clock = Clock()
    clock.at_timestep(900)
    clock.new_traversal()
    slot = PerTraversal(clock, dict)
    slot.set({"h": 1})
    clock.new_traversal()
    assert clock.traversal.ordinal == 1 and slot.get() == {}
    clock.at_timestep(800)
    clock.new_traversal()
    assert clock.traversal.ordinal == 0
