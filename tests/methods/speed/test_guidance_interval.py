"""GuidanceInterval against evaluations of the conditional rows alone, and the contract's items with guidance told."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch
from contract import snapshot
from hosts import HOSTS, residuals
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook
from unets import FAMILIES, call, fresh, inputs

from lib_unetmod import METHODS, ConfigError, GuidanceInterval, SkipBlocks, inspect_unet, modified, what_is_on
from lib_unetmod.core.call import Guidance, Prompts
from lib_unetmod.core.target import Target
from lib_unetmod.core.upcoming_picture import UpcomingPass, UpcomingPicture

pytestmark = pytest.mark.in_turn(60)

NEUTRAL = GuidanceInterval(scale_one=False)
CONTRACT_REASON = "It acts on rows that a host describes; tests/core/test_contract.py calls the U-Net without such a host."

AT_ONE = GuidanceInterval()
MIDDLE = GuidanceInterval(scale_one=False, guide_from=0.4, guide_to=0.6)
#: Rows of a call and their partners: as AUTOMATIC1111 and as the playground order them, and others.
LAYOUTS = {
    "cond first": (0, 0),
    "uncond first": (1, 1),
    "three pictures": (0, 1, 2, 0, 1, 2),
    "in turns": (0, 0, 2, 2),
    "one without uncond": (0, 1, 0),
}

configs = pytest.mark.parametrize("config", (AT_ONE, MIDDLE), ids=("at scale 1", "out of the interval"))
families = pytest.mark.parametrize("family", ("sd1", "sdxl"))


def shared(family):
    unet = FAMILIES[family]()
    assert what_is_on(unet) == {}
    return unet


def scale_for(config):
    return 1.0 if config.scale_one else 7.0


def early(family, **changes):
    """Inputs at progress 0.1, out of `MIDDLE`."""
    return inputs(family, **{"timestep": 899, **changes})


def guided(unet, config, step, partner=(0, 0), scale=None, pass_name="first", forward=call):
    with modified(unet, [config], pass_name=pass_name) as run:
        run.guidance = Guidance(scale_for(config) if scale is None else scale, partner)
        return forward(unet, step)


def only(step, numbers):
    return {name: None if value is None else value[list(numbers)] for name, value in step.items()}


def assert_close(a, b):
    """Up to the rounding of other batch sizes: the layers before and after the blocks still see all rows."""
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def rows_seen(unet, step, run_it):
    """How many rows the modules inside the blocks' layers got together while `run_it()` evaluated.

    Counted by a hook on all modules: one on these would be an extension's, beside which no row is left out.
    """
    blocks = (*unet.input_blocks, unet.middle_block, *unet.output_blocks)
    inner = {module for block in blocks for layer in block for module in layer.modules() if module is not layer}
    counted, seen = (nn.Conv2d, nn.GroupNorm, nn.LayerNorm, nn.Linear), []

    def count(module, args):
        if module in inner and isinstance(module, counted):
            seen.append(len(args[0]))

    hook = register_module_forward_pre_hook(count)
    run_it()
    hook.remove()
    return sum(seen)


# What comes out.


@pytest.mark.parametrize("config, family", [*((MIDDLE, family) for family in FAMILIES), (AT_ONE, "sd1")])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_row_is_its_partners_conditional_evaluation(config, family, layout):
    unet, partner = shared(family), LAYOUTS[layout]
    step = early(family, batch=len(partner), height=8, width=8)
    conditional = sorted(set(partner))
    alone = call(unet, only(step, conditional))
    out = guided(unet, config, step, partner)
    for row, source in enumerate(partner):
        assert torch.equal(out[row], out[source])
    assert_close(out[conditional], alone)
    assert_close(out[conditional], call(unet, step)[conditional])


@pytest.mark.parametrize("scale", (0.0, 1.0, 7.5))
def test_the_guided_result_is_the_conditional_one_at_any_scale(scale):
    unet, step = shared("sd1"), early("sd1", batch=4)
    cond, uncond = guided(unet, MIDDLE, step, (0, 1, 0, 1), scale).chunk(2)
    assert torch.equal(cond + (scale - 1) * (cond - uncond), cond)
    assert_close(cond, call(unet, only(step, (0, 1))))


@families
def test_half_of_the_work_is_left_out(family):
    unet, step = fresh(family), early(family, batch=4)
    plain = rows_seen(unet, step, lambda: call(unet, step))
    with modified(unet, [AT_ONE]) as run:
        run.guidance = Guidance(1.0, (0, 1, 0, 1))
        assert rows_seen(unet, step, lambda: call(unet, step)) * 2 == plain
        run.guidance = Guidance(1.5, (0, 1, 0, 1))
        assert rows_seen(unet, step, lambda: call(unet, step)) == plain


@pytest.mark.long
def test_guidance_acts_in_its_interval_only():
    unet = shared("sd1")
    for guide_from, guide_to in ((0.25, 0.75), (0.0, 0.5), (0.5, 1.0), (0.5, 0.5)):
        config = replace(NEUTRAL, guide_from=guide_from, guide_to=guide_to)
        for timestep in (999, 749.25, 499.5, 300, 0):
            step, progress = inputs("sd1", height=8, width=8, timestep=timestep), 1 - timestep / 999
            plain, cond = call(unet, step), call(unet, only(step, (0,)))
            acts = guide_from < guide_to and guide_from <= progress and (progress < guide_to or guide_to == 1)
            out = guided(unet, config, step)
            if acts:
                assert torch.equal(out, plain)
            else:
                assert_close(out, cond.repeat(2, 1, 1, 1))


def test_scale_one_is_left_alone_where_it_is_not_asked_for():
    unet, step = shared("sd1"), inputs("sd1", height=8, width=8)
    inside = replace(MIDDLE, guide_from=0.3)
    assert torch.equal(guided(unet, inside, step, scale=1.0), call(unet, step))
    assert not torch.equal(guided(unet, replace(inside, scale_one=True), step, scale=1.0), call(unet, step))


@families
def test_other_methods_stand_inside_and_keep_the_rows_apart(family):
    unet, step = shared(family), early(family, batch=4)
    with modified(unet, [SkipBlocks(middle=True, levels=1)]):
        alone = call(unet, only(step, (0, 1)))
    with modified(unet, [AT_ONE, SkipBlocks(middle=True, levels=1)]) as run:
        streams = []
        for scale in (1.0, 1.0, 2.0):
            run.guidance = Guidance(scale, (0, 1, 0, 1))
            out = call(unet, step)
            streams.append(run.traversal.state_key)
            run.new_evaluation()
            assert torch.allclose(out[2:], alone, rtol=1e-4, atol=1e-5) == (scale == 1.0)
            assert_close(out[:2], alone)
    assert streams[0] == streams[1] != streams[2] and None not in streams


@pytest.mark.parametrize("name", [name for name in METHODS if name != "guidance_interval"])
def test_every_other_method_acts_as_on_the_conditional_rows_alone(name):
    """At its defaults, and in the third evaluation, where caches answer."""
    unet, other = shared("sd1"), METHODS[name].config()
    steps = [early("sd1", batch=4, height=16, width=24, seed=seed) for seed in range(3)]
    with modified(unet, [other]) as run:
        for step in steps:
            run.new_evaluation()
            alone = call(unet, only(step, (0, 1)))
    with modified(unet, [AT_ONE, other]) as run:
        run.guidance = Guidance(1.0, (0, 1, 0, 1))
        for step in steps:
            run.new_evaluation()
            out = call(unet, step)
    assert_close(out, torch.cat([alone, alone]))


def test_a_stream_of_none_stays_none():
    unet, step = shared("sd1"), inputs("sd1", height=8, width=8)
    with modified(unet, [AT_ONE]) as run:
        run.guidance = Guidance(1.0, (0, 0))
        call(unet, step)
        # A walk of other data within the same call, as ControlNet's reference makes one.
        unet.input_blocks[0](step["x"].clone(), unet.time_embed(torch.zeros(2, unet.model_channels)), step["context"])
        assert run.traversal.state_key is None


def test_rows_that_are_neighbours_are_not_copied_and_layouts_stay():
    unet, step = fresh("sd1"), inputs("sd1", height=8, width=8)
    step["x"] = step["x"].contiguous(memory_format=torch.channels_last)
    first = unet.input_blocks[0][0]
    seen = []
    first.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    with modified(unet, [AT_ONE]) as run:
        run.guidance = Guidance(1.0, (0, 0))
        inner = vars(first)["forward"]
        inner._original = lambda x: seen.append(x) or type(first).forward(first, x)
        inner._rebuild()
        out = first(step["x"])
        assert seen[-1].data_ptr() == step["x"].data_ptr() and len(seen[-1]) == 1
        assert out.is_contiguous(memory_format=torch.channels_last) and len(out) == 2


def test_rows_that_come_by_keyword_or_in_a_list_are_taken_and_other_things_passed_on():
    unet, step, seen = fresh("sd1"), inputs("sd1", height=8, width=8), []
    first = unet.input_blocks[0][0]
    with modified(unet, [AT_ONE]) as run:
        run.guidance = Guidance(1.0, (0, 0))
        chain = vars(first)["forward"]
        chain._original = lambda *args, **kwargs: seen.append((args, kwargs)) or args[0]
        chain._rebuild()
        options = {"rows": torch.zeros(2)}
        first(step["x"], torch.zeros(3), context=step["context"], both=[step["context"]], transformer_options=options)
    (x, three), named = seen[0]
    assert torch.equal(x, step["x"][:1]) and len(three) == 3 and named["transformer_options"] is options
    assert torch.equal(named["context"], step["context"][:1]) and torch.equal(named["both"][0], step["context"][:1])


# Where it stands aside.


@configs
@pytest.mark.parametrize(
    "guidance, words",
    [
        (None, "off: this program does not say which part of a batch is the prompt's"),
        ("unpaired", "off: the prompt has several parts"),
        (Guidance(1.0, (0, 1, 0, 1)), ""),
        (Guidance(1.0, (0, 1)), ""),
    ],
)
def test_what_is_not_described_is_evaluated_whole(config, guidance, words):
    unet, step = shared("sd1"), early("sd1", height=8, width=8)
    plain = call(unet, step)
    with modified(unet, [config]) as run:
        if guidance == "unpaired":
            guidance = Guidance(1.0, reason="the prompt has several parts (AND).")
        run.guidance = guidance
        for _ in range(2):
            assert torch.equal(call(unet, step), plain)
        assert len(run.notes) == bool(words) and all(words in note for note in run.notes)


def test_the_reason_is_not_told_where_nothing_would_be_left_out():
    unet, step = shared("sd1"), early("sd1", height=8, width=8)
    with modified(unet, [GuidanceInterval(scale_one=False, guide_to=0.9)]) as run:
        run.guidance = Guidance(7.0, reason="the prompt has several parts (AND).")
        call(unet, step)
        assert run.notes == []


@configs
def test_cond_and_uncond_called_apart_are_plain(config):
    """Calls of half the described rows, with prompts of different lengths."""
    unet, step = shared("sd1"), early("sd1")
    cond, uncond = only(step, (0,)), only(step, (1,))
    uncond["context"] = uncond["context"][:, :40]
    expected = call(unet, cond), call(unet, uncond)
    with modified(unet, [config]) as run:
        run.guidance = Guidance(scale_for(config), (0, 0))
        assert torch.equal(call(unet, cond), expected[0]) and torch.equal(call(unet, uncond), expected[1])


# Where a host calls prompt and negative prompt apart, or says with each call which it holds.


def apart(step, other_tokens=40):
    """Inputs of the prompt alone, of the negative prompt alone, and what a host says of them at CFG 1."""
    cond, uncond = only(step, (0,)), only(step, (1,))
    uncond["context"] = uncond["context"][:, :other_tokens]
    told = Guidance(1.0, reason="turn on Pad prompt.", prompts=Prompts(cond["context"], uncond["context"]))
    return cond, uncond, told


@families
@pytest.mark.parametrize("name", HOSTS)
@pytest.mark.parametrize("size", [(8, 8), (9, 12)], ids=str)
def test_a_call_of_the_negative_prompt_alone_is_answered_without_running_at_cfg_1(family, name, size):
    if (size[0] % 8 and name == "plain") or name == "controlnet_reference":
        return
    host, step = HOSTS[name], early(family, height=size[0], width=size[1])
    unet = host.prepare(shared(family))
    control = {} if name in ("plain", "a1111") else {"control": residuals(unet, (1, *step["x"].shape[1:]))}
    cond, uncond, told = apart(step)
    expected = host.forward(unet, **cond)
    with modified(unet, [AT_ONE, SkipBlocks(middle=True, start=0.9)]) as run:
        run.guidance = told
        assert torch.equal(host.forward(unet, **cond), expected)
        answers = []
        assert rows_seen(unet, uncond, lambda: answers.append(host.forward(unet, **uncond, **control))) == 0
        assert answers[0].shape == cond["x"].shape and answers[0].isfinite().all() and run.notes == []
        # The guided result at scale 1 is the prompt's whatever the answer.
        assert_close(answers[0] + 1.0 * (expected - answers[0]), expected)


def test_calls_apart_outside_of_the_interval_run_and_say_what_would_help():
    unet, step = shared("sd1"), early("sd1", height=8, width=8)
    cond, uncond, told = apart(step)
    expected = call(unet, uncond)
    with modified(unet, [MIDDLE]) as run:
        run.guidance = replace(told, scale=7.0)
        call(unet, cond)
        assert run.notes == []
        assert torch.equal(call(unet, uncond), expected)
        assert run.notes == ["Skip negative prompt is off: turn on Pad prompt."]


def test_a_call_whose_prompts_cannot_be_told_runs():
    unet, step = shared("sd1"), early("sd1", height=8, width=8)
    _, uncond, told = apart(step)
    uncond["context"] = uncond["context"] + 1  # changed by an extension on the way
    expected = call(unet, uncond)
    with modified(unet, [AT_ONE]) as run:
        run.guidance = told
        assert torch.equal(call(unet, uncond), expected) and run.notes == [
            "Skip negative prompt is off: turn on Pad prompt."
        ]


@families
@pytest.mark.parametrize("name", ("forge", "forge_classic", "reforge"))
@pytest.mark.parametrize("chunks, cond", [([1, 0], (2, 3)), ([0, 1], (0, 1))])
def test_forks_say_with_the_call_which_chunk_is_the_prompts(family, name, chunks, cond):
    host, step = HOSTS[name], early(family, batch=4, height=8, width=8)
    unet, options = host.prepare(shared(family)), {"cond_or_uncond": chunks}
    alone = host.forward(unet, **only(step, cond))
    with modified(unet, [MIDDLE]) as run:
        run.guidance = Guidance(7.0)
        out = host.forward(unet, **step, transformer_options=options)
        assert_close(out, torch.cat([alone, alone])) and run.notes == []
        # The prompt alone, where the host has left out the others.
        again = host.forward(unet, **only(step, cond), transformer_options={"cond_or_uncond": [0]})
        assert torch.equal(again, alone) and run.notes == []


def test_in_forks_the_rows_stay_where_somebody_has_asked_for_them():
    host, step = HOSTS["forge"], early("sd1", height=8, width=8)
    unet, options = host.prepare(shared("sd1")), {"cond_or_uncond": [1, 0]}
    plain = host.forward(unet, **step)
    with modified(unet, [replace(AT_ONE, guide_to=0.05)]) as run:
        run.guidance = Guidance(1.0, reason="sag needs the negative prompt too.", reason_at_one="sag needs it.")
        assert torch.equal(host.forward(unet, **step, transformer_options=options), plain)
        assert run.notes == ["Skip negative prompt is off: sag needs the negative prompt too."]


def test_several_parts_of_a_prompt_that_weigh_1_need_no_negative_prompt():
    """AUTOMATIC1111 joins u + 0.5 (c1 - u) + 0.5 (c2 - u), in which u does not count."""
    unet, step = shared("sd1"), early("sd1", batch=3, height=8, width=8)
    alone = call(unet, only(step, (0, 1)))
    out = guided(unet, AT_ONE, step, (0, 1, 0), scale=1.0)
    assert_close(out[:2], alone)
    c1, c2, u = out
    assert_close(u + 0.5 * (c1 - u) + 0.5 * (c2 - u), 0.5 * (alone[0] + alone[1]))


# In the forwards that hosts bring.


@configs
@families
@pytest.mark.parametrize("name", HOSTS)
@pytest.mark.parametrize("size", [(8, 8), (9, 12)], ids=str)
def test_in_every_host(config, family, name, size):
    if size[0] % 8 and name == "plain":
        return  # ldm's own forward takes multiples of 8
    host, step = HOSTS[name], early(family, batch=2, height=size[0], width=size[1])
    unet = host.prepare(shared(family))
    before = snapshot(unet)
    plain, alone = host.forward(unet, **step), host.forward(unet, **only(step, (0,)))
    with modified(unet, [config]) as run:
        run.guidance = Guidance(scale_for(config), (0, 0))
        out = host.forward(unet, **step)
        again = host.forward(unet, **step)
    assert torch.equal(out, again)
    if name == "controlnet_reference":
        assert torch.equal(out, plain) and run.notes == ["Skip negative prompt is off: hosts needs the negative prompt too."]
    else:
        assert_close(out, torch.cat([alone, alone]))
        assert_close(out[:1], plain[:1])
        assert torch.equal(out[0], out[1]) and run.notes == []
    assert snapshot(unet) == before


@families
@pytest.mark.parametrize("name", ("controlnet", "forge", "forge_classic", "reforge"))
@pytest.mark.parametrize("size", [(8, 8), (9, 12)], ids=str)
def test_in_every_host_with_control(family, name, size):
    """Residuals of whole batches, which some hosts add in place; each row has its own."""
    host, step = HOSTS[name], early(family, batch=2, height=size[0], width=size[1])
    unet = host.prepare(shared(family))
    control = residuals(unet, step["x"].shape)

    def evaluated():
        return host.forward(unet, **step, control=[one.clone() for one in control])

    plain = evaluated()
    with modified(unet, [AT_ONE]) as run:
        run.guidance = Guidance(1.0, (0, 0))
        out, again = evaluated(), evaluated()
    assert torch.equal(out, again) and torch.equal(out[0], out[1])
    assert_close(out[:1], plain[:1])
    uncontrolled = host.forward(unet, **step)
    assert (out[:1] - uncontrolled[:1]).abs().max() > 10 * (out[:1] - plain[:1]).abs().max()


# The contract's other items.


@configs
@families
def test_neutral_off_and_undone(config, family):
    unet, step = shared(family), early(family)
    plain, before = call(unet, step), snapshot(unet)
    for silent in (
        NEUTRAL,
        replace(config, start=0.4, end=0.4),
        replace(config, first_pass=False, hires_pass=False, img2img=False),
    ):
        with modified(unet, [silent]) as run:
            run.guidance = Guidance(1.0, (0, 0))
            assert snapshot(unet) == before and run.methods == ()
            assert torch.equal(call(unet, step), plain)
    first, second = guided(unet, config, step), guided(unet, config, step)
    assert torch.equal(first, second) and not torch.equal(first, plain)
    assert snapshot(unet) == before and torch.equal(call(unet, step), plain)


@families
@pytest.mark.parametrize("where", ("in.0", "mid", "out.8"))
@pytest.mark.parametrize("error", (RuntimeError, KeyboardInterrupt))
def test_an_exception_inside_a_block_leaves_no_trace(family, where, error):
    unet, step = fresh(family), early(family)
    expected = guided(unet, AT_ONE, step)
    layer = inspect_unet(unet).block(where).layers[-1].module

    def fail(module, args):
        raise error("inside a block")

    handle = layer.register_forward_pre_hook(fail)
    before = snapshot(unet)
    with pytest.raises(error, match="inside a block"):
        guided(unet, AT_ONE, step)
    assert snapshot(unet) == before
    handle.remove()
    assert torch.equal(guided(unet, AT_ONE, step), expected)


def test_the_same_method_twice_is_refused():
    unet = shared("sd1")
    before = snapshot(unet)
    with pytest.raises(ConfigError, match="given twice"):
        modified(unet, [AT_ONE, MIDDLE]).__enter__()
    with modified(unet, [AT_ONE]), pytest.raises(ConfigError, match="already on this U-Net"):
        modified(unet, [MIDDLE]).__enter__()
    assert snapshot(unet) == before


@pytest.mark.parametrize("order", list(itertools.permutations("abc")))
def test_runs_and_a_foreign_wrapper_leave_in_any_order(order, probe):
    """`a` is ours, `b` another run, `c` a foreign wrapper that doubles conv_in."""
    unet, step = fresh("sd1"), early("sd1", height=8, width=8)
    layer = inspect_unet(unet).input_blocks[0].layers[0].module
    before = snapshot(unet)

    def expected(on):
        reference = fresh("sd1")
        if "c" in on:
            conv = reference.input_blocks[0][0]
            conv.weight.mul_(2), conv.bias.mul_(2)
        with modified(reference, [probe(factor=1.5)] if "b" in on else []):
            if "a" in on:
                return call(reference, only(step, (0,))).repeat(2, 1, 1, 1)
            return call(reference, step)

    runs = {"a": modified(unet, [AT_ONE]), "b": modified(unet, [probe(factor=1.5)])}
    for run in runs.values():
        run.__enter__()
        run.guidance = Guidance(1.0, (0, 0))
    under = layer.forward
    layer.forward = lambda *args, **kwargs: 2 * under(*args, **kwargs)
    on = {"a", "b", "c"}
    assert_close(call(unet, step), expected(on))
    for leaving in order:
        if leaving == "c":
            layer.forward = under
        else:
            runs[leaving].__exit__(None, None, None)
        on.remove(leaving)
        assert_close(call(unet, step), expected(on))
    assert snapshot(unet) == before


@families
@pytest.mark.parametrize("start, end", [(0.0, 0.5), (0.5, 1.0), (0.25, 0.75)])
def test_acts_in_its_window_only(family, start, end):
    unet, windowed = shared(family), replace(AT_ONE, start=start, end=end)
    for timestep in (999, 749.25, 499.5, 300, 0):
        step, progress = inputs(family, height=8, width=8, timestep=timestep), 1 - timestep / 999
        inside = start <= progress and (progress < end or end == 1)
        out = guided(unet, windowed, step)
        assert torch.equal(out, guided(unet, AT_ONE, step)) == inside
        assert torch.equal(out, call(unet, step)) == (not inside)


@pytest.mark.parametrize("pass_name, knob", [("first", "first_pass"), ("hires", "hires_pass"), ("img2img", "img2img")])
def test_acts_in_its_passes_only(pass_name, knob):
    unet, step = shared("sd1"), early("sd1", height=8, width=8)
    plain = call(unet, step)
    assert torch.equal(guided(unet, replace(AT_ONE, **{knob: False}), step, pass_name=pass_name), plain)
    assert not torch.equal(guided(unet, AT_ONE, step, pass_name=pass_name), plain)


@pytest.mark.long
def test_sizes_dtypes_and_unets_may_change_on_the_way():
    old, new, plain = shared("sd1"), shared("sdxl"), fresh("sd1")
    before = snapshot(old), snapshot(new)
    with modified(old, [AT_ONE]) as run:
        run.guidance = Guidance(1.0, (0, 0))
        for size in (16, 24, 16):
            step = inputs("sd1", height=size, width=16)
            out = call(old, step)
            assert_close(out, call(plain, only(step, (0,))).repeat(2, 1, 1, 1))
            with torch.autocast("cpu", dtype=torch.bfloat16):
                half = call(old, step)
            assert half.isfinite().all() and not torch.equal(half.float(), out)
            with torch.inference_mode():
                assert torch.equal(call(old, step), out)
        run.follow(new)
        step = inputs("sdxl")
        out = call(new, step)
        assert snapshot(old) == before[0] and torch.equal(out[0], out[1])
    assert snapshot(new) == before[1]
    assert_close(out[:1], call(new, only(step, (0,))))


def test_evaluations_are_counted_as_without_it():
    unet = shared("sd1")
    with modified(unet, [AT_ONE]) as run:
        run.guidance = Guidance(1.0, (0, 0))
        for timestep in (900, 800, 800, 700):
            run.new_evaluation()
            call(unet, inputs("sd1", height=8, width=8, timestep=timestep))
        assert run.clock.evaluation == 3 and run.kept_bytes == 0


def test_knobs():
    with pytest.raises(ConfigError, match="guide_from is 0.6 and guide_to is 0.5; guide_from must not be above guide_to"):
        GuidanceInterval(guide_from=0.6, guide_to=0.5)
    with pytest.raises(ConfigError, match="guide_to is 1.5"):
        GuidanceInterval(guide_to=1.5)
    assert NEUTRAL.neutral and not AT_ONE.neutral and not replace(NEUTRAL, guide_to=0.9).neutral
    assert GuidanceInterval(guide_from=0.1, guide_to=0.8).summary() == "Skip negative prompt outside 0.1-0.8"
    assert replace(MIDDLE, start=0.2).summary() == "Skip negative prompt outside 0.4-0.6 0.2-1"
    assert AT_ONE.summary() == "Skip negative prompt at CFG 1"


def test_a_picture_in_which_nothing_is_left_out_is_told_of_once_at_its_end():
    unet, step = fresh("sd1"), inputs("sd1")
    with modified(unet, [GuidanceInterval()]) as run:
        run.guidance = Guidance(7.0, (0, 0))
        assert torch.equal(call(unet, step), call(fresh("sd1"), step))
        assert run.notes == []
    assert len(run.notes) == 1 and "no speedup at CFG 7" in run.notes[0]


def test_rows_that_somebody_else_joins_are_not_left_out():
    unet, step = fresh("sd1"), early("sd1")
    plain, asked = call(unet, step), []

    def joined_by() -> str:
        asked.append(True)
        return "SAG"

    for scale, config, told in ((1.0, AT_ONE, 1), (7.0, MIDDLE, 1), (7.0, AT_ONE, 0)):
        asked.clear()
        with modified(unet, [config]) as run:
            run.guidance = Guidance(scale, (0, 0), joined_by=joined_by)
            assert torch.equal(call(unet, step), plain)
            assert len(run.notes) == len(asked) == told
            assert all(note.endswith("SAG needs the negative prompt too.") for note in run.notes)


def test_a_host_that_leaves_the_rows_out_itself_leaves_nothing_to_do():
    def picture(cfg: float, guided: bool) -> UpcomingPicture:
        return UpcomingPicture(None, (UpcomingPass("first", Target(512, 512, 512), 20, cfg=cfg, guided=guided),))

    assert AT_ONE.idle_reason(picture(1.0, guided=True)) == ""
    assert "is skipped at CFG 1 anyway" in AT_ONE.idle_reason(picture(1.0, guided=False))
    assert AT_ONE.idle(picture(7.0, guided=True)).at == "at CFG 7"
    assert MIDDLE.idle_reason(picture(7.0, guided=True)) == ""  # the sampler's steps are not known
