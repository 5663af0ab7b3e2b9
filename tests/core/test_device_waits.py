"""No layer makes the host wait for the device, but where it is named here: over all methods, on a device without numbers.

The U-Net lies on torch's "meta" device, where every number read back and every tensor sent there from the host can be told
from what stays: on the CPU both would pass unseen. What the U-Net's own code and the methods of no run do is not looked at.
"""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten
from unets import call, fresh, inputs

import lib_unetmod
from lib_unetmod import (
    CDTuner,
    ColorMap,
    DeepCache,
    DeepShrink,
    FreeU,
    Guidance,
    GuidanceInterval,
    HiDiffusion,
    ScaleCrafter,
    StepForecast,
    TokenMerging,
    modified,
)
from lib_unetmod.core.clock import Clock
from lib_unetmod.core.run import Run
from tests.contract import contract_configs

pytestmark = [pytest.mark.in_turn(60), pytest.mark.long]

OURS = str(Path(lib_unetmod.__file__).parent)

#: Where waiting is what it takes, by file and function, in every evaluation.
ALWAYS = {
    "deep_cache.py allows",  # a threshold decides by what it reads
    "step_forecast.py _equal",  # whether the prompt is another one
}
#: And in the first evaluation alone.
AT_FIRST = {"effective_weight.py _answers"}  # whether a host's weight is the one that acts

CONFIGS = [
    *contract_configs(),
    pytest.param(GuidanceInterval(), id="guidance-at-1"),
    pytest.param(ScaleCrafter(auto=False, above=0, noise_damped=True, dispersed="5x5"), id="scale_crafter-damped"),
    pytest.param(TokenMerging(random=True, refresh=1), id="token_merging-random"),
    pytest.param(CDTuner(contrast=2, detail1=1), id="cd_tuner-contrast"),
    pytest.param(FreeU(soft=0.3, end=0.9), id="free_u-soft"),
    pytest.param(HiDiffusion(above=0), id="hi_diffusion-auto"),
    pytest.param(DeepShrink(auto=False, above=0, smooth=1), id="deep_shrink-smooth"),
]


class Waits(TorchDispatchMode):
    """Counts by file and function of ours what makes the host wait; a number that is read is 0."""

    def __init__(self):
        super().__init__()
        self.met = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = func._schema.name
        given = [leaf for leaf in tree_flatten((args, kwargs))[0] if isinstance(leaf, Tensor)]
        on_device = [tensor.device.type == "meta" for tensor in given]
        if name in ("aten::_local_scalar_dense", "aten::nonzero", "aten::equal") and any(on_device):
            self._note()
            return 0.0
        out = func(*args, **kwargs)
        made_there = any(tensor.device.type == "meta" for tensor in tree_flatten(out)[0] if isinstance(tensor, Tensor))
        of_the_host = any(not there and tensor.ndim for there, tensor in zip(on_device, given, strict=True))
        sent = (made_there and of_the_host) or (any(on_device) and not made_there and name == "aten::_to_copy")
        if (sent and not kwargs.get("non_blocking")) or (name == "aten::lift_fresh" and made_there):
            self._note()
        return out

    def _note(self):
        frame = sys._getframe(2)
        while frame is not None:
            path = frame.f_code.co_filename
            if path.startswith(OURS):
                self.met[f"{Path(path).name} {frame.f_code.co_name}"] += 1
                return
            if not path.startswith((torch.__path__[0], __file__)):
                return  # the host's own
            frame = frame.f_back


@pytest.fixture(autouse=True)
def reads(monkeypatch):
    """The timestep is read where the clock is asked for it; here it is known. At the end of a picture no layer runs."""
    asked = []
    monkeypatch.setattr(Run, "picture_done", lambda run: ())
    monkeypatch.setattr(Clock, "timestep", property(lambda clock: (asked.append(1), clock.known)[1]))
    monkeypatch.setattr(Clock, "known", None, raising=False)
    return asked


@cache
def on_meta(family):
    return fresh(family).to("meta")


def walked(config, family="sd1", size=(32, 24), evaluations=(990, 970)):
    unet = on_meta(family)
    found = []
    with modified(unet, [config]) as run:
        run.guidance = Guidance(1.0, (0, 0))
        for timestep in evaluations:
            step = inputs(family, height=size[0], width=size[1])
            step = {name: None if value is None else value.to("meta") for name, value in step.items()}
            run.clock.known = timestep
            run.new_evaluation()
            with Waits() as waits:
                call(unet, step)
            found.append(set(waits.met))
        assert run.traversal.continues
    return found


@pytest.mark.parametrize("config", CONFIGS)
def test_no_layer_waits(config):
    first, *later = walked(config)
    assert first <= ALWAYS | AT_FIRST
    assert set().union(*later) <= ALWAYS


def test_the_named_places_are_met():
    """Else this would see nothing at all."""
    found = [*walked(DeepCache(threshold=2.0, branch=1, reach=1)), *walked(StepForecast(plan="F" + "P" * 99))]
    assert set().union(*found) == ALWAYS
    first, *later = walked(ScaleCrafter(auto=False, above=0, dispersed="5x5"))
    assert first == AT_FIRST and later == [set()]


@pytest.mark.parametrize(
    "read", [lambda x: float(x.sum()), lambda x: x[:, torch.tensor([0, 1])], lambda x: torch.zeros(2).to(x.device)]
)
def test_what_waits_is_seen(read, probe, monkeypatch):
    ran = []

    def rescaled(call, *args, **kwargs):
        out = call(*args, **kwargs)
        ran.append(read(out))
        return out

    monkeypatch.setattr(Waits, "_note", lambda self: self.met.update(["seen"]))
    x = torch.zeros(2, 3, device="meta")
    with Waits() as waits:
        rescaled(lambda: x)
    assert ran and waits.met["seen"] == 1


@pytest.mark.parametrize(
    "config, asked",
    [
        (FreeU(), False),
        (CDTuner(detail1=3), False),
        (ScaleCrafter(auto=False, above=0), False),
        (TokenMerging(), False),
        (GuidanceInterval(), False),
        (FreeU(soft=0.2, end=0.8), True),
        (ColorMap(), True),
        (DeepCache(reach=1), True),
    ],
    ids=lambda value: getattr(value, "title", value),
)
def test_the_timestep_is_read_where_progress_counts(config, asked, reads):
    walked(config)
    assert bool(reads) == asked
    reads.clear()
    walked(replace(config, end=0.8), evaluations=(990,))
    assert reads
