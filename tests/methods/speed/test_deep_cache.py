"""DeepCache against a forward written out again here, and against the published helper on the same weights."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from contract import snapshot
from DeepCache.extension.deepcache import DeepCacheSDHelper
from hosts import HOSTS, residuals
from unets import FAMILIES, call, embed, fresh, inputs

from benchmarks.twins import call_twin, diffusers_twin
from lib_unetmod import ConfigError, DeepCache, inspect_unet, modified
from lib_unetmod.core.call import HostCall
from lib_unetmod.core.state import bytes_of
from lib_unetmod.methods.speed.deep_cache import relative_change

pytestmark = pytest.mark.in_turn(60)

NEUTRAL = DeepCache(interval=1)
CONTRACT = [
    DeepCache(interval=2, reach=1),
    DeepCache(interval=3, branch=4, predictor="linear", reach=1),
    DeepCache(threshold=2.0, branch=1, most_hits=2, reach=1),
]


def steps_of(family, timesteps, **size):
    return [inputs(family, seed=i, timestep=t, **size) for i, t in enumerate(timesteps)]


def plain_forward(unet, step, branch, cached=None):
    """(output, h below the branch): ldm's forward; with `cached`, only the blocks to the branch and their pairs run."""
    emb, context, h, skips = embed(unet, step["timesteps"], step["y"]), step["context"], step["x"], []
    for block in unet.input_blocks if cached is None else unet.input_blocks[: branch + 1]:
        h = block(h, emb, context)
        skips.append(h)
    last = len(unet.input_blocks) - 1
    if cached is None:
        h = unet.middle_block(h, emb, context)
    for index, block in enumerate(unet.output_blocks):
        if index == last - branch:
            h = cached if cached is not None else h
            kept = h.clone()
        elif index < last - branch and cached is not None:
            continue
        h = block(torch.cat([h, skips.pop()], 1), emb, context)
    return unet.out(h), kept


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("branch", (0, 1, 3, 4, 7, 8))
def test_equals_a_plain_forward_with_a_kept_h(family, branch):
    unet, steps = fresh(family), steps_of(family, (900, 850, 800, 750, 700, 650, 600), height=8, width=16)
    with modified(unet, [DeepCache(interval=3, branch=branch)]) as run:
        results = [call(unet, step) for step in steps]
        assert run.kept_bytes == bytes_of(plain_forward(fresh(family), steps[0], branch)[1])
    kept, plain = None, fresh(family)
    for index, (step, result) in enumerate(zip(steps, results, strict=True)):
        if index % 3 == 0:
            expected, kept = plain_forward(plain, step, branch)
        else:
            expected, _ = plain_forward(plain, step, branch, cached=kept)
        assert torch.equal(result, expected), index


@pytest.mark.parametrize(
    "knobs, schedule, expected, note",
    [
        (dict(plan="fddfdd"), "", "FDDFDD", ""),
        (dict(plan="FDDDFF", last_full=1), "trailing", "FDDDFF", ""),
        (dict(plan="FDD"), "", "FDDFDD", "the plan for 3 steps was stretched to 6: FDDFDD"),
        (dict(interval=3), "", "FDDFDD", ""),
        (dict(interval=3), "trailing", "FDDFDF", ""),
        (dict(interval=3, last_full=2), "karras", "FDDFFF", ""),
    ],
)
def test_a_plan_and_the_last_ones_in_full(knobs, schedule, expected, note):
    """Six evaluations of which the host says that they are six, against the plain forward run by letters."""
    unet, plain = fresh("sd1"), fresh("sd1")
    steps = steps_of("sd1", (900, 880, 860, 840, 820, 800), height=8, width=8)
    with modified(unet, [DeepCache(**knobs)], call=HostCall(evaluations=6, schedule=schedule)) as run:
        results = [call(unet, step) for step in steps]
        assert [*run.notes] == ([f"DeepCache: {note}."] if note else [])
    for letter, step, result in zip(expected, steps, results, strict=True):
        if letter == "F":
            wanted, kept = plain_forward(plain, step, 0)
        else:
            wanted, _ = plain_forward(plain, step, 0, cached=kept)
        assert torch.equal(result, wanted)


def test_a_plan_goes_by_progress_where_nobody_knows_how_many_come():
    unet, plain = fresh("sd1"), fresh("sd1")
    steps = steps_of("sd1", (999, 800, 700, 400, 300), height=8, width=8)  # progress 0, .2, .3, .6, .7
    with modified(unet, [DeepCache(plan="FDFD")]) as run:
        results = [call(unet, step) for step in steps]
        assert "the plan follows the noise level" in run.notes[0]
    kept = None
    for letter, step, result in zip("FFDFF", steps, results, strict=True):
        wanted, now = plain_forward(plain, step, 0, cached=None if letter == "F" else kept)
        kept = now if letter == "F" else kept
        assert torch.equal(result, wanted)


