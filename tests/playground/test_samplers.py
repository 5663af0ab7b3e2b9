"""Each sampler on AUTOMATIC1111's schedule types against k-diffusion's function for it, written out here."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch

from lib_unetmod.core.noise import progress_at, sigma_at
from lib_unetmod.playground.samplers import SAMPLERS, SCHEDULE_TYPES, Course, schedule_type

pytestmark = pytest.mark.in_turn(60)

STEPS = 7


def karras(n, rho=7.0):
    least, most = sigma_at(1.0) ** (1 / rho), sigma_at(0.0) ** (1 / rho)
    return [*((most + i / (n - 1) * (least - most)) ** rho for i in range(n)), 0.0]


def uniform(n):
    """`DiscreteSchedule.get_sigmas`: timesteps from 999 to 0 in equal steps, and log(sigma) linear between whole ones."""
    return [*(sigma_at(i / (n - 1)) for i in range(n)), 0.0]


def exponential(n):
    most, least = math.log(sigma_at(0.0)), math.log(sigma_at(1.0))
    return [*(math.exp(most + i / (n - 1) * (least - most)) for i in range(n)), 0.0]


LEVELS = {"uniform": uniform, "karras": karras, "exponential": exponential}


def clean(x, sigma):
    """A denoiser that is no linear function of its input, nor the same at every level."""
    return torch.tanh(x / (1 + sigma)) * (1 - 0.1 * math.log1p(sigma))


def sample_euler(x, sigmas, noise):
    for now, after in pairwise(sigmas):
        d = (x - clean(x, now)) / now
        x = x + d * (after - now)
    return x


def sample_euler_ancestral(x, sigmas, noise):
    for now, after in pairwise(sigmas):
        up = min(after, (after**2 * (now**2 - after**2) / now**2) ** 0.5)
        down = (after**2 - up**2) ** 0.5
        x = x + (x - clean(x, now)) / now * (down - now) + noise() * up
    return x


def sample_heun(x, sigmas, noise):
    for now, after in pairwise(sigmas):
        d = (x - clean(x, now)) / now
        there = x + d * (after - now)
        x = there if after == 0 else x + (d + (there - clean(there, after)) / after) / 2 * (after - now)
    return x


def sample_dpmpp_2m(x, sigmas, noise):
    old = last_h = None
    for now, after in pairwise(sigmas):
        denoised = clean(x, now)
        if after == 0:
            return denoised
        h = math.log(now / after)
        of = denoised if old is None else denoised + (denoised - old) * h / (2 * last_h)
        x = after / now * x - math.expm1(-h) * of
        old, last_h = denoised, h
    return x


def sample_dpmpp_2m_sde(x, sigmas, noise):
    """eta 1, solver type midpoint."""
    old = last_h = None
    for now, after in pairwise(sigmas):
        denoised = clean(x, now)
        if after == 0:
            return denoised
        h = math.log(now / after)
        drawn = noise()
        x = after / now * math.exp(-h) * x - math.expm1(-2 * h) * denoised
        if old is not None:
            x = x - 0.5 * math.expm1(-2 * h) * (h / last_h) * (denoised - old)
        x = x + drawn * after * (-math.expm1(-2 * h)) ** 0.5
        old, last_h = denoised, h
    return x


OF_K_DIFFUSION = {
    "euler": sample_euler,
    "euler-a": sample_euler_ancestral,
    "heun": sample_heun,
    "dpm++2m": sample_dpmpp_2m,
    "dpm++2m-sde": sample_dpmpp_2m_sde,
}


def denoise(prediction_type):
    def predicted(x, timestep):
        sigma = sigma_at(1 - float(timestep) / 999)
        c = (sigma**2 + 1) ** -0.5
        x0 = clean(x / c, sigma)
        eps = (x / c - x0) / sigma
        return c * (eps - sigma * x0) if prediction_type == "v_prediction" else eps

    return predicted


@pytest.mark.parametrize("prediction_type", ("epsilon", "v_prediction"))
@pytest.mark.parametrize("schedule", LEVELS)
@pytest.mark.parametrize("sampler", OF_K_DIFFUSION)
def test_is_k_diffusions_picture(sampler, schedule, prediction_type):
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    course = Course(sampler, STEPS, STEPS, prediction_type, schedule=schedule)
    out = course.run(course.begin(noise), denoise(prediction_type), torch.Generator().manual_seed(2))

    sigmas, drawing = LEVELS[schedule](STEPS), torch.Generator().manual_seed(2)
    drawn = lambda: torch.randn(noise.shape, generator=drawing)  # noqa: E731
    expected = OF_K_DIFFUSION[sampler](noise * sigmas[0], sigmas, drawn)
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("schedule", SCHEDULE_TYPES)
@pytest.mark.parametrize("taken", (STEPS, 3))
def test_every_sampler_ends_clean_on_every_schedule(sampler, schedule, taken):
    course = Course(sampler, STEPS, taken, "epsilon", schedule=schedule)
    assert len(course.timesteps) == SAMPLERS[sampler].evaluations(taken)
    assert (course.timesteps[1:] <= course.timesteps[:-1]).all() and course.timesteps.min() >= 0
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    out = course.run(course.begin(noise, None if taken == STEPS else noise), denoise("epsilon"), torch.Generator())
    assert out.isfinite().all() and out.abs().max() < 5


def test_automatic_is_what_the_webui_takes():
    taken = {name: schedule_type(name, "automatic") for name in SAMPLERS}
    assert taken == {
        "euler": "Uniform",
        "euler-a": "Uniform",
        "dpm++2m": "Karras",
        "dpm++2m-sde": "Exponential",
        "unipc": "Uniform",
        "heun": "Uniform",
        "lcm": "",
    }


def test_img2img_begins_at_the_level_where_its_steps_begin():
    course = Course("euler", 10, 4, "epsilon", schedule="karras")
    begun = course.begin(torch.ones(1, 4, 2, 2), torch.zeros(1, 4, 2, 2))
    sigma = karras(10)[6]
    torch.testing.assert_close(begun, torch.full_like(begun, sigma), rtol=1e-4, atol=1e-5)
    assert float(course.timesteps[0]) == pytest.approx((1 - progress_at(sigma)) * 999, abs=1e-2)
