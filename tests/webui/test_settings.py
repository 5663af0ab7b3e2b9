"""Settings: the sections, what they say of how methods start, and the buttons that write them."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest
import webui_stubs
from webui_stubs import SKIP, shared

from lib_unetmod import ConfigError
from lib_unetmod.core.config import SHARED_KNOBS, knobs
from lib_unetmod.settings.speed_target import KNOB
from lib_unetmod.webui import api, controls, settings

SKIP_TICK = "unetmod_skip_blocks"


@pytest.fixture(autouse=True)
def config(tmp_path: Path) -> Path:
    """A WebUI after start-up, and the file that keeps its settings."""
    webui_stubs.reset()
    shared.config_filename = str(tmp_path / "config.json")
    return tmp_path / "config.json"


def panel_values(**changed: Any) -> list[Any]:
    """The values of all controls: the methods' own defaults, but for `changed`, where __ stands for the dot."""
    named = {"switch": False}
    named |= {name: False if knob is None else controls.shown(knob, knob.default) for name, _, knob in controls.arguments()}
    changed = {name.replace("__", "."): value for name, value in changed.items()}
    assert changed.keys() <= named.keys()
    return list({**named, **changed}.values())


def sections() -> dict[str, list[tuple[str, Any]]]:
    """Those of the methods, by their titles."""
    settings.add_options()
    found: dict[str, list[tuple[str, Any]]] = {}
    for key, option in shared.opts.options.items():
        found.setdefault(option.section[1], []).append((key, option))
    assert [one.removeprefix("UNet Mod: ") for one in list(found)[-2:]] == ["Memory", "Times"]
    for _ in range(2):
        found.popitem()
    return found


def test_each_method_has_a_section_with_real_components():
    found = sections()
    ((key, speed),) = found.pop("UNet Mod: Speed")
    assert (key, speed.default, speed.component_args["choices"]) == ("unetmod_speed", "off", list(KNOB.choices))
    assert list(found) == [f"UNet Mod: {method.title}" for method in controls.ordered_methods()]
    assert len({option.section for held in found.values() for _, option in held}) == len(found)
    for method, held in zip(controls.ordered_methods(), found.values(), strict=True):
        (_, about), (key, tick), *rest = held
        assert about.do_not_save and method.benefit.rstrip(".") in about.default
        assert (key, tick.default, tick.label) == (f"unetmod_{method.name}", False, f"{method.title}: ticked at start")
        declared = {f"unetmod_{method.name}_{knob.name}": knob for knob in knobs(method.config)}
        assert sorted(declared) == sorted(key for key, option in rest if not option.do_not_save)
        for key, option in rest:
            if option.do_not_save:
                continue
            knob = declared[key]
            assert option.label == controls.knob_label(method, knob) and option.comment_after.count(">") == 2
            assert option.default == controls.shown(knob, knob.default)
            if knob.choices:
                assert option.component is gr.Dropdown and option.component_args == {"choices": list(knob.choices)}
            elif knob.low is not None:
                assert option.component is gr.Slider and option.component_args["maximum"] == knob.high
                assert type(option.default) in (int, float)
            else:
                # The WebUI makes a checkbox of a bool and a line of a text.
                assert option.component is None and type(option.default) is (bool if knob.type is bool else str)


def test_the_memory_limit_has_a_section_of_its_own_and_is_read_for_each_picture():
    settings.add_options()
    key = "unetmod_memory"
    option = shared.opts.options[key]
    assert option.section == ("unetmod_memory", "UNet Mod: Memory") and option.component is gr.Number
    assert settings.keep_bytes() is None and option.default == 0 and settings.read().problems == ()
    shared.opts.data[key] = 512  # by hand, or by an API request's override_settings
    assert settings.keep_bytes() == 512_000_000
    for wrong in (-1, "much", 1e9, [1]):
        shared.opts.data[key] = wrong
        assert settings.keep_bytes() is None
        assert "unetmod_memory is" in settings.read().problems[0] and len(settings.read().problems) == 1
    settings.add_options()
    assert shared.opts.data[key] == 0
    shared.opts.data[key] = None  # an emptied field
    assert settings.keep_bytes() is None and settings.read().problems == ()


def test_the_buttons_leave_the_memory_limit_alone():
    settings.add_options()
    shared.opts.data["unetmod_memory"] = 512
    settings.save(panel_values(skip_blocks=True))
    settings.reset()
    assert settings.keep_bytes() == 512_000_000


def test_the_speed_starts_as_settings_say_and_is_kept_and_reset():
    settings.add_options()
    assert settings.save(panel_values(speed="2x")) == "Saved: UNet Mod starts with Speed 2x."
    defaults = settings.read()
    assert defaults.speed == "2x" and defaults.starting_values()[-2:] == ["2x", "off"]
    assert api.read([True], defaults).selection == {"speed": "2x"} == api.read([True, *[None] * 500], defaults).selection
    settings.reset()
    assert settings.read().speed == "off" == settings.read().starting_values()[-2]
    shared.opts.data["unetmod_speed"] = "9x"
    assert settings.read().problems == (
        "Settings, Speed: unetmod_speed is '9x'; it takes off or 1.3x or 1.5x or 2x or 2.5x or 3x. It is off.",
    )
    settings.add_options()
    assert shared.opts.data["unetmod_speed"] == "off" and settings.read().problems == ()


