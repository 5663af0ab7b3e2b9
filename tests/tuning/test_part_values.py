"""What parts are worth, on the real U-Net: changes beside those of zeroed weights, times beside a part made slow."""

from __future__ import annotations

import time
from functools import partial

import pytest
import torch
from contract import snapshot
from unets import call, fresh, inputs

from lib_unetmod import ConfigError, inspect_unet, modified
from lib_unetmod.core.schedule import ProgressRange
from lib_unetmod.core.target import Target
from lib_unetmod.core.upcoming_picture import UpcomingPass, UpcomingPicture
from lib_unetmod.tuning.candidates import PLAIN
from lib_unetmod.tuning.drawer import Drawn, Stopped
from lib_unetmod.tuning.part_measuring import measured
from lib_unetmod.tuning.part_values import phases_of, why_not
from lib_unetmod.tuning.search import tune
from lib_unetmod.tuning.trials import QUICK, Trials

EVALUATIONS = (0.0, 0.4, 0.8)


class Drawer:
    """Draws with the real U-Net: from noise a step of 0.1 against each prediction."""

    own = ()

    def __init__(self, unet, passes=("first",), evaluations=EVALUATIONS, stops_after=None, family="sd1"):
        self.unet, self.family, self.stops_after, self.asked = unet, family, stops_after, 0
        each = [UpcomingPass(name, Target(512, 128, 128), 3, evaluations=evaluations) for name in passes]
        self.upcoming = UpcomingPicture(inspect_unet(unet), tuple(each), "model [1]")

    def calls(self, number):
        for progress in EVALUATIONS:
            yield inputs(self.family, height=16, width=16, seed=number) | {
                "timesteps": torch.full((2,), 999 * (1 - progress))
            }

    def draw(self, number, configs, share=1.0):
        began = time.perf_counter()
        with modified(self.unet, configs) as run:
            x = None
            for step in self.calls(number):
                run.new_evaluation()
                x = step["x"] if x is None else x
                x = x - 0.1 * call(self.unet, {**step, "x": x})
        return Drawn(x, time.perf_counter() - began)

    def stopped(self):
        self.asked += 1
        return self.stops_after is not None and self.asked > self.stops_after


def valued(drawer, saved=None, choosing=(0,)):
    trials = Trials(drawer, QUICK, 1000, lambda *_: None)
    trials.choosing, trials.checking = choosing, ()
    trials.draw_plain()
    return measured(trials, drawer, PLAIN, saved)


@pytest.fixture(scope="module")
def values():
    return valued(Drawer(fresh("sd1")))


@pytest.mark.parametrize(
    "evaluations, bounds, looked_at, shares",
    [
        ((0.0,), [(0, 1)], [0.0], [1]),
        (
            (0.0, 0.25, 0.5, 0.75),
            [(0, 0.125), (0.125, 0.375), (0.375, 0.625), (0.625, 1)],
            [0, 0.25, 0.5, 0.75],
            [1 / 4] * 4,
        ),
        ((0.0, 0.2, 0.4, 0.6, 0.8, 1.0), [(0, 0.3), (0.3, 0.7), (0.7, 1)], [0.2, 0.6, 1.0], [1 / 3] * 3),
        ((0.7, 0.9, 0.9), [(0, 0.8), (0.8, 1)], [0.7, 0.9], [1 / 3, 2 / 3]),
        ((0.50001, 0.50002), [(0, 1)], [0.50002], [1]),
    ],
)
def test_phases(evaluations, bounds, looked_at, shares):
    phases = phases_of(evaluations)
    assert [phase.window for phase in phases] == [ProgressRange(*both) for both in bounds]
    assert [phase.looked_at for phase in phases] == looked_at
    assert [phase.share for phase in phases] == pytest.approx(shares)


