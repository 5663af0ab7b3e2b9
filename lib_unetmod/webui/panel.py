"""The control panel: the switch beside the seed and the accordion under it, generated from what the methods declare.

It is built from plain gradio components and is the same in every WebUI and in the playground. What a ticked method shows
is a matter of style.css alone, so a tick costs no request; the one thing asked of Python is the summary in the header.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from html import escape
from typing import Any

import gradio as gr
from gradio.context import Context

from ..core.config import SHARED_KNOBS, knobs
from ..core.registry import METHODS, Method
from ..settings.measured import Verdict, measured, verdict
from ..settings.presets import Presets
from ..settings.selection import Selection
from ..settings.speed_target import ITS_METHODS, OFF, SPEED, TUNE
from . import controls, counting
from .chip import speed_chip, summarise, summarise_speed, summary_chip, upcoming
from .defaults_row import DefaultsRow
from .preset_row import PresetRow
from .quick_row import QuickRow
from .upcoming_picture import PictureControls

TITLE = "UNet Mod"
#: The accordion's own words: the name stands beside the switch, in sight just above.
METHODS_TITLE = "U-Net methods"

_ALL_RESULTS = "All results"
_SWITCH_OFF = "<span class='unetmod-off'>off</span>"


class Panel:
    """All controls, made without being rendered: a WebUI renders the switch and the accordion at moments of its own."""

    def __init__(
        self,
        elem_id: Callable[[str], str],
        defaults: Selection | None = None,
        presets: Presets | None = None,
        defaults_row: DefaultsRow | None = None,
        docs_link: Callable[[str], str | None] | None = None,
    ) -> None:
        """`elem_id` gives a control's id from its name; `defaults` is what is ticked and set at first; `presets` get a row.

        `defaults_row` is put at the accordion's end. `docs_link` gives the address under which a page of docs/ is served,
        None where it is not: the file's name is shown then.

        Controls with `defaults` are kept out of the WebUI's ui-config.json, which would pin the first ones it saw.
        """
        self._elem_id = elem_id
        self._values = dict(zip(self._all_names(), controls.values_of(False, defaults or {}), strict=True))
        self._by_name = {controls.SWITCH: self._checkbox(controls.SWITCH, TITLE, "unetmod-switch")}
        for name, method, knob in controls.arguments():
            if method is None:
                control = controls.strip_control(knob, self._values[name], elem_id(name))
            elif knob is None:
                control = self._checkbox(name, method.title, "unetmod-toggle")
            else:
                control = controls.knob_control(method, knob, self._values[name], elem_id(name))
            control.do_not_save_to_config = defaults is not None
            self._by_name[name] = control
        self._quick = QuickRow(elem_id)
        self._presets = PresetRow(elem_id, presets) if presets else None
        self._defaults_row = defaults_row
        self._docs_link = docs_link or (lambda page: None)
        self._off = gr.HTML(elem_classes=["unetmod-chip"], render=False)
        of_chips = [SPEED, *(method.name for method in controls.ordered_methods())]
        self._chips = {name: gr.HTML(elem_classes=["unetmod-chip"], render=False) for name in of_chips}

    @property
    def switch(self) -> gr.Checkbox:
        """On or off, for all methods together."""
        return self._by_name[controls.SWITCH]

    @property
    def components(self) -> list[gr.components.Component]:
        """The controls in the order of the script's arguments."""
        return list(self._by_name.values())

    @property
    def names(self) -> list[str]:
        """The names of `components`: "switch", for each method its name and `method.knob`, "speed" and "tune"."""
        return list(self._by_name)

    def component(self, name: str) -> gr.components.Component:
        """The control of that name."""
        return self._by_name[name]

    def render_switch(self) -> None:
        """Put the switch where it belongs: beside the seed."""
        self.switch.render()

    def render_accordion(self) -> None:
        """Put everything else here: one line that says what is on, and opens."""
        with gr.Column(elem_id=self._elem_id("panel"), elem_classes=["unetmod"]) as panel:
            with gr.Row(elem_classes=["unetmod-summary"]):
                self._off.render()
                for chip in self._chips.values():
                    chip.render()
            with gr.Accordion(
                METHODS_TITLE, open=False, elem_id=self._elem_id("accordion"), elem_classes=["unetmod-accordion"]
            ) as accordion:
                self._quick.render(self._by_name[SPEED], self._by_name[TUNE])
                if self._presets:
                    self._presets.render()
                for group in dict.fromkeys(method.group for method in controls.ordered_methods()):
                    self._render_group(group)
                if self._defaults_row:
                    self._defaults_row.render()
        for container in (panel, accordion):
            container.do_not_save_to_config = True

    def wire(self, picture: PictureControls | None = None) -> None:
        """Connect the events; once, inside the Blocks, after rendering.

        With `picture` chips and buttons go by what the page's own controls say of the next picture.
        """
        of_page = list(picture.controls) if picture else []
        chips = list(self._chips.values())
        # When the page opens, the controls may show what the WebUI set after they were made.
        show_off = {controls.JS: f"(on) => on ? '' : `{_SWITCH_OFF}`"}
        Context.root_block.load(None, [self.switch], [self._off], **show_off)
        self.switch.change(None, [self.switch], [self._off], **show_off)
        everything = [*self.components, *of_page]
        summarise_all = (self._summarise_all(picture), everything, chips)
        key = (self._elem_id("picture"), len(everything))
        latest, overtaken = {controls.JS: _latest_only(*key)}, {controls.JS: _if_overtaken(*key)}
        answers = [Context.root_block.load(*summarise_all, **controls.QUIET)]
        answers += [control.change(*summarise_all, **latest, **controls.QUIET) for control in of_page]
        for answer in answers:
            answer.then(*summarise_all, **overtaken, **controls.QUIET)
        self._quick.wire(self._by_name, picture)
        if self._presets:
            self._presets.wire(self._by_name, picture)
        if self._defaults_row:
            self._defaults_row.wire(self._by_name)
        self._wire_counting()
        self._wire_speed(picture)
        for method in controls.ordered_methods():
            toggle, *_ = own = self._controls_of(method)
            inputs = [*own, *of_page]
            ticked_turns_on = {controls.JS: "(ticked, on) => ticked || on"}
            toggle.input(None, [toggle, self.switch], [self.switch], **ticked_turns_on)
            latest = {controls.JS: _latest_only(toggle.elem_id, len(inputs))}
            for control in own:
                control.change(summarise(method, picture), inputs, [self._chips[method.name]], **latest, **controls.QUIET)

    @staticmethod
    def selection(values: Any, defaults: Selection | None = None) -> tuple[bool, Selection]:
        """Whether the switch is on, and the knobs of each ticked method. Reads anything; None means `defaults`."""
        return controls.selection_of_values(values, defaults)

    @staticmethod
    def values(on: bool, selection: Selection) -> list[Any]:
        """The values of `components` that show a selection."""
        return controls.values_of(on, selection)

    @staticmethod
    def _all_names() -> list[str]:
        return [controls.SWITCH, *(name for name, _, _ in controls.arguments())]

    def _checkbox(self, name: str, label: str, css_class: str) -> gr.Checkbox:
        return gr.Checkbox(
            self._values[name], label=label, elem_id=self._elem_id(name), elem_classes=[css_class], min_width=0, render=False
        )

    def _controls_of(self, method: Method) -> list[gr.components.Component]:
        return [self._by_name[method.name], *(self._by_name[f"{method.name}.{knob.name}"] for knob in knobs(method.config))]

    def _summarise_all(self, picture: PictureControls | None) -> Callable[..., Any]:
        async def summarise_all(*values: Any) -> dict[gr.HTML, str]:
            shown = dict(zip(self._by_name.values(), values, strict=False))
            drawn = upcoming(picture, values[len(shown) :])
            methods = controls.ordered_methods()
            own = {method.name: [shown[control] for control in self._controls_of(method)] for method in methods}
            word, way = (shown[self._by_name[name]] for name in (SPEED, TUNE))
            speed = {self._chips[SPEED]: speed_chip(word, own, drawn, way, picture.profiles if picture else None)}
            return speed | {self._chips[method.name]: summary_chip(method, own[method.name], drawn) for method in methods}

        return summarise_all

    def _wire_speed(self, picture: PictureControls | None) -> None:
        speed = self._by_name[SPEED]
        chosen_turns_on = {controls.JS: f"(speed, on) => speed !== '{OFF}' || on"}
        speed.input(None, [speed, self.switch], [self.switch], **chosen_turns_on)
        methods = [METHODS[name] for name in ITS_METHODS]
        deciding = [speed, self._by_name[TUNE], *(control for method in methods for control in self._controls_of(method))]
        inputs = [*deciding, *(picture.controls if picture else ())]
        latest = {controls.JS: _latest_only(self._elem_id(SPEED), len(inputs))}
        for control in deciding:
            control.change(summarise_speed(methods, picture), inputs, [self._chips[SPEED]], **latest, **controls.QUIET)

    def _wire_counting(self) -> None:
        """What counts now is decided in the page alone, when it opens and at each change, from wherever it comes."""
        of_each = {
            name: found
            for name, method, knob in controls.arguments()
            if method is not None and knob is not None and (found := counting.effects(method, knob, self._elem_id))
        }
        deciding = [self._by_name[name] for name in of_each]
        Context.root_block.load(None, deciding, None, **{controls.JS: counting.script(list(of_each.values()))})
        for control, found in zip(deciding, of_each.values(), strict=True):
            control.change(None, [control], None, **{controls.JS: counting.script([found])})
        for name, method, knob in controls.arguments():
            if method is not None and knob is not None and (emptied := counting.emptied_by(knob, method)):
                empty = {controls.JS: f"() => {json.dumps(emptied.default)}"}
                self._by_name[name].input(None, None, [self._by_name[f"{method.name}.{emptied.name}"]], **empty)

    def _render_group(self, group: str) -> None:
        title = controls.GROUPS.get(group, group.capitalize())
        gr.HTML(f"<span>{escape(title)}</span>", elem_classes=["unetmod-group"])
        for method in controls.ordered_methods():
            if method.group == group:
                self._render_method(method)

    def _render_method(self, method: Method) -> None:
        own = [knob for knob in knobs(method.config) if knob.name not in SHARED_KNOBS]
        often, rarely = ([knob.name for knob in own if knob.rarely is rare] for rare in (False, True))
        with gr.Column(elem_classes=["unetmod-method"]):
            with gr.Row(elem_classes=["unetmod-head"]):
                self._by_name[method.name].render()
                gr.HTML(_about(method), elem_classes=["unetmod-about"])
            told = verdict(measured().get(method.name, ()))
            if told.sentence:
                gr.HTML(_measured(told, self._docs_link(told.page)), elem_classes=["unetmod-measured"])
            with gr.Column(elem_classes=["unetmod-knobs"]):
                self._render_knobs(method, often, "unetmod-own")
                with gr.Row(elem_classes=["unetmod-folds"]):
                    if rarely:
                        self._render_folded("More", method, rarely, "unetmod-own")
                    self._render_folded("When", method, SHARED_KNOBS, "unetmod-shared")

    def _render_folded(self, word: str, method: Method, names: Iterable[str], css_class: str) -> None:
        with gr.Accordion(word, open=False, elem_classes=["unetmod-more"]) as fold:
            self._render_knobs(method, names, css_class)
        fold.do_not_save_to_config = True

    def _render_knobs(self, method: Method, names: Iterable[str], css_class: str) -> None:
        with gr.Row(elem_classes=[css_class]):
            for name in names:
                self._by_name[f"{method.name}.{name}"].render()


