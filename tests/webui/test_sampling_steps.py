"""Where A1111's samplers evaluate, beside counts taken in the running WebUI and numbers done by hand."""

from __future__ import annotations

import pytest

from lib_unetmod.core.noise import sigma_at
from lib_unetmod.webui.sampling_steps import course


def counted(sampler: str, steps: int, schedule: str = "Automatic", **how: object) -> int:
    return len(course(sampler, schedule, steps, **how).evaluations)


@pytest.mark.parametrize(
    "sampler, txt2img, img2img, exact, hires",
    [
        ("Euler", 6, 4, 6, 4),
        ("Euler a", 6, 4, 6, 4),
        ("DPM++ 2M", 6, 4, 6, 4),
        ("DPM++ 3M SDE", 6, 4, 6, 4),
        ("Heun", 11, 7, 11, 7),
        ("DDIM", 6, 2, 4, 2),
    ],
)
def test_counts_are_those_of_the_running_webui(sampler: str, txt2img: int, img2img: int, exact: int, hires: int) -> None:
    """1.10.1 with 6 steps; img2img at denoising strength 0.5; the setting for exact steps; hires fix with 4 steps."""
    assert counted(sampler, 6) == txt2img
    assert counted(sampler, 6, denoising=0.5) == img2img
    assert counted(sampler, 6, denoising=0.5, exact=True) == exact
    assert counted(sampler, 4, denoising=0.5, exact=True) == hires


def test_ddim_takes_as_many_as_its_timesteps_leave() -> None:
    assert [counted("DDIM", steps) for steps in (1, 2, 3, 5, 7, 20, 36, 60)] == [0, 1, 3, 4, 7, 19, 37, 62]
    assert counted("Euler", 6, "DDIM") == 7
    # Of 1, 201, 401, 601, 801 the lowest is not evaluated.
    assert course("DDIM", "", 5).evaluations == pytest.approx([198 / 999, 398 / 999, 598 / 999, 798 / 999])


def test_schedules_by_hand() -> None:
    assert course("Euler", "Automatic", 5).evaluations == pytest.approx([0, 0.25, 0.5, 0.75, 1])
    assert course("Euler", "SGM Uniform", 4).evaluations == pytest.approx([0, 0.25, 0.5, 0.75])
    assert course("Euler", "Simple", 4).evaluations == pytest.approx([0, 250 / 999, 500 / 999, 750 / 999])
    assert course("Heun", "", 3).evaluations == pytest.approx([0, 0.5, 0.5, 1, 1])
    # Half-way between the seventh roots of 14.6146 and 0.029168, 1.46687 and 0.60350, is 1.035185, and its power 1.2738.
    for sampler, schedule in (("DPM++ 2M", ""), ("Euler", "Karras"), ("DPM++ 2M Karras", "")):
        assert sigma_at(course(sampler, schedule, 3).evaluations[1]) == pytest.approx(1.2738, rel=1e-3)
    # The geometric mean of both is 0.65291.
    assert sigma_at(course("DPM++ 2M SDE", "", 3).evaluations[1]) == pytest.approx(0.65291, rel=1e-3)
    # tan of half the sum of atan 14.6146 = 1.502479 and atan 0.029168 = 0.029160.
    assert sigma_at(course("Euler", "KL Optimal", 2).evaluations[1]) == pytest.approx(0.9619, rel=1e-3)


def test_a_pass_that_begins_later_takes_the_last_steps() -> None:
    # int(0.5 * 20) + 1 = 11 of 20, the first of which is number 9 of 0 to 19.
    half = course("Euler", "", 20, denoising=0.5)
    assert half.begins == pytest.approx(9 / 19) and len(half.evaluations) == 11
    # 20 steps of hires fix at 0.5 are the last 20 of 40: number 20 of 0 to 39.
    assert course("Euler", "", 20, denoising=0.5, exact=True).begins == pytest.approx(20 / 39)
    assert course("Euler", "", 20, denoising=1.0).begins == 0
    assert course("Euler", "", 20, denoising=0.0).evaluations == pytest.approx([1.0])
    assert course("Euler", "", 20, denoising=0.0, exact=True).evaluations == ()


def test_what_a_sampler_chooses_on_the_way_is_not_said() -> None:
    for sampler in ("DPM adaptive", "DPM2", "UniPC", "of an extension"):
        assert course(sampler, "", 20).evaluations is None
    assert course("Euler", "of an extension", 20).evaluations is None
    assert course("UniPC", "", 20, denoising=0.5).begins == pytest.approx(9 / 19)
