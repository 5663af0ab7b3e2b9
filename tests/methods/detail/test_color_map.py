"""The colour map against a sampler that colours its latents itself, as the extension does, by its formula written anew."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from contract import snapshot
from hosts import HOSTS, ControlNetHook
from torch import Tensor, nn
from unets import FAMILIES, call, fresh, inputs

from lib_unetmod import ColorMap, ConfigError, GuidanceInterval, ScaleCrafter, modified, what_is_on
from lib_unetmod.core.call import Guidance
from lib_unetmod.settings.selection import configs_of, from_infotext, selection_of, to_infotext

pytestmark = pytest.mark.in_turn(60)

NEUTRAL = ColorMap(strength=0)
# The contract rolls a torus by half its size and evaluates in the middle: these maps look the same half a picture further.
CONTRACT = [
    ColorMap(regions="1", colors="red", end=1),
    ColorMap(regions="1|1|1|1", split="rows", colors="5 0 0|#00ff00|5 0 0|#00ff00", end=1),
]

#: What comes off channels 1 to 3 for red, by hand, before units: brightness -5/3 and 5, -5, -5 on the axes.
#: SD1: -5/3 * (-1, 1/3, 2/3) + 5 * (1, 1, 0) - 5 * (0, -1, -1) - 5 * (1, 0, 1)
#: SDXL: -5/3 * (0, 0, 1) + 5 * (1, 0, 0) - 5 * (-1, -1, 0) - 5 * (-1, 1, 0)
RED = {"sd1": (5 / 3, 10 - 5 / 9, -10 / 9), "sdxl": (15, 0, -5 / 3)}
SHARE = 0.5 * 0.85 * 0.84

families = pytest.mark.parametrize("family", ("sd1", "sdxl"))


def colored(u: Tensor, sign: float, away: tuple[float, ...], strength: float = 1, where=None) -> Tensor:
    """The extension's two lines for one region of one latent (4, H, W) or (9, H, W)."""
    u = u.clone()
    share = strength * SHARE * sum(abs(one) for one in away) / 10
    for channel, one in enumerate(away, start=1):
        mean = u[channel].abs().mean()
        new = (1 - share) * u[channel] - sign * 0.02 * one * 6 * mean * share
        u[channel] = new if where is None else torch.where(where, new, u[channel])
    return u


def alphas() -> Tensor:
    return (1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2).cumprod(0)


def x0(u: Tensor, answer: Tensor, timestep: int, prediction: str = "eps") -> Tensor:
    """The clean latent that a host takes a prediction for, with the input it gave."""
    kept = alphas()[timestep]
    u = u[:, :4]
    if prediction == "v":
        return kept.sqrt() * u - (1 - kept).sqrt() * answer
    return (u - (1 - kept).sqrt() * answer) / kept.sqrt()


def answered(unet: nn.Module, config: ColorMap, step: dict, partner=(0, 0), **told) -> Tensor:
    with modified(unet, [config]) as run:
        run.guidance = None if partner is None else Guidance(7.0, partner)
        for name, value in told.items():
            setattr(run, name, value)
        out = call(unet, step)
        assert run.notes == []
    return out


def assert_close(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a.double(), b.double(), rtol=1e-4, atol=1e-4 * b.abs().max().item())


# What it does.


@families
@pytest.mark.parametrize("prediction", ("eps", "v"))
@pytest.mark.parametrize("timestep", (999, 900, 400))
@pytest.mark.parametrize("partner, signs", [((0, 0), (1, -1)), ((1, 1), (-1, 1))])
def test_the_clean_latents_are_those_of_a_sampler_that_colors_its_own(family, prediction, timestep, partner, signs):
    unet, step = FAMILIES[family](), inputs(family, timestep=timestep)
    config = ColorMap(regions="1", colors="red", end=1)
    before, given = snapshot(unet), step["x"].clone()
    out = answered(unet, config, step, partner, prediction=prediction)
    changed = torch.stack([colored(u, sign, RED[family]) for u, sign in zip(step["x"], signs, strict=True)])
    expected = x0(changed, call(unet, {**step, "x": changed}), timestep, prediction)
    assert_close(x0(step["x"], out, timestep, prediction), expected)
    assert not torch.allclose(out, call(unet, step), atol=1e-2)
    assert snapshot(unet) == before and torch.equal(step["x"], given)


