"""What every method owes to the U-Net and to the others, run over all of them on tiny real U-Nets."""

from __future__ import annotations

import gc
import itertools
import weakref
from dataclasses import replace
from functools import cache

import pytest
import torch
from contract import contract_cases, contract_configs, neutral, resizes, snapshot
from hosts import HOSTS, residuals
from torch import nn
from unets import FAMILIES, call, fresh
from unets import inputs as inputs_of_any_size

from lib_unetmod import METHODS, ConfigError, inspect_unet, modified, what_is_on
from lib_unetmod.core.registry import method_of

pytestmark = pytest.mark.in_turn(60)

configs = pytest.mark.parametrize("config", contract_configs())
cases = pytest.mark.parametrize("config, family", contract_cases())
first_cases = pytest.mark.parametrize("config, family", contract_cases(others_slow=True))


def inputs(family, height=8, width=16, **others):
    """Of the smallest size at which every method has something to do, and not square."""
    return inputs_of_any_size(family, height=height, width=width, **others)


def shared(family):
    """The family's U-Net that all tests share: whatever a test did to it must be undone, or the next one shows it."""
    unet = FAMILIES[family]()
    assert what_is_on(unet) == {}
    return unet


def evaluate(unet, config, steps, pass_name="first"):
    """Outputs of one run over `steps`, a list of inputs as `unets.inputs` makes them."""
    with modified(unet, [config], pass_name=pass_name):
        return [call(unet, step) for step in steps]


def acting(unet, config, step, pass_name="first", forward=call):
    """The output for `step` as the second evaluation of a run, at one timestep: a cache has nothing to give before."""
    before = {**step, "x": step["x"].flip(-1)}
    with modified(unet, [config], pass_name=pass_name, evaluations=2) as run:
        return evaluated(run, unet, before, step, forward)


def evaluated(run, unet, before, step, forward=call):
    run.new_evaluation()
    forward(unet, before)
    run.new_evaluation()
    return forward(unet, step)


def rows(batch, first, last, tokens=None):
    """Rows `first` to `last` of a batch of inputs, as a host that calls cond and uncond apart gives them."""
    cut = {name: None if value is None else value[first:last] for name, value in batch.items()}
    if tokens is not None:
        cut["context"] = cut["context"][:, :tokens]
    return cut


def assert_close(a, b):
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


# Neutral, on, off, undone.


@cases
def test_neutral_settings_leave_the_unet_untouched(config, family):
    unet, step = shared(family), inputs(family)
    plain, before = call(unet, step), snapshot(unet)
    silent = [neutral(config), replace(config, start=0.4, end=0.4)]
    silent.append(replace(config, first_pass=False, hires_pass=False, img2img=False))
    for changes_nothing in silent:
        with modified(unet, [changes_nothing]) as run:
            assert snapshot(unet) == before and run.methods == ()
            assert torch.equal(call(unet, step), plain)


@cases
def test_acts_inside_and_leaves_no_trace_outside(config, family):
    unet, step = shared(family), inputs(family)
    plain, before = call(unet, step), snapshot(unet)
    assert not torch.equal(acting(unet, config, step), plain)
    with modified(unet, [config]):
        assert what_is_on(unet)
        call(unet, step)
    assert snapshot(unet) == before and what_is_on(unet) == {}
    assert torch.equal(call(unet, step), plain)


@first_cases
@pytest.mark.parametrize("error", (RuntimeError, KeyboardInterrupt))
def test_an_exception_inside_a_block_leaves_no_trace(config, family, error):
    unet, step = shared(family), inputs(family)
    expected = evaluate(unet, config, [step])[0]

    def fail(module, args):
        raise error("inside a block")

    for where in ("in.1", "mid", "out.8"):
        handle = inspect_unet(unet).block(where).layers[-1].module.register_forward_pre_hook(fail)
        before = snapshot(unet)
        with pytest.raises(error, match="inside a block"), modified(unet, [config]):
            call(unet, step)
        assert snapshot(unet) == before
        handle.remove()
    assert torch.equal(evaluate(unet, config, [step])[0], expected)


@cases
def test_two_runs_in_a_row_are_equal(config, family):
    unet = shared(family)
    steps = [inputs(family, seed=i, timestep=t) for i, t in enumerate((900, 500, 100))]
    first, second = evaluate(unet, config, steps), evaluate(unet, config, steps)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@cases
