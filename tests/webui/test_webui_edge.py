"""The WebUI's edge without a WebUI: arguments, Settings, infotext, X/Y/Z axes, and where the controls stand."""

from __future__ import annotations

import copy
import hashlib
import importlib.util
from functools import partial, reduce
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest
import torch
import webui_stubs
from unets import fresh
from webui_stubs import ENTRY, SKIP, P, denoiser_params, generate, loaded, script_callbacks, scripts, shared

from lib_unetmod.core.call import Guidance
from lib_unetmod.core.config import SHARED_KNOBS, knobs
from lib_unetmod.core.knobs import ConfigError
from lib_unetmod.core.registry import METHODS
from lib_unetmod.settings.selection import INFOTEXT_NOTE, from_infotext
from lib_unetmod.webui import api, controls, host, infotext, page, sampling, settings, xyz


@pytest.fixture(autouse=True)
def fresh_webui():
    webui_stubs.reset()
    yield
    assert sampling._current is None


def values(*of_skip_blocks: Any) -> list[Any]:
    """The page's values up to SkipBlocks' own; None, "as Settings say", for the methods that stand before it."""
    names = [name for name, _, _ in controls.arguments()]
    return [None] * names.index("skip_blocks") + list(of_skip_blocks)


def test_arguments_in_every_form():
    def configs(*args: Any) -> tuple[bool, Any]:
        choice = api.read(args, settings.read())
        return choice.on, choice.selection

    assert configs() == (False, {}) == configs(None, None)
    assert configs(SKIP) == (True, SKIP) == configs(True, *values(True, True, 1))
    assert configs(True) == (True, {})
    for nonsense in ("yes", 7, [1], object()):
        choice = api.read([nonsense], settings.read())
        assert not choice.on and len(choice.problems) == 1


def test_axes_put_methods_on_and_off():
    off = api.read([False, *values(False, True)], settings.Defaults())
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
    assert list(restored({"Size": "64x64"}).values()) == [False, False, None, None, None]
    of_another = restored({"UNet Mod deep cache": "interval=5", "UNet Mod note": "DeepCache, general"})
    assert list(of_another.values()) == [True, False, None, None, None]
    assert capsys.readouterr().out == ""
    for damaged in ("levels=9", "", "{}", 3, "levels=1;" * 9999):
        assert restored({ENTRY: damaged, INFOTEXT_NOTE: "said"})["switch"] is False
        assert capsys.readouterr().out.count("Unknown settings in the image's text") == 1
    assert infotext.Restore("switch") == infotext.Restore("switch") != infotext.Restore("skip_blocks")


@pytest.fixture
def plot():
    """The plot's script, with our axes."""
    module = SimpleNamespace(
        axis_options=[], AxisOption=lambda *args, **more: SimpleNamespace(label=args[0], type=args[1], args=args, **more)
    )
    scripts.scripts_data = [SimpleNamespace(path="/webui/scripts/xyz_grid.py", module=module)]
    xyz.add_axes()
    yield module
    scripts.scripts_data = []


def test_axes_join_the_plot_once(plot):
    count = len(plot.axis_options)
    xyz.add_axes()
    assert count == len(plot.axis_options) == len({option.label for option in plot.axis_options})
    assert count == sum(1 for name, _, _ in controls.arguments() if name != "tune") + 1
    for broken in ([], [SimpleNamespace(path="xyz_grid.py", module=SimpleNamespace())]):
        scripts.scripts_data = broken
        xyz.add_axes()