def _about(method: Method) -> str:
    """The method's benefit in a line, which opens: under it the longer text, and with it the help of each knob.

    It is the browser's own, so that a finger and a key open it as well as a pointer, and nothing is asked of Python.
    """
    benefit, idea = escape(method.benefit), escape(method.idea.rstrip(".:"))
    return f"<details><summary><span>{benefit}</span></summary><p>{idea}</p></details>"


def _measured(told: Verdict, link: str | None) -> str:
    """What was measured, and where all of it stands. Each text is an element's own, by which the WebUI translates it."""
    if link:
        more = f"<a href='{escape(link)}' target='_blank' rel='noopener'>{_ALL_RESULTS}</a>"
    else:
        more = f"<em>{_ALL_RESULTS}</em> <code>docs/{escape(told.page)}</code>"
    return f"<p><span>{escape(told.sentence)}</span> {more}</p>"


def _latest_only(key: str, count: int) -> str:
    """JavaScript that lets only the last of several quick changes be asked about, where unetmod.js is on the page.

    Dragging a slider would otherwise send dozens of requests, and gradio 3 may show an earlier answer last.
    """
    return f"(...v) => (window.unetmodLatest || ((key, v) => v))({json.dumps(key)}, v.slice(0, {count}))"


def _if_overtaken(key: str, count: int) -> str:
    """JavaScript that asks again where something was changed while the answer under `key` was on its way.

    That answer may have come after one to the change, as while a page opens, and have overwritten it.
    """
    return f"(...v) => window.unetmodIfOvertaken?.({json.dumps(key)}, v.slice(0, {count})) ?? new Promise(() => {{}})"
