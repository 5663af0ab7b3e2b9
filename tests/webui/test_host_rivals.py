"""What else does a method's work in the WebUIs: seen from stand-ins of their settings, scripts and patched U-Nets."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace

import pytest
import webui_stubs
from unets import fresh
from webui_stubs import P, generate, loaded, shared

from lib_unetmod import METHODS
from lib_unetmod.webui import host_rivals

#: The titles as the sources have them, and the methods that do the same.
SCRIPTS = {
    "FreeU Integrated (SD 1.x, SD 2.x, SDXL)": ["free_u"],  # Forge
    "FreeU Integrated": ["free_u"],  # reForge
    "FreeU": ["free_u"],  # sd-webui-freeu
    "Kohya HRFix Integrated": ["deep_shrink", "scale_crafter", "hi_diffusion"],  # Forge, reForge
    "Kohya Hires.fix": ["deep_shrink", "scale_crafter", "hi_diffusion"],  # sd-webui-kohya-hiresfix
    "HyperTile Integrated": ["hyper_tile", "token_downsampling", "token_merging"],  # reForge, older Forge
    "HyperTile": ["hyper_tile", "token_downsampling", "token_merging"],  # a fork of Forge
    "Spectrum Integrated": ["deep_cache", "encoder_reuse"],  # Forge Neo
    "CD Tuner": ["cd_tuner"],
}
OTHERS = ("ControlNet", "Dynamic Thresholding (CFG Scale Fix)", "First Block Cache Integrated", "UNet Mod", "Never OOM")


@pytest.fixture(autouse=True)
def webui():
    webui_stubs.reset()
    shared.sd_model = None


class Script:
    """As one that the WebUI always shows, with the place of its arguments."""

    def __init__(self, title, first, last):
        self.title, self.args_from, self.args_to = (lambda: title), first, last


def drawing(**scripts):
    """A `p` beside these always shown scripts; their values are their arguments."""
    given, shown = [], []
    for title, values in scripts.items():
        shown.append(Script(title, len(given), len(given) + len(values)))
        given.extend(values)
    return SimpleNamespace(script_args=given, scripts=SimpleNamespace(alwayson_scripts=shown))


@pytest.mark.parametrize("title", SCRIPTS)
def test_a_script_that_is_on_is_named_with_its_accordion(title):
    p = drawing(**{"ControlNet": [None, object()], title: [True, 1.1, 0.9]})
    ours = host_rivals.sentences(p, list(METHODS))
    titles = " and ".join(method.title for name, method in METHODS.items() if name in SCRIPTS[title])
    assert ours == [f"{titles}: {title} is also on. Turn one off (its accordion)."]
    assert sorted(name for name in METHODS if host_rivals.sentences(p, [name])) == sorted(SCRIPTS[title])


@pytest.mark.parametrize("title", SCRIPTS)
@pytest.mark.parametrize("values", ([False, 1.1], [], [None], ["True"], [{"enable": False}]), ids=str)
def test_a_script_that_is_off_is_not(title, values):
    assert host_rivals.sentences(drawing(**{title: values}), list(METHODS)) == []


def test_a_script_may_be_told_by_a_dict():
    assert len(host_rivals.sentences(drawing(FreeU=[{"start_ratio": 0.1}]), ["free_u"])) == 1


@pytest.mark.parametrize("title", OTHERS)
def test_other_scripts_are_no_rivals(title):
    assert host_rivals.sentences(drawing(**{title: [True]}), list(METHODS)) == []


@pytest.mark.parametrize("p", (SimpleNamespace(), SimpleNamespace(scripts=None, script_args=None)), ids=("bare", "none"))
def test_a_picture_without_scripts(p):
    assert host_rivals.sentences(p, list(METHODS)) == []


@pytest.mark.parametrize(
    ("setting", "value", "hires", "name", "where"),
    [
        ("hypertile_enable_unet", True, False, "hyper_tile", "Settings, Hypertile"),
        ("hypertile_enable_unet_secondpass", True, True, "token_merging", "Settings, Hypertile"),
        ("deepcache_enable_pass", "both passes", False, "deep_cache", "Settings, DeepCache"),
        ("deepcache_enable_pass", "second pass", True, "encoder_reuse", "Settings, DeepCache"),
    ],
)
def test_settings_are_named(setting, value, hires, name, where):
    vars(shared.opts)[setting] = value
    p = SimpleNamespace(enable_hr=hires)
    (sentence,) = host_rivals.sentences(p, [name])
    assert sentence.startswith(METHODS[name].title) and sentence.endswith(f"({where}).")
    assert host_rivals.sentences(p, ["skip_blocks"]) == []
    if hires:
        assert host_rivals.sentences(SimpleNamespace(), [name]) == []


def test_the_webuis_token_merging_counts_in_either_pass():
    ratio = {False: 0.0, True: 0.5}
    p = SimpleNamespace(get_token_merging_ratio=lambda for_hr=False: ratio[for_hr], enable_hr=False)
    assert host_rivals.sentences(p, ["hyper_tile"]) == []
    p.enable_hr = True
    assert "token merging is also on. Turn one off (Settings, Optimizations)" in host_rivals.sentences(p, ["hyper_tile"])[0]


# Patches of Forge's patcher, by the names that their functions have there.


def patched(unet=None, wrapper=None, **patches):
    options = {"transformer_options": {"patches": patches}}
    if wrapper:
        options["model_function_wrapper"] = wrapper
    forge = SimpleNamespace(unet=SimpleNamespace(model=SimpleNamespace(diffusion_model=unet), model_options=options))
    return SimpleNamespace(forge_objects=forge, num_timesteps=1000)


def function(module, name):
    def patch(h, *args):
        return h

    patch.__module__, patch.__qualname__ = module, f"{name}.<locals>.patch"
    return patch


FREE_U = function("forge_freeu.py", "patch_freeu_v2")
FREE_U_OF_REFORGE = function("ldm_patched.contrib.nodes_freelunch", "FreeU_V2.patch")
SHRINK = function("kohya_hrfix.py", "PatchModelAddDownscale.patch")
TILES = function("ldm_patched.contrib.nodes_hypertile", "HyperTile.patch")
FORECAST = function("lib_spectrum.forecaster", "SpectrumNode.patch")
FOREIGN = function("lib_controlnet.attention", "Attention.patch")


@pytest.mark.parametrize(
    ("model", "name"),
    [
        (patched(output_block_patch=[FOREIGN, FREE_U]), "free_u"),
        (patched(output_block_patch=[partial(FREE_U_OF_REFORGE, 1)]), "free_u"),
        (patched(input_block_patch=[SHRINK]), "deep_shrink"),
        (patched(attn1_patch=[TILES], attn1_output_patch=[TILES]), "hyper_tile"),
        (patched(wrapper=FORECAST), "deep_cache"),
    ],
)
def test_patches_are_told_by_their_names(model, name):
    shared.sd_model = model
    (sentence,) = host_rivals.sentences(SimpleNamespace(), [name])
    assert sentence.startswith(f"{METHODS[name].title}: the WebUI's ") and sentence.count("also on") == 1
    assert host_rivals.sentences(SimpleNamespace(), ["skip_blocks", "color_map"]) == []


def test_foreign_patches_are_no_rivals():
    shared.sd_model = patched(output_block_patch=[FOREIGN], attn1_patch=[Script("", 0, 0)], wrapper=FOREIGN)
    assert host_rivals.sentences(SimpleNamespace(), list(METHODS)) == []


def test_a_patch_made_for_a_pass_is_told_under_the_picture(monkeypatch):
    """Forge's scripts patch the U-Net before each pass, after ours was asked; what their checkbox said is not said twice."""
    unet, free_u = fresh("sd1"), {"free_u": {}}
    monkeypatch.setattr(webui_stubs, "loaded", lambda unet: patched(unet, output_block_patch=[FREE_U]))
    p = P([unet], hires=True)
    generate(p, free_u)
    assert list(p.comments) == ["UNet Mod: FreeU: the WebUI's FreeU is also on. Turn one off (its accordion)."]
    p = P([unet])
    p.script_args, p.scripts = (vars(drawing(**{"FreeU Integrated": [True]}))[name] for name in ("script_args", "scripts"))
    generate(p, free_u)
    assert list(p.comments) == ["UNet Mod: FreeU: FreeU Integrated is also on. Turn one off (its accordion)."]
    monkeypatch.setattr(webui_stubs, "loaded", loaded)
    p = P([unet])
    generate(p, free_u)
    assert p.comments == {}