def test_what_is_rarely_turned_stands_apart():
    for method in controls.ordered_methods():
        keys = [key for key, _ in sections()[f"UNet Mod: {method.title}"]]
        heading = keys.index(f"unetmod_{method.name}-rarely")
        rare = {f"unetmod_{method.name}_{knob.name}" for knob in knobs(method.config) if knob.rarely}
        shared_by_all = [f"unetmod_{method.name}_{name}" for name in SHARED_KNOBS]
        assert set(keys[heading + 1 :]) == rare | set(shared_by_all)
        assert sorted(keys[-5:]) == sorted(shared_by_all)


def test_where_the_webui_has_categories_they_stand_under_one(monkeypatch):
    registered: list[tuple[str, str]] = []
    monkeypatch.setattr(settings, "categories", SimpleNamespace(register_category=lambda *names: registered.append(names)))
    assert list(sections()) == ["Speed", *(method.title for method in controls.ordered_methods())]
    assert registered == [("unetmod", "UNet Mod")]
    assert {option.category_id for option in shared.opts.options.values()} == {"unetmod"}


def test_keys_are_unique():
    keys = [key for key, _ in settings._all_options()]
    assert len(set(keys)) == len(keys) == sum(1 for name, _, _ in controls.arguments() if name != "tune")


def test_page_and_api_start_as_settings_say():
    settings.add_options()
    assert settings.read() == settings.Defaults()
    shared.opts.data |= {"unetmod_skip_blocks_middle": True, "unetmod_skip_blocks_levels": 1}
    for ticked in (False, True):
        shared.opts.data[SKIP_TICK] = ticked
        defaults = settings.read()
        assert defaults.knobs == SKIP and bool(defaults.ticked) is ticked and defaults.problems == ()
        assert api.read([True], defaults).selection == (SKIP if ticked else {})
        names = [name for name, _, _ in controls.arguments()]
        ticking = [True] + [None] * names.index("skip_blocks") + [True]
        assert api.read(ticking, defaults).selection == SKIP
        more = api.read([{"skip_blocks": {"levels": 2}}], defaults).selection
        assert more == {"skip_blocks": {"middle": True, "levels": 2}}
        assert api.read([], defaults).on is False
        starting = dict(zip(["switch", *names], defaults.starting_values(), strict=True))
        assert starting["skip_blocks"] is ticked and starting["skip_blocks.levels"] == 1 and starting["switch"] is False


@pytest.mark.parametrize(
    "value", ["many", 99, -1, 1.5, [1], {"a": 1}, True, "\ud800", 10**9999], ids=lambda v: type(v).__name__
)
def test_a_value_that_cannot_be_read_costs_a_sentence_and_nothing_else(value, capsys):
    shared.opts.data |= {SKIP_TICK: True, "unetmod_skip_blocks_middle": True, "unetmod_skip_blocks_levels": value}
    defaults = settings.read()
    assert defaults.knobs == {"skip_blocks": {"middle": True}} and defaults.ticked == {"skip_blocks"}
    (problem,) = defaults.problems
    assert problem.startswith("Settings, Skip U-Net blocks: unetmod_skip_blocks_levels is ") and len(problem) < 200
    assert problem.endswith("it takes a whole number from 0 to 3. The method's own default is used.")
    assert api.read([True], defaults).problems == (problem,)
    # The WebUI's page would refuse to apply anything as long as a value of a wrong type is held.
    settings.add_options()
    assert capsys.readouterr().out == f"UNet Mod: {problem}\n"
    assert shared.opts.data["unetmod_skip_blocks_levels"] == 0 and settings.read().problems == ()


def test_values_that_do_not_go_together_cost_a_sentence():
    shared.opts.data |= {SKIP_TICK: True, "unetmod_skip_blocks_start": 0.9, "unetmod_skip_blocks_end": 0.1}
    defaults = settings.read()
    assert defaults.knobs == {"skip_blocks": {}} and defaults.ticked == {"skip_blocks"}
    assert len(defaults.problems) == 1 and "start must not be above end" in defaults.problems[0]


# The lines of 0.1.0.


@pytest.mark.parametrize(
    ("line", "ticked", "chosen"),
    [
        ("middle=true; levels=1", True, SKIP),
        ("on; middle=true; levels=1", True, SKIP),
        ("off; middle=true;levels=1", False, SKIP),
        ("on", True, {"skip_blocks": {}}),
        ("off", False, {}),
        ("", False, {}),
        (" ; ", False, {}),
        ("blocks=in.4 mid", True, {"skip_blocks": {"blocks": ["in.4", "mid"]}}),
    ],
)
def test_a_line_of_0_1_0_is_taken_over_once(config, line, ticked, chosen):
    shared.opts.data |= {SKIP_TICK: line, "sd_model_checkpoint": "a model"}
    settings.add_options()
    assert settings.read() == settings.Defaults(chosen, frozenset({"skip_blocks"} if ticked else ()))
    assert shared.opts.data[SKIP_TICK] is ticked
    saved = json.loads(config.read_text("utf8"))
    assert saved["sd_model_checkpoint"] == "a model" and not isinstance(saved.get(SKIP_TICK), str)
    config.unlink()
    settings.add_options()
    assert not config.exists()


