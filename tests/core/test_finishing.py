"""Edits for finished pictures: in the last of a picture's passes only, as hosts tell it, and whatever the window."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn
from unets import call, fresh, inputs
from webui_stubs import P, generate, loaded, shared

from lib_unetmod import CDTuner, ColorMap, DeepShrink, modified
from lib_unetmod.core.depth import Depth
from lib_unetmod.core.edits import DecoderEdit
from lib_unetmod.core.patching import Edit
from lib_unetmod.core.registry import method
from lib_unetmod.webui import host, sampling


@pytest.fixture(autouse=True)
def _settings_as_they_were():
    yield
    vars(shared.opts).pop("sd_vae_decode_method", None)
    shared.sd_model = None


@pytest.fixture
def doubling(probe):
    """`Probe` doubles what an autoencoder's first layer answers in finished pictures, and negates what its second does."""

    def edits(config, unet, run):
        yield DecoderEdit(run.vae[0], lambda call, x: 2 * call(x))
        yield Edit(run.vae[1], lambda call, x: -call(x))

    method(probe, title="Probe", benefit="", at=Depth.INNERMOST)(edits)
    return probe


def test_finishing_follows_the_passes_and_an_edit_the_window(doubling):
    unet, vae, one = fresh("sd1"), nn.Sequential(nn.Identity(), nn.Identity()), torch.ones(1)
    with modified(unet, [doubling(factor=2, end=0.5, img2img=False)], vae=vae) as run:
        assert vae(one) == 2  # no evaluation yet
        call(unet, inputs("sd1", height=8, width=8, timestep=900))
        assert vae(one) == -2
        call(unet, inputs("sd1", height=8, width=8, timestep=100))
        assert vae(one) == 2
        run.last_pass = False
        assert vae(one) == 1
        run.begin_pass("hires")
        run.last_pass = True
        assert vae(one) == 2
        run.begin_pass("img2img")
        assert vae(one) == 1
    assert vae(one) == 1 and "forward" not in vars(vae[0])


class Told(P):
    """Notes what the run is told before each call of the U-Net."""

    enable_hr = False

    def sample(self):
        self.told = []
        follow = sampling._follow

        def followed(current):
            follow(current)
            self.told.append((current.run, current.run.prediction))

        sampling._follow = followed
        try:
            return super().sample()
        finally:
            sampling._follow = follow


@pytest.mark.parametrize("hires", (False, True))
def test_the_webui_tells_the_last_pass(hires):
    p, last = P([fresh("sd1")], steps=1, hires=hires), []
    p.enable_hr, sample = hires, p.sample

    def looking():
        run = sampling._current.run
        last.append(run.last_pass)
        run.map.unet.register_forward_pre_hook(lambda *_: last.append(run.last_pass))
        return sample()

    p.sample = looking
    generate(p, {"cd_tuner": {}})
    assert last == ([False, False, True] if hires else [True, True])


def test_a_pass_is_the_last_unless_hires_fix_follows():
    assert host.is_last_pass(SimpleNamespace())
    assert not host.is_last_pass(SimpleNamespace(enable_hr=True))
    assert host.is_last_pass(SimpleNamespace(enable_hr=True, is_hr_pass=True))
    assert host.is_last_pass(SimpleNamespace(init_images=["one"]))


def test_the_webui_tells_what_the_unet_predicts():
    p = Told([fresh("sd1")], steps=1)
    generate(p, {"cd_tuner": {}})
    assert {prediction for _, prediction in p.told} == {"eps"}
    forge = SimpleNamespace(
        unet=SimpleNamespace(model=SimpleNamespace(predictor=SimpleNamespace(prediction_type="v_prediction")))
    )
    for model, expected in [
        (None, "eps"),
        (SimpleNamespace(), "eps"),
        (SimpleNamespace(parameterization="eps"), "eps"),
        (SimpleNamespace(parameterization="v"), "v"),
        (SimpleNamespace(forge_objects=forge), "v"),
    ]:
        shared.sd_model = model
        assert host.prediction() == expected


def test_an_approximate_decoder_is_no_autoencoder():
    shared.sd_model = loaded(fresh("sd1"))
    assert host.current_vae() is not None
    shared.opts.sd_vae_decode_method = "TAESD"
    assert host.current_vae() is None
    shared.opts.sd_vae_decode_method = "Full"
    assert host.current_vae() is not None


def test_with_an_approximate_decoder_the_user_is_told_of_the_setting():
    shared.opts.sd_vae_decode_method = "TAESD"
    p = P([fresh("sd1")], steps=1)
    generate(p, {"cd_tuner": {"color1": 5}})
    assert any("VAE type for decode" in comment for comment in p.comments)


@pytest.mark.parametrize("turned", (False, True))
def test_methods_of_one_order_stand_in_one_order(turned):
    """Both have order 2 and edit the first layer."""
    configs = [DeepShrink(auto=False, block=3), ColorMap()]
    run = modified(fresh("sd1"), configs[::-1] if turned else configs)
    assert run.methods == ("color_map", "deep_shrink")


def test_the_first_passes_size_is_kept_for_the_second():
    unet = fresh("sd1")
    with modified(unet, [CDTuner()]) as run:
        assert run.first_size is None
        call(unet, inputs("sd1", height=8, width=16))
        run.begin_pass("hires")
        call(unet, inputs("sd1", height=16, width=16))
        assert run.first_size == (8, 16)
