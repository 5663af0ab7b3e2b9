"""The accordion's row of presets: choosing one loads it; a line that opens under it saves, renames, deletes and shares them.

What would lose a preset, saving over it and deleting it, is asked first. Of a built-in preset only what can act on the next
picture is set.

Its controls are no arguments of the script and are kept out of ui-config.json.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import wraps
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.context import Context

from ..settings.presets import BUILT_IN, PresetError, Presets
from ..settings.quick import acting
from . import controls
from .choosing import Updates, chosen
from .upcoming_picture import PictureControls

CHOOSE_FIRST = "Choose a preset first."

#: Saves what Python answered as a file, as if it were a link's.
_DOWNLOAD = """(answer) => {
    if (!answer) return [];
    const {file, text} = JSON.parse(answer);
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], {type: "application/json"}));
    link.download = file;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    return [];
}"""

#: Goes on only where the question, the first of the values, is empty or answered with yes. An event whose JavaScript never
#: ends is not sent, in every gradio; the values of the outputs follow those of the inputs and are cut off.
_IF_AGREED = "(...v) => (!v[0] || confirm(v[0])) ? v.slice(0, {count}) : new Promise(() => {{}})"


class PresetRow:
    """The row's controls, made and rendered by `render`."""

    def __init__(self, elem_id: Callable[[str], str], presets: Presets) -> None:
        self._elem_id = elem_id
        self._presets = presets

    def render(self) -> None:
        """Put the row here."""
        with gr.Accordion("More presets", open=False, elem_classes=["unetmod-more", "unetmod-presets"]) as presets:
            with gr.Row(elem_classes=["unetmod-preset-row"]):
                names = self._presets.names()
                self._chosen = gr.Dropdown(
                    names, value=None, label="Choose a preset", **self._common("preset", "unetmod-preset")
                )
                self._open = gr.Checkbox(False, label="Manage presets", **self._common("preset_edit", "unetmod-preset-open"))
            with gr.Row(elem_classes=["unetmod-preset-edit"]):
                self._name = gr.Textbox(
                    label="Name of the preset",
                    show_label=False,
                    placeholder="Name of the preset",
                    lines=1,
                    max_lines=1,
                    **self._common("preset_name", "unetmod-preset-name"),
                )
                self._save, self._rename, self._delete = (self._button(word) for word in ("Save", "Rename", "Delete"))
                self._import = gr.UploadButton(
                    "Import", file_types=[".json"], size="sm", elem_id=self._elem_id("preset_import")
                )
                self._export = self._button("Export")
            self._said = gr.HTML(elem_id=self._elem_id("preset_said"), elem_classes=["unetmod-preset-said"])
            self._shown = gr.State(names)
            self._file = gr.Textbox(visible=False, elem_id=self._elem_id("preset_file"))
            self._question = gr.Textbox(visible=False, elem_id=self._elem_id("preset_question"))
        presets.do_not_save_to_config = True
        for control in vars(self).values():
            if isinstance(control, gr.components.Component):
                control.do_not_save_to_config = True

    def wire(self, panel: Mapping[str, gr.components.Component], picture: PictureControls | None = None) -> None:
        """Connect the events. `panel` are the controls that a preset sets, by name; `picture` tells what can act."""
        controls_ = list(panel.values())
        of_page = list(picture.controls) if picture else []
        row = [self._chosen, self._name, self._said, self._shown]

        def load(name: Any, *of_page: Any) -> Updates:
            selection, left_out = self._presets.load(name).selection, []
            upcoming = picture.read(*of_page) if picture and of_page and name in BUILT_IN else None
            if upcoming is not None:
                selection, left_out = acting(selection, upcoming)
            said = " ".join([f"Left out of {name}:" if selection else "Nothing was set.", *left_out]) if left_out else ""
            # One that set nothing is not shown as chosen, so that it can be chosen again at other settings.
            return {**chosen(panel, selection), **self._show(name, said)} if selection else self._show(None, said)

        def load_again(choice: gr.SelectData, *of_page: Any) -> Updates:
            return load(choice.value, *of_page)

        def ask_to_save(name: Any) -> str:
            kept = self._presets.kept_as(name)
            return f"Replace the preset {kept}?" if kept else ""

        def save(_question: str, name: Any, *values: Any) -> Updates:
            _, selection = controls.selection_of_values(values)
            name = self._presets.save(name, selection)
            return self._show(name, f"Saved: {name}")

        def ask_to_delete(name: Any) -> str:
            kept = self._presets.kept_as(name)
            return f"Delete the preset {kept}?" if kept else ""

        def rename(old: Any, new: Any) -> Updates:
            name = self._presets.rename(old, new)
            return self._show(name, f"Renamed: {name}")

        def delete(_question: str, name: Any) -> Updates:
            self._presets.delete(name)
            return self._show(None, f"Deleted: {name}")

        def take_in(file: Any) -> Updates:
            name = self._presets.add(Path(getattr(file, "name", file)))
            return {**chosen(panel, self._presets.load(name).selection), **self._show(name, f"Imported: {name}")}

        def hand_out(name: Any) -> Updates:
            if not name:
                raise PresetError(CHOOSE_FIRST)
            preset = self._presets.load(name)
            return {self._file: json.dumps({"file": preset.file_name, "text": preset.text}), self._said: ""}

        def refresh(shown: list[str]) -> Updates:
            names = self._presets.names()
            # A list that is given anew while it stands open is filtered by what is chosen; only where it is old already.
            return {self._shown: names, **({self._chosen: gr.update(choices=names)} if names != shown else {})}

        answer = self._or_refusal
        self._chosen.input(answer(load), [self._chosen, *of_page], [*controls_, *row], **controls.QUIET)
        # The one that is chosen already is no new input, but the knobs may have been changed since.
        self._chosen.select(answer(load_again), of_page, [*controls_, *row], **controls.QUIET)
        self._asked(self._save, ask_to_save, answer(save), [self._name, *controls_], row)
        self._rename.click(answer(rename), [self._chosen, self._name], row, **controls.QUIET)
        self._asked(self._delete, ask_to_delete, answer(delete), [self._chosen], row)
        self._import.upload(answer(take_in), [self._import], [*controls_, *row], **controls.QUIET)
        download = {controls.JS: _DOWNLOAD}
        handed = self._export.click(answer(hand_out), [self._chosen], [self._file, self._said], **controls.QUIET)
        handed.then(None, [self._file], None, **download)
        # Presets may have come from the other tab or another page since.
        for look in (self._chosen.focus, Context.root_block.load):
            look(refresh, [self._shown], [self._chosen, self._shown], **controls.QUIET)

    def _asked(
        self,
        button: gr.Button,
        ask: Callable[[Any], str],
        act: Callable[..., Updates],
        inputs: list[gr.components.Component],
        outputs: list[gr.components.Component],
    ) -> None:
        """Have a button do `act` with `inputs`, once the user has said yes to what `ask` asks of the first of them."""
        asked = button.click(ask, inputs[:1], [self._question], **controls.QUIET)
        agreed = {controls.JS: _IF_AGREED.format(count=1 + len(inputs))}
        asked.then(act, [self._question, *inputs], outputs, **agreed, **controls.QUIET)

    def _show(self, name: str | None, said: str = "") -> Updates:
        names = self._presets.names()
        return {
            self._shown: names,
            self._chosen: gr.update(choices=names, value=name),
            self._name: "" if name is None or name in BUILT_IN else name,
            self._said: f"<span>{escape(said)}</span>" if said else "",
        }

    def _or_refusal(self, act: Callable[..., Updates]) -> Callable[..., Updates]:
        """The event function of `act`, which shows the sentence of a refusal and changes nothing else."""

        @wraps(act)
        def answer(*values: Any) -> Updates:
            try:
                return act(*values)
            except PresetError as error:
                return {self._said: f"<span class='unetmod-wrong'>{escape(str(error))}</span>"}

        return answer

    def _common(self, name: str, css_class: str) -> dict[str, Any]:
        return {"elem_id": self._elem_id(name), "elem_classes": [css_class], "min_width": 0}

    def _button(self, word: str) -> gr.Button:
        return gr.Button(word, size="sm", min_width=0, elem_id=self._elem_id(f"preset_{word.lower()}"))