def test_full_runs_last_that_cannot_be_followed_are_told():
    """Only those that were asked for: by the schedule type they are nothing that a user knows of."""
    for knobs, told in ((dict(last_full=2), True), ({}, False)):
        with modified(fresh("sd1"), [DeepCache(**knobs)], call=HostCall(schedule="trailing")) as run:
            call(run.map.unet, steps_of("sd1", (900,))[0])
        assert any("Full runs last has no effect here" in note for note in run.notes) == told


@pytest.mark.parametrize("plan", ("DF", "FPF", "FEF", "F" + 1000 * "D", "FD,F"))
def test_a_plan_of_other_letters_is_refused(plan):
    with pytest.raises(ConfigError, match="^DeepCache: plan is"):
        DeepCache(plan=plan)


@pytest.mark.parametrize("branch", range(12))
def test_equals_the_published_helper(branch):
    """Both on the same weights, 7 evaluations at interval 3, every branch."""
    unet = fresh("sd1")
    twin, steps = diffusers_twin(unet), steps_of("sd1", (900, 850, 800, 750, 700, 650, 600))
    scheduler = SimpleNamespace(timesteps=torch.stack([step["timesteps"][0] for step in steps]))
    helper = DeepCacheSDHelper(SimpleNamespace(unet=twin, scheduler=scheduler))
    helper.set_params(cache_interval=3, cache_branch_id=branch)
    plain = [call_twin(twin, step) for step in steps]
    helper.enable()
    published = [call_twin(twin, step) for step in steps]
    helper.disable()
    with modified(unet, [DeepCache(interval=3, branch=branch)]):
        for index, step in enumerate(steps):
            torch.testing.assert_close(call(unet, step), published[index], rtol=1e-4, atol=2e-5)
            assert torch.equal(published[index], plain[index]) == (index % 3 == 0)


@pytest.mark.parametrize("family", ("sd1", "sdxl"))
def test_no_layer_of_the_span_runs_while_it_is_reused(family):
    unet = fresh(family)
    structure = inspect_unet(unet)
    span = [*structure.input_blocks[2:], structure.middle_block, *structure.output_blocks[:-2]]
    ran = []
    for block in structure.blocks:
        # Of a block's layers the innermost parts are watched: a layer's own forward is where the edit stands.
        inner = next(iter(block.layers[0].module.children()), None)
        if inner is not None:
            inner.register_forward_hook(lambda *_, block=block: ran.append(block))
    with modified(unet, [DeepCache(interval=2, branch=1)]):
        for step in steps_of(family, (900, 850)):
            ran.clear()
            call(unet, step)
    assert not set(ran) & set(span) and structure.input_blocks[1] in ran


def test_cond_and_uncond_apart_do_not_meet():
    """Split calls of one size in one evaluation each reuse their own h; a call left out does not shift the others."""
    unet, plain = fresh("sd1"), fresh("sd1")
    cond, uncond = (
        steps_of("sd1", (900, 860), batch=1),
        [inputs("sd1", seed=9 + i, timestep=t, batch=1) for i, t in enumerate((900, 860))],
    )
    with modified(unet, [DeepCache(interval=3)]) as run:
        results = []
        for pair in zip(cond, uncond, strict=True):
            run.new_evaluation()
            results.append([call(unet, step) for step in pair])
    for stream, steps in enumerate((cond, uncond)):
        _, kept = plain_forward(plain, steps[0], 0)
        assert torch.equal(results[1][stream], plain_forward(plain, steps[1], 0, cached=kept)[0])


def test_rows_left_out_now_and_then_have_a_memory_of_their_own():
    """As the WebUI's negative guidance minimum sigma does: every other evaluation has the conditional rows alone."""
    unet, plain = fresh("sd1"), fresh("sd1")
    timesteps = (900, 880, 860, 840)
    steps = [inputs("sd1", seed=i, timestep=t, batch=2 - i % 2) for i, t in enumerate(timesteps)]
    with modified(unet, [DeepCache(interval=4)]):
        results = [call(unet, step) for step in steps]
    for first in (0, 1):
        _, kept = plain_forward(plain, steps[first], 0)
        assert torch.equal(results[first + 2], plain_forward(plain, steps[first + 2], 0, cached=kept)[0])


