"""The accordion's last row: what its two buttons do to the panel and to Settings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr
import pytest
import webui_stubs
from webui_stubs import shared

from lib_unetmod.webui import settings
from lib_unetmod.webui.defaults_row import DefaultsRow
from lib_unetmod.webui.panel import Panel


class Served:
    """A panel with the row on a page; `events` are the functions behind it, by the button's words, and "load"."""

    def __init__(self) -> None:
        with gr.Blocks() as self.page:
            row = DefaultsRow(str, settings.save, settings.reset, lambda: settings.read().starting_values())
            self.panel = Panel(str, {}, None, row)
            self.panel.render_switch()
            self.panel.render_accordion()
            self.panel.wire()
        self.row = row
        self.names = {control: name for name, control in zip(self.panel.names, self.panel.components, strict=True)}
        self.events = {getattr(one.fn, "__qualname__", ""): one.fn for one in self._functions()}

    def _functions(self) -> list[Any]:
        return list(self.page.fns.values()) if isinstance(self.page.fns, dict) else self.page.fns

    def answer(self, event: Callable[..., Any], *values: Any) -> dict[str, Any]:
        """What the page is told to show: controls by their names, and the row's sentence as "said"."""
        return {self.names.get(control, "said"): value for control, value in event(*values).items()}

    def of_button(self, button: gr.Button) -> Callable[..., Any]:
        for number, function in enumerate(self._functions()):
            if (button._id, "click") in self._targets(number, function):
                return function.fn
        raise LookupError(button)

    def _targets(self, number: int, function: Any) -> list[tuple[int, str]]:
        """What sets off an event: components by their ids, and how. gradio 3 keeps it apart from the event's function."""
        if hasattr(function, "targets"):
            return [tuple(target[:2]) for target in function.targets]
        event = self.page.dependencies[number]
        return [(component, event["trigger"]) for component in event["targets"]]

    def at_load(self) -> Callable[..., Any]:
        return next(fn for name, fn in self.events.items() if name.endswith("since_built"))

    def values(self, **changed: Any) -> list[Any]:
        named = dict(zip(self.panel.names, (control.value for control in self.panel.components), strict=True))
        return list({**named, **{name.replace("__", "."): value for name, value in changed.items()}}.values())


@pytest.fixture
def served(tmp_path):
    webui_stubs.reset()
    shared.config_filename = str(tmp_path / "config.json")
    settings.add_options()
    return Served()


def test_the_row_is_the_accordions_last_and_nothing_of_it_is_an_argument(served):
    assert not {served.row._keep, served.row._back, served.row._said} & set(served.panel.components)
    assert all(one.do_not_save_to_config for one in (served.row._keep, served.row._back, served.row._said, served.row._sure))
    accordion = next(block for block in served.page.blocks.values() if isinstance(block, gr.Accordion) and block.elem_id)
    assert "unetmod-defaults" in accordion.children[-1].elem_classes
    with gr.Blocks() as page:
        panel = Panel(str)
        panel.render_switch()
        panel.render_accordion()
        panel.wire()
    assert not [
        block for block in page.blocks.values() if "unetmod-defaults" in (getattr(block, "elem_classes", None) or [])
    ]


def test_what_the_panel_shows_is_kept_and_a_page_opened_later_starts_so(served):
    keep = served.of_button(served.row._keep)
    values = served.values(switch=True, deep_cache=True, deep_cache__interval=5)
    assert served.answer(keep, *values) == {"said": "<span>Saved: UNet Mod starts with DeepCache.</span>"}
    assert settings.read().knobs == {"deep_cache": {"interval": 5}} and settings.read().ticked == {"deep_cache"}
    assert served.answer(served.at_load()) == {"said": "", "deep_cache": True, "deep_cache.interval": 5}
    later = Served()
    assert later.answer(later.at_load()) == {"said": "", "deep_cache": True, "deep_cache.interval": 5}


def test_reset_is_asked_first_and_takes_the_panel_back_too(served):
    settings.save(served.values(deep_cache=True, deep_cache__interval=5))
    reset = served.of_button(served.row._back)
    for unsure in (False, None, "true"):
        assert served.answer(reset, unsure) == {"said": ""}
    assert settings.read().ticked == {"deep_cache"}
    answer = served.answer(reset, True)
    assert answer.pop("said").startswith("<span>Reset: UNet Mod starts with nothing ticked")
    # The switch stays as it is.
    assert set(answer) == set(served.panel.names) - {"switch"}
    assert answer == {
        name: value for name, value in zip(served.panel.names, served.values(), strict=True) if name != "switch"
    }
    assert settings.read() == settings.Defaults()


def test_the_settings_page_shows_what_the_buttons_wrote(served):
    assert settings.on_page() == {}
    with gr.Blocks():
        tick = gr.Checkbox(False)
        interval = gr.Slider(1, 10)
        shared.settings_components = {
            "unetmod_deep_cache": tick,
            "unetmod_deep_cache_interval": interval,
            "other": gr.Number(),
        }
    before = len(served._functions())
    served.row.renew(settings.on_page)
    renewing = served._functions()[before:]
    assert len(renewing) == 2
    settings.save(served.values(deep_cache=True, deep_cache__interval=5))
    assert [dependency.fn() for dependency in renewing] == [{tick: True, interval: 5}] * 2
    del shared.settings_components


def test_a_refusal_is_shown_and_changes_nothing(served):
    keep, reset = served.of_button(served.row._keep), served.of_button(served.row._back)
    said = served.answer(keep, *served.values(deep_cache=True, skip_blocks__blocks="<b>\ud800"))["said"]
    assert "unetmod-wrong" in said and "blocks is" in said and "<b>" not in said
    shared.opts.frozen = True
    for act in (lambda: keep(*served.values(deep_cache=True)), lambda: reset(True)):
        (only,) = act().values()
        assert "lets nobody change these settings" in only
    assert settings.read() == settings.Defaults()
