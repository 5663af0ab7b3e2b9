"""localizations/*.json against what the panel shows, read from the panel itself: nothing missing, nothing stale."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path

import gradio as gr
import pytest
import webui_stubs
from webui_stubs import shared

from lib_unetmod.core.config import SHARED_KNOBS, knobs
from lib_unetmod.core.registry import METHODS
from lib_unetmod.settings.measured import measured, verdict
from lib_unetmod.settings.presets import BUILT_IN, Presets
from lib_unetmod.settings.quick import NOTHING_FOR_DETAIL
from lib_unetmod.settings.speed_target import OF_NO_METHOD
from lib_unetmod.webui import controls, defaults_row, panel, preset_row, settings

FILES = sorted((Path(__file__).parents[2] / "localizations").glob("*.json"))
NUMBER = re.compile(r"(?<![A-Za-z0-9.])-?\d+(?:\.\d+)?(?![A-Za-wyz])")
LANGUAGES = {"ja_JP": re.compile("[ぁ-んァ-ヶ一-龥]"), "zh_CN": re.compile("[一-龥]")}
#: Names that are the same in every language.
NAMES = {method.title for method in METHODS.values()} | {
    "RAU-Net",
    "txt2img",
    "img2img",
    "Self-attention",
    "Cross-attention",
    "Feed-forward",
}


#: What is said after a button was pressed, where it is always the same.
SAID = {NOTHING_FOR_DETAIL, preset_row.CHOOSE_FIRST, settings.NOTHING_TICKED, settings.RESET, defaults_row.SURE}
#: What unetmod.js shows in place of a value.
OF_SCRIPT = {"auto"}


def texts_of(markup: str) -> set[str]:
    """The texts of a piece of HTML as the WebUI looks them up: each between two tags by itself. Code stays as it is."""
    parts = re.split("<[^>]*>", re.sub("<code>.*?</code>", "", markup))
    return {html.unescape(part).strip() for part in parts} - {""}


def strings_of(page: gr.Blocks) -> set[str]:
    """What the components of a page show as text: labels, helps, placeholders, buttons' words and lines of HTML."""
    found: set[str] = set()
    for block in page.blocks.values():
        if not getattr(block, "visible", True) or str(block.elem_id) == "seed":
            continue
        shown = [getattr(block, "info", None), getattr(block, "placeholder", None)]
        if getattr(block, "show_label", True) and not isinstance(block, (gr.HTML, gr.UploadButton)):
            shown.append(getattr(block, "label", None))
        if isinstance(block, gr.Accordion):
            shown.append(block.label)
        if isinstance(block, gr.HTML):
            shown.extend(texts_of(block.value or ""))
        if isinstance(block, gr.Button):
            shown.append(block.value)
        if isinstance(block, gr.UploadButton):
            shown.append(block.label)
        found.update(text for text in shown if text)
    return found


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Every string of the panel and of our Settings that is not a value."""
    with gr.Blocks() as page:
        row = defaults_row.DefaultsRow(str, settings.save, settings.reset, lambda: settings.read().starting_values())
        made = panel.Panel(str, {}, Presets(tmp_path_factory.mktemp("presets")), row)
        made.render_switch()
        made.render_accordion()
        made.wire()
    webui_stubs.reset()
    settings.add_options()
    options = shared.opts.options.values()
    of_settings = {option.label for option in options} | {option.comment_after for option in options}
    of_settings |= {option.default for option in options if option.do_not_save}
    texts = {text for markup in {*of_settings, panel._SWITCH_OFF} for text in texts_of(markup)}
    of_strips = {choice for knob in OF_NO_METHOD.values() for choice in knob.choices if choice.isalpha()}
    return strings_of(page) - {panel.TITLE} | texts | set(BUILT_IN) | of_strips | SAID | OF_SCRIPT


def labels() -> set[str]:
    """Those that begin with their method's title: of knobs, and in Settings of whether a method is ticked."""
    of_knobs = {controls.knob_label(method, knob) for method in METHODS.values() for knob in knobs(method.config)}
    return of_knobs | {settings.tick_label(method) for method in METHODS.values()}


def test_the_walk_finds_titles_ideas_labels_helps_groups_and_what_was_measured(shown: set[str]) -> None:
    for method in METHODS.values():
        of_knobs = {controls.knob_label(method, knob) for knob in knobs(method.config)}
        helps = {knob.help for knob in knobs(method.config)}
        told = verdict(measured()[method.name]).sentence
        group = controls.GROUPS[method.group]
        assert {method.title, method.benefit, method.idea.rstrip(".:"), group, told, *of_knobs, *helps} <= shown
    of_rows = {"Faster", "Clear", "More presets", "Manage presets", "Make these my defaults", "Reset", "More", "When"}
    assert {*of_rows, panel.METHODS_TITLE, "All results", "Rarely changed", settings.tick_label(METHODS["free_u"])} <= shown


def test_there_is_one_file_for_each_language() -> None:
    assert [file.stem for file in FILES] == sorted(LANGUAGES)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_string_is_translated_and_no_entry_is_stale(file: Path, shown: set[str]) -> None:
    entries = json.loads(file.read_text("utf-8"))
    assert sorted(shown - set(entries)) == []
    assert sorted(set(entries) - shown) == []


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_translations_are_in_their_language_and_labels_keep_their_form(file: Path) -> None:
    entries = json.loads(file.read_text("utf-8"))
    titled = labels()
    for english, translation in entries.items():
        assert translation.strip() == translation and translation
        short = english.partition(": ")[2] if english in titled else english
        assert LANGUAGES[file.stem].search(translation) or short in NAMES, english
        # unetmod.js cuts a label after its method's title.
        assert translation.count(": ") == (1 if english in titled else 0), translation


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_one_word_has_one_translation(file: Path) -> None:
    """A knob that several methods share reads the same under each, and a label begins with its method's title."""
    entries = json.loads(file.read_text("utf-8"))
    for method in METHODS.values():
        own = {knob.name: entries[controls.knob_label(method, knob)].split(": ") for knob in knobs(method.config)}
        own["tick"] = entries[settings.tick_label(method)].split(": ")
        assert {title for title, _ in own.values()} == {entries[method.title]}
        for name in SHARED_KNOBS:
            first = next(iter(METHODS.values()))
            shared = next(knob for knob in knobs(first.config) if knob.name == name)
            assert own[name][1] == entries[controls.knob_label(first, shared)].split(": ")[1]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_numbers_in_helps_and_figures_are_kept(file: Path) -> None:
    """Bounds, block numbers and figures are what a slip of a translation would do most harm to."""
    entries = json.loads(file.read_text("utf-8"))
    for method in METHODS.values():
        told = verdict(measured()[method.name]).sentence
        for text in (told, *(knob.help for knob in knobs(method.config))):
            numbers, kept = (set(NUMBER.findall(one)) for one in (text, entries[text]))
            assert numbers <= kept, entries[text]
