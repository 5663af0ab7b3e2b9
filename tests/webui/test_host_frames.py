"""AnimateDiff's windows over more frames than its context batch size: other ones in each step, and nothing is kept."""

from __future__ import annotations

from dataclasses import replace
from types import MethodType, SimpleNamespace

import pytest
import torch
import webui_stubs
from unets import call, fresh, inputs
from webui_stubs import P, denoiser_params

from lib_unetmod import DeepCache, StepForecast, TokenMerging, modified
from lib_unetmod.webui import host

WHY = "AnimateDiff draws other frames together in each step"


@pytest.fixture(autouse=True)
def fresh_webui():
    webui_stubs.reset()


def windowed(frames: int, together: int) -> SimpleNamespace:
    """The denoiser's callback's params where AnimateDiff stands in for the model's forward."""
    ad_params = SimpleNamespace(video_length=frames, batch_size=together)

    def mm_sd_forward(self, x):
        return ad_params

    model = SimpleNamespace()
    model.forward = MethodType(mm_sd_forward, model)
    return denoiser_params(pictures=frames, inner_model=model)


def test_frames_move_where_there_are_more_than_are_drawn_together():
    assert host.call_of(P(fresh("sd1")), windowed(24, 16)).moving.startswith(WHY)
    assert host.call_of(P(fresh("sd1")), windowed(16, 16)).moving == ""
    assert host.call_of(P(fresh("sd1")), denoiser_params()).moving == "" == host.call_of(P(fresh("sd1"))).moving


@pytest.mark.parametrize("config", [DeepCache(interval=2, reach=1), StepForecast(interval=2)], ids=["cache", "forecast"])
def test_nothing_is_reused_while_frames_move(config):
    unet, given = fresh("sd1"), inputs("sd1")
    moving = host.call_of(P(fresh("sd1")), windowed(24, 16))

    def last_of_two(said) -> torch.Tensor:
        with modified(unet, [config], evaluations=2) as run:
            run.told(replace(said, evaluations=2))
            for timestep in (900, 800):
                run.new_evaluation()
                out = call(unet, {**given, "timesteps": torch.full_like(given["timesteps"], timestep)})
        notes[:] = run.notes
        return out

    notes: list[str] = []
    plain = call(unet, {**given, "timesteps": torch.full_like(given["timesteps"], 800)})
    assert torch.equal(last_of_two(moving), plain)
    assert notes == [f"{config.title}: {moving.moving}"]
    assert not torch.equal(last_of_two(replace(moving, moving="")), plain)


def test_methods_that_keep_nothing_act_while_frames_move():
    unet, given = fresh("sd1"), inputs("sd1")
    plain = call(unet, given)
    with modified(unet, [TokenMerging(ratio=0.5, refresh=1)]) as run:
        run.told(host.call_of(P(fresh("sd1")), windowed(24, 16)))
        assert not torch.equal(call(unet, given), plain)
    assert run.notes == []
