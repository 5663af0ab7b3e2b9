"""CD-Tuner against copies of the U-Net and of the autoencoder whose weights really are edited, and constants by hand."""

from __future__ import annotations

import contextlib
import copy
import io
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from contract import snapshot
from hosts import HOSTS
from ldm.modules.diffusionmodules.model import Decoder
from torch import Tensor, nn
from unets import FAMILIES, call, fresh, inputs

from lib_unetmod import CDTuner, ConfigError, modified, what_is_on
from lib_unetmod.methods.detail.cd_tuner import moved_by

pytestmark = pytest.mark.in_turn(60)

NEUTRAL = CDTuner(detail1=0)
CONTRACT = [
    CDTuner(detail1=5),
    CDTuner(detail1=-3, detail2=2, contrast=3, hires_scaling=True, brightness=4),
]


def edited(unet: nn.Module, detail1: float = 0, detail2: float = 0, contrast: float = 0) -> nn.Module:
    """A copy with the five tensors edited as the extension edits them."""
    unet = copy.deepcopy(unet)
    for module, detail in ((unet.input_blocks[0][0], detail1), (unet.out[0], detail2)):
        module.weight.mul_(1 - 0.01 * detail)
        module.bias.mul_(1 + 0.02 * detail)
    unet.out[2].bias[0] += 0.02 * contrast
    return unet


def with_biases(unet: nn.Module) -> nn.Module:
    """Untrained norms have weights of 1 and biases of 0, by which nothing would show."""
    generator = torch.Generator().manual_seed(3)
    norm = unet.out[0]
    norm.weight.copy_(1 + 0.3 * torch.randn(norm.weight.shape, generator=generator))
    norm.bias.copy_(0.3 * torch.randn(norm.bias.shape, generator=generator))
    return unet


def unet_of(family: str) -> nn.Module:
    return with_biases(fresh(family))


def evaluated(unet: nn.Module, config: CDTuner, step: dict, pass_name: str = "first") -> Tensor:
    with modified(unet, [config], pass_name=pass_name) as run:
        out = call(unet, step)
        assert run.notes == []
    return out


def assert_close(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=2e-5, atol=1e-5)


# The U-Net.


ONE_EACH = [{"detail1": 10}, {"detail1": -10}, {"detail1": 0, "detail2": 10}, {"detail1": 0, "contrast": 20}]
TOGETHER = {"detail1": 4, "detail2": -6, "contrast": -5}


@pytest.mark.parametrize(
    "family, values",
    [(family, values) for family in ("sd1", "sdxl") for values in ONE_EACH] + [(family, TOGETHER) for family in FAMILIES],
    ids=str,
)
def test_equals_a_copy_whose_weights_are_edited(family, values):
    unet, step = unet_of(family), inputs(family)
    before, weights = snapshot(unet), {name: one.clone() for name, one in unet.state_dict().items()}
    plain, expected = call(unet, step), call(edited(unet, **values), step)
    assert not torch.allclose(plain, expected, rtol=1e-3, atol=1e-3)
    assert_close(evaluated(unet, CDTuner(**values), step), expected)
    assert snapshot(unet) == before
    assert all(torch.equal(one, weights[name]) for name, one in unet.state_dict().items())
    assert torch.equal(call(unet, step), plain)


@pytest.mark.parametrize("family", ("sd1", "sdxl"))
@pytest.mark.parametrize("rows", ("one batch", "apart"))
def test_both_ways_to_call_cond_and_uncond(family, rows):
    unet, step = unet_of(family), inputs(family, batch=2)
    expected = call(edited(unet, 5, -4, 6), step)
    config = CDTuner(detail1=5, detail2=-4, contrast=6)
    if rows == "one batch":
        out = evaluated(unet, config, step)
    else:
        alone = [{name: one if one is None else one[i : i + 1] for name, one in step.items()} for i in (0, 1)]
        out = torch.cat([evaluated(unet, config, one) for one in alone])
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", ("sd1", "sdxl"))
@pytest.mark.parametrize("name", HOSTS)
def test_every_host(family, name):
    host, step = HOSTS[name], inputs(family)
    unet = unet_of(family)
    expected = call(edited(unet, 5, -4, 6), step)
    unet = host.prepare(unet)
    with modified(unet, [CDTuner(detail1=5, detail2=-4, contrast=6)]):
        assert_close(host.forward(unet, **step), expected)


