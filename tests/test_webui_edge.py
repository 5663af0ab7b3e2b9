"""The WebUI's edge without a WebUI: arguments, Settings, infotext, X/Y/Z axes, and above all the undo.

`modules` is stubbed with the few names that are used. A fake `p` samples a real, tiny U-Net as the WebUI does: the denoiser
callback before each call, and another U-Net in the middle where a refiner would load one.
"""

from __future__ import annotations

import copy
import importlib.util
import sys
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import gradio as gr
import pytest
import torch
from contract import snapshot
from unets import fresh, inputs

from lib_unetmod import inspect_unet, what_is_on
from lib_unetmod.selection import INFOTEXT_NOTE

ENTRY = "UNet Mod skip blocks"
SKIP = {"skip_blocks": {"middle": True, "levels": 1}}


class Option:
    def __init__(self, default: Any = None, label: str = "", **_: Any) -> None:
        self.default, self.label = default, label

    def info(self, _text: str) -> Option:
        return self


class Opts(SimpleNamespace):
    def add_option(self, key: str, option: Option) -> None:
        self.options[key] = option
        self.data.setdefault(key, option.default)


def stub(name: str, **names: Any) -> ModuleType:
    module = ModuleType(name)
    vars(module).update(names)
    sys.modules[name] = module
    return module


shared = stub("modules.shared", opts=Opts(data={}, options={}), OptionInfo=Option, OptionHTML=Option, sd_model=None)
scripts = stub("modules.scripts", scripts_current=object(), scripts_data=[], AlwaysVisible=object(), Script=object)
sd_unet = stub("modules.sd_unet", current_unet=None)
script_callbacks = stub("modules.script_callbacks")
modules = stub("modules", shared=shared, scripts=scripts, sd_unet=sd_unet, script_callbacks=script_callbacks, __path__=[])

from lib_unetmod.webui import api, infotext, page, sampling, settings, xyz  # noqa: E402


class P:
    """What the WebUI calls `p`: its `sample` calls the U-Net `steps` times."""

    def __init__(
        self, unets: list[Any], steps: int = 2, ends_with: BaseException | None = None, hires: bool = False
    ) -> None:
        self.unets, self.steps, self.ends_with, self.hires = unets, steps, ends_with, hires
        self.extra_generation_params: dict[str, Any] = {"Size": "64x64"}
        self.comments: dict[str, int] = {}
        self.is_hr_pass = False
        self.seen: list[tuple[str, int]] = []

    def comment(self, text: str) -> None:
        self.comments[text] = 1

    def sample(self) -> list[torch.Tensor]:
        results = []
        for is_hr_pass in (False, True) if self.hires else (False,):
            self.is_hr_pass = is_hr_pass
            sampling.begin_pass(self)
            for step in range(self.steps):
                unet = self.unets[min(step, len(self.unets) - 1)]
                shared.sd_model = loaded(unet)
                sampling.on_cfg_denoiser(None)
                run = sampling._current.run if sampling._current else None
                self.seen.append((run.pass_name if run else "", len(what_is_on(unet))))
                results.append(unet(**inputs(self.family)))
            if self.ends_with is not None:
                raise self.ends_with
        return results

    family = "sd1"


def loaded(unet: Any) -> SimpleNamespace:
    return SimpleNamespace(model=SimpleNamespace(diffusion_model=unet), num_timesteps=1000)


def generate(p: P, *args: Any, axes: dict[str, Any] | None = None) -> list[torch.Tensor]:
    """One generation as the WebUI goes through it."""
    shared.sd_model = loaded(p.unets[0])
    sampling.prepare(p, api.with_axes(api.read(args, settings.read()), axes or {}))
    sampling.arm(p)
    return p.sample()


@pytest.fixture(autouse=True)
def fresh_webui():
    shared.opts.data.clear()
    sd_unet.current_unet = None
    yield
    assert sampling._current is None


@pytest.fixture(scope="module")
def sd1():
    return fresh("sd1")


@pytest.fixture(scope="module")
def sdxl():
    return fresh("sdxl")


def test_acts_while_sampling_and_leaves_nothing(sd1):
    before, plain = snapshot(sd1), generate(P([sd1]))
    p = P([sd1])
    on = generate(p, SKIP)
    assert not torch.equal(on[0], plain[0]) and all(count for _, count in p.seen)
    assert p.extra_generation_params == {"Size": "64x64", ENTRY: "middle=true; levels=1"}
    assert snapshot(sd1) == before and "sample" not in vars(p)
    assert torch.equal(generate(P([sd1]))[0], plain[0])


