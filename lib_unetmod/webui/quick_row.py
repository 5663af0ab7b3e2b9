"""The accordion's first row: Speed, then Larger and More detail, each one press, and a line that says what it did.

Under a speed, whether it is to be tuned.

Its buttons are no arguments of the script and are kept out of ui-config.json.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from html import escape
from typing import Any

import gradio as gr

from ..settings.quick import GOALS, quick
from ..settings.speed_target import OF_NO_METHOD, TUNE_KNOB
from . import controls
from .choosing import Updates, chosen, cleared
from .upcoming_picture import Loaded, PictureControls, picture_of


class QuickRow:
    """The row's controls, made and rendered by `render`."""

    def __init__(self, elem_id: Callable[[str], str]) -> None:
        self._elem_id = elem_id
        self._buttons: dict[str, gr.Button] = {}

    def render(self, speed: gr.components.Component, tune: gr.components.Component) -> None:
        """Put the row here, with the speed as its first and its tuning under it."""
        with gr.Row(elem_classes=["unetmod-quick"]):
            speed.render()
            self._buttons = {goal: self._button(goal, word) for goal, word in GOALS.items()}
            self._clear = self._button("clear", "Clear", "unetmod-quick-clear")
            tune.render()
            gr.HTML(f"<span>{escape(TUNE_KNOB.help)}</span>", elem_classes=["unetmod-quick-said", "unetmod-of-tune"])
            self._said = gr.HTML(elem_id=self._elem_id("quick_said"), elem_classes=["unetmod-quick-said"])
        for control in (*self._buttons.values(), self._clear, self._said):
            control.do_not_save_to_config = True

    def wire(self, panel: Mapping[str, gr.components.Component], picture: PictureControls | None = None) -> None:
        """Connect the events. `panel` are the controls that a choice sets, by name; `picture` what it goes by."""
        of_page = list(picture.controls) if picture else []
        outputs = [*panel.values(), self._said]

        def press(goal: str, *values: Any) -> Updates:
            upcoming = picture.read(*values) if picture and values else None
            made = quick(goal, upcoming or picture_of("txt2img", {}, Loaded()))
            said = {self._said: f"<span>{escape(made.sentence)}</span>"}
            if not made.selection:
                return said
            updates = chosen(panel, made.selection)
            for name in OF_NO_METHOD:  # a size or detail goes with any speed
                del updates[panel[name]]
            return {**updates, **said}

        for goal, button in self._buttons.items():
            button.click(partial(press, goal), of_page, outputs, **controls.QUIET)
        self._clear.click(lambda: {**cleared(panel), self._said: ""}, None, outputs, **controls.QUIET)

    def _button(self, name: str, word: str, *css_classes: str) -> gr.Button:
        classes = ["unetmod-quick-do", *css_classes]
        return gr.Button(word, size="sm", min_width=0, elem_id=self._elem_id(f"quick_{name}"), elem_classes=classes)