@pytest.mark.parametrize(
    "name, branch",
    [
        ("in.4.self", lambda u: u.input_blocks[4][1].transformer_blocks[0].attn1.to_out[0]),
        ("mid.res.1", lambda u: u.middle_block[2].out_layers[-1]),
        ("out.5.attn", lambda u: u.output_blocks[5][1].proj_out),
        ("out.11.ff", lambda u: u.output_blocks[11][1].transformer_blocks[0].ff.net[2]),
    ],
)
def test_a_change_is_that_of_the_same_part_with_zeroed_weights(values, name, branch):
    unet, edited = fresh("sd1"), fresh("sd1")
    for parameter in branch(edited).parameters():
        parameter.zero_()
    x, drawer = None, Drawer(unet)
    for phase, step in enumerate(drawer.calls(0)):
        x = step["x"] if x is None else x
        plain, without = (call(one, {**step, "x": x}) for one in (unet, edited))
        assert values.changes[name][phase] == pytest.approx((without - plain).square().mean().item(), rel=1e-3)
        assert values.sizes[phase] == pytest.approx(plain.square().mean().item(), rel=1e-4)
        x = x - 0.1 * plain


def test_an_effect_is_what_a_step_makes_of_a_changed_prediction(values):
    # The last step subtracts a tenth of the prediction: squares are a hundredth. Before it the later steps act too.
    assert values.effects[2] == pytest.approx(0.01, rel=1e-3)
    assert values.cost("mid.attn", 2) == pytest.approx(0.01 * values.changes["mid.attn"][2], rel=1e-3)


def test_every_part_is_valued_and_a_slow_one_takes_the_time():
    unet = fresh("sd1")
    slow = unet.input_blocks[4][1].transformer_blocks[0].ff

    def slowly(forward, x):
        time.sleep(0.3)
        return forward(x)

    slow.forward = partial(slowly, slow.forward)
    values = valued(Drawer(unet))
    whole = sum(share for name, share in values.times.items() if name.split(".")[-1] in ("res", "attn", "0", "1"))
    assert 0.5 < values.times["in.4.ff"] < values.times["in.4.attn"] < whole < 1
    assert len(values.times) == 86 and all(len(changes) == 3 for changes in values.changes.values())
    assert values.saving("in.4.ff", 1) == pytest.approx(values.times["in.4.ff"] / 3)


def test_layers_of_one_transformer_are_valued_together():
    unet = fresh("sdxl")
    drawer = Drawer(unet, family="sdxl")
    values, edited = valued(drawer), fresh("sdxl")
    for inner in edited.input_blocks[7][1].transformer_blocks:
        for parameter in inner.ff.net[2].parameters():
            parameter.zero_()
    step = next(drawer.calls(0))
    expected = (call(edited, step) - call(unet, step)).square().mean().item()
    assert values.changes["in.7.ff"][0] == pytest.approx(expected, rel=1e-3) and "in.7.ff.0" not in values.times


def test_what_is_too_dear_is_looked_at_in_the_first_picture_alone():
    drawer = Drawer(fresh("sd1"))
    values = valued(drawer, saved=0.05, choosing=(0, 1))
    assert 0 < len(values.items) < 86 * 3 / 2 and drawer.asked == 86 * 3 + len(values.items)
    assert set(values.cheapest_first) <= values.items


def test_steps_at_other_noise_levels_are_refused_and_not_taken_for_parts_without_worth():
    drawer = Drawer(fresh("sd1"), evaluations=(0.0, 0.4, 0.9))
    with pytest.raises(ConfigError, match="other noise levels"):
        valued(drawer)
    found = tune(drawer, ["1.3x"])
    assert found.tuned == () and "other noise levels" in found.problems[0]


@pytest.mark.parametrize("after", [0, 100])
def test_the_unet_is_as_it_was_also_where_the_user_stops(after):
    unet = fresh("sd1")
    before, hooks = snapshot(unet), len(unet._forward_hooks)
    with pytest.raises(Stopped):
        valued(Drawer(unet, stops_after=after))
    assert snapshot(unet) == before and len(unet._forward_hooks) == hooks
    valued(Drawer(unet))
    assert snapshot(unet) == before and len(unet._forward_hooks) == hooks


@pytest.mark.parametrize(
    "changes, reason",
    [
        ({}, ""),
        ({"passes": ("first", "hires")}, "Hires. fix"),
        ({"evaluations": None}, "chooses its steps"),
    ],
)
def test_pictures_whose_parts_cannot_be_valued(changes, reason):
    drawer = Drawer(fresh("sd1"), **changes)
    assert (reason in why_not(drawer.upcoming, ())) if reason else why_not(drawer.upcoming, ()) == ""
    assert why_not(drawer.upcoming, ("skip_blocks",))