@pytest.mark.parametrize("error", [RuntimeError("broken"), KeyboardInterrupt(), GeneratorExit(), MemoryError()])
def test_undone_whatever_ends_the_sampling(sd1, error):
    before = snapshot(sd1)
    with pytest.raises(type(error)):
        generate(P([sd1], ends_with=error), SKIP)
    assert snapshot(sd1) == before and sampling._current is None


def test_a_shadow_acts_once_and_then_passes_on(sd1):
    p = P([sd1])
    shared.sd_model = loaded(sd1)
    sampling.prepare(p, api.read([SKIP], settings.read()))
    sampling.arm(p)
    kept = p.sample
    kept()
    kept()
    p.sample()
    assert [count > 0 for _, count in p.seen] == [True, True, False, False, False, False]


def test_batches_and_reused_p_are_modified_once_each(sd1):
    p = P([sd1], steps=1)
    generate(p, SKIP)
    sampling.arm(p)
    p.sample()
    generate(p, SKIP)
    assert len({count for _, count in p.seen}) == 1


def test_a_copied_p_samples_itself(sd1):
    p = P([sd1])
    sampling.prepare(p, api.read([SKIP], settings.read()))
    sampling.arm(p)
    cell = copy.copy(p)
    cell.seen = []
    generate(cell)
    assert cell.seen and not p.seen and all(count == 0 for _, count in cell.seen)


@pytest.mark.parametrize("first", [True, False])
def test_a_foreign_shadow_survives(sd1, first):
    p, calls = P([sd1], steps=1), []

    def put_on_foreign() -> None:
        original = p.sample
        p.sample = lambda: calls.append(1) or original()

    shared.sd_model = loaded(sd1)
    sampling.prepare(p, api.read([SKIP], settings.read()))
    steps = [put_on_foreign, lambda: sampling.arm(p)]
    for step in steps if first else reversed(steps):
        step()
    foreign = vars(p)["sample"] if not first else None
    p.sample()
    p.sample()
    assert calls == [1, 1] and [count > 0 for _, count in p.seen] == [True, False]
    assert foreign is None or vars(p)["sample"] is foreign


def test_follows_a_refiner_and_says_what_it_refuses(sd1, sdxl):
    before = snapshot(sd1), snapshot(sdxl)
    p = P([sd1, sdxl])
    shared.sd_model = loaded(sd1)

    def sample() -> None:
        for unet in (sd1, sdxl, sd1):
            shared.sd_model = loaded(unet)
            sampling.on_cfg_denoiser(None)
            p.seen.append(("", len(what_is_on(unet))))

    p.sample = sample
    sampling.prepare(p, api.read([{"skip_blocks": {"levels": 3}}], settings.read()))
    sampling.arm(p)
    p.sample()
    assert [count > 0 for _, count in p.seen] == [True, False, True]
    assert "levels is 3" in p.extra_generation_params[INFOTEXT_NOTE]
    assert (snapshot(sd1), snapshot(sdxl)) == before


def test_passes_are_announced(sd1):
    p = P([sd1], steps=1, hires=True)
    generate(p, SKIP)
    assert [name for name, _ in p.seen] == ["first", "hires"]
    p = P([sd1], steps=1)
    p.init_images = [object()]
    generate(p, SKIP)
    assert [name for name, _ in p.seen] == ["img2img"]


def test_inner_generation_during_sampling_keeps_the_outer_run(sd1):
    outer = P([sd1], steps=1)
    sample = outer.sample

    def with_inner() -> None:
        run = sampling._current.run
        generate(P([sd1], steps=1), SKIP)
        assert sampling._current.run is run
        sample()

    outer.sample = with_inner
    generate(outer, SKIP)
    assert all(count for _, count in outer.seen)


@pytest.mark.parametrize(
    ("unet", "word"),
    [(torch.nn.Linear(2, 2), "only the U-Nets of Stable Diffusion"), (None, "no U-Net")],
)
def test_a_model_that_cannot_be_modified_is_said(unet, word):
    p = P([unet])
    p.sample = lambda: "picture"
    assert generate(p, SKIP) == "picture"
    assert word in p.extra_generation_params[INFOTEXT_NOTE] and ENTRY not in p.extra_generation_params
    assert any(word in comment for comment in p.comments)