@pytest.mark.parametrize("name", HOSTS)
def test_every_host(name):
    host, step = HOSTS[name], inputs("sd1", timestep=990)
    unet = host.prepare(fresh("sd1"))
    changed = torch.stack([colored(u, sign, RED["sd1"]) for u, sign in zip(step["x"], (1, -1), strict=True)])
    expected = x0(changed, call(FAMILIES["sd1"](), {**step, "x": changed}), 990)
    with modified(unet, [ColorMap(regions="1", colors="red")]) as run:
        run.guidance = Guidance(7.0, (0, 0))
        assert_close(x0(step["x"], host.forward(unet, **step), 990), expected)


def test_half_the_strength_is_half_the_share_and_hires_fix_has_a_quarter():
    unet, step = FAMILIES["sd1"](), inputs("sd1", batch=1)
    for config, pass_name, strength in [
        (ColorMap(regions="1", colors="red", strength=0.5, end=1), "first", 0.5),
        (ColorMap(regions="1", colors="red", end=1), "hires", 0.25),
    ]:
        with modified(unet, [config], pass_name=pass_name) as run:
            run.guidance = Guidance(1.0, (0,))
            out = call(unet, step)
        changed = colored(step["x"][0], 1, RED["sd1"], strength)[None]
        assert_close(x0(step["x"], out, 500), x0(changed, call(unet, {**step, "x": changed}), 500))


def test_a_share_is_never_more_than_all():
    unet, step = FAMILIES["sd1"](), inputs("sd1", batch=1)
    out = answered(unet, ColorMap(regions="1", colors="20 0 0", strength=2, end=1), step, (0,))
    # 2 * SHARE * (20 * 2 + 20/3 * 2) / 10 is above 1: nothing of the channels is left.
    away = [20 - 20 / 3, 20 + 20 / 9, 40 / 9]
    changed = step["x"].clone()
    for channel, one in enumerate(away, start=1):
        changed[0, channel] = -0.12 * one * step["x"][0, channel].abs().mean()
    assert_close(x0(step["x"], out, 500), x0(changed, call(unet, {**step, "x": changed}), 500))


