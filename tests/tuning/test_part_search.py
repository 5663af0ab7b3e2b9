"""Which parts are left out: by numbers that can be summed by hand, drawn by a drawer that sums them."""

from __future__ import annotations

import random
from itertools import combinations

import pytest
import torch

from lib_unetmod import GuidanceInterval, SkipBlocks
from lib_unetmod.parts.blocks.named_parts import window_of
from lib_unetmod.tuning.candidates import PLAIN, Candidate
from lib_unetmod.tuning.drawer import Drawn
from lib_unetmod.tuning.found import Best
from lib_unetmod.tuning.part_search import PartSpace, parts_for
from lib_unetmod.tuning.part_values import PartValues, phases_of
from lib_unetmod.tuning.trials import QUICK, Trials

EVALUATIONS = (0.0, 0.25, 0.5, 0.75)
PHASES = phases_of(EVALUATIONS)
#: Share of an evaluation's time, and squared change for each evaluation.
PARTS = {
    "in.1.res": (0.10, (4.0, 1.0, 1.0, 9.0)),
    "in.1.attn": (0.20, (9.0, 9.0, 0.1, 0.1)),
    "in.1.self": (0.08, (0.1, 9.0, 0.2, 0.2)),
    "mid.ff": (0.12, (0.5, 0.5, 0.5, 9.0)),
    "out.3.cross": (0.06, (0.2, 0.3, 9.0, 9.0)),
}


def values(effects=(1.0, 1.0, 1.0, 1.0), parts=PARTS):
    items = frozenset((name, phase) for name in parts for phase in range(4))
    times = {name: share for name, (share, _) in parts.items()}
    return PartValues(PHASES, times, {name: changes for name, (_, changes) in parts.items()}, (1.0,) * 4, effects, items)


class Drawer:
    """The squared error is the sum of what is left out, the time what remains; `slower` takes longer than was measured."""

    own = ()

    def __init__(self, slower=0.0, fewer=50.0, rows=1.0):
        self.slower, self.fewer, self.rows = slower, fewer, rows

    def draw(self, number, configs, share=1.0):
        error, seconds = 0.0, 4.0
        for config in (one for one in configs if isinstance(one, SkipBlocks)):
            for name in config.blocks:
                for at, progress in enumerate(EVALUATIONS):
                    if window_of(name).holds(progress):
                        time, changes = PARTS[name.partition("@")[0]]
                        error, seconds = error + changes[at], seconds - time * (1 - self.slower)
        if any(isinstance(one, GuidanceInterval) for one in configs):
            seconds *= self.rows
        if share < 1:
            error, seconds = self.fewer**2, share * seconds
        return Drawn(torch.full((1, 1, 1, 1), error**0.5), seconds)

    def stopped(self):
        return False


def found(word, drawer=None, base=PLAIN, budget=200.0, steps=4, **changes):
    trials = Trials(drawer or Drawer(), QUICK, budget, lambda *_: None)
    trials.draw_plain()
    return parts_for(trials, word, base, values(**changes), steps, budget, Best())


def cheapest_of_all(saved):
    """The least squared error of any choice that saves so much, tried one by one."""
    items = [(name, at) for name in PARTS for at in range(4)]
    costs = []
    for count in range(1, 9):
        for chosen in combinations(items, count):
            both = any({("in.1.attn", at), ("in.1.self", at)} <= {*chosen} for at in range(4))
            if not both and sum(PARTS[name][0] / 4 for name, _ in chosen) >= saved - 1e-9:
                costs.append(sum(PARTS[name][1][at] for name, at in chosen))
    return min(costs)


def test_what_is_left_out_meets_the_speed_at_hardly_more_than_the_least_cost_there_is():
    tuned = found("1.3x")
    assert tuned.best.time <= 1.02 / 1.3 and tuned.shipped is None and tuned.judged
    assert tuned.best.error**2 <= 1.1 * cheapest_of_all(1 - 1 / 1.3)
    assert tuned.fewer_steps.time == pytest.approx(0.75) and not tuned.beaten


def test_what_hardly_moves_the_picture_is_left_out_first():
    space = PartSpace(PLAIN, values(effects=(0.001, 1.0, 1.0, 1.0)), saved=0.08)
    assert all(window_of(name).holds(0.0) for name in space.cheapest().configs[0].blocks)


def test_windows_of_neighbouring_phases_are_joined():
    parts = {"mid.ff": (0.12, (1.0, 1.0, 9.0, 1.0)), "in.1.res": (0.1, (1.0, 1.0, 1.0, 1.0))}
    space = PartSpace(PLAIN, values(parts=parts), saved=0.19)
    assert space.cheapest().configs == (SkipBlocks(blocks=("in.1.res", "mid.ff@0-0.375", "mid.ff@0.625-1")),)


def test_a_transformer_and_what_is_in_it_are_not_left_out_twice():
    space = PartSpace(PLAIN, values(), saved=1.0)
    chance, at = random.Random(0), space.cheapest()
    assert space.most == pytest.approx(sum((0.1, 0.2, 0.12, 0.06)))
    space.saved = 0.3
    at = space.cheapest()
    for _ in range(50):
        at = space.neighbour(at, chance) or at
        assert not any({("in.1.attn", phase), ("in.1.self", phase)} <= at.items for phase in range(4))
        assert sum(PARTS[name][0] / 4 for name, _ in at.items) >= 0.3 - 1e-9


def test_where_less_is_saved_than_was_measured_more_is_left_out():
    assert found("1.2x", Drawer(slower=0.3)).best.time <= 1.02 / 1.2


def test_what_is_on_beside_counts():
    base = Candidate("plain", (GuidanceInterval(),))
    tuned = found("2.5x", Drawer(rows=0.5), base)
    assert tuned.best.candidate.configs[0] == GuidanceInterval() and tuned.best.time <= 1.02 / 2.5
    assert tuned.best.error**2 <= 1.2 * cheapest_of_all(1 - 2 / 2.5)


def test_of_one_step_there_are_no_fewer():
    assert found("1.3x", steps=1).fewer_steps is None


def test_fewer_steps_that_are_nearer_are_said():
    assert found("1.3x", Drawer(fewer=0.01)).beaten