def test_nothing_keeps_a_unet_that_its_host_has_let_go(config, family):
    unet = fresh(family)
    evaluate(unet, config, [inputs(family)])
    gone = weakref.ref(unet)
    del unet
    gc.collect()
    assert gone() is None


@cases
def test_the_same_method_twice_is_refused_before_anything_is_touched(config, family):
    unet = shared(family)
    before = snapshot(unet)
    with pytest.raises(ConfigError, match="given twice"):
        modified(unet, [config, replace(config, start=0.1)]).__enter__()
    assert snapshot(unet) == before
    with modified(unet, [config]):
        inside = snapshot(unet)
        with pytest.raises(ConfigError, match="already on this U-Net"):
            modified(unet, [config]).__enter__()
        assert snapshot(unet) == inside
    assert snapshot(unet) == before


@first_cases
def test_runs_leave_in_any_order(config, family, probe):
    unet, step = fresh(family), inputs(family)
    layer = inspect_unet(unet).middle_block.layers[-1].module
    plain, before = call(unet, step), snapshot(unet)
    only = {"a": evaluate(unet, config, [step])[0], "b": evaluate(unet, probe(factor=1.5), [step])[0]}
    with modified(unet, [config, probe(factor=1.5)]):
        both = call(unet, step)

    orders, number = [*itertools.permutations("abc")], [*METHODS].index(method_of(config).name)
    for order in orders[number % 2 :: 2]:  # over the methods, each as often
        runs = {"a": modified(unet, [config]), "b": modified(unet, [probe(factor=1.5)])}
        runs["a"].__enter__()
        runs["b"].__enter__()
        foreign = layer.forward
        layer.forward = lambda *args, under=foreign, **kwargs: under(*args, **kwargs)
        on = {"a", "b", "c"}
        assert torch.equal(call(unet, step), both)
        for leaving in order:
            if leaving == "c":
                layer.forward = foreign
            else:
                runs[leaving].__exit__(None, None, None)
            on.remove(leaving)
            ours = on - {"c"}
            expected = both if len(ours) == 2 else only[next(iter(ours))] if ours else plain
            assert torch.equal(call(unet, step), expected)
        assert snapshot(unet) == before


@first_cases
def test_lives_with_a_foreign_wrapper(config, family):
    """A foreign wrapper doubles what conv_in returns; it is put on and taken off before and after ours."""
    unet, step = fresh(family), inputs(family)
    layer = inspect_unet(unet).input_blocks[0].layers[0].module
    plain, ours_alone = call(unet, step), evaluate(unet, config, [step])[0]
    before, run, found = snapshot(unet), modified(unet, [config]), []

    def foreign_on():
        found.append(vars(layer).get("forward"))
        under = layer.forward
        layer.forward = lambda *args, **kwargs: 2 * under(*args, **kwargs)

    def foreign_off():
        if (previous := found.pop()) is None:
            del layer.forward
        else:
            layer.forward = previous

    foreign_on()
    foreign_alone, both = call(unet, step), evaluate(unet, config, [step])[0]
    foreign_off()

    on = {"foreign": foreign_on, "ours": run.__enter__}
    off = {"foreign": foreign_off, "ours": lambda: run.__exit__(None, None, None)}
    second = {"foreign": "ours", "ours": "foreign"}
    for on_first, off_first in itertools.product(second, second):
        on[on_first]()
        on[second[on_first]]()
        assert torch.equal(call(unet, step), both)
        off[off_first]()
        assert torch.equal(call(unet, step), foreign_alone if off_first == "ours" else ours_alone)
        off[second[off_first]]()
        assert torch.equal(call(unet, step), plain)
        assert snapshot(unet) == before


# How samplers and hosts call.


@cases
def test_cond_and_uncond_in_one_batch_equal_two_calls(config, family):
    steps = [inputs(family, batch=2, seed=i, timestep=t) for i, t in enumerate((900, 700, 700, 300))]
    together = evaluate(shared(family), config, steps)
    apart = evaluate(shared(family), config, [rows(step, i, i + 1) for step in steps for i in (0, 1)])
    for step, whole in enumerate(together):
        assert_close(torch.cat(apart[2 * step : 2 * step + 2]), whole)


