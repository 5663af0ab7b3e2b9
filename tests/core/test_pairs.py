"""Every method together with every other, on tiny real U-Nets: whatever order they are given in, in every host."""

from __future__ import annotations

import itertools

import pytest
import torch
from contract import snapshot, tests_of
from hosts import HOSTS, residuals
from unets import FAMILIES, inputs

from lib_unetmod import METHODS, ConfigError, modified, what_is_on
from lib_unetmod.core.run import Guidance

PAIRS = list(itertools.combinations(METHODS, 2))
SIZES = [(16, 16), (8, 24), (17, 13)]

pairs = pytest.mark.parametrize("first, second", PAIRS)
families = pytest.mark.parametrize("family", ("sd1", "sdxl"))


def config_of(name):
    """The config that stands for a method: the first of its contract, or its defaults where it has none."""
    return getattr(tests_of(name), "CONTRACT", [METHODS[name].config()])[0]


def excluded(first, second):
    return second in METHODS[first].excludes or first in METHODS[second].excludes


def drawn(host, unet, configs, steps, control=None):
    """The last of a run's outputs over `steps`, one evaluation each, cond and uncond in one batch."""
    with modified(unet, configs) as run:
        run.guidance = Guidance(1.0, (0, 0))
        for step in steps:
            run.new_evaluation()
            told = {} if control is None else {"control": [residual.clone() for residual in control]}
            out = host.forward(unet, **step, **told)
    return out


def assert_the_same_in_every_host(configs, family, **tolerance):
    steps = [inputs(family, seed=i, timestep=t) for i, t in enumerate((900, 880))]
    results = {name: drawn(host, host.prepare(FAMILIES[family]()), configs, steps) for name, host in HOSTS.items()}
    results.pop("controlnet_reference")  # where GuidanceInterval stands aside
    for name, out in results.items():
        torch.testing.assert_close(out, results["plain"], **tolerance, msg=lambda text, name=name: f"{name}: {text}")


@pairs
@families
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("controlled", (False, True), ids=("alone", "control"))
def test_both_act_in_any_order_and_leave_no_trace(first, second, family, size, controlled):
    if excluded(first, second):
        pytest.skip("they do not go together")
    host = HOSTS["controlnet" if controlled else "a1111"]
    unet = host.prepare(FAMILIES[family]())
    steps = [inputs(family, seed=i, timestep=t, height=size[0], width=size[1]) for i, t in enumerate((900, 880))]
    control = residuals(unet, steps[0]["x"].shape) if controlled else None
    a, b = config_of(first), config_of(second)
    before = snapshot(unet)
    both = drawn(host, unet, [a, b], steps, control)
    assert snapshot(unet) == before and what_is_on(unet) == {}
    assert both.shape == steps[0]["x"].shape and both.isfinite().all()
    assert torch.equal(both, drawn(host, unet, [b, a], steps, control))
    for alone in (a, b):
        assert not torch.equal(both, drawn(host, unet, [alone], steps, control))


@pairs
@families
def test_every_host_gives_the_same(first, second, family):
    if excluded(first, second):
        pytest.skip("they do not go together")
    configs = [config_of(first), config_of(second)]
    assert_the_same_in_every_host(configs, family, rtol=1e-4, atol=1e-5)


@pairs
def test_those_that_do_not_go_together_say_why(first, second):
    if not excluded(first, second):
        pytest.skip("they go together")
    unet = FAMILIES["sd1"]()
    before = snapshot(unet)
    with pytest.raises(ConfigError, match=r"do not go together: .*; switch one of them off"):
        modified(unet, [config_of(first), config_of(second)])
    assert snapshot(unet) == before
