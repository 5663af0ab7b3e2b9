"""Each sampler on AUTOMATIC1111's schedule types against k-diffusion's function for it, written out here; and what a
U-Net is given on the way."""

from __future__ import annotations

import inspect
import math
from itertools import pairwise

import pytest
import torch

from lib_unetmod.core.noise import progress_at, sigma_at
from lib_unetmod.playground.samplers import SAMPLERS, SCHEDULE_TYPES, Course, evaluations, schedule_type
from lib_unetmod.playground.settings import STEPS as ALLOWED

IN_TURN = pytest.mark.in_turn(60)
PREDICTIONS = ("epsilon", "v_prediction")

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


def sample_dpmpp_sde(x, sigmas, noise):
    """eta 1, r 1/2; `noise` is asked for the increment from one noise level to another, of variance 1."""

    def ancestral(now, after):
        up = min(after, (after**2 * (now**2 - after**2) / now**2) ** 0.5)
        return (after**2 - up**2) ** 0.5, up

    for now, after in pairwise(sigmas):
        denoised = clean(x, now)
        if after == 0:
            return denoised
        between = math.sqrt(now * after)
        down, up = ancestral(now, between)
        there = down / now * x + (1 - down / now) * denoised + up * noise(now, between)
        down, up = ancestral(now, after)
        x = down / now * x + (1 - down / now) * clean(there, between) + up * noise(now, after)
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


@IN_TURN
@pytest.mark.parametrize("prediction_type", PREDICTIONS)
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


@IN_TURN
@pytest.mark.parametrize("prediction_type", PREDICTIONS)
@pytest.mark.parametrize("schedule", LEVELS)
def test_dpmpp_sde_is_k_diffusions_picture(schedule, prediction_type):
    """With the noise of one Brownian motion over all levels, as k-diffusion draws it."""
    torchsde = pytest.importorskip("torchsde")
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    course = Course("dpm++sde", STEPS, STEPS, prediction_type, schedule=schedule)
    out = course.run(course.begin(noise), denoise(prediction_type), torch.Generator().manual_seed(2))

    sigmas = LEVELS[schedule](STEPS)
    ends = (torch.tensor(sigma, dtype=torch.float32).item() for sigma in (sigmas[-2], sigmas[0]))
    seed = int(torch.randint(2**63 - 1, (), generator=torch.Generator().manual_seed(2)))
    shape = {"size": noise.shape, "dtype": noise.dtype, "entropy": seed}
    motion = torchsde.BrownianInterval(*ends, **shape, tol=1e-6, pool_size=24, halfway_tree=True)
    drawn = lambda now, after: -motion(after, now) / (now - after) ** 0.5  # noqa: E731
    expected = sample_dpmpp_sde(noise * sigmas[0], sigmas, drawn)
    torch.testing.assert_close(out, expected, rtol=1e-3, atol=1e-3)


