"""The noise schedule against k-diffusion's published numbers, and what makes up for another input by its denoisers."""

from __future__ import annotations

import pytest
import torch

from lib_unetmod.core.noise import prediction_correction, progress_at, sigma_at


def test_the_schedule_is_sds():
    # k-diffusion's sigma_max and sigma_min of Stable Diffusion, and 0.2 timesteps from the fifth to the sixth.
    assert sigma_at(0) == pytest.approx(14.6146, abs=1e-4) and sigma_at(1) == pytest.approx(0.0292, abs=1e-4)
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    kept = (1 - betas).cumprod(0)
    sigmas = ((1 - kept) / kept).sqrt()
    assert sigma_at(1 - 500 / 999) == pytest.approx(sigmas[500].item(), rel=1e-9)
    between = (sigmas[5].log() * 0.8 + sigmas[6].log() * 0.2).exp()
    assert sigma_at(1 - 5.2 / 999) == pytest.approx(between.item(), rel=1e-9)


@pytest.mark.parametrize("progress", (0.0, 0.31, 0.8, 1.0))
def test_the_progress_of_a_noise_is_the_one_that_has_it(progress):
    assert progress_at(sigma_at(progress)) == pytest.approx(progress, abs=1e-9)


def test_no_noise_at_all_is_the_end():
    assert progress_at(1e-9) == 1


@pytest.mark.parametrize("prediction", ("eps", "v"))
@pytest.mark.parametrize("progress", (0.0, 0.3, 0.8, 1.0))
def test_a_host_that_knows_nothing_of_the_change_denoises_the_changed_latent(prediction, progress):
    """k-diffusion's CompVisDenoiser and CompVisVDenoiser."""

    def denoised(x, answer):
        if prediction == "eps":
            return x - sigma * answer
        return x / (sigma**2 + 1) - answer * sigma / (sigma**2 + 1) ** 0.5

    sigma = sigma_at(progress)
    x, change, answer = torch.randn(3, 50, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    of_input = change / (sigma**2 + 1) ** 0.5
    told = answer - prediction_correction(progress, prediction) * of_input
    torch.testing.assert_close(denoised(x, told), denoised(x + change, answer))
