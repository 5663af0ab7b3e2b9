"""A ControlNet that the host runs in its own forward of the U-Net, as sd-webui-controlnet does: when it is spared."""

from __future__ import annotations

import pytest
import torch
from hosts import ControlNetHook, residuals
from torch import nn
from unets import call, fresh, inputs

from lib_unetmod import StepForecast, modified
from lib_unetmod.core.call import HostCall
from lib_unetmod.methods.speed.step_forecast import _Memory

PLAN = "FPPFPPFP"


class Network(nn.Module):
    """Answers what depends on all that it is given, and notes in which evaluation it ran."""

    def __init__(self, unet):
        super().__init__()
        self.unet, self.ran = [unet], []

    def forward(self, x, timesteps, context):
        self.ran.append(int(timesteps[0]))
        told = x.mean() + context.mean() + timesteps[0] / 1000
        return [told * one for one in residuals(self.unet[0], x.shape)]


class Hook(ControlNetHook):
    """Runs its networks first, and adds what all of them answer."""

    def __init__(self, unet, *networks, reference=False):
        super().__init__(unet, reference)
        self.networks = networks

    def forward(self, x, timesteps=None, context=None, y=None, **kwargs):
        answers = [network(x=x, timesteps=timesteps, context=context) for network in self.networks]
        control = [0.5 * sum(ones) for ones in zip(*answers, strict=True)]
        return super().forward(x, timesteps, context, y, control=control, **kwargs)


def drawn(config, count=1, told=True, reference=False, steps=None, evaluations=8):
    """What the U-Net answered in each evaluation, in which each network ran, and the notes."""
    unet = fresh("sd1")
    networks = [Network(unet) for _ in range(count)]
    hook = Hook(unet, *networks, reference=reference)
    given = HostCall(evaluations=evaluations, networks=lambda: networks if told else ())
    before = [dict(vars(one)) for one in networks]
    answers = []
    with modified(unet, [config], call=given) as run:
        for number in range(evaluations):
            run.new_evaluation()
            step = {**inputs("sd1", batch=1), "timesteps": torch.full((1,), 999.0 - 100 * number)}
            answers.append(call(unet, {**step, **(steps(number) if steps else {})}))
    hook.restore()
    assert [dict(vars(one)) for one in networks] == before
    return answers, ["".join("F" if 999 - 100 * n in one.ran else "P" for n in range(evaluations)) for one in networks], run


def same(ones, others):
    return all(torch.equal(one, other) for one, other in zip(ones, others, strict=True))


@pytest.mark.parametrize("reference", (False, True))
@pytest.mark.parametrize("count", (1, 2))
def test_it_runs_where_the_layers_run_and_the_picture_is_the_same(count, reference):
    spared, ran, _ = drawn(StepForecast(plan=PLAN), count, reference=reference)
    whole, all_of_them, _ = drawn(StepForecast(plan=PLAN), count, told=False, reference=reference)
    assert ran == [PLAN] * count and all_of_them == ["F" * 8] * count
    assert same(spared, whole)


def test_it_runs_where_another_prompt_or_size_makes_the_layers_run():
    for changed in ({"context": inputs("sd1", batch=1, prompt=5)["context"]}, {"x": inputs("sd1", batch=1, height=24)["x"]}):

        def steps(number, changed=changed):
            return changed if number > 4 else {}

        spared, ran, run = drawn(StepForecast(plan=PLAN), steps=steps)
        whole, _, _ = drawn(StepForecast(plan=PLAN), told=False, steps=steps)
        assert ran == ["FPPFPFFP"] and same(spared, whole) and run.notes == []


def test_it_runs_outside_the_methods_window():
    spared, ran, _ = drawn(StepForecast(plan="FPPPPPPP", end=0.45))
    whole, _, _ = drawn(StepForecast(plan="FPPPPPPP", end=0.45), told=False)
    assert ran == ["FPPPPFFF"] and same(spared, whole)


def test_it_is_not_counted_among_the_traversals():
    _, _, run = drawn(StepForecast(plan=PLAN))
    assert run.acted == {"step_forecast": PLAN.count("P")}


def test_an_error_while_it_is_asked_is_caught_where_the_layers_are(monkeypatch):
    def fails(self, call, progress):
        raise ZeroDivisionError

    plain, _, _ = drawn(StepForecast(speed=1))
    monkeypatch.setattr(_Memory, "goes_on", fails)
    answers, ran, run = drawn(StepForecast(plan=PLAN))
    assert ran == ["F" * 8] and same(answers, plain)
    assert any("stopped all methods" in note for note in run.notes)
