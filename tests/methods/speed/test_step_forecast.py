"""StepForecast against samplers written out here, which know of no prediction, and against polynomials by hand."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from hosts import HOSTS, residuals
from unets import FAMILIES, call, fresh, inputs

from lib_unetmod import ConfigError, GuidanceInterval, StepForecast, modified
from lib_unetmod.core.call import Guidance, HostCall
from lib_unetmod.core.noise import progress_at

pytestmark = pytest.mark.in_turn(60)

NEUTRAL = StepForecast(speed=1)
#: By progress: all but the very first evaluations are predicted.
_PLAN = "F" + "P" * 99
#: Beside other methods only the third of their evaluations is: in the second a cache of blocks has its turn.
PAIRED = StepForecast(plan="F" * 12 + "PP" + "F" * 86)
CONTRACT = [StepForecast(plan=_PLAN), StepForecast(plan=_PLAN, predictor="x0")]

#: Noise levels of an uneven course.
SIGMAS = (9.0, 6.5, 4.0, 2.2, 1.1, 0.7, 0.3, 0.0)


class Denoiser:
    """A U-Net as a sampler of k-diffusion sees it: the clean latent that it means, of x at a noise level."""

    def __init__(self, unet, step, prediction="eps", run=None):
        self.unet, self.step, self.prediction, self.run = unet, step, prediction, run

    def __call__(self, x, sigma):
        if self.run is not None:
            self.run.new_evaluation()
        c = (sigma**2 + 1) ** -0.5
        timesteps = torch.full((len(x),), (1 - progress_at(sigma)) * 999)
        masked = self.step["x"][:, 4:]  # inpainting models are given a mask and a picture beside the latent
        out = call(self.unet, {**self.step, "x": torch.cat([c * x, masked], 1), "timesteps": timesteps})
        # ldm: x0 = sqrt(a) x_t - sqrt(1 - a) v; x_t = x / sqrt(s^2 + 1), sqrt(a) = c, sqrt(1 - a) = c s.
        return c * c * x - c * sigma * out if self.prediction == "v" else x - sigma * out


def euler(denoise, x, sigmas):
    for sigma, after in pairwise(sigmas):
        noise = (x - denoise(x, sigma)) / sigma
        x = x + (after - sigma) * noise
    return x


def drawn(config, step, prediction="eps", sigmas=SIGMAS, family="sd1"):
    unet = fresh(family)
    with modified(unet, [config], evaluations=len(sigmas) - 1) as run:
        run.prediction = prediction
        return euler(Denoiser(unet, step, prediction, run), sigmas[0] * step["x"][:, :4], sigmas)


@pytest.mark.parametrize("prediction", ("eps", "v"))
@pytest.mark.parametrize("family", FAMILIES)
def test_keeping_the_clean_latent_is_one_euler_step_over_all_that_are_skipped(family, prediction):
    step = inputs(family)
    out = drawn(StepForecast(plan="FPFFPPF", predictor="x0"), step, prediction, family=family)
    coarse = [SIGMAS[place] for place in (0, 2, 3, 6, 7)]
    plain = euler(Denoiser(fresh(family), step, prediction), SIGMAS[0] * step["x"][:, :4], coarse)
    torch.testing.assert_close(out, plain, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("prediction", ("eps", "v"))
@pytest.mark.parametrize("predictor, order", (("linear", 1), ("quadratic", 2)))
def test_the_noise_goes_on_as_a_polynomial_through_the_last_that_ran(predictor, order, prediction):
    step, plan = inputs("sd1"), "FFPFPPF"
    out = drawn(StepForecast(plan=plan, predictor=predictor), step, prediction)
    denoise, x, ran = Denoiser(fresh("sd1"), step, prediction), SIGMAS[0] * step["x"][:, :4], []
    for letter, sigma, after in zip(plan, SIGMAS, SIGMAS[1:], strict=False):
        if letter == "F":
            ran.append((sigma, (x - denoise(x, sigma)) / sigma))
        nodes = ran[-order - 1 :]
        # The polynomial through these nodes, by numpy's least squares of full degree.
        at = np.array([one for one, _ in nodes])
        values = torch.stack([noise for _, noise in nodes]).flatten(1).double().numpy()
        fitted = np.polynomial.polynomial.polyfit(at, values, len(at) - 1)
        noise = np.polynomial.polynomial.polyval(sigma, fitted)
        x = x + (after - sigma) * torch.from_numpy(noise).float().view_as(x)
    torch.testing.assert_close(out, x, rtol=1e-4, atol=1e-3)


#: How far the third latent is from the second, in the step that led there: on, a little back, back beyond the bound.
MOVES = (0.4, -0.25, -0.8)


@pytest.mark.parametrize("prediction", ("eps", "v"))
def test_secant_turns_the_clean_latent_back_as_far_as_the_latent_turned(prediction):
    step, sigmas = inputs("sd1", batch=len(MOVES)), (5.0, 4.0, 2.5)
    first = step["x"]
    second = first.flip(0) + 0.3
    sideways = torch.linspace(-0.1, 0.1, first[0].numel()).view_as(first[0])
    change = second - first
    sideways = sideways - (sideways * change).sum((1, 2, 3), True) / change.square().sum((1, 2, 3), True) * change
    third = second + torch.tensor(MOVES).view(-1, 1, 1, 1) * change + sideways
    given = [latent * (sigma**2 + 1) ** 0.5 for latent, sigma in zip((first, second, third), sigmas, strict=True)]
    unet = fresh("sd1")
    with modified(unet, [StepForecast(plan="FFP", predictor="secant")], evaluations=3) as run:
        run.prediction = prediction
        denoise = Denoiser(unet, step, prediction, run)
        out = [denoise(x, sigma) for x, sigma in zip(given, sigmas, strict=True)]
    plain = Denoiser(fresh("sd1"), step, prediction)
    ran = [plain(x, sigma) for x, sigma in zip(given[:2], sigmas[:2], strict=True)]
    for row, share in enumerate((0.0, -0.25, -0.5)):
        meant = ran[1][row] + share * (ran[1][row] - ran[0][row])
        torch.testing.assert_close(out[2][row], meant, rtol=1e-4, atol=1e-3)


def test_blend_is_the_mean_of_line_and_parabola():
    step, plan = inputs("sd1"), "FFFPFFF"
    told = {}
    for predictor in ("linear", "quadratic", "blend"):
        told[predictor] = drawn(StepForecast(plan=plan, predictor=predictor), step, sigmas=SIGMAS[:5])
    # One predicted step, the last of these four: what it adds is linear in the predicted noise.
    torch.testing.assert_close(told["blend"], (told["linear"] + told["quadratic"]) / 2, rtol=1e-5, atol=1e-5)


def letters_run(config, evaluations, steps=None, **told):
    """What was run, one letter an evaluation, of a pass of as many; `told` is what else the host says."""
    unet, ran, out = fresh("sd1"), [], ""
    handle = unet.middle_block[0].in_layers[1].register_forward_hook(lambda *_: ran.append(1))
    step = inputs("sd1", batch=1)
    with modified(unet, [config], call=HostCall(evaluations=evaluations, **told)) as run:
        for number in range(evaluations or 10):
            ran.clear()
            run.new_evaluation()
            given = {**step, "timesteps": torch.full((1,), 999 - 999 * number / (evaluations or 10))}
            call(unet, {**given, **(steps(number) if steps else {})})
            out += "F" if ran else "P"
    handle.remove()
    return out, run.notes


def test_no_layer_runs_in_a_step_that_is_predicted_and_the_plan_says_which():
    assert letters_run(StepForecast(plan="FPFFPPF"), 7)[0] == "FPFFPPF"
    assert letters_run(StepForecast(plan=" fpffppf "), 7)[0] == "FPFFPPF"


@pytest.mark.parametrize("evaluations, letters", [(4, "FPFP"), (8, "FPFPFPFP"), (12, "FPFPFPFPFPFP")])
def test_a_plan_of_another_length_is_stretched_and_that_is_said(evaluations, letters):
    ran, notes = letters_run(StepForecast(plan="FPFPFP"), evaluations)
    assert ran == letters
    assert notes == [f"Step forecast: the plan for 6 steps was stretched to {evaluations}: {letters}."]


def test_where_nobody_knows_how_many_come_it_goes_by_progress_and_says_so():
    ran, notes = letters_run(StepForecast(plan="FP"), None)
    assert ran == "FFFFFPPPPP"
    assert notes == ["Step forecast: how many steps come is not known here, so the plan follows the noise level."]


def test_by_progress_large_steps_do_not_miss_the_full_ones_of_a_plan():
    unet, ran = fresh("sd1"), ""
    calls = []
    unet.middle_block[0].in_layers[1].register_forward_hook(lambda *_: calls.append(1))
    with modified(unet, [StepForecast(plan="FPFPFPFPFP")]):
        # Places 0, 1, 3, 3, 5, 5 (back to more noise), 7 and 9 of ten.
        for progress in (0.0, 0.15, 0.35, 0.38, 0.58, 0.52, 0.75, 0.95):
            calls.clear()
            call(unet, inputs("sd1", batch=1, timestep=999 * (1 - progress)))
            ran += "F" if calls else "P"
    assert ran == "FPFPFFFF"


def test_by_interval_and_last_ones_in_full():
    assert letters_run(StepForecast(interval=3), 9)[0] == "FPPFPPFPP"
    assert letters_run(StepForecast(interval=3, last_full=2), 9)[0] == "FPPFPPFFF"


@pytest.mark.parametrize("speed, fulls", [(1.3, 15), (1.5, 13), (2, 10), (2.5, 8), (3, 7)])
def test_by_itself_it_runs_as_many_as_the_speed_says(speed, fulls):
    assert letters_run(StepForecast(speed=speed), 20)[0].count("F") == fulls


def test_trailing_schedules_end_with_a_full_run():
    config = StepForecast(interval=2)
    assert config.plan_for("first", "Euler", "trailing", 6).letters == "FPFPFF"
    assert config.plan_for("first", "Euler", "karras", 6).letters == "FPFPFP"


def test_hires_fix_has_a_plan_of_its_own():
    config = StepForecast(plan="fpfp / fpp")
    assert config.plan == "FPFP/FPP" and config.details() == "2 of 4 and 1 of 3 steps"
    assert letters_run(config, 4)[0] == letters_run(config, 4, pass_name="img2img")[0] == "FPFP"
    assert letters_run(config, 3, pass_name="hires")[0] == "FPP"
    assert letters_run(config, 6, pass_name="hires")[0] == "FPPFPP"
    for wrong in ("FPFP/", "/FPFP", "FP/FP/FP", "FP/PF"):
        with pytest.raises(ConfigError, match=r"^StepForecast: plan is '.*'; it .*\.$"):
            StepForecast(plan=wrong)


def test_a_picture_keeps_the_plans_that_it_followed():
    unet, step = fresh("sd1"), inputs("sd1", batch=1)
    with modified(unet, [StepForecast()], call=HostCall(sampler="Euler", schedule="uniform")) as run:
        for pass_name, evaluations in (("first", 20), ("hires", 7)):
            run.begin_pass(pass_name, evaluations=evaluations)
            for number in range(evaluations):
                run.new_evaluation()
                call(unet, {**step, "timesteps": torch.full((1,), 999 - 999 * number / evaluations)})
            run.end_pass()
    kept = StepForecast().repeated(run.plans)
    first, second = kept.plan.split("/")
    assert (len(first), len(second)) == (20, 7)
    assert letters_run(kept, 20)[0] == first == letters_run(StepForecast(), 20, sampler="Euler", schedule="uniform")[0]
    assert letters_run(kept, 7, pass_name="hires")[0] == second
    for explicit in (kept, StepForecast(interval=2)):
        assert explicit.repeated({"first": "FFFF"}) == explicit


def test_runs_in_full_after_another_prompt_and_another_size():
    other = inputs("sd1", batch=1, prompt=5)["context"]
    assert letters_run(StepForecast(plan="FPPPPP"), 6, lambda n: {"context": other} if n > 2 else {})[0] == "FPPFPP"
    larger = inputs("sd1", batch=1, height=24)["x"]
    assert letters_run(StepForecast(plan="FPPPPP"), 6, lambda n: {"x": larger} if n > 2 else {})[0] == "FPPFPP"


def test_runs_in_full_after_a_step_back_to_more_noise():
    back = torch.full((1,), 900.0)
    assert letters_run(StepForecast(plan="FPPPPP"), 6, lambda n: {"timesteps": back} if n == 3 else {})[0] == "FPPFPP"


def test_runs_in_full_where_guidance_begins():
    unet, plan, ran = fresh("sd1"), "FPPPPPPP", ""
    calls = []
    unet.middle_block[0].in_layers[1].register_forward_hook(lambda _module, args, _out: calls.append(len(args[0])))
    with modified(unet, [StepForecast(plan=plan), GuidanceInterval(guide_from=0.5)], evaluations=8) as run:
        run.guidance = Guidance(7.0, (0, 0))
        for number in range(8):
            calls.clear()
            run.new_evaluation()
            call(unet, inputs("sd1", timestep=999 - 999 * number / 8))
            ran += str(*calls) or "P"
    assert ran == "1PPP2PPP"


def test_a_refiner_goes_on_with_the_plan_where_the_first_model_left_it():
    base, refiner, ran = fresh("sd1"), fresh("sd2"), ""
    calls = []
    for unet in (base, refiner):
        unet.middle_block[0].in_layers[1].register_forward_hook(lambda *_: calls.append(1))
    with modified(base, [StepForecast(plan="FPFPPPPF")], evaluations=8) as run:
        for number in range(8):
            calls.clear()
            unet, family = (base, "sd1") if number < 4 else (refiner, "sd2")
            run.follow(unet)
            run.told(replace(run.call, evaluations=8))  # a host says it with each call
            run.new_evaluation()
            call(unet, inputs(family, timestep=900 - 50 * number))
            ran += "F" if calls else "P"
    assert ran == "FPFPFPPF"  # the refiner's first runs, whatever the plan says


@pytest.mark.parametrize("name", ("forge", "forge_classic", "reforge"))
def test_runs_in_full_where_controls_residuals_come_or_go(name):
    host = HOSTS[name]
    unet, ran = host.prepare(fresh("sd1")), ""
    calls = []
    unet.middle_block[0].in_layers[1].register_forward_hook(lambda *_: calls.append(1))
    control = residuals(unet, inputs("sd1")["x"].shape)
    with modified(unet, [StepForecast(plan="FPPPPP")], evaluations=6) as run:
        for number in range(6):
            calls.clear()
            run.new_evaluation()
            told = {"control": [one.clone() for one in control]} if number in (2, 3) else {}
            host.forward(unet, **inputs("sd1", timestep=900 - 10 * number), **told)
            ran += "F" if calls else "P"
    assert ran == "FPFPFP"


def test_runs_in_full_where_a_loras_weight_changes():
    weight = 1.0

    def changed(number):
        nonlocal weight
        weight = 1.0 if number < 2 else 0.5
        return {}

    assert letters_run(StepForecast(plan="FPPPPP"), 6, changed, conditions=lambda: weight)[0] == "FPFPPP"


def test_what_is_handed_out_is_the_hosts_own():
    unet, step = fresh("sd1"), inputs("sd1")
    with modified(unet, [StepForecast(plan="FPP")], evaluations=3) as run:
        run.new_evaluation()
        call(unet, step)
        run.new_evaluation()
        first = call(unet, step)
        expected = first.clone()
        first.zero_()
        run.new_evaluation()
        assert torch.equal(call(unet, step), expected)


@pytest.mark.parametrize(
    "values, text",
    [
        ({"plan": "PF"}, "StepForecast: plan is 'PF'; it must begin with F"),
        ({"plan": "FX"}, "StepForecast: plan is 'FX'; it takes the letters F and P"),
        ({"speed": 9}, "speed is 9.0; it takes a number from 1 to 4"),
        ({"predictor": "magic"}, "predictor is 'magic'"),
    ],
)
def test_wrong_values_name_themselves(values, text):
    with pytest.raises(ConfigError, match=text):
        StepForecast(**values)