@cases
def test_token_lengths_may_differ_and_uncond_may_be_left_out(config, family):
    unet = shared(family)
    steps = [inputs(family, batch=2, seed=i, timestep=t) for i, t in enumerate((900, 500, 100))]
    layout = [rows(steps[0], 0, 1, 77), rows(steps[0], 1, 2, 40), rows(steps[1], 0, 1), steps[2]]
    for out, step in zip(evaluate(unet, config, layout), layout, strict=True):
        assert out.shape == step["x"].shape and out.isfinite().all()


@cases
@pytest.mark.parametrize("timesteps", [(500,), (800, 200), (900, 700, 700, 500, 500, 300)])
def test_few_evaluations_second_order_and_repeated_timesteps(config, family, timesteps):
    """Evaluations counted by the host and by changes of the timestep; each ends finite and as often as it began."""
    unet = shared(family)
    steps = [inputs(family, seed=i, timestep=t) for i, t in enumerate(timesteps)]
    with modified(unet, [config]) as run:
        for step in steps:
            run.new_evaluation()
            assert call(unet, step).isfinite().all()
        assert run.clock.evaluation == len(steps) - 1
    with modified(unet, [config]) as run:
        for step in steps:
            call(unet, step)
        assert run.clock.evaluation == len(set(timesteps)) - 1


@cases
def test_size_may_change_on_the_way(config, family):
    unet = shared(family)
    small = inputs(family, height=16, width=16, timestep=500)
    large = inputs(family, height=24, width=16, timestep=500)
    results = evaluate(unet, config, [small, large, small])
    assert_close(results[0], evaluate(shared(family), config, [small])[0])
    assert_close(results[1], evaluate(shared(family), config, [large])[0])
    assert_close(results[2], results[0])


@cases
def test_dtype_may_change_on_the_way(config, family):
    """Autocast begins and ends within a run: the layers' outputs are half as precise in between."""
    unet, step = shared(family), inputs(family)
    with modified(unet, [config]):
        single = call(unet, step)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            half = call(unet, step)
        again = call(unet, step)
    assert half.isfinite().all() and not torch.equal(half.float(), single)
    assert (half.float() - single).abs().mean() < 0.1 * single.abs().mean()
    assert_close(again, single)


@configs
def test_the_unet_may_be_exchanged_on_the_way(config):
    old, new, step = shared("sd1"), shared("sd2"), inputs("sd2")
    before, expected = (snapshot(old), snapshot(new)), evaluate(new, config, [step])[0]
    with modified(old, [config]) as run:
        call(old, inputs("sd1"))
        run.follow(new)
        assert snapshot(old) == before[0]
        assert torch.equal(call(new, step), expected)
    assert snapshot(new) == before[1]


@cases
@pytest.mark.parametrize("batch", (1, 3))
def test_any_batch(config, family, batch):
    steps = [inputs(family, batch=batch, height=8, width=16, seed=3)]
    whole = evaluate(shared(family), config, steps)[0]
    for row in range(batch):
        assert_close(evaluate(shared(family), config, [rows(steps[0], row, row + 1)])[0][0], whole[row])


@cases
@pytest.mark.parametrize(
    "size", [(17, 24), (9, 40), (16, 8), (8, 8), pytest.param((127, 77), marks=pytest.mark.slow)], ids=str
)
def test_any_size(config, family, size):
    host = HOSTS["a1111"]
    unet, step = host.prepare(shared(family)), inputs(family, height=size[0], width=size[1], batch=1)
    plain = host.forward(unet, **step)
    out = acting(unet, config, step, forward=lambda unet, step: host.forward(unet, **step))
    assert out.shape == plain.shape and out.isfinite().all() and not torch.equal(out, plain)


@cases
def test_under_inference_mode_and_with_circular_padding(config, family):
    unet, step = fresh(family), inputs(family)
    expected = evaluate(unet, config, [step])[0]
    with torch.inference_mode():
        assert torch.equal(evaluate(unet, config, [step])[0], expected)

    for module in unet.modules():
        if isinstance(module, nn.Conv2d):
            module.padding_mode = "circular"
    # A torus has no edges: rolling the latent rolls the answer, which a zero-padded convolution inside would break.
    shifted = {**step, "x": step["x"].roll((8, 8), (2, 3))}
    torus, rolled = evaluate(unet, config, [step])[0], evaluate(unet, config, [shifted])[0]
    assert_close(rolled, torus.roll((8, 8), (2, 3)))
    assert not torch.equal(torus, expected)


# When it acts.