def test_a_pass_begins_with_nothing_kept():
    unet, steps = fresh("sd1"), steps_of("sd1", (900, 880, 860))
    with modified(unet, [DeepCache(interval=9)]) as run:
        call(unet, steps[0])
        run.begin_pass("hires")
        assert torch.equal(call(unet, steps[1]), call(fresh("sd1"), steps[1]))
        assert not torch.equal(call(unet, steps[2]), call(fresh("sd1"), steps[2]))


@pytest.mark.parametrize("reference", (True, False))
def test_controlnets_reference_pass_may_stop_half_way(reference):
    """The main walk goes on with what the main walk kept, whether or not a reference walk comes before it."""
    host, steps = HOSTS["controlnet_reference"], steps_of("sd1", (900, 880, 860))
    unet, plain = host.prepare(fresh("sd1")), fresh("sd1")
    with modified(unet, [DeepCache(interval=9)]):
        host.forward(unet, **steps[0])
        results = [host.forward(unet, **steps[1])]
        hook = unet.forward.__self__
        hook.reference = reference
        results.append(host.forward(unet, **steps[2]))
    _, kept = plain_forward(plain, steps[0], 0)
    for step, result in zip(steps[1:], results, strict=True):
        torch.testing.assert_close(result, plain_forward(plain, step, 0, cached=kept)[0], rtol=1e-4, atol=1e-5)


def test_controlnets_residuals_of_blocks_that_run_are_current():
    host, steps = HOSTS["controlnet"], steps_of("sd1", (900, 880), height=16, width=16)
    unet = host.prepare(fresh("sd1"))
    control = residuals(unet, steps[0]["x"].shape)
    other = [control[0] + 1.0, *control[1:]]
    with modified(unet, [DeepCache(interval=3)]) as run:
        host.forward(unet, **steps[0], control=list(control))
        assert not torch.equal(
            host.forward(unet, **steps[1], control=list(control)), _third(unet, host, steps[1], other, run)
        )


def _third(unet, host, step, control, run):
    run.new_evaluation()
    return host.forward(unet, **step, control=list(control))


def test_the_threshold_decides_by_the_first_blocks():
    unet = fresh("sd1")
    near = inputs("sd1", seed=0, timestep=880)
    far = {**inputs("sd1", seed=5, timestep=860), "timesteps": torch.full((2,), 860.0)}
    first = inputs("sd1", seed=0, timestep=900)
    with modified(unet, [DeepCache(threshold=0.2, branch=1)]):
        call(unet, first)
        reused, in_full = call(unet, near), call(unet, far)
    assert not torch.equal(reused, call(fresh("sd1"), near))
    assert torch.equal(in_full, call(fresh("sd1"), far))


def test_the_threshold_reuses_at_most_so_often_in_a_row():
    unet, plain = fresh("sd1"), fresh("sd1")
    steps = [inputs("sd1", seed=0, timestep=900 - 10 * i) for i in range(7)]
    with modified(unet, [DeepCache(threshold=2, branch=1, most_hits=2)]):
        in_full = [i for i, step in enumerate(steps) if torch.equal(call(unet, step), call(plain, step))]
    assert in_full == [0, 3, 6]


def test_relative_change_by_hand():
    before = torch.tensor([[1.0, -1.0], [2.0, 2.0]]).view(2, 1, 1, 2)
    now = torch.tensor([[1.5, -1.5], [2.0, 0.0]]).view(2, 1, 1, 2)
    assert relative_change(now, before).tolist() == [0.5, 0.5]


def test_too_few_steps_are_told_and_run_in_full():
    unet, steps = fresh("sd1"), steps_of("sd1", (999, 750, 500, 250))
    before = snapshot(unet)
    with modified(unet, [DeepCache()]) as run:
        for step in steps:
            assert torch.equal(call(unet, step), call(fresh("sd1"), step))
    assert run.notes == ["DeepCache reuses nothing with so few steps. Use more sampling steps or raise Max. jump."]
    assert snapshot(unet) == before
    with modified(unet, [DeepCache()]) as run:
        for step in steps_of("sd1", (999, 979, 500, 250)):
            call(unet, step)
    assert len(run.notes) == 1 and "some steps ran fully, because they are too far apart" in run.notes[0]


def test_a_branch_that_the_unet_does_not_have_is_refused():
    with pytest.raises(ConfigError, match=r"branch is 9, but this U-Net has input blocks 0 to 8"):
        modified(fresh("sdxl"), [DeepCache(branch=9)]).__enter__()
