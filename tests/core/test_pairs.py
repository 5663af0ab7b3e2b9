"""Every method together with every other, on tiny real U-Nets: whatever order they are given in, in every host."""

from __future__ import annotations

import itertools
from functools import cache

import pytest
import torch
from contract import snapshot, tests_of
from hosts import HOSTS, residuals
from unets import FAMILIES, inputs

from lib_unetmod import METHODS, ConfigError, modified, what_is_on
from lib_unetmod.core.call import Guidance

PAIRS = list(itertools.combinations(METHODS, 2))
SIZES = [(16, 16), (8, 24), (17, 13)]

pairs = pytest.mark.parametrize("first, second", PAIRS)
families = pytest.mark.parametrize("family", ("sd1", "sdxl"))


def config_of(name):
    """The config that stands for a method: the first of its contract, or its defaults where it has none."""
    tests = tests_of(name)
    return getattr(tests, "PAIRED", None) or getattr(tests, "CONTRACT", [METHODS[name].config()])[0]


def timesteps_for(names):
    """Two evaluations, and a third for the method that leaves whole ones out."""
    return (900, 880, 860) if "step_forecast" in names else (900, 880)


def excluded(first, second):
    return second in METHODS[first].excludes or first in METHODS[second].excludes


def drawn(host, unet, configs, steps, control=None):
    """A run's outputs over `steps`, one evaluation each, cond and uncond in one batch: (evaluations, B, 4, h, w)."""
    outs = []
    with modified(unet, configs) as run:
        run.guidance = Guidance(1.0, (0, 0))
        for step in steps:
            run.new_evaluation()
            told = {} if control is None else {"control": [residual.clone() for residual in control]}
            outs.append(host.forward(unet, **step, **told))
    return torch.stack(outs)


#: Where the rows of a call are what they are in the plain forward; beside a reference pass GuidanceInterval stands aside.
ALIKE = [name for name in HOSTS if name not in ("plain", "controlnet_reference")]


def assert_the_same_as_plain(names, family, hosts, **tolerance):
    configs = [config_of(name) for name in names]
    steps = [inputs(family, seed=i, timestep=t) for i, t in enumerate(timesteps_for(names))]
    plain = drawn(HOSTS["plain"], prepared("plain", family), configs, steps)
    for name in hosts:
        out = drawn(HOSTS[name], prepared(name, family), configs, steps)
        torch.testing.assert_close(out, plain, **tolerance, msg=lambda text, name=name: f"{name}: {text}")


@cache
def prepared(host, family):
    """A host's U-Net, which all pairs share: none leaves a trace on it."""
    return HOSTS[host].prepare(FAMILIES[family]())


@cache
def alone(name, family, size, controlled, timesteps):
    """What one method draws in the place of two; the tests of all its pairs compare with it."""
    return drawn_and_undone([name], family, size, controlled, timesteps)


def drawn_and_undone(names, family, size, controlled, timesteps):
    configs = [config_of(each) for each in names]
    name = "controlnet" if controlled else "a1111"
    host, unet = HOSTS[name], prepared(name, family)
    steps = [inputs(family, seed=i, timestep=t, height=size[0], width=size[1]) for i, t in enumerate(timesteps)]
    control = residuals(unet, steps[0]["x"].shape) if controlled else None
    before = snapshot(unet)
    out = drawn(host, unet, configs, steps, control)
    assert snapshot(unet) == before and what_is_on(unet) == {}
    return out


def pairs_in_sizes():
    """SD1 in every size, SDXL in one of them in turn; the rest is slow."""
    for place, pair in enumerate(PAIRS):
        for turn, size in enumerate(SIZES):
            for family in ("sd1", "sdxl"):
                marks = [pytest.mark.slow] if family == "sdxl" and (place + turn) % len(SIZES) else []
                yield pytest.param(*pair, family, size, id=f"{'-'.join(pair)}-{family}-{size}", marks=marks)


@pytest.mark.in_turn(12)
@pytest.mark.parametrize("first, second, family, size", pairs_in_sizes())
def test_both_act_in_any_order_and_leave_no_trace(first, second, family, size):
    """With a control's residuals in every second of them: over the pairs, in each size and family as often."""
    if excluded(first, second):
        pytest.skip("they do not go together")
    controlled = (PAIRS.index((first, second)) + SIZES.index(size) + (family == "sdxl")) % 2 == 1
    timesteps = timesteps_for((first, second))
    both = drawn_and_undone([first, second], family, size, controlled, timesteps)
    assert both.shape == (len(timesteps), 2, 4, *size) and both.isfinite().all()
    assert torch.equal(both, drawn_and_undone([second, first], family, size, controlled, timesteps))
    for name in (first, second):
        assert not torch.equal(both, alone(name, family, size, controlled, timesteps))


@pytest.mark.in_turn(20)
@pairs
@families
def test_hosts_give_the_same(first, second, family):
    """Two hosts a pair, in turn; all methods at once are compared in all of them (test_all_together)."""
    if excluded(first, second):
        pytest.skip("they do not go together")
    turn = 2 * PAIRS.index((first, second)) + (family == "sdxl")
    hosts = [ALIKE[(turn + other) % len(ALIKE)] for other in (0, 1)]
    assert_the_same_as_plain([first, second], family, hosts, rtol=1e-4, atol=1e-5)


@pairs
def test_those_that_do_not_go_together_say_why(first, second):
    if not excluded(first, second):
        pytest.skip("they go together")
    unet = FAMILIES["sd1"]()
    before = snapshot(unet)
    with pytest.raises(ConfigError, match=r"do not work together: .*\. Use one, or give them ranges"):
        modified(unet, [config_of(first), config_of(second)])
    assert snapshot(unet) == before
