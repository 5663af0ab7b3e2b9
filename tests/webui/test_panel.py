"""The control panel: the same under every gradio that a WebUI or the playground brings, and deaf to nonsense."""

from __future__ import annotations

import json
import math
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import gradio as gr
import gradio_versions
import panel_report
import pytest
import unets

from lib_unetmod import inspect_unet
from lib_unetmod.core.config import SHARED_KNOBS, knobs
from lib_unetmod.core.registry import METHODS, Method
from lib_unetmod.settings.measured import measured, verdict
from lib_unetmod.settings.selection import configs_of
from lib_unetmod.webui.chip import summary_chip
from lib_unetmod.webui.panel import Panel
from lib_unetmod.webui.upcoming_picture import Loaded, picture_of

pytestmark = pytest.mark.long

SKIP = METHODS["skip_blocks"]
SKIP_KNOBS = [knob.name for knob in knobs(SKIP.config)]


@pytest.fixture
def panel(tmp_path: Path) -> Panel:
    return panel_report.build(tmp_path)[1]


@cache
def reported(version: str) -> dict[str, Any]:
    """The report of a side environment, or of this one when `version` is the one that is installed here."""
    if version == gr.__version__:
        return {"gradio": version, **panel_report.report()}
    python = gradio_versions.interpreter(version)
    assert python.exists(), f"gradio {version} is not there: run `python tests/gradio_versions.py`"
    script = Path(panel_report.__file__)
    done = subprocess.run([str(python), str(script)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.strip().splitlines()[-1])


@pytest.mark.parametrize("version", gradio_versions.VERSIONS)
def test_panel_is_the_same_under_the_gradio_of_a_webui(version: str) -> None:
    theirs, ours = reported(version), json.loads(json.dumps(reported(gr.__version__)))
    assert theirs.pop("gradio") == version
    ours.pop("gradio")
    assert theirs == ours


@pytest.mark.parametrize("version", [*gradio_versions.VERSIONS, gr.__version__])
def test_page_is_served_with_every_control(version: str) -> None:
    report = reported(version)
    assert report["page"]
    assert {control["id"] for control in report["controls"]} <= set(report["ids"])
    assert report["round_trip"]


@pytest.mark.parametrize("version", [*gradio_versions.VERSIONS, gr.__version__])
def test_ticked_method_is_summed_up(version: str) -> None:
    unticked, neutral, changed = reported(version)["summaries"]["skip_blocks"]
    assert (unticked, neutral) == ("", "<span class='unetmod-idle'>Skip blocks: changes nothing</span>")
    assert changed == "<span>Skip blocks middle, in.4, out.7.res 0.25-1</span>"
    assert [chip for chip in reported(version)["at_load"] if chip] == [changed]


@pytest.mark.parametrize("version", [*gradio_versions.VERSIONS, gr.__version__])
def test_a_preset_sets_its_methods_unticks_the_others_and_turns_the_switch_on(version: str) -> None:
    preset = reported(version)["preset"]
    of_skip_blocks = {f"skip_blocks.{name}": value for name, value in preset_values().items()}
    unticked = {name: name == "skip_blocks" for name in METHODS}
    assert preset == {"switch": True, **unticked, **of_skip_blocks, "speed": "off", "tune": "off", "said": ""}


def preset_values() -> dict[str, Any]:
    """The knobs of the report's selection, as their controls show them."""
    values = METHODS["skip_blocks"].config.from_values(panel_report.SELECTION["skip_blocks"]).values()
    return {**values, "blocks": " ".join(values["blocks"])}


@pytest.mark.parametrize("version", [*gradio_versions.VERSIONS, gr.__version__])
def test_a_preset_that_is_refused_says_so_and_changes_nothing(version: str) -> None:
    refused = reported(version)["preset refused"]
    assert list(refused) == ["said"] and "unetmod-wrong" in refused["said"] and "levels is 99" in refused["said"]


@pytest.mark.parametrize("version", [*gradio_versions.VERSIONS, gr.__version__])
def test_a_button_sets_its_choice_and_says_so_and_clear_unticks_all(version: str) -> None:
    larger, detail, clear = reported(version)["buttons"]
    assert larger["switch"] and "speed" not in larger and "tune" not in larger  # a size goes with any speed
    assert {name for name in METHODS if larger[name]} == {"deep_shrink", "hi_diffusion"} and "Set: " in larger["said"]
    assert {name for name in METHODS if detail[name]} == {"free_u", "cd_tuner"} and "Set: " in detail["said"]
    assert clear == {"switch": False, **dict.fromkeys(METHODS, False), "speed": "off", "tune": "off", "said": ""}


@pytest.mark.parametrize("version", [*gradio_versions.VERSIONS, gr.__version__])
def test_what_would_lose_a_preset_is_asked_first(version: str) -> None:
    assert reported(version)["questions"] == [["Replace the preset Mine?"], ["Delete the preset Mine?"]]


@pytest.mark.parametrize("version", [*gradio_versions.VERSIONS, gr.__version__])
def test_presets_are_no_arguments_and_stay_out_of_ui_config(version: str) -> None:
    assert reported(version)["kept out of ui-config"]
    assert not [one for one in reported(version)["controls"] if "_preset" in one["id"] or "_quick" in one["id"]]


@pytest.mark.parametrize("version", [*gradio_versions.VERSIONS, gr.__version__])
def test_knobs_stand_where_their_toggle_hides_them(version: str) -> None:
    """style.css shows `.unetmod-knobs` by the state of the `.unetmod-toggle` in the same `.unetmod-method`."""
    nesting = reported(version)["nesting"]
    for method in METHODS.values():
        assert nesting[method.name] == ["unetmod", "unetmod-accordion", "unetmod-method", "unetmod-head"]
        for knob in knobs(method.config):
            folded = ["unetmod-folds", "unetmod-more"] * (knob.rarely or knob.name in SHARED_KNOBS)
            row = [*folded, "unetmod-shared" if knob.name in SHARED_KNOBS else "unetmod-own"]
            expected = ["unetmod", "unetmod-accordion", "unetmod-method", "unetmod-knobs", *row]
            assert nesting[f"{method.name}.{knob.name}"] == expected
    style = (Path(__file__).parents[2] / "style.css").read_text()
    rules = {
        part.strip(): body
        for head, _, body in (rule.partition("{") for rule in style.split("}"))
        for part in head.split(",\n")
    }
    hidden = ".unetmod.unetmod .unetmod-method:not(:has(.unetmod-toggle input:checked)) > .unetmod-knobs"
    assert "display: none" in rules[hidden]


def test_order_is_switch_then_each_method_with_its_knobs_and_the_shared_ones(panel: Panel) -> None:
    assert panel.names[0] == "switch"
    assert panel.component("switch") is panel.switch is panel.components[0]
    start = panel.names.index("skip_blocks")
    assert panel.names[start + 1 : start + 1 + len(SKIP_KNOBS)] == [f"skip_blocks.{name}" for name in SKIP_KNOBS]
    assert SKIP_KNOBS[-len(SHARED_KNOBS) :] == list(SHARED_KNOBS)
    assert panel.names[-2:] == ["speed", "tune"]
    assert len(panel.names) == 3 + sum(1 + len(knobs(method.config)) for method in METHODS.values())


def test_labels_and_ids_are_unique(panel: Panel) -> None:
    for field in ("label", "elem_id"):
        values = [getattr(control, field) for control in panel.components]
        assert len(set(values)) == len(values)
    # unetmod.js cuts a label at its first colon, which must be the one after the method's title.
    assert all(
        control.label.count(": ") == 1 for name, control in zip(panel.names, panel.components, strict=True) if "." in name
    )


def test_defaults_show_and_stay_out_of_ui_config() -> None:
    with gr.Blocks():
        plain = Panel(str)
        with_defaults = Panel(str, {"skip_blocks": {"levels": 2, "blocks": ["mid"]}})
    assert not plain.component("skip_blocks").value
    assert with_defaults.component("skip_blocks").value
    assert with_defaults.component("skip_blocks.levels").value == 2
    assert with_defaults.component("skip_blocks.blocks").value == "mid"
    assert all(control.do_not_save_to_config for control in with_defaults.components[1:])
    assert not any(getattr(control, "do_not_save_to_config", False) for control in plain.components)
    assert not with_defaults.switch.value


@pytest.mark.parametrize(
    "selection",
    [
        {},
        {"skip_blocks": {}},
        {"skip_blocks": {"middle": True, "levels": 1}},
        {"skip_blocks": {"blocks": ["in.4.attn", "mid"], "start": 0.3, "end": 0.8, "hires_pass": False}},
        {"speed": "2.5x", "skip_blocks": {}},
    ],
)
@pytest.mark.parametrize("on", [True, False])
def test_selection_reads_back(on: bool, selection: dict[str, dict[str, Any]]) -> None:
    assert Panel.selection(Panel.values(on, selection)) == (on, selection)


def test_none_and_what_a_short_list_leaves_out_stand_for_the_defaults() -> None:
    defaults = {"skip_blocks": {"levels": 2}}
    nones = [True, *[None] * (len(Panel.values(True, {})) - 1)]
    assert Panel.selection(nones) == Panel.selection([True]) == (True, {})
    assert Panel.selection(nones, defaults) == Panel.selection([True], defaults) == (True, defaults)
    unticked = Panel.values(True, {})
    assert Panel.selection(unticked, defaults) == (True, {})


HOSTILE = [math.nan, math.inf, -1, 10**400, "x" * 10_000, "<b>", [], [[1]], {}, {"a": 1}, object(), b"\0", "true", 1.5]


@pytest.mark.parametrize("value", HOSTILE, ids=lambda value: type(value).__name__)
def test_hostile_values_never_raise(value: Any) -> None:
    count = len(Panel.values(True, {}))
    for values in ([value] * count, [True, True, *[value] * (count * 2)], [value], value):
        on, selection = Panel.selection(values, value)
        assert isinstance(on, bool)
        configs_of(selection)
    assert len(Panel.values(value, {"skip_blocks": value, "no_such": value})) == count
    assert len(Panel.values(value, {"skip_blocks": dict.fromkeys(SKIP_KNOBS, value)})) == count
    assert len(Panel.values(value, value)) == count


def test_value_that_cannot_be_read_is_reported_and_not_dropped() -> None:
    values = Panel.values(True, {"skip_blocks": {"middle": True}})
    values[Panel.values(True, {}).index("zeros")] = "glue"
    _, selection = Panel.selection(values)
    configs, problems = configs_of(selection)
    assert not configs
    assert "glue" in problems[0]


def test_wrong_settings_are_said_in_the_summary_and_nothing_is_markup() -> None:
    values = {knob.name: knob.default for knob in knobs(SKIP.config)}
    crossed = summary_chip(SKIP, [True, *({**values, "start": 0.8, "end": 0.5}).values()])
    assert "start must not be above end" in crossed
    assert "unetmod-wrong" in crossed
    named = summary_chip(SKIP, [True, *({**values, "blocks": "<img/src=x>"}).values()])
    assert "<img" not in named


SHRINK = METHODS["deep_shrink"]


def chip_at(width: int, height: int, method: Method = SHRINK, page: dict[str, Any] | None = None, **values: Any) -> str:
    """A method's chip on a page of this size, with SD1's U-Net loaded; `page` are other controls of it."""
    knobs_of = {**method.config().values(), **values}
    shown = {"width": width, "height": height, "sampler": "Euler", **(page or {})}
    drawn = picture_of("img2img" if "denoising" in shown else "txt2img", shown, Loaded(inspect_unet(unets.sd1())))
    return summary_chip(method, [True, *(knobs_of[knob.name] for knob in knobs(method.config))], drawn)


def test_chip_tells_what_autos_choose_at_the_pages_size() -> None:
    assert chip_at(1024, 1024) == "<span>Deep Shrink 1/2 at block 3 0-0.35 (auto)</span>"
    assert chip_at(1024, 512).startswith("<span>Deep Shrink 1/2x1 at block 3")
    by_hand = chip_at(1024, 1024, auto=False, block=4, end=0.2)
    assert by_hand == "<span>Deep Shrink 1/2 at block 4 0-0.2</span>"
    near = chip_at(512, 768)
    assert "unetmod-idle" in near and ">Deep Shrink: nothing to do at 512x768<" in near and "Lower Minimum size" in near


def test_chip_tells_which_preset_the_family_takes() -> None:
    free_u = METHODS["free_u"]
    assert chip_at(512, 512, free_u) == "<span>FreeU v2 b1 1.5 b2 1.6 s1 0.9 s2 0.2 (auto)</span>"
    assert chip_at(512, 512, free_u, b1=1.1) == "<span>FreeU v2 b1 1.1 b2 1.6 s1 0.9 s2 0.2 (auto)</span>"
    assert chip_at(512, 512, free_u, preset="SD1.4") == "<span>FreeU v2 SD1.4</span>"
    assert chip_at(512, 512, free_u, b1=1.1, b2=1.2, s1=1, s2=1) == "<span>FreeU v2 b1 1.1 b2 1.2 s1 1 s2 1</span>"


@pytest.mark.parametrize(
    "name, page, words, why",
    [
        ("hyper_tile", {}, "HyperTile: nothing to do at 256x256", "below 1.5 tiles of 256 px. Choose a smaller Tile size."),
        ("guidance_interval", {"cfg": 7}, "Skip negative prompt: nothing to do at CFG 7", "no speedup at CFG 7. Use CFG 1"),
        ("deep_cache", {"steps": 6}, "DeepCache: nothing to do at 6 steps", "reuses nothing"),
        ("color_map", {"denoising": 0.5}, "Color map: nothing to do at denoising strength 0.5", "begins at 0.47"),
    ],
)
def test_chip_is_grey_where_the_method_will_do_nothing(name: str, page: dict[str, Any], words: str, why: str) -> None:
    chip = chip_at(256, 256, METHODS[name], page)
    assert chip.startswith("<span class='unetmod-idle' title='") and f">{words}</span>" in chip and why in chip


def test_chip_names_its_method_whatever_is_set() -> None:
    for method in METHODS.values():
        chip = chip_at(1024, 1024, method, {"cfg": 1, "steps": 20})
        assert chip.startswith(f"<span>{method.config.short}") or f">{method.config.short}: changes nothing<" in chip
    assert "level is 6" in chip_at(1024, 1024, auto=False, level=6)


def test_what_was_measured_stands_under_the_knobs():
    with gr.Blocks() as blocks:
        made = Panel(str)
        made.render_switch()
        made.render_accordion()
    shown = measured_in(blocks)
    assert len(shown) == len(measured())
    assert any("fewer steps" in text for text in shown)


def measured_in(blocks: gr.Blocks) -> list[str]:
    return [block.value for block in blocks.blocks.values() if "unetmod-measured" in (block.elem_classes or ())]


def test_where_the_docs_are_served_what_was_measured_leads_to_them_in_a_new_tab_and_names_them_elsewhere():
    def shown(docs_link: Callable[[str], str | None] | None) -> list[str]:
        with gr.Blocks() as blocks:
            made = Panel(str, docs_link=docs_link)
            made.render_switch()
            made.render_accordion()
        return measured_in(blocks)

    asked = []
    pages = {verdict(found).page for found in measured().values()}
    linked = shown(lambda page: asked.append(page) or f"file=<'{page}")
    assert set(asked) == pages == {"speed.md", "resolution.md", "detail.md"}
    assert all((Path(__file__).parents[2] / "docs" / page).is_file() for page in pages)
    for text, page in zip(linked, asked, strict=True):
        assert text.count("<a ") == 1 and "docs/" not in text
        assert f"<a href='file=&lt;&#x27;{page}' target='_blank' rel='noopener'>All results</a>" in text
    for docs_link in (None, lambda page: None):
        named = shown(docs_link)
        for text, page in zip(named, asked, strict=True):
            assert "<a " not in text and f"All results</em> <code>docs/{page}</code>" in text
