"""One line under a picture says what its parts took, by a clock that the test sets."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
import webui_stubs
from unets import fresh, inputs
from webui_stubs import SKIP, P, denoiser_params, shared

from lib_unetmod.core import pace
from lib_unetmod.webui import sampling, settings, times

PLAN = {"step_forecast": {"plan": "FPFP"}}


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def clock(monkeypatch) -> Clock:
    webui_stubs.reset()
    clock = Clock()
    monkeypatch.setattr(times.time, "perf_counter", clock)
    assert pace.time is times.time
    return clock


class Timed(P):
    """A `p` whose U-Net takes a second where it runs, and a tenth where it does not."""

    def __init__(self, clock: Clock, steps: int = 4, **kept: Any) -> None:
        super().__init__([fresh("sd1")], steps)
        self.clock = clock
        vars(self).update(kept)

    def sample(self) -> list[torch.Tensor]:
        sampling.begin_pass(self)
        for step in range(self.steps):
            sampling.on_cfg_denoiser(denoiser_params())
            run = sampling._current.run
            self.unets[0](**inputs("sd1", timestep=999 * (1 - step / self.steps)))
            self.clock.now += 0.1 if run.clock.evaluation in run.predicted else 1.0
        self.clock.now += 0.2  # the sampler's end
        sampling._current.pass_ends()
        return []


def generated(p: Timed, asked: Any, batches: int = 1) -> list[str]:
    """What is said under the picture of a generation that encodes in 0.3 seconds and decodes in 0.5."""
    shared.sd_model = webui_stubs.loaded(p.unets[0])
    sampling.prepare(p, webui_stubs.api.read([asked], settings.read()))
    p.n_iter = batches
    for p.iteration in range(batches):
        sampling.arm(p)
        p.clock.now += 0.3
        p.sample()
        p.clock.now += 0.5
        sampling.batch_done(p)
    return [comment for comment in p.comments if "VAE" in comment]


def test_the_parts_and_what_the_unet_takes_alone(clock):
    """Two of four calls run: 1 + 0.1 + 1 + 0.3 seconds; four would be 4."""
    p = Timed(clock)
    assert generated(p, PLAN) == ["UNet Mod: Text encoder 0.30 s, U-Net 2.4 s (about 4.0 s with no method on), VAE 0.50 s."]
    answer = SimpleNamespace(extra_generation_params={})
    sampling.finish(p, answer)
    assert "U-Net 2.4 s" in answer.extra_generation_params["UNet Mod notes"]
    assert "U-Net" not in str(p.extra_generation_params)


def test_all_batches_are_told_of_once(clock):
    p = Timed(clock)
    said = generated(p, PLAN, batches=3)
    assert said == ["UNet Mod: Text encoder 0.90 s, U-Net 7.2 s (about 12.0 s with no method on), VAE 1.5 s."]
    assert [comment for comment in p.comments if "were run" in comment] == ["UNet Mod: 6 of 12 U-Net calls were run."]
    answer = SimpleNamespace(extra_generation_params={})
    sampling.finish(p, answer)
    assert answer.extra_generation_params["UNet Mod notes"].count("were run") == 1


def test_nothing_is_guessed_where_a_method_changed_every_call(clock):
    assert generated(Timed(clock), SKIP) == ["UNet Mod: Text encoder 0.30 s, U-Net 4.2 s, VAE 0.50 s."]


def test_one_step_tells_images_a_second(clock):
    """Two images in 0.3 + 1.2 + 0.5 seconds."""
    [said] = generated(Timed(clock, steps=1, batch_size=2), SKIP)
    assert said.endswith("VAE 0.50 s. 1.0 images a second.")


def test_nothing_is_said_where_settings_say_so_or_nothing_is_on(clock):
    settings.add_options()
    assert shared.opts.data["unetmod_times"] is True
    shared.opts.data["unetmod_times"] = False
    assert generated(Timed(clock), PLAN) == []
    shared.opts.data["unetmod_times"] = "whatever a request sends"
    assert len(generated(Timed(clock), PLAN)) == 1
    p = P([fresh("sd1")])
    webui_stubs.generate(p, {})
    sampling.batch_done(p)
    assert p.comments == {}