def alpha_bar(timestep):
    """Of SD's noise schedule."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    return (1 - betas).cumprod(0)[timestep].item()


@IN_TURN
@pytest.mark.parametrize("steps, calls", [(3, 3), (7, 7), (20, 19), (60, 62)])
def test_ddim_is_the_webuis(steps, calls):
    """`ddim` of modules/sd_samplers_timesteps_impl.py, with its timesteps."""
    given = [min(timestep + 1, 999) for timestep in range(0, 1000, 1000 // steps)]
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    course = Course("ddim", steps, steps, "epsilon", schedule="automatic")
    assert course.timesteps.tolist() == given[:0:-1] and len(given) - 1 == calls
    assert evaluations("ddim", "karras", steps, steps) == calls  # which the WebUI passes over with it
    out = course.run(course.begin(noise), denoise("epsilon"), torch.Generator())

    x = noise
    for after, now in reversed(list(pairwise(given))):
        e, a, a_after = denoise("epsilon")(x, now), alpha_bar(now), alpha_bar(after)
        clean_latent = (x - (1 - a) ** 0.5 * e) / a**0.5
        x = a_after**0.5 * clean_latent + (1 - a_after) ** 0.5 * e
    torch.testing.assert_close(out, x, rtol=1e-4, atol=1e-4)


def test_ddim_draws_in_one_step_too():
    """In the WebUI it makes no call then, and what comes out is the noise."""
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    course = Course("ddim", 1, 1, "epsilon", schedule="automatic")
    assert course.timesteps.tolist() == [999]
    out = course.run(course.begin(noise), denoise("epsilon"), torch.Generator())
    a = alpha_bar(999)
    torch.testing.assert_close(out, (noise - (1 - a) ** 0.5 * denoise("epsilon")(noise, 999)) / a**0.5, rtol=1e-3, atol=1e-3)


@IN_TURN
@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("schedule", SCHEDULE_TYPES)
@pytest.mark.parametrize("taken", (STEPS, 3))
def test_every_sampler_ends_clean_on_every_schedule(sampler, schedule, taken):
    course = Course(sampler, STEPS, taken, "epsilon", schedule=schedule)
    assert len(course.timesteps) == evaluations(sampler, schedule, STEPS, taken)
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
        "dpm++sde": "Karras",
        "heun": "Uniform",
        "ddim": "DDIM",
        "lcm": "",
    }


def test_img2img_begins_at_the_level_where_its_steps_begin():
    course = Course("euler", 10, 4, "epsilon", schedule="karras")
    begun = course.begin(torch.ones(1, 4, 2, 2), torch.zeros(1, 4, 2, 2))
    sigma = karras(10)[6]
    torch.testing.assert_close(begun, torch.full_like(begun, sigma), rtol=1e-4, atol=1e-5)
    assert float(course.timesteps[0]) == pytest.approx((1 - progress_at(sigma)) * 999, abs=1e-2)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_timesteps_are_the_models_at_every_number_of_steps(sampler):
    for steps in range(ALLOWED[0], ALLOWED[1] + 1):
        timesteps = Course(sampler, steps, steps, "epsilon").timesteps
        assert len(timesteps) == evaluations(sampler, "trailing", steps, steps)
        assert timesteps[0] == 999 and timesteps.min() >= 0


@pytest.mark.parametrize("prediction_type", PREDICTIONS)
@pytest.mark.parametrize("taken", [1, 4, 10])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_perfect_denoiser_is_followed_to_its_latent(sampler, taken, prediction_type, model):
    """What the U-Net is given must be sqrt(a) x0 + sqrt(1-a) noise at its timestep, and what it says must be believed."""
    if sampler == "unipc" and "final_sigmas_type" not in inspect.signature(SAMPLERS[sampler].scheduler).parameters:
        pytest.skip("UniPC of this diffusers does not end clean")
    generator = torch.Generator().manual_seed(1)
    clean = torch.randn(1, 4, 8, 8, generator=generator)
    noise = torch.randn(1, 4, 8, 8, generator=generator)
    course = Course(sampler, 10, taken, prediction_type)
    latent = course.begin(noise, None if taken == 10 else clean)

    def perfect(x, timestep):
        a = model.alphas_cumprod[round(float(timestep))]
        epsilon = (x - a.sqrt() * clean) / (1 - a).sqrt()
        return epsilon if prediction_type == "epsilon" else a.sqrt() * epsilon - (1 - a).sqrt() * clean

    assert torch.allclose(course.run(latent, perfect, generator), clean, atol=2e-3)


def test_the_first_input_holds_the_noise_of_its_timestep(model):
    """In img2img it is the clean latent with as much noise as the schedule has there, whatever the scheduler's scaling."""
    generator = torch.Generator().manual_seed(1)
    clean, noise = (torch.randn(1, 4, 8, 8, generator=generator) for _ in range(2))
    for sampler in SAMPLERS:
        course = Course(sampler, 10, 4, "epsilon")
        seen = []

        def record(x, timestep, seen=seen):
            seen.append((x, timestep))
            return torch.zeros_like(x)

        course.run(course.begin(noise, clean), record, generator)
        x, timestep = seen[0]
        a = model.alphas_cumprod[round(float(timestep))]
        assert torch.allclose(x, a.sqrt() * clean + (1 - a).sqrt() * noise, atol=1e-3), sampler