@pytest.mark.parametrize("family", ("sd1", "sdxl"))
def test_with_loras_beside_the_weights(family):
    """Forwards that add a low-rank product, as hosts do that leave weights alone: as if it were merged and then edited."""
    unet, step = unet_of(family), inputs(family)
    conv, generator = unet.input_blocks[0][0], torch.Generator().manual_seed(1)
    down = 0.2 * torch.randn(2, *conv.weight.shape[1:], generator=generator)
    up = 0.2 * torch.randn(conv.out_channels, 2, 1, 1, generator=generator)
    merged = copy.deepcopy(unet)
    merged.input_blocks[0][0].weight.add_((up[:, :, 0, 0] @ down.flatten(1)).view_as(conv.weight))
    expected = call(edited(merged, 7, 3), step)
    plain = conv.forward
    conv.forward = lambda x: plain(x) + F.conv2d(F.conv2d(x, down, padding=1), up)
    with_lora = vars(conv)["forward"]
    assert_close(evaluated(unet, CDTuner(detail1=7, detail2=3), step), expected)
    assert vars(conv)["forward"] is with_lora


@pytest.mark.parametrize("family", ("sd1", "sdxl"))
def test_weights_kept_smaller_and_cast_in_the_call(family):
    """As fp8 and Forge's casting do: the module's own numbers are not those that act."""
    unet, step = unet_of(family), inputs(family)
    conv, norm = unet.input_blocks[0][0], unet.out[0]
    for module in (conv, norm):
        module.weight.data = module.weight.bfloat16().float()
        module.bias.data = module.bias.bfloat16().float()
    expected = call(edited(unet, -8, 8), step)
    conv.bfloat16(), norm.bfloat16()
    conv.forward = lambda x: F.conv2d(x, conv.weight.float(), conv.bias.float(), padding=1)
    norm.forward = lambda x: F.group_norm(x, norm.num_groups, norm.weight.float(), norm.bias.float(), norm.eps)
    assert_close(evaluated(unet, CDTuner(detail1=-8, detail2=8), step), expected)
    assert conv.weight.dtype == norm.bias.dtype == torch.bfloat16


def test_the_refiner_that_takes_over_is_tuned_and_the_first_left_whole():
    base, refiner = unet_of("sdxl"), unet_of("refiner")
    before, step = snapshot(base), inputs("refiner")
    expected = call(edited(refiner, 6, 2, 1), step)
    with modified(base, [CDTuner(detail1=6, detail2=2, contrast=1)]) as run:
        call(base, inputs("sdxl"))
        run.follow(refiner)
        assert snapshot(base) == before
        assert_close(call(refiner, step), expected)


def test_details_keep_to_the_window():
    unet, config = unet_of("sd1"), CDTuner(detail1=6, detail2=2, contrast=4, end=0.5)
    for timestep, acts in ((900, True), (600, True), (400, False)):
        step = inputs("sd1", timestep=timestep)
        plain, expected = call(unet, step), call(edited(unet, 6, 2, 4), step)
        out = evaluated(unet, config, step)
        assert torch.equal(out, plain) != acts and (not acts or assert_close(out, expected) is None)


# Hires fix.


def both_passes(config: CDTuner, hires: tuple[int, int] = (24, 16)) -> tuple[Tensor, Tensor]:
    unet = unet_of("sd1")
    with modified(unet, [config]) as run:
        first = call(unet, inputs("sd1", height=16, width=16))
        run.begin_pass("hires")
        return first, call(unet, inputs("sd1", height=hires[0], width=hires[1]))


@pytest.mark.parametrize(
    "values, hires",
    [
        ({}, (6, 2)),
        ({"hires_own": True}, (0, 0)),
        ({"hires_own": True, "hires_detail1": -3, "hires_detail2": 5}, (-3, 5)),
        ({"hires_detail1": -3, "hires_detail2": 5}, (6, 2)),
        ({"hires_scaling": True}, (9, 3)),
        ({"hires_scaling": True, "hires_own": True, "hires_detail1": 4}, (6, 0)),
    ],
    ids=str,
)
def test_the_second_pass_has_the_same_its_own_or_scaled_values(values, hires):
    first, second = both_passes(CDTuner(detail1=6, detail2=2, contrast=3, **values))
    unet = unet_of("sd1")
    assert_close(first, call(edited(unet, 6, 2, 3), inputs("sd1", height=16, width=16)))
    assert_close(second, call(edited(unet, *hires, 3), inputs("sd1", height=24, width=16)))