@pytest.mark.parametrize("size", [(16, 16), (16, 24), (8, 40)], ids=str)
@pytest.mark.parametrize("split", ("columns", "rows"))
def test_regions_are_colored_apart(split, size):
    unet, step = FAMILIES["sd1"](), inputs("sd1", batch=1, height=size[0], width=size[1])
    out = answered(unet, ColorMap(regions="1,3", split=split, colors="none|red", end=1), step, (0,))
    where = torch.zeros(size, dtype=torch.bool)
    if split == "columns":
        where[:, size[1] // 4 :] = True
    else:
        where[size[0] // 4 :] = True
    changed = colored(step["x"][0], 1, RED["sd1"], where=where)[None]
    assert_close(x0(step["x"], out, 500), x0(changed, call(unet, {**step, "x": changed}), 500))


def test_a_cell_on_an_edge_gets_its_part_of_both():
    unet, step = HOSTS["a1111"].prepare(FAMILIES["sd1"]()), inputs("sd1", batch=1, height=17, width=8)
    with modified(unet, [ColorMap(split="rows", colors="red|none", end=1)]) as run:
        run.guidance = Guidance(1.0, (0,))
        out = HOSTS["a1111"].forward(unet, **step)
    whole, u = colored(step["x"][0], 1, RED["sd1"]), step["x"][0]
    changed = torch.cat([whole[:, :8], (whole[:, 8:9] + u[:, 8:9]) / 2, u[:, 9:]], 1)[None]
    plain = HOSTS["a1111"].forward(unet, **{**step, "x": changed})
    assert_close(x0(step["x"], out, 500), x0(changed, plain, 500))


def test_mask_and_picture_of_an_inpainting_model_are_left_alone():
    unet, step = FAMILIES["inpainting"](), inputs("inpainting", batch=1)
    out = answered(unet, ColorMap(regions="1", colors="red", end=1), step, (0,))
    changed = colored(step["x"][0], 1, RED["sd1"])[None]
    assert torch.equal(changed[:, 4:], step["x"][:, 4:])
    assert_close(x0(step["x"], out, 500), x0(changed, call(unet, {**step, "x": changed}), 500))


@pytest.mark.parametrize("family, like", [("sd2", "sd1"), ("refiner", "sdxl"), ("ssd1b", "sdxl")])
def test_other_families_have_the_colors_of_their_autoencoder(family, like):
    unet, step = FAMILIES[family](), inputs(family, batch=1)
    out = answered(unet, ColorMap(regions="1", colors="red", end=1), step, (0,))
    changed = colored(step["x"][0], 1, RED[like])[None]
    assert_close(x0(step["x"], out, 500), x0(changed, call(unet, {**step, "x": changed}), 500))


def test_acts_in_the_first_evaluations_by_default():
    unet, acts = FAMILIES["sd1"](), []
    for timestep in torch.linspace(999, 0, 20).tolist():
        step = inputs("sd1", batch=1, height=8, width=8, timestep=timestep)
        acts.append(not torch.equal(answered(unet, ColorMap(), step, (0,)), call(unet, step)))
    assert acts == [True] * 3 + [False] * 17


# Rows.


@families
def test_rows_without_a_negative_prompt_are_all_the_prompts(family):
    unet, step = FAMILIES[family](), inputs(family, batch=2)
    config = ColorMap(regions="1", colors="red", end=1)
    expected = torch.cat(
        [answered(unet, config, {k: None if v is None else v[i : i + 1] for k, v in step.items()}, (0,)) for i in (0, 1)]
    )
    for partner in ((0, 1), (0, 1, 0, 1)):  # each its own; the negative ones left out by the host
        assert_close(answered(unet, config, step, partner), expected)


@pytest.mark.parametrize(
    ("guidance", "words"),
    [
        (None, "this program does not say which part of a batch is the prompt's (run.guidance)."),
        (Guidance(7.0), "this program does not say which part of a batch is the prompt's (run.guidance)."),
        (Guidance(7.0, reason="turn on Pad prompt/negative prompt."), "turn on Pad prompt/negative prompt."),
    ],
)
def test_unknown_rows_are_told_once_and_all_the_prompts(guidance, words):
    unet, step, config = FAMILIES["sd1"](), inputs("sd1"), ColorMap(regions="1", colors="red", end=1)
    with modified(unet, [config]) as run:
        run.guidance = guidance
        out, again = call(unet, step), call(unet, step)
    assert torch.equal(out, again) and run.notes == [f"Color map is weaker here: {words}"]
    assert torch.equal(out, answered(unet, config, step, (0, 1)))


@pytest.mark.parametrize("partner", [(0, 0), (1, 1), (0, 1, 0, 1), (0, 0, 2, 2)], ids=str)
def test_where_negative_rows_are_left_out_all_get_their_prompts_answer(partner):
    unet, step = FAMILIES["sd1"](), inputs("sd1", batch=len(partner))
    config = ColorMap(regions="1", colors="red", end=1)
    kept = sorted(set(partner))
    # Hosts give a picture's rows one latent.
    step["x"] = step["x"][list(partner)]
    alone = answered(unet, config, {k: None if v is None else v[kept] for k, v in step.items()}, tuple(range(len(kept))))
    for configs in ([config, GuidanceInterval()], [GuidanceInterval(), config]):
        with modified(unet, configs) as run:
            run.guidance = Guidance(1.0, partner)
            out = call(unet, step)
        assert_close(out, alone[[kept.index(of) for of in partner]])


def test_beside_rows_that_run_along():
    """ScaleCrafter's companions are of the coloured input, and go before the colour is made up for."""
    unet, step = FAMILIES["sd1"](), inputs("sd1")
    crafter = ScaleCrafter(auto=False, dilation=2, level=3, noise_damped=True)
    changed = torch.stack([colored(u, sign, RED["sd1"]) for u, sign in zip(step["x"], (1, -1), strict=True)])
    results = []
    for configs, x in (([crafter], changed), ([crafter, ColorMap(regions="1", colors="red", end=1)], step["x"])):
        with modified(unet, configs, trained_size=64) as run:
            run.guidance = Guidance(7.0, (0, 0))
            results.append(x0(x, call(unet, {**step, "x": x}), 500))
            assert run.notes == []
    assert_close(results[1], results[0])


def test_a_reference_picture_of_controlnet_is_not_colored():
    unet, step, met = fresh("sd1"), inputs("sd1"), []
    hook = ControlNetHook(unet, reference=True)
    unet.input_blocks[0][0].register_forward_hook(lambda _module, args, _out: met.append(args[0]))
    inner = unet.input_blocks[0][0]._conv_forward
    unet.input_blocks[0][0]._conv_forward = lambda x, *rest: met.append(x) or inner(x, *rest)
    with modified(unet, [ColorMap(regions="1", colors="red", end=1)]) as run:
        run.guidance = Guidance(7.0, (0, 0))
        call(unet, step)  # the first of a run tells which walks are of the call's own input
        met.clear()
        call(unet, step)
    hook.restore()
    reference, seen_reference, own, seen_own = met[1], met[0], met[3], met[2]
    assert torch.equal(reference, seen_reference) and not torch.equal(own, seen_own)


def test_half_precision():
    unet, step = fresh("sd1"), inputs("sd1", timestep=950)
    config = ColorMap(regions="1", colors="red")
    single = answered(unet, config, step)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = answered(unet, config, {**step, "x": step["x"].bfloat16()})
    assert half.isfinite().all() and (half.float() - single).abs().mean() < 0.1 * single.abs().mean()


# Words.


@pytest.mark.parametrize(
    "values, sentence",
    [
        ({"regions": "1,1,1"}, "colors has 2 and regions has 3; give each region one, none for no color."),
        ({"regions": "1,0"}, "regions cannot be read: it takes ratios above 0"),
        ({"regions": ""}, "regions cannot be read"),
        ({"regions": ",".join("1" * 65)}, "up to 64 regions"),
        ({"regions": "__import__('os')"}, "regions has characters other than"),
        ({"regions": "1=1"}, "regions has characters other than"),
        ({"colors": "red"}, "colors has 1 and regions has 2"),
        ({"colors": "red|"}, "colors cannot be read: a color is a name"),
        ({"colors": "red|reddish"}, "'reddish' is none"),
        ({"colors": "red|1e3 0 0"}, "colors cannot be read"),
        ({"colors": "red|lambda: 0"}, "colors has characters other than"),
        ({"colors": 7}, "colors is 7; it takes text"),
        ({"split": "diagonal"}, "it takes columns or rows"),
        ({"strength": 3}, "strength is 3"),
    ],
)
def test_what_cannot_be_read_costs_one_sentence(values, sentence):
    with pytest.raises(ConfigError) as refusal:
        ColorMap(**values)
    assert sentence in str(refusal.value) and "\n" not in str(refusal.value) and str(refusal.value).endswith(".")


def test_texts_come_back_from_pictures_and_files():
    config = ColorMap(regions="2,1,3;3,4,6", split="rows", colors="5 0 0; #f80 ;light blue;1 2 3 -4", end=0.2)
    assert config.regions == "2,1,3|3,4,6" and len(config.areas()) == 4
    assert configs_of(selection_of([config])) == ([config], [])
    selection, notes = from_infotext(to_infotext([config]))
    assert notes == [] and configs_of(selection) == ([config], [])


def test_colors_of_nothing_change_nothing():
    unet = fresh("sd1")
    for neutral in (NEUTRAL, ColorMap(colors="none|0 0 0"), ColorMap(regions="1", colors="none")):
        with modified(unet, [neutral]):
            assert neutral.neutral and what_is_on(unet) == {}
    assert not ColorMap(colors="none|red").neutral
    assert replace(ColorMap(), end=1).summary() == "Color map blue|orange"


def test_a_unet_that_gives_no_latents_is_refused():
    unet = fresh("sd1")
    unet.out = nn.Identity()
    with pytest.raises(ConfigError, match="set strength to 0"):
        modified(unet, [ColorMap()]).__enter__()
    assert what_is_on(unet) == {}