def test_live_sd_unet_and_rivals_are_said_once(sd1, capsys):
    sd_unet.current_unet = SimpleNamespace(option=SimpleNamespace(label="TRT"))
    p = P([sd1])
    generate(p, SKIP)
    assert "TRT" in p.extra_generation_params[INFOTEXT_NOTE] and all(count == 0 for _, count in p.seen)
    sd_unet.current_unet = None
    p = P([sd1])
    p.get_token_merging_ratio = lambda for_hr=False: 0.5
    generate(p, SKIP)
    sampling.arm(p)
    p.sample()
    assert capsys.readouterr().out.count("token merging") == 1
    assert p.extra_generation_params[ENTRY] and "token merging" in p.extra_generation_params[INFOTEXT_NOTE]


def test_cells_of_a_plot_do_not_share_our_entries(sd1):
    p = P([sd1])
    on, off = copy.copy(p), copy.copy(p)
    generate(on, axes={"skip_blocks.levels": "2"})
    generate(off, axes={"skip_blocks.levels": "2", "switch": "false"})
    assert on.extra_generation_params[ENTRY] == "levels=2"
    assert off.extra_generation_params == {"Size": "64x64"} == p.extra_generation_params


def test_arguments_in_every_form():
    def configs(*args: Any) -> tuple[bool, Any]:
        choice = api.read(args, settings.read())
        return choice.on, choice.selection

    assert configs() == (False, {}) == configs(None, None)
    assert configs(SKIP) == (True, SKIP) == configs(True, True, True, 1)
    assert configs(True) == (True, {})
    for nonsense in ("yes", 7, [1], object()):
        choice = api.read([nonsense], settings.read())
        assert not choice.on and len(choice.problems) == 1


def test_settings_are_where_page_and_api_start():
    key = "unetmod_skip_blocks"
    settings.add_options()
    assert shared.opts.options[key].default == ""
    for line, ticked in (
        ("middle=true; levels=1", True),
        ("on; middle=true; levels=1", True),
        ("off; middle=true;levels=1", False),
    ):
        shared.opts.data[key] = line
        defaults = settings.read()
        assert defaults.knobs == SKIP and bool(defaults.ticked) is ticked
        assert api.read([True], defaults).selection == (SKIP if ticked else {})
        assert api.read([True, True], defaults).selection == SKIP
        assert api.read([{"skip_blocks": {"levels": 2}}], defaults).selection == {
            "skip_blocks": {"middle": True, "levels": 2}
        }
        assert api.read([], defaults).on is False
    shared.opts.data[key] = "on"
    assert settings.read().knobs == {"skip_blocks": {}}
    for damaged in ("levels=many", "freeze", "levels=1, middle=true", "="):
        shared.opts.data[key] = damaged
        assert settings.read().knobs == {} and len(settings.read().problems) == 1
    shared.opts.data[key] = 3
    assert settings.read() == settings.Defaults()


def test_axes_put_methods_on_and_off():
    off = api.read([False, False, True], settings.Defaults())
    assert api.with_axes(off, {}) is off
    assert api.with_axes(off, {"skip_blocks.levels": 1}).selection == SKIP
    assert api.with_axes(off, {"skip_blocks": "true"}).selection == {"skip_blocks": {"middle": True}}
    on = api.read([SKIP], settings.Defaults())
    assert api.with_axes(on, {"skip_blocks": "false", "skip_blocks.levels": "1"}).selection == {}
    assert api.with_axes(on, {"switch": "false", "skip_blocks.levels": "1"}).on is False
    assert on.selection == SKIP


def test_restoring_from_infotext(capsys):
    def restored(parameters: dict[str, Any]) -> dict[str, Any]:
        names = ("switch", "skip_blocks", "skip_blocks.middle", "skip_blocks.levels", "skip_blocks.blocks")
        return {name: infotext.Restore(name)(parameters) for name in names}

    everything = restored({"Size": "64x64", ENTRY: "levels=2; blocks=in.4.attn out.7"})
    assert list(everything.values()) == [True, True, False, 2, "in.4.attn out.7"]
    assert list(restored({"Size": "64x64"}).values()) == [False, None, None, None, None]
    assert capsys.readouterr().out == ""
    for damaged in ("levels=9", "", "{}", 3, "levels=1;" * 9999):
        assert restored({ENTRY: damaged, INFOTEXT_NOTE: "said"})["switch"] is False
        assert capsys.readouterr().out.count("Ignored in the infotext") == 1
    assert infotext.Restore("switch") == infotext.Restore("switch") != infotext.Restore("skip_blocks")


