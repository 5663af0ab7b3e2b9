"""All methods that go together at once, on tiny real U-Nets: in every size and host, with control, Heun, split batches."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from contract import snapshot
from hosts import HOSTS, residuals
from unets import FAMILIES, call, inputs

from lib_unetmod import METHODS, modified, what_is_on
from tests.core.test_pairs import ALIKE, SIZES, assert_the_same_as_plain, config_of, drawn, excluded, families, timesteps_for

pytestmark = pytest.mark.in_turn(60)

#: Each of the two caches with everything else.
SETS = {cache: [name for name in METHODS if not excluded(name, cache)] for cache in ("deep_cache", "encoder_reuse")}
#: What needs to be told which rows are conditional, or says nothing without.
BY_ROWS = ("guidance_interval", "color_map")

sets = pytest.mark.parametrize("cache", SETS)


def test_every_method_is_in_a_set():
    assert set().union(*SETS.values()) == set(METHODS)
    for names in SETS.values():
        assert not any(excluded(one, other) for one in names for other in names)


@sets
@families
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("controlled", (False, True), ids=("alone", "control"))
def test_they_act_in_any_order_and_leave_no_trace(cache, family, size, controlled):
    host = HOSTS["controlnet" if controlled else "a1111"]
    unet = host.prepare(FAMILIES[family]())
    steps = [inputs(family, seed=i, timestep=t, height=size[0], width=size[1]) for i, t in enumerate(timesteps_for(METHODS))]
    control = residuals(unet, steps[0]["x"].shape) if controlled else None
    configs, before = [config_of(name) for name in SETS[cache]], snapshot(unet)
    out = drawn(host, unet, configs, steps, control)
    assert snapshot(unet) == before and what_is_on(unet) == {}
    assert out.shape[1:] == steps[0]["x"].shape and out.isfinite().all()
    assert torch.equal(out, drawn(host, unet, configs[::-1], steps, control))


@sets
@families
@pytest.mark.long
def test_none_of_them_is_lost(cache, family):
    """Each of them left out gives another answer; tiles hold more than a cell of token merging's on SDXL too."""
    host, unet = HOSTS["a1111"], FAMILIES[family]()
    steps = [inputs(family, seed=i, timestep=t, height=32, width=32) for i, t in enumerate(timesteps_for(METHODS))]
    configs = {name: config_of(name) for name in SETS[cache]}
    configs["hyper_tile"] = replace(configs["hyper_tile"], tile=64)
    whole = drawn(host, unet, list(configs.values()), steps)
    for left_out in configs:
        rest = drawn(host, unet, [config for name, config in configs.items() if name != left_out], steps)
        assert not torch.equal(rest, whole), left_out


@sets
@families
def test_every_host_gives_the_same(cache, family):
    assert_the_same_as_plain(SETS[cache], family, ALIKE, rtol=1e-3, atol=1e-4)


@sets
@families
def test_split_batches_are_the_batch_in_parts(cache, family):
    """Heun's evaluations, two of them at one timestep, with both rows in one call and with a call for each."""
    unet = FAMILIES[family]()
    configs = [config_of(name) for name in SETS[cache] if name not in BY_ROWS]
    steps = [inputs(family, seed=i, timestep=t) for i, t in enumerate((900, 850, 850, 800, 800, 750))]
    joined, split = [], []
    for calls, kept in (((slice(0, 2),), joined), ((slice(0, 1), slice(1, 2)), split)):
        with modified(unet, configs) as run:
            for step in steps:
                run.new_evaluation()
                parts = ({name: None if value is None else value[rows] for name, value in step.items()} for rows in calls)
                kept.append(torch.cat([call(unet, part) for part in parts]))
    for number, (one, other) in enumerate(zip(joined, split, strict=True)):
        torch.testing.assert_close(other, one, rtol=1e-3, atol=1e-4, msg=lambda text, n=number: f"evaluation {n}: {text}")
