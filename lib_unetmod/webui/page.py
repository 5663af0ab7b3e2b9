"""Where our controls stand: the switch in the seed's row and the accordion directly under it, in both tabs.

The WebUI has no place for that. The controls are made before the row exists and rendered by callbacks around two of the
row's own components; if those never come, the controls are rendered further down, because a control that is an argument
but not on the page makes Generate do nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import gradio as gr
from modules import script_callbacks, scripts

from ..core.upcoming_picture import UpcomingPicture
from ..settings.presets import Presets
from . import controls, host, settings
from .defaults_row import DefaultsRow
from .infotext import Restore
from .panel import Panel
from .upcoming_picture import PictureControls, ids_of, picture_of

TABS = ("txt2img", "img2img")


class Page:
    """The controls of one tab. Made with the script, before its tab is known."""

    def __init__(self, script: Any) -> None:
        self.script = script
        self.panel: Panel | None = None
        self._defaults: DefaultsRow | None = None
        self._missing: list[Callable[[], None]] = []
        script_callbacks.on_ui_tabs(self._settings_made)
        self._seen: dict[str, gr.components.Component] = {}
        for tab in TABS:
            for elem_id in ids_of(tab).values():
                script.on_after_component(partial(self._note_control, elem_id), elem_id=elem_id)
            script.on_after_component(self._at_seed, elem_id=f"{tab}_subseed_show")
            script.on_before_component(self._under_seed, elem_id=f"{tab}_seed_extras")
            script.on_before_component(self._at_the_end, elem_id=f"{tab}_gallery")

    def controls(self) -> list[gr.components.Component]:
        """The controls, in the order of the script's arguments, for `Script.ui` to return."""
        if getattr(scripts, "scripts_current", None) is None:
            return _stand_ins()
        defaults = settings.read()
        for problem in defaults.problems:
            host.say(problem)
        elem_id = self.script.elem_id
        self._defaults = DefaultsRow(elem_id, settings.save, settings.reset, lambda: settings.read().starting_values())
        panel = _panel(elem_id, defaults, self._defaults)
        self.script.infotext_fields = [
            (control, Restore(name)) for name, control in zip(panel.names, panel.components, strict=True)
        ]
        self.script.paste_field_names = [Restore(name) for name in panel.names]
        self.panel = panel
        self._missing = [panel.render_switch, panel.render_accordion]
        return panel.components

    def _at_seed(self, _component: Any) -> None:
        if self.panel is not None:
            self._render(self.panel.render_switch)

    def _under_seed(self, _component: Any) -> None:
        if self.panel is not None:
            self._render(self.panel.render_accordion)

    def _note_control(self, elem_id: str, seen: Any) -> None:
        self._seen[elem_id] = seen.component

    def _at_the_end(self, _component: Any) -> None:
        if self.panel is not None:
            for render in list(self._missing):
                self._render(render)
            self.panel.wire(self._picture())

    def _settings_made(self) -> list[Any]:
        # Called when tabs are asked for, of which we have none: the Settings page is made by then, and not on show yet.
        if self._defaults is not None:
            self._defaults.renew(settings.on_page)
        return []

    def _render(self, render: Callable[[], None]) -> None:
        if render in self._missing:
            self._missing.remove(render)
            render()

    def _picture(self) -> PictureControls | None:
        tab = next((tab for tab in TABS if f"{tab}_width" in self._seen), None)
        if tab is None:
            return None
        # Only one tab's components are made between the script's controls and its gallery.
        found = {name: self._seen[elem_id] for name, elem_id in ids_of(tab).items() if elem_id in self._seen}

        def read(*values: Any) -> UpcomingPicture:
            return picture_of(tab, dict(zip(found, values, strict=False)), host.loaded())

        return PictureControls(list(found.values()), read, host.profiles())


def _panel(elem_id: Callable[[str], str], defaults: settings.Defaults, row: DefaultsRow) -> Panel:
    """A panel that starts as Settings say. ui-config.json, which would pin the first values, gets the switch alone."""
    ticked = {name: defaults.knobs[name] for name in defaults.ticked}
    panel = Panel(elem_id, ticked, Presets(host.presets_folder()), row, host.docs_link)
    for name, control, value in zip(panel.names, panel.components, defaults.starting_values(), strict=True):
        control.value = value
        control.do_not_save_to_config = name != controls.SWITCH
    return panel


def _stand_ins() -> list[gr.components.Component]:
    """What the API takes its defaults from at start-up: None in place of each control, read later as "what Settings say"."""
    count = 1 + sum(1 for _ in controls.arguments())
    return [gr.Textbox(value=None, visible=False) for _ in range(count)]