def test_its_own_values_are_for_the_second_pass_alone():
    unet, step = unet_of("sd1"), inputs("sd1")
    config = CDTuner(detail1=0, hires_own=True, hires_detail1=5)
    assert not config.neutral
    for pass_name in ("first", "img2img"):
        assert torch.equal(evaluated(unet, config, step, pass_name), call(unet, step))
    assert_close(evaluated(unet, config, step, "hires"), call(edited(unet, 5), step))


def test_scaling_without_a_first_pass_is_told():
    unet, step = unet_of("sd1"), inputs("sd1")
    with modified(unet, [CDTuner(detail1=6, hires_scaling=True)], pass_name="hires") as run:
        assert_close(call(unet, step), call(edited(unet_of("sd1"), 6), step))
        call(unet, step)
    assert len(run.notes) == 1 and "Scale detail in Hires. fix has no effect" in run.notes[0]


# The autoencoder.


class Autoencoder(nn.Module):
    """ldm's decoder with the published layout of channels, a sixteenth as wide."""

    def __init__(self, entry: bool = True) -> None:
        super().__init__()
        config = {"ch": 32, "ch_mult": (1, 2, 4, 4), "num_res_blocks": 1, "attn_resolutions": [], "in_channels": 3}
        with torch.random.fork_rng(devices=[]), contextlib.redirect_stdout(io.StringIO()):  # ldm prints its latent shape
            torch.manual_seed(0)
            self.decoder = Decoder(out_ch=3, resolution=64, z_channels=4, **config)
            self.post_quant_conv = nn.Conv2d(4, 4, 1) if entry else None

    def decode(self, z: Tensor) -> Tensor:
        return self.decoder(z if self.post_quant_conv is None else self.post_quant_conv(z))


def autoencoder(entry: bool = True) -> Autoencoder:
    return Autoencoder(entry).eval().requires_grad_(False)


def untouched(vae: nn.Module) -> dict:
    """Its snapshot, but for the shape that ldm's decoder notes at each call."""
    vars(vae.decoder).pop("last_z_shape", None)
    return snapshot(vae)


def latent(seed: int = 0) -> Tensor:
    return torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(seed))


def decoded(vae: nn.Module, config: CDTuner, family: str = "sd1", pass_name: str = "first", steps: int = 1) -> Tensor:
    """What a host decodes after `steps` evaluations, the last at the timestep of `steps`."""
    unet, scale = FAMILIES[family](), {"sd1": 0.18215, "sd2": 0.18215}.get(family, 0.13025)
    with modified(unet, [config], vae=vae, pass_name=pass_name) as run:
        for step in range(steps):
            call(unet, inputs(family, height=8, width=8, timestep=999 - 900 * step))
        out = vae.decode(latent() / scale)
        assert run.notes == []
    return out


FINISH = {"contrast2": 5, "brightness": -3, "color1": 2, "color2": -4, "color3": 7}
#: What comes off the four channels for these numbers: 0.02 * 20/3 times contrast 2 and the sum of each family's axes.
#: SD1: brightness (-1, 1/3, 2/3), colours (1, 1, 0), (0, -1, -1), (1, 0, 1):
#:   3 + 2 + 7 = 12;  -1 + 2 + 4 = 5;  -2 + 4 + 7 = 9.
#: SDXL: brightness (0, 0, 1), colours (1, 0, 0), (-1, -1, 0), (-1, 1, 0):
#:   2 + 4 - 7 = -1;  4 + 7 = 11;  -3.
OFF = {"sd1": (5, 12, 5, 9), "sdxl": (5, -1, 11, -3)}