def test_axes_are_grouped_and_named_as_the_panel_is(plot):
    labels = [option.label for option in plot.axis_options]
    assert labels[:2] == ["[UNet Mod] On/off", "[UNet Mod] Speed"]
    groups = [label for label in labels[2:] if ": " not in label]
    assert groups == [f"[UNet Mod] {method.title}" for method in controls.ordered_methods()]
    for method in controls.ordered_methods():
        begin = labels.index(f"[UNet Mod] {method.title}")
        declared = knobs(method.config)
        own = labels[begin + 1 : begin + 1 + len(declared)]
        assert sorted(own) == sorted(f"[UNet Mod] {controls.knob_label(method, knob)}" for knob in declared)
        often = [knob for knob in declared if not knob.rarely and knob.name not in SHARED_KNOBS]
        assert own[: len(often)] == [f"[UNet Mod] {controls.knob_label(method, knob)}" for knob in often]
        assert own[-5:] == [f"[UNet Mod] {controls.knob_label(method, knob)}" for knob in declared[-5:]]


def test_an_axis_sets_its_own_cell(plot):
    label = "[UNet Mod] Skip U-Net blocks: Skip deepest levels"
    levels = next(option for option in plot.axis_options if option.label == label)
    p = SimpleNamespace()
    cell = copy.copy(p)
    levels.args[2](cell, 2, [1, 2])
    assert xyz.axes_of(cell) == {"skip_blocks.levels": 2} and xyz.axes_of(p) == {}
    levels.confirm(p, [0, 3])
    with pytest.raises(ValueError, match="from 0 to 3"):
        levels.confirm(p, [4])
    assert levels.prepare('0, 1-3 (+2), "2"') == ["0", "1-3 (+2)", "2"]
    with pytest.raises(ConfigError, match=r"^levels is '9{36}\.\.\.; it takes a whole number from 0 to 3\.$"):
        levels.prepare("1, " + "9" * 10_000)


def nested(levels: int) -> Any:
    return reduce(lambda inner, _: [inner], range(levels), 1)


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


@pytest.mark.parametrize("missing", [(), ("txt2img_scheduler", "hr_sampler", "txt2img_hr-checkbox")])
def test_the_page_tells_the_next_picture_by_the_controls_that_are_there(monkeypatch, missing):
    values = {"txt2img_width": 640, "txt2img_height": 512, "txt2img_steps": 8, "txt2img_cfg_scale": 1}
    values |= {"txt2img_sampling": "Euler", "txt2img_scheduler": "Karras", "hr_sampler": "Use same sampler"}
    values |= {"txt2img_hr-checkbox": True, "txt2img_hr_scale": 2, "txt2img_denoising_strength": 0.5}
    models = SimpleNamespace(model_data=SimpleNamespace(sd_model=None))
    monkeypatch.setattr(host, "sd_models", models)
    place = Place()
    with gr.Blocks():
        script_page = page.Page(place)
        script_page.controls()
        for elem_id in values.keys() - set(missing):
            place.callbacks[elem_id](SimpleNamespace(component=gr.Textbox(elem_id=elem_id)))
        picture = script_page._picture()
    read = partial(picture.read, *(values[control.elem_id] for control in picture.controls))
    assert read().unet is None
    models.model_data.sd_model = loaded(fresh("sd1"))
    drawn = read()
    assert drawn.unet.family == "sd1" and [one.name for one in drawn.passes] == (
        ["first"] if missing else ["first", "hires"]
    )
    assert drawn.last.size == ("640x512" if missing else "1280x1024")
    assert (drawn.last.steps, drawn.last.cfg, drawn.last.guided) == (8, 1, True)
    models.model_data.sd_model.forge_objects = SimpleNamespace(unet=SimpleNamespace(model=models.model_data.sd_model.model))
    assert not read().last.guided


def test_controls_follow_settings_and_are_kept_out_of_ui_config():
    shared.opts.data["unetmod_skip_blocks_levels"] = 2
    with gr.Blocks():
        script_page = page.Page(Place())
        script_page.controls()
    panel = script_page.panel
    assert panel.component("skip_blocks").value is False and panel.component("skip_blocks.levels").value == 2
    kept = [name for name in panel.names if not getattr(panel.component(name), "do_not_save_to_config", False)]
    assert kept == ["switch"]