@pytest.mark.parametrize("line", ["levels=many", "freeze", "levels=1, middle=true", "=", "blocks=in.4\ud800"])
def test_a_line_that_cannot_be_read_is_said_and_kept(config, line, capsys):
    shared.opts.data |= {SKIP_TICK: line, "unetmod_hyper_tile": "tile=256"}
    settings.add_options()
    said = capsys.readouterr().out
    assert said.count("\n") == 1 and "cannot be read" in said and "unetmod_skip_blocks_unread" in said
    assert settings.read().ticked == {"hyper_tile"} and shared.opts.data[SKIP_TICK] is False
    assert json.loads(config.read_text("utf8"))["unetmod_skip_blocks_unread"] == line.replace("\ud800", r"\ud800")


def test_lines_are_taken_over_where_nothing_can_be_saved(config, capsys):
    shared.opts.data[SKIP_TICK] = "levels=2"
    shared.opts.frozen = True
    settings.add_options()
    assert settings.read().knobs == {"skip_blocks": {"levels": 2}} and not config.exists()
    assert "lets nobody change these settings" in capsys.readouterr().out


# The buttons.


def test_the_panels_values_become_the_defaults(config):
    settings.add_options()
    changed = panel_values(
        switch=True, deep_cache=True, free_u=True, deep_cache__interval=5, skip_blocks__blocks="in.4, mid"
    )
    assert settings.save(changed) == "Saved: UNet Mod starts with DeepCache and FreeU."
    defaults = settings.read()
    assert defaults.ticked == {"deep_cache", "free_u"}
    assert defaults.knobs["deep_cache"] == {"interval": 5} and defaults.knobs["skip_blocks"] == {"blocks": ["in.4", "mid"]}
    assert defaults.starting_values()[0] is False
    saved = json.loads(config.read_text("utf8"))
    assert saved["unetmod_deep_cache"] is True and saved["unetmod_skip_blocks_blocks"] == "in.4 mid"
    assert not [key for key in saved if "switch" in key]
    assert settings.save(panel_values(switch=True)) == "Saved: UNet Mod starts with nothing ticked."
    three = panel_values(deep_cache=True, free_u=True, hyper_tile=True)
    assert settings.save(three) == "Saved: UNet Mod starts with DeepCache, HyperTile and FreeU."


def test_reset_takes_all_defaults_back(config):
    settings.add_options()
    settings.save(panel_values(deep_cache=True, deep_cache__interval=5, skip_blocks__start=0.5))
    assert settings.reset().startswith("Reset: ")
    assert settings.read() == settings.Defaults()
    saved = json.loads(config.read_text("utf8"))
    assert saved["unetmod_deep_cache"] is False and saved["unetmod_skip_blocks_start"] == 0.0


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"deep_cache__interval": "many"}, "DeepCache: interval is 'many'"),
        ({"skip_blocks__blocks": "in.4 \udc00"}, "blocks is"),
        ({"skip_blocks__start": 0.9, "skip_blocks__end": 0.1}, "start must not be above end"),
        ({"color_map__colors": "no colour"}, "colors"),
    ],
)
def test_what_cannot_be_kept_changes_nothing(config, changed, words):
    settings.add_options()
    before = dict(shared.opts.data)
    with pytest.raises(ConfigError, match=words):
        settings.save(panel_values(free_u=True, **changed))
    assert shared.opts.data == before and not config.exists()


def test_where_settings_cannot_be_changed_or_written_a_sentence_says_so(config):
    settings.add_options()
    before = dict(shared.opts.data)
    shared.opts.frozen = True
    with pytest.raises(ConfigError, match="lets nobody change these settings"):
        settings.save(panel_values(free_u=True))
    with pytest.raises(ConfigError, match="lets nobody change these settings"):
        settings.reset()
    shared.opts.frozen = False
    shared.config_filename = str(config / "no folder" / "config.json")
    with pytest.raises(ConfigError, match="config.json cannot be written: No such file"):
        settings.save(panel_values(free_u=True))
    assert shared.opts.data == before


@pytest.mark.parametrize("foreign", ["a\ud800b", object(), 10**9999], ids=lambda value: type(value).__name__)
def test_another_extensions_setting_that_cannot_be_written_does_not_cost_the_file(config, foreign):
    settings.add_options()
    config.write_text('{"kept": true}')
    shared.opts.data["of_another"] = foreign
    with pytest.raises(ConfigError, match="another setting cannot be written to config.json"):
        settings.save(panel_values(free_u=True))
    assert config.read_text() == '{"kept": true}' and shared.opts.data["unetmod_free_u"] is False
