"""Whether a method did anything, counted by the guard of its edits, and the one sentence about a method that never did."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from unets import call, fresh, inputs

from lib_unetmod import (
    METHODS,
    CDTuner,
    ColorMap,
    Config,
    DeepCache,
    DeepShrink,
    FreeU,
    Guidance,
    GuidanceInterval,
    HyperTile,
    SkipBlocks,
    modified,
)
from lib_unetmod.core.acting import Applied
from lib_unetmod.core.call import HostCall
from lib_unetmod.core.clock import Clock
from lib_unetmod.core.depth import Depth
from lib_unetmod.core.patching import Edit
from lib_unetmod.core.registry import method, method_of
from lib_unetmod.core.run import Run
from tests.contract import contract_configs

pytestmark = pytest.mark.in_turn(60)

#: Early ones, at progress 0.01 to 0.07, where the contract's settings act.
TIMESTEPS = (990, 970, 950, 930)
#: The first of each method: others may have more to tell.
CONFIGS = [param for param in contract_configs(others_slow=True) if not param.marks]
CONFIGS.append(pytest.param(GuidanceInterval(), id="guidance_interval-0"))


def drawn(
    run: Run, unet: nn.Module, timesteps: Iterable[float] = TIMESTEPS, scale: float = 1.0, **size: int
) -> list[Tensor]:
    run.guidance = Guidance(scale, (0, 0))
    answers = []
    for number, timestep in enumerate(timesteps):
        run.new_evaluation()
        answers.append(call(unet, inputs("sd1", timestep=timestep, seed=number, **size)))
    return answers


def same(some: list[Tensor], others: list[Tensor]) -> bool:
    return all(torch.equal(one, other) for one, other in zip(some, others, strict=True))


def told_of(config: Config, notes: Iterable[str]) -> list[str]:
    return [note for note in notes if any(name in note for name in method_of(config).names)]


@pytest.fixture(scope="module")
def unet() -> nn.Module:
    return fresh("sd1")


@pytest.fixture(scope="module")
def plain(unet) -> list[Tensor]:
    with torch.no_grad(), modified(unet, []) as run:
        return drawn(run, unet)


@pytest.mark.parametrize("config", CONFIGS)
def test_a_method_that_changes_the_picture_has_acted_and_is_not_told_of(config, unet, plain):
    with modified(unet, [config]) as run:
        answers = drawn(run, unet)
        acted = run.acted[method_of(config).name]
    assert not same(answers, plain) and 0 < acted <= len(TIMESTEPS)
    assert not any("nothing" in note for note in told_of(config, run.notes))


@pytest.mark.parametrize("config", CONFIGS)
def test_a_method_whose_range_no_step_meets_changes_nothing_and_is_told_of_once(config, unet, plain):
    config = replace(config, start=0.5, end=0.6)
    with modified(unet, [config]) as run:
        answers = drawn(run, unet)
    assert same(answers, plain) and run.acted == {method_of(config).name: 0}
    assert told_of(config, run.notes) == run.notes and len(run.notes) == 1
    assert run.notes[0].startswith("No sampling step falls between 0.5 and 0.6")


@pytest.mark.parametrize("config", CONFIGS)
def test_a_pass_that_is_not_ticked_is_the_reason(config, unet, plain):
    config = replace(config, first_pass=False)
    with modified(unet, [config]) as run:
        assert same(drawn(run, unet), plain)
    assert run.notes == [f"{config.short} is not ticked for txt2img: tick it under When."]


def test_every_method_is_tried():
    assert {method_of(param.values[0]).name for param in CONFIGS} == set(METHODS)


def test_evaluations_in_which_it_acted_are_counted(unet):
    with modified(unet, [SkipBlocks(middle=True), CDTuner(), DeepCache(interval=2)]) as run:
        drawn(run, unet)
    # Where the cache answers, what lies inside of it does not run.
    assert run.acted == {"cd_tuner": 4, "deep_cache": 2, "skip_blocks": 2}


# What acting is.


def guarded(wrapper: Callable[..., object], layer: Callable[..., object] = lambda x, **more: x) -> int:
    applied = Applied(method_of(FreeU()), FreeU())
    applied.traversal_begins(active=True)
    edit = applied.guarded(wrapper, lambda: True)
    edit(layer, torch.zeros(1), scale=2)
    return applied.acted


@pytest.mark.parametrize(
    "wrapper, acts",
    [
        (lambda call, x, **more: call(x, **more), False),
        (lambda call, x, scale: call(x, scale=scale), False),
        (lambda call, x, **more: call(x), True),
        (lambda call, x, **more: call(x + 0, **more), True),
        (lambda call, x, **more: call(x, **{**more, "scale": object()}), True),
        (lambda call, x, **more: call(x, None, **more), True),
        (lambda call, x, **more: call(x, **more) + 0, True),
        (lambda call, x, **more: x, True),
        (lambda call, x, **more: (call(x, **more), call(x, **more))[1], True),
    ],
)
def test_an_edit_acts_where_it_changes_the_layers_call(wrapper, acts):
    assert guarded(wrapper, lambda x, *more, **named: x * 2) == acts


def test_a_traversal_counts_once_and_an_edit_that_does_not_run_never():
    applied, wrapper = Applied(method_of(FreeU()), FreeU()), lambda call, x: call(x + 1)
    runs, rests = applied.guarded(wrapper, lambda: True), applied.guarded(wrapper, lambda: False)
    for _ in range(2):
        applied.traversal_begins(active=True)
        assert [edit(lambda x: x, torch.zeros(1)).item() for edit in (rests, runs, runs)] == [0, 1, 1]
    assert applied.acted == 2


# What a run has seen.


def reason_of(config: Config, unet: nn.Module, said: HostCall, timesteps: Iterable[float] = TIMESTEPS, **size: int) -> str:
    with modified(unet, [config], call=said) as run:
        drawn(run, unet, timesteps, **size)
    (sentence,) = run.notes
    return sentence


SHRINK = DeepShrink(auto=False, above=0, end=0.35)


@pytest.mark.parametrize("config, ends", [(SHRINK, "0.35"), (ColorMap(), "0.15")], ids=["shrink", "colors"])
@pytest.mark.parametrize("denoising", [None, 0.5])
def test_where_img2img_begins_is_the_reason(config, ends, denoising, unet):
    said = HostCall(pass_name="img2img", denoising=denoising)
    told = reason_of(config, unet, said, (500, 250, 100))
    assert told == f"{config.short} ends at {ends}, and img2img begins at 0.5 with this denoising strength."


def test_sizes_are_the_reason_and_a_later_pass_takes_it_back(unet):
    size = {"height": 8, "width": 8}
    assert reason_of(HyperTile(tile=64), unet, HostCall(), **size) == (
        "HyperTile does nothing: 64x64 is below 1.5 tiles of 64 px. Choose a smaller Tile size."
    )
    assert "64x64 is not above 1.3 x native 512 px" in reason_of(DeepShrink(), unet, HostCall(), **size)
    with modified(unet, [HyperTile(tile=64)]) as run:
        drawn(run, unet, **size)
        run.begin_pass("hires")
        drawn(run, unet, height=16, width=16)
    assert run.notes == [] and run.acted == {"hyper_tile": 4}


def test_few_steps_are_the_reason_and_are_told_once(unet):
    assert reason_of(DeepCache(), unet, HostCall(), (999, 750, 500)) == (
        "DeepCache reuses nothing with so few steps. Use more sampling steps or raise Max. jump."
    )


def test_rows_and_scale_are_the_reason(unet):
    with modified(unet, [GuidanceInterval()]) as run:
        drawn(run, unet, scale=7.0)
    assert run.notes == ["Skip negative prompt: no speedup at CFG 7. Use CFG 1, or narrow Guidance from and Guidance until."]
    with modified(unet, [GuidanceInterval()]) as run:
        run.guidance = Guidance(1.0, (0, 1))
        call(unet, inputs("sd1"))
        assert run.picture_done() == ()
    assert run.notes == []  # the host has left the negative prompt out, and nobody misses anything


def test_no_second_sentence_where_the_method_has_said_it(unet):
    for guidance in (None, Guidance(1.0, reason="the prompt has several parts (AND).")):
        with modified(unet, [GuidanceInterval()]) as run:
            run.guidance = guidance
            call(unet, inputs("sd1"))
        assert len(run.notes) == 1 and run.notes[0].startswith("Skip negative prompt is off: ")


def test_a_sentence_where_nothing_explains_it(unet, probe):
    with modified(unet, [DeepCache(threshold=1e-6, reach=1)]) as run:
        drawn(run, unet)
    assert run.notes == ["DeepCache did nothing in this image."]
    with modified(unet, [FreeU(), probe(factor=2)]) as run:
        pass  # something else was called in the U-Net's place
    assert run.notes == ["FreeU did nothing in this image.", "Probe did nothing in this image."]


def test_nothing_is_told_of_a_picture_that_an_exception_ended(unet):
    with pytest.raises(KeyError), modified(unet, [FreeU(end=0.01)]) as run:
        drawn(run, unet, (500,))
        raise KeyError
    assert run.notes == []


def test_timesteps_are_read_at_the_end_and_only_where_a_method_did_nothing(unet, monkeypatch):
    read, progress_at = [], Clock.progress_at

    def progress(clock: Clock, timestep: float) -> float:
        read.append(timestep)
        return progress_at(clock, timestep)

    monkeypatch.setattr(Clock, "progress_at", progress)
    timesteps = torch.tensor([0.0, 0.0])
    for config, expected in ((SkipBlocks(middle=True), []), (FreeU(first_pass=False), [900, 800])):
        with modified(unet, [config]) as run:
            for value in (900, 800):
                run.new_evaluation()
                timesteps.fill_(value)  # hosts may write the next timestep into the same tensor
                call(unet, {**inputs("sd1"), "timesteps": timesteps})
            assert read == []
        assert read == expected


def test_another_unet_on_the_way_is_no_reason_for_what_acted_before(unet):
    with modified(unet, [SkipBlocks(levels=3)]) as run:
        drawn(run, unet)
        run.follow(fresh("sdxl"))
    assert len(run.notes) == 1 and run.notes[0].startswith("Left out after the model changed")


def test_an_error_that_stopped_all_methods_is_told_alone(unet, plain, probe):
    def failing(config, unet, run):
        def fail(call, *args, **kwargs):
            raise ValueError("ours")

        yield Edit(unet.input_blocks[1].layers[0].module, fail)

    method(probe, title="Probe", benefit="", at=Depth.INNERMOST)(failing)
    with modified(unet, [probe(factor=2), DeepCache()]) as run:
        assert same(drawn(run, unet), plain)
    assert len(run.notes) == 1 and run.notes[0].startswith("An error in Probe (ValueError) stopped all methods")