@pytest.mark.parametrize("family, like", [("sd1", "sd1"), ("sd2", "sd1"), ("sdxl", "sdxl"), ("refiner", "sdxl")])
@pytest.mark.parametrize("entry", (True, False))
@pytest.mark.parametrize("steps", (1, 2))
def test_colors_are_constants_off_the_finished_latent(family, like, entry, steps):
    vae, config = autoencoder(entry), CDTuner(detail1=0, **FINISH)
    off = torch.tensor([0.02 * 20 / 3 * one for one in OFF[like]])
    torch.testing.assert_close(torch.tensor(moved_by(config, family)), off)
    scale = {"sd1": 0.18215, "sdxl": 0.13025}[like]
    expected, before = vae.decode((latent() - off.view(1, 4, 1, 1)) / scale), untouched(vae)
    torch.testing.assert_close(decoded(vae, config, family, steps=steps), expected, rtol=1e-4, atol=1e-5)
    assert untouched(vae) == before


def test_by_a_linear_decoder_numbers_come_out_as_the_extension_subtracts_them():
    """Brightness 10 of SD1: 10 * 0.02 * 20/3 = 4/3 onto channel 1, 4/9 and 8/9 off channels 2 and 3."""

    class Linear(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.post_quant_conv = nn.Identity()
            self.decoder = nn.Identity()

    vae, unet = Linear(), FAMILIES["sd1"]()
    with modified(unet, [CDTuner(detail1=0, brightness=10)], vae=vae):
        out = 0.18215 * vae.decoder(vae.post_quant_conv(torch.zeros(1, 4, 1, 1) / 0.18215))
    torch.testing.assert_close(out.flatten(), torch.tensor([0, 4 / 3, -4 / 9, -8 / 9]))


def test_colors_are_what_the_extension_leaves_of_a_long_schedule():
    """Its constants come off x0 in the last but one of Euler's steps, of which the latent gets all but sigma's ratio."""
    config = CDTuner(detail1=0, color1=5)
    off = torch.tensor(moved_by(config, "sd1"))
    x0, sigmas = torch.zeros(4), (0.5, 0.3, 0.05, 0.0)
    x = torch.ones(4) * sigmas[0]
    for i, (sigma, later) in enumerate(pairwise(sigmas)):
        denoised = x0 - off if i == 1 else x0
        x = denoised + later / sigma * (x - denoised)
        if i == 1:
            kept = x - torch.ones(4) * later
    torch.testing.assert_close(kept, -off * (1 - 0.05 / 0.3))


SATURATED = {
    "saturation": (0.075, ("up.1.upsample.conv", "up.0.block.0.nin_shortcut")),
    "saturation2": (
        0.02,
        ("up.3.upsample.conv", "up.2.upsample.conv", "up.1.block.0.nin_shortcut", "conv_in", "conv_out"),
    ),
}


@pytest.mark.parametrize(
    "values", [{"saturation": 6}, {"saturation": -20}, {"saturation2": 9}, {"saturation": 3, "saturation2": -7}]
)
def test_saturation_equals_an_autoencoder_whose_weights_are_edited(values):
    vae = autoencoder()
    weights, before = copy.deepcopy(vae.state_dict()), untouched(vae)
    other = copy.deepcopy(vae)
    for name, value in values.items():
        unit, places = SATURATED[name]
        for place in places:
            other.decoder.get_submodule(place).weight.mul_(1 + unit * value)
    expected = other.decode(latent() / 0.18215)
    assert not torch.allclose(vae.decode(latent() / 0.18215), expected, atol=1e-2)
    torch.testing.assert_close(decoded(vae, CDTuner(detail1=0, **values)), expected, rtol=1e-4, atol=1e-4)
    assert untouched(vae) == before and all(torch.equal(one, weights[name]) for name, one in vae.state_dict().items())


@pytest.mark.parametrize("steps", (0, 1, 2))
@pytest.mark.parametrize("window", [{}, {"end": 0.3}, {"start": 0.99}], ids=str)
def test_the_finished_picture_is_tuned_whatever_the_window(steps, window):
    vae = autoencoder()
    config = CDTuner(detail1=0, color1=5, saturation=3)
    expected = decoded(vae, config)
    assert not torch.allclose(expected, vae.decode(latent() / 0.18215), atol=1e-2)
    assert torch.equal(decoded(vae, replace(config, **window), steps=steps), expected)


def test_only_in_the_passes_that_are_ticked():
    vae = autoencoder()
    config, plain = CDTuner(detail1=0, color1=5, saturation=3, img2img=False), vae.decode(latent() / 0.18215)
    assert torch.equal(decoded(vae, config, pass_name="img2img"), plain)
    assert not torch.equal(decoded(vae, config, pass_name="first"), plain)


def test_once_in_hires_fix_after_its_last_pass():
    vae, unet = autoencoder(), FAMILIES["sd1"]()
    z = latent() / 0.18215
    plain, config = vae.decode(z), CDTuner(detail1=0, color1=5, saturation=3)
    expected = decoded(vae, config)
    with modified(unet, [config], vae=vae) as run:
        run.last_pass = False
        call(unet, inputs("sd1"))
        assert torch.equal(vae.decode(z), plain)
        run.begin_pass("hires")
        assert torch.equal(vae.decode(z), plain)  # what inpainting models are told of the first pass's picture
        run.last_pass = True
        call(unet, inputs("sd1"))
        assert torch.equal(vae.decode(z), expected)


def test_an_error_in_the_autoencoder_leaves_no_trace():
    vae, unet = autoencoder(), FAMILIES["sd1"]()
    plain, before = vae.decode(latent()), untouched(vae)
    with pytest.raises(RuntimeError), modified(unet, [CDTuner(color1=5, saturation=3, saturation2=3)], vae=vae):
        vae.decode(latent()[:, :3])
    assert untouched(vae) == before and torch.equal(vae.decode(latent()), plain)


@pytest.mark.parametrize("vae", (None, nn.Identity(), nn.Sequential(nn.Identity())), ids=("none", "small", "another"))
def test_without_an_autoencoder_it_says_so_and_details_act(vae):
    unet, step = unet_of("sd1"), inputs("sd1")
    with modified(unet, [CDTuner(detail1=6, color1=5)], vae=vae) as run:
        assert_close(call(unet, step), call(edited(unet_of("sd1"), 6), step))
    assert len(run.notes) == 1 and "Choose Full for VAE type for decode in Settings" in run.notes[0]
    with modified(unet, [CDTuner(detail1=6)], vae=vae) as run:
        call(unet, step)
    assert run.notes == []


def test_an_autoencoder_without_some_of_the_layers_says_so():
    vae, unet = autoencoder(), FAMILIES["sd1"]()
    del vae.decoder.up[0].block[0].nin_shortcut
    with modified(unet, [CDTuner(saturation=3)], vae=vae) as run:
        pass
    assert len(run.notes) == 1 and "1 of 2 layers" in run.notes[0]


# What is installed, and words.


def test_only_what_is_needed_is_edited():
    unet, vae = fresh("sd1"), autoencoder()
    clock, rescue = "input_blocks.0.0", "out"
    for config, paths in [
        (CDTuner(detail1=1), {clock, rescue}),
        (CDTuner(detail1=0, detail2=1), {clock, rescue, "out.0"}),
        (CDTuner(detail1=0, contrast=1), {clock, rescue, "out.2"}),
        (CDTuner(detail1=0, color1=1), {clock, rescue}),
    ]:
        with modified(unet, [config], vae=vae):
            assert what_is_on(unet).keys() == paths
            assert what_is_on(vae).keys() == ({"post_quant_conv"} if config.color1 else set())
    with modified(unet, [CDTuner(detail1=0)], vae=vae):
        assert what_is_on(unet) == what_is_on(vae) == {}


@pytest.mark.parametrize("config, name", [(CDTuner(detail2=1), "detail2"), (CDTuner(contrast=1), "contrast")])
def test_a_unet_that_ends_otherwise_is_refused(config, name):
    unet = fresh("sd1")
    unet.out = nn.Sequential(nn.SiLU())
    with pytest.raises(ConfigError, match=f"set {name} to 0"):
        modified(unet, [config]).__enter__()
    assert what_is_on(unet) == {}


def test_words():
    assert CDTuner().summary() == "CD-Tuner detail 3/0"
    config = CDTuner(detail1=0, detail2=-1.5, contrast2=2, color3=4, saturation2=1, end=0.5)
    assert config.summary() == "CD-Tuner detail 0/-1.5, contrast 0/2, color 0/0/4, saturation 0/1 0-0.5"
    for wrong in ({"detail1": 11}, {"contrast": -21}, {"color2": "red"}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            CDTuner(**wrong)