@first_cases
@pytest.mark.parametrize("start, end", [(0.0, 0.5), (0.5, 1.0), (0.25, 0.75), (0.0, 0.0), (1.0, 1.0), (0.0, 1.0)])
def test_acts_in_its_window_only(config, family, start, end):
    unet, windowed = shared(family), replace(config, start=start, end=end)
    for timestep in (999, 749.25, 499.5, 300, 0):
        step, progress = inputs(family, batch=1, height=8, width=8, timestep=timestep), 1 - timestep / 999
        inside = start < end and start <= progress and (progress < end or end == 1)
        out = acting(unet, windowed, step)
        assert torch.equal(out, always_acting(config, family, timestep)) == inside
        assert torch.equal(out, plain(family, timestep)) == (not inside)


@cache
def always_acting(config, family, timestep):
    return acting(shared(family), config, inputs(family, batch=1, height=8, width=8, timestep=timestep))


@cache
def plain(family, timestep):
    return call(shared(family), inputs(family, batch=1, height=8, width=8, timestep=timestep))


@configs
def test_a_window_that_ends_before_it_starts_is_refused(config):
    with pytest.raises(ConfigError, match="start is 0.6 and end is 0.5"):
        replace(config, start=0.6, end=0.5)


@configs
@pytest.mark.parametrize("pass_name, knob", [("first", "first_pass"), ("hires", "hires_pass"), ("img2img", "img2img")])
def test_acts_in_its_passes_only(config, pass_name, knob):
    unet, step = shared("sd1"), inputs("sd1", height=8, width=8)
    plain = call(unet, step)
    assert torch.equal(acting(unet, replace(config, **{knob: False}), step, pass_name), plain)
    assert not torch.equal(acting(unet, config, step, pass_name), plain)


@configs
def test_a_pass_may_begin_within_the_run(config):
    unet, step = shared("sd1"), inputs("sd1", height=8, width=8)
    plain, expected = call(unet, step), acting(unet, config, step, "hires")
    before = {**step, "x": step["x"].flip(-1)}
    with modified(unet, [replace(config, first_pass=False)]) as run:
        assert torch.equal(evaluated(run, unet, before, step), plain)
        run.begin_pass("hires")
        # An evaluation further on, draws at random differ: the run is as far as the one that was expected.
        run.clock.evaluation = -1
        assert torch.equal(evaluated(run, unet, before, step), expected)


# Under the forwards that hosts bring.


@cases
@pytest.mark.parametrize("name", HOSTS)
def test_same_result_in_every_host(config, family, name):
    host = HOSTS[name]
    steps = [inputs(family, seed=i, timestep=t) for i, t in enumerate((900, 500))]
    unet = host.prepare(shared(family))
    before = snapshot(unet)
    with modified(unet, [config]) as run:
        for step, out in zip(steps, in_plain_ldm(config, family), strict=True):
            assert_close(host.forward(unet, **step), out)
            assert run.traversal.ordinal == (name == "controlnet_reference")
    assert snapshot(unet) == before


@cache
def in_plain_ldm(config, family):
    return evaluate(shared(family), config, [inputs(family, seed=i, timestep=t) for i, t in enumerate((900, 500))])


@cases
def test_same_result_in_every_host_with_control(config, family):
    """Residuals at every skip connection and the middle: hosts that add the same residuals must agree.

    Where a method resizes skip connections those agree that fit residuals in the same way.
    """
    step = inputs(family)
    control = residuals(shared(family), step["x"].shape)
    results = {}
    for name in ("controlnet", "controlnet_reference", "forge", "forge_classic", "reforge"):
        host = HOSTS[name]
        unet = host.prepare(shared(family))
        with modified(unet, [config]):
            results[name] = host.forward(unet, **step, control=[residual.clone() for residual in control])
            again = host.forward(unet, **step, control=[residual.clone() for residual in control])
        assert_close(again, results[name])
    for name, out in results.items():
        alike = [other for other in results if not resizes(config) or HOSTS[other].mismatch == HOSTS[name].mismatch]
        assert_close(out, results[alike[0]]), name


@configs
@pytest.mark.parametrize("name", ("controlnet", "forge", "reforge"))
def test_control_at_odd_sizes(config, name):
    host, step = HOSTS[name], inputs("sd1", height=17, width=24, batch=1)
    unet = host.prepare(shared("sd1"))
    control = residuals(unet, step["x"].shape)
    with modified(unet, [config]):
        assert host.forward(unet, **step, control=control).isfinite().all()