def test_the_api_starts_without_values(monkeypatch):
    monkeypatch.setattr(scripts, "scripts_current", None)
    place = Place()
    with gr.Blocks():
        script_page = page.Page(place)
        stand_ins = script_page.controls()
    assert all(control.value in (None, "") for control in stand_ins) and script_page.panel is None
    assert api.read([control.value or None for control in stand_ins], settings.Defaults()).on is False


def test_the_script_file(monkeypatch):
    unet, registered = fresh("sd1"), {}
    for name in ("on_ui_settings", "on_cfg_denoiser"):
        register = partial(registered.__setitem__, name)
        monkeypatch.setattr(script_callbacks, name, register, raising=False)
    monkeypatch.setattr(scripts, "Script", Place)
    file = Path(__file__).parents[2] / "scripts" / "unetmod.py"
    spec = importlib.util.spec_from_file_location("unetmod.py", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert registered["on_cfg_denoiser"] is sampling.on_cfg_denoiser
    registered["on_ui_settings"]()
    script, p = module.UNetModScript(), P([unet])
    assert script.title().lower() == "unet mod" and script.show(True) is script.show(False)
    shared.sd_model = loaded(unet)
    script.process(p, SKIP)
    script.process_batch(p, SKIP, batch_number=0)
    p.sample()
    assert all(count for _, count in p.seen)
    processed = SimpleNamespace(extra_generation_params=p.extra_generation_params)
    script.postprocess(p, processed, SKIP)
    assert processed.extra_generation_params is p.extra_generation_params


def test_notes_stand_whole_under_the_picture_and_in_answers_and_short_in_files():
    p = P([fresh("sd1")], steps=1)
    generate(p, {"skip_blocks": {"levels": 9}, "hyper_tile": {"tile": "many"}})
    told = [comment.removeprefix(host.PREFIX) for comment in p.comments]
    assert len(told) == 2 and "levels is 9" in told[0] and "tile is 'many'" in told[1]
    assert p.extra_generation_params == {"Size": "64x64", INFOTEXT_NOTE: "HyperTile; Skip U-Net blocks"}
    processed = SimpleNamespace(extra_generation_params=p.extra_generation_params)
    sampling.finish(p, processed)
    assert processed.extra_generation_params["UNet Mod notes"] == " ".join(told)
    assert "UNet Mod notes" not in p.extra_generation_params
    assert api.read([False], settings.read()).selection == {} == from_infotext(processed.extra_generation_params)[0]


def test_however_many_notes_there_are_a_file_gets_sixty_characters():
    assert infotext.in_short([]) == ""
    assert infotext.in_short(["The WebUI's own token merging is on."]) == "general"
    assert (
        infotext.in_short(["Deep Shrink is idle.", "FreeU: b1 is 9.", "DeepCache stood aside."])
        == "DeepCache; Deep Shrink; FreeU"
    )
    everything = [f"{method.title} is idle." for method in METHODS.values()] + ["All methods are inactive for this image."]
    short = infotext.in_short(everything)
    assert len(short) <= 60 and short.endswith(" more")
    named = short.split("; ")[:-1]
    assert len(named) + int(short.split("; ")[-1].split()[0]) == len(everything)


def test_hostile_arguments_cost_one_sentence_each():
    for hostile in ("\ud800", 10**9999, nested(5000), [nested(990)]):
        choice = api.read([hostile], settings.read())
        assert not choice.on and len(choice.problems) == 1 and len(choice.problems[0]) < 150
        assert choice.problems[0].encode("utf-8")
        p = P([fresh("sd1")], steps=1)
        generate(p, {"skip_blocks": {"blocks": hostile}, "free_u": {"b1": hostile}})
        assert len(p.comments) == 2 and all(len(comment.encode("utf-8")) < 200 for comment in p.comments)
        choice = api.with_axes(api.read([SKIP], settings.read()), {"skip_blocks": hostile, "switch": hostile})
        assert choice.on is False and choice.selection == {}


# What the host says of rows, seeds and the autoencoder.


def test_rows_are_paired_as_the_webui_orders_them():
    assert host.guidance_of(denoiser_params(3, scale=1.0)) == Guidance(1.0, (0, 1, 2, 0, 1, 2))
    assert host.guidance_of(denoiser_params(weights=(0.5,), scale=2.0)) == Guidance(1.0, (0, 0))
    assert host.guidance_of(denoiser_params(scale=12.5, cond_scale_miltiplier=0.08)).scale == 1.0
    cfgpp = denoiser_params(scale=1.0, cond_scale_miltiplier=0.08, need_last_noise_uncond=True)
    assert host.guidance_of(cfgpp).scale == 1.0  # which the note tells
    mixed = denoiser_params(2, scale=2.0)
    mixed.denoiser.sampler.sampler_extra_args["cond"].batch[1][0].weight = 0.5
    assert host.guidance_of(mixed).scale == 2.0
    for unknown in (None, SimpleNamespace(), denoiser_params(sampler=None), denoiser_params(0)):
        assert host.guidance_of(unknown) is None


@pytest.mark.parametrize(
    ("params", "options", "words"),
    [
        (denoiser_params(weights=(1.0, 1.0)), {}, "AND"),
        (denoiser_params(need_last_noise_uncond=True), {}, "CFG++"),
        (denoiser_params(tokens=(154, 77)), {}, "turn on Pad prompt/negative prompt"),
        (denoiser_params(tokens=(154, 77)), {"pad_cond_uncond": True}, ""),
        (denoiser_params(tokens=(154, 77)), {"pad_cond_uncond_v0": True}, ""),
        (denoiser_params(), {"batch_cond_uncond": False}, "turn on Batch cond/uncond"),
        (denoiser_params(), {"batch_cond_uncond": True, "pad_cond_uncond": False}, ""),
    ],
)
def test_why_rows_cannot_be_paired(params, options, words):
    vars(shared.opts).update(options)
    said = host.guidance_of(params)
    assert words in said.reason and bool(said.reason) == bool(words)
    assert said.scale == 7.0 * params.x.shape[0] - 7.0 and said.reason_at_one == ""


@pytest.mark.parametrize("weights, acts", [((1.0,), True), ((0.5, 0.5), True), ((1.0, 1.0), False), ((0.4, 0.7), False)])
def test_at_cfg_1_the_negative_prompt_counts_where_the_parts_of_a_prompt_do_not_weigh_1(weights, acts):
    """AUTOMATIC1111 joins u + sum w (c - u): that is c1 w1 + c2 w2 + (1 - w1 - w2) u."""
    said = host.guidance_of(denoiser_params(2, weights=weights, scale=1.0))
    assert (abs(said.scale - 1) < 1e-6) == acts and bool(said.reason_at_one) != acts
    parts = len(weights)
    assert said.rows.conditional_of == (*range(2 * parts), 0, parts)


def test_rows_that_come_apart_are_told_by_their_prompts():
    params = denoiser_params(weights=(0.5, 0.5), tokens=(154, 77), scale=1.0)
    for value, tensor in enumerate((params.text_cond, params.text_uncond), 1):
        tensor.fill_(value)
    params.text_cond[1] = 5
    told = host.guidance_of(params)
    assert len(told.rows) == 0 and told.scale == 1.0 and told.reason_at_one == "" and "AND" in told.reason
    assert told.prompts.kinds(torch.stack([params.text_cond[1], params.text_cond[0]])) == (True, True)
    assert told.prompts.kinds(params.text_uncond) == (False,)
    assert told.prompts.kinds(params.text_uncond.repeat(1, 2, 1)) == (False,)  # padded by the host
    assert told.prompts.kinds(torch.zeros(1, 77, 24)) is None
    of_sdxl = {"crossattn": params.text_uncond, "vector": torch.zeros(1, 8)}
    params.text_cond, params.text_uncond = Dict({**of_sdxl, "crossattn": params.text_cond}), Dict(of_sdxl)
    assert host.guidance_of(params).prompts.kinds(of_sdxl["crossattn"]) == (False,)


class Dict(dict):
    """As the WebUI's: SDXL's embeddings, with the shape of those for cross-attention."""

    @property
    def shape(self):
        return self["crossattn"].shape


def fork_params(unet_options=(), cfg=7.0, **of_p):
    unet = SimpleNamespace(model_options=dict(unet_options))
    model = SimpleNamespace(inner_model=SimpleNamespace(forge_objects=SimpleNamespace(unet=unet)))
    p = SimpleNamespace(**{"is_hr_pass": False, **of_p})
    return denoiser_params(scale=cfg, inner_model=model, p=p)


def test_forks_say_with_each_call_which_rows_it_holds():
    assert host.guidance_of(fork_params()) == Guidance(7.0)
    assert host.guidance_of(fork_params(is_hr_pass=True, hr_cfg=3.0)).scale == 3.0
    assert "another extension needs" in host.guidance_of(fork_params(cfg=1.0)).reason_at_one
    for kind in ("sampler_pre_cfg_function", "sampler_post_cfg_function"):
        said = host.guidance_of(fork_params({kind: [fork_params]}))
        assert said.reason == "test_webui_edge needs the negative prompt too." and said.reason_at_one == ""
    assert "needs the negative prompt" in host.guidance_of(fork_params({"sampler_cfg_function": fork_params})).reason


def test_rows_of_an_edit_model_are_not_paired():
    for rows in (3, 1):
        params = denoiser_params()
        params.x = torch.zeros(rows, 4, 8, 8)
        assert "in another way" in host.guidance_of(params).reason


def test_the_seed_is_that_of_the_batch():
    p = SimpleNamespace(seeds=None, all_seeds=None)
    assert host.seed_of(p) == 0 == host.seed_of(SimpleNamespace())
    p.all_seeds = [5, 6]
    assert host.seed_of(p) == 5
    p.seeds = [6]
    assert host.seed_of(p) == 6


def test_the_autoencoder_is_the_hosts():
    vae = object()
    shared.sd_model = SimpleNamespace(first_stage_model=vae)
    assert host.current_vae() is vae
    forge = SimpleNamespace(vae=SimpleNamespace(first_stage_model=vae))
    shared.sd_model = SimpleNamespace(first_stage_model="not asked", forge_objects=forge)
    assert host.current_vae() is vae
    for without in (None, SimpleNamespace(forge_objects=SimpleNamespace())):
        shared.sd_model = without
        assert host.current_vae() is None


def test_what_is_decoded_is_what_the_webui_would_decode():
    model = SimpleNamespace(decode_first_stage=lambda latent: 2 * latent.repeat_interleave(8, -1))
    p = SimpleNamespace(sd_model=model, extra_generation_params={})
    latents = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu"):
        decoded = host.decoded(p, latents)
    assert decoded.already_decoded and p.extra_generation_params == {}
    assert torch.equal(torch.stack(decoded), 2 * latents.repeat_interleave(8, -1))
    assert host.decoded(p, decoded) is decoded and host.decoded(p, "no latent") == "no latent"
    with pytest.raises(ValueError, match="NaN"):
        host.decoded(p, latents * float("nan"))


def test_arguments_by_position_are_those_of_earlier_versions_and_new_ones_come_last():
    """A request may give a list of values; what a place in it means must not change. New knobs are added to the file."""
    names = (Path(controls.__file__).parent / "arguments.txt").read_text().split()
    of_0_1_0 = "\n".join(names[:196])
    assert hashlib.sha256(of_0_1_0.encode()).hexdigest() == (
        "6ab21dcc101034911ae2e528c688ed8eacbab7887af299e7a3592138d3625aa6"
    )
    assert names == [name for name, _, _ in controls.arguments()]
