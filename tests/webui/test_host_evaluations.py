"""How many evaluations come: as counted in AUTOMATIC1111 1.10.1 and Forge, sampler by sampler."""

from __future__ import annotations

import inspect
from types import SimpleNamespace

import pytest
import torch
import webui_stubs
from unets import fresh
from webui_stubs import P, WithSampler, once, sampler_of, sigmas

from lib_unetmod.settings.selection import from_infotext
from lib_unetmod.webui import host, sampling
from lib_unetmod.webui.host_evaluations import announce, evaluations_of

#: Six steps of each.
COUNTED = {
    6: ["Euler", "Euler a", "LCM", "LMS", "DPM++ 2M", "DPM++ 2M SDE", "DPM++ 2M SDE Heun", "DPM++ 3M SDE", "IPNDM", "DEIS"],
    11: ["Heun", "DPM2", "Restart", "DPM2 a", "DPM++ 2S a", "DPM++ SDE"],
    15: ["HeunPP2"],
}


@pytest.mark.parametrize("sampler, count", [(name, count) for count, names in COUNTED.items() for name in names])
def test_by_noise_levels(sampler, count):
    assert evaluations_of(sampler, {"sigmas": sigmas(6)}) == count


def test_a_schedule_that_does_not_end_clean_costs_second_order_one_more():
    assert evaluations_of("Heun", {"sigmas": sigmas(6, 0.029)}) == 12
    assert evaluations_of("Euler", {"sigmas": sigmas(6, 0.029)}) == 6


@pytest.mark.parametrize("sampler, count", [("DDIM", 6), ("DDIM CFG++", 6), ("PLMS", 7), ("UniPC", 7)])
def test_by_timesteps(sampler, count):
    assert evaluations_of(sampler, {"timesteps": torch.arange(7)}) == count


def test_by_a_number_of_its_own_and_where_nobody_knows():
    assert evaluations_of("DPM fast", {"sigma_min": 0.03, "sigma_max": 14.6, "n": 6}) == 6
    assert evaluations_of("DPM adaptive", {"sigma_min": 0.03, "sigma_max": 14.6, "sigmas": sigmas(6)}) is None
    assert evaluations_of("Restart", {"sigmas": sigmas(20)}) is None
    assert evaluations_of("New", {}) is None


@pytest.mark.parametrize("by_name", (True, False))
def test_the_samplers_function_is_shadowed_for_one_call(by_name):
    def sample_euler(model, x, sigmas, extra_args=None, s_churn=0.0):
        return "latent"

    sampler, told = sampler_of(sample_euler), []
    announce(sampler, told.append)
    announce(sampler, told.append)  # Forge says twice that hires fix's pass comes
    assert list(inspect.signature(sampler.func).parameters) == ["model", "x", "sigmas", "extra_args", "s_churn"]
    out = sampler.func("model", "x", sigmas=sigmas(6)) if by_name else sampler.func("model", "x", sigmas(6))
    assert out == "latent" and told == [6] and sampler.func is sample_euler


@pytest.mark.parametrize("name, count", [("DPM++ SDE Karras", 11), ("DPM2 a Karras", 11), ("DPM++ 2M SDE Exponential", 6)])
def test_older_names_have_the_schedule_behind_them(name, count):
    sampler, told = sampler_of(lambda model, x, sigmas: "latent", name), []
    announce(sampler, told.append)
    sampler.func("model", "x", sigmas=sigmas(6))
    assert told == [count]


def test_what_has_no_function_is_left_alone():
    for sampler in (None, SimpleNamespace(), SimpleNamespace(func=None)):
        announce(sampler, pytest.fail)


def test_the_run_knows_how_many_come(monkeypatch):
    webui_stubs.reset()
    counts = []
    monkeypatch.setattr(
        sampling.Run, "new_evaluation", lambda run: (counts.append(run.clock.evaluations), run.clock.new_evaluation())
    )
    monkeypatch.setattr(sampling, "begin_pass", once(sampling.begin_pass))
    p = WithSampler([fresh("sd1")], steps=3)
    webui_stubs.generate(p, {"step_forecast": {"plan": "FPP"}})
    assert counts == [3, 3, 3]


def test_a_picture_keeps_the_plan_that_it_followed_and_repeats_it(monkeypatch):
    webui_stubs.reset()
    monkeypatch.setattr(sampling, "begin_pass", once(sampling.begin_pass))
    p = WithSampler([fresh("sd1")], steps=4)
    webui_stubs.generate(p, {"step_forecast": {}})
    assert p.extra_generation_params["UNet Mod step forecast"] == "plan=FPFP"
    again = WithSampler([fresh("sd1")], steps=4)
    webui_stubs.generate(again, from_infotext(p.extra_generation_params)[0])
    assert again.extra_generation_params["UNet Mod step forecast"] == "plan=FPFP"


def test_sampler_and_schedule_by_the_names_of_the_page():
    p = SimpleNamespace(sampler=sampler_of(None, "DPM++ 2M"), scheduler="Automatic", sampler_name="Euler")
    p.sampler.config.options = {"scheduler": "karras"}
    assert (host._sampler_of(p), host._schedule_of(p)) == ("DPM++ 2M", "karras")
    p.scheduler = "Exponential"
    assert host._schedule_of(p) == "exponential"
    classic = SimpleNamespace(sampler=sampler_of(None, "DPM++ 2M Karras"))  # Forge Classic has no schedule types apart
    classic.sampler.config.options = {"scheduler": "karras"}
    assert (host._sampler_of(classic), host._schedule_of(classic)) == ("DPM++ 2M", "karras")
    p.is_hr_pass, p.hr_scheduler = True, "Karras"
    assert host._schedule_of(p) == "karras"
    assert host._schedule_of(SimpleNamespace()) == "uniform" and host._sampler_of(SimpleNamespace()) == ""


def test_how_many_were_run_is_said_under_the_picture():
    webui_stubs.reset()
    webui_stubs.shared.opts.data["unetmod_times"] = False  # it is no time, and said all the same
    p = P([fresh("sd1")], steps=4)
    webui_stubs.generate(p, {"step_forecast": {"plan": "FPPP", "last_full": 0}})
    sampling.batch_done(p)
    # The stand-in's steps all lie at one noise level, in the plan's second half.
    assert "UNet Mod: 1 of 4 U-Net calls were run." in p.comments
    answer = SimpleNamespace(extra_generation_params=dict(p.extra_generation_params))
    sampling.finish(p, answer)
    assert answer.extra_generation_params["UNet Mod notes"].endswith("1 of 4 U-Net calls were run.")
    assert "were run" not in str(p.extra_generation_params)
