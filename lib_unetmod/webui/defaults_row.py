"""The accordion's last row: "Make these my defaults" keeps in Settings what the panel shows, "Reset" takes that back.

The playground has no settings and no such row. The row's controls are no arguments of the script and are kept out of
ui-config.json.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

import gradio as gr
from gradio.context import Context

from ..core.knobs import ConfigError
from . import controls

_Updates = dict[gr.components.Component, Any]

SURE = "Reset UNet Mod? This unticks every method and takes all its values back, here and in Settings."
# The WebUI translates what is on the page, not what the browser asks.
_ASK = f"() => [((asked) => confirm(window.localization?.[asked] || asked))({json.dumps(SURE)})]"


class DefaultsRow:
    """The row's controls, made and rendered by `render`.

    Args:
        elem_id: gives a control's id from its name.
        save: keeps the values of all the panel's controls as defaults, and says so in one sentence.
        reset: takes the defaults back to the methods' own, and says so in one sentence.
        start: the values with which the panel's controls start as the defaults are now.

    All may raise `ConfigError`, whose sentence is shown instead; nothing has changed then.
    """

    def __init__(
        self,
        elem_id: Callable[[str], str],
        save: Callable[[Sequence[Any]], str],
        reset: Callable[[], str],
        start: Callable[[], list[Any]],
    ) -> None:
        self._elem_id = elem_id
        self._save, self._reset, self._start = save, reset, start

    def render(self) -> None:
        """Put the row here."""
        with gr.Column(elem_classes=["unetmod-defaults"]):
            with gr.Row(elem_classes=["unetmod-defaults-row"]):
                self._keep = self._button("Make these my defaults", "defaults_save")
                self._back = self._button("Reset", "defaults_reset")
            self._said = gr.HTML(elem_id=self._elem_id("defaults_said"), elem_classes=["unetmod-preset-said"])
            self._sure = gr.Checkbox(False, visible=False, elem_id=self._elem_id("defaults_sure"))
        for control in (self._keep, self._back, self._said, self._sure):
            control.do_not_save_to_config = True

    def wire(self, panel: Mapping[str, gr.components.Component]) -> None:
        """Connect the events; `panel` are the controls that have defaults, by their names, the switch first."""
        shown = list(panel.values())
        built = [control.value for control in shown]

        def keep(*values: Any) -> _Updates:
            return self._say(self._save(values))

        def take_back(sure: Any) -> _Updates:
            if sure is not True:
                return {self._said: ""}
            said = self._reset()
            return {**dict(zip(shown[1:], self._start()[1:], strict=True)), **self._say(said)}

        def since_built() -> _Updates:
            # What the page was built with may be hours old; only what is new is sent.
            places = zip(shown[1:], self._start()[1:], built[1:], strict=True)
            # gradio 3 takes no empty dict for an answer.
            return {self._said: "", **{control: value for control, value, before in places if value != before}}

        outputs = [*shown, self._said]
        ask = {controls.JS: _ASK}
        self._page = Context.root_block
        self._changes = [
            self._keep.click(self._or_refusal(keep), shown, [self._said], **controls.QUIET),
            self._back.click(self._or_refusal(take_back), [self._sure], outputs, **ask, **controls.QUIET),
        ]
        Context.root_block.load(since_built, None, outputs, **controls.QUIET)

    def renew(self, settings: Callable[[], _Updates]) -> None:
        """Have each change shown on the Settings page too, which is made after this row and shows old values otherwise.

        They would be applied again with whatever the user changes there next. `settings` gives its components' values now.
        """
        outputs = list(settings())
        outer, Context.root_block = Context.root_block, self._page
        try:
            for change in self._changes if outputs else ():
                change.then(settings, None, outputs, **controls.QUIET)
        finally:
            Context.root_block = outer

    def _say(self, sentence: str) -> _Updates:
        return {self._said: f"<span>{escape(sentence)}</span>"}

    def _or_refusal(self, act: Callable[..., _Updates]) -> Callable[..., _Updates]:
        """The event function of `act`, which shows the sentence of a refusal and changes nothing else."""

        def answer(*values: Any) -> _Updates:
            try:
                return act(*values)
            except ConfigError as error:
                return {self._said: f"<span class='unetmod-wrong'>{escape(str(error))}</span>"}

        return answer

    def _button(self, words: str, name: str) -> gr.Button:
        return gr.Button(words, size="sm", min_width=0, elem_id=self._elem_id(name))