def test_axes_join_the_plot_once():
    plot = SimpleNamespace(
        axis_options=[], AxisOption=lambda *args, **more: SimpleNamespace(label=args[0], args=args, **more)
    )
    scripts.scripts_data = [SimpleNamespace(path="/webui/scripts/xyz_grid.py", module=plot)]
    xyz.add_axes()
    count = len(plot.axis_options)
    xyz.add_axes()
    assert count == len(plot.axis_options) == len({option.label for option in plot.axis_options}) > 10
    levels = next(option for option in plot.axis_options if option.label == "[UNet Mod] Skip blocks: Deepest levels")
    p = SimpleNamespace()
    cell = copy.copy(p)
    levels.args[2](cell, 2, [1, 2])
    assert xyz.axes_of(cell) == {"skip_blocks.levels": 2} and xyz.axes_of(p) == {}
    levels.confirm(p, [0, 3])
    with pytest.raises(ValueError, match="from 0 to 3"):
        levels.confirm(p, [4])
    for broken in ([], [SimpleNamespace(path="xyz_grid.py", module=SimpleNamespace())]):
        scripts.scripts_data = broken
        xyz.add_axes()


class Place:
    """A script as the page sees it: where its callbacks go, and its elements' names."""

    def __new__(cls) -> Place:
        place = super().__new__(cls)
        place.callbacks = {}
        return place

    def on_after_component(self, callback: Any, *, elem_id: str) -> None:
        self.callbacks[elem_id] = callback

    on_before_component = on_after_component

    def elem_id(self, name: str) -> str:
        return f"script_{name}"


@pytest.mark.parametrize("ids", [("txt2img_subseed_show", "txt2img_seed_extras", "txt2img_gallery"), ("img2img_gallery",)])
def test_every_control_is_on_the_page(ids):
    place = Place()
    with gr.Blocks() as blocks:
        script_page = page.Page(place)
        returned = script_page.controls()
        for elem_id in ids:
            place.callbacks[elem_id](None)
    assert all(control._id in blocks.blocks for control in returned)
    assert len(place.infotext_fields) == len(place.paste_field_names) == len(returned)


def test_controls_follow_settings_and_are_then_kept_out_of_ui_config():
    shared.opts.data["unetmod_skip_blocks"] = "off; levels=2"
    with gr.Blocks():
        script_page = page.Page(Place())
        script_page.controls()
    panel = script_page.panel
    assert panel.component("skip_blocks").value is False and panel.component("skip_blocks.levels").value == 2
    assert panel.component("skip_blocks.levels").do_not_save_to_config and not panel.switch.do_not_save_to_config


def test_the_api_starts_without_values(monkeypatch):
    monkeypatch.setattr(scripts, "scripts_current", None)
    place = Place()
    with gr.Blocks():
        script_page = page.Page(place)
        stand_ins = script_page.controls()
    assert all(control.value in (None, "") for control in stand_ins) and script_page.panel is None
    assert api.read([control.value or None for control in stand_ins], settings.Defaults()).on is False


def test_the_script_file(monkeypatch, sd1):
    registered: dict[str, Any] = {}
    for name in ("on_ui_settings", "on_cfg_denoiser"):
        register = partial(registered.__setitem__, name)
        monkeypatch.setattr(script_callbacks, name, register, raising=False)
    monkeypatch.setattr(scripts, "Script", Place)
    file = Path(__file__).parents[1] / "scripts" / "unetmod.py"
    spec = importlib.util.spec_from_file_location("unetmod.py", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert registered["on_cfg_denoiser"] is sampling.on_cfg_denoiser
    registered["on_ui_settings"]()
    script, p = module.UNetModScript(), P([sd1])
    assert script.title().lower() == "unet mod" and script.show(True) is script.show(False)
    shared.sd_model = loaded(sd1)
    script.process(p, SKIP)
    script.process_batch(p, SKIP, batch_number=0)
    p.sample()
    assert all(count for _, count in p.seen) and inspect_unet(sd1).family == "sd1"
