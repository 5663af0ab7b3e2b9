"""What the panel's controls are set to when a choice of methods is made in one go: by a preset or a button."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gradio as gr

from ..settings.selection import Selection
from ..settings.speed_target import OF_NO_METHOD, OFF
from . import controls

#: What an event function answers: the new value of each control that changes.
Updates = dict[gr.components.Component, Any]


def chosen(panel: Mapping[str, gr.components.Component], selection: Selection) -> Updates:
    """The switch on, the selection's methods ticked and set, and its speed. Others are unticked, and keep their knobs.

    `panel` are the panel's controls by their names.
    """
    values = dict(zip(panel, controls.values_of(True, selection), strict=True))
    kept = {name for name in values if "." in name and name.partition(".")[0] not in selection}
    return {panel[name]: value for name, value in values.items() if name not in kept}


def cleared(panel: Mapping[str, gr.components.Component]) -> Updates:
    """The switch off, every method unticked and no speed; all knobs stay."""
    off = {control: False for name, control in panel.items() if "." not in name}
    return {**off, **{panel[name]: OFF for name in OF_NO_METHOD}}
