"""X/Y/Z axes, named and ordered as the panel is: the switch, the speed, then for each method its tick and its knobs.

A cell's values are kept on its own copy of `p`. The plot is a script of the WebUI's that offers no way to join; we look
for it among the loaded scripts and go without where it is not as expected.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping
from pathlib import PurePath
from typing import Any

from modules import scripts

from ..core.knobs import Knob
from ..settings import speed_target
from . import controls, host
from .panel import TITLE

_ATTRIBUTE = "unetmod_axes"
_SWITCHED = ["true", "false"]
#: Characters; a range with a step or a count is shorter.
_LONGEST_NUMBER = 80


def add_axes() -> None:
    """Add our axes to the plot's, each once."""
    try:
        plot = next((data.module for data in scripts.scripts_data if PurePath(data.path).name == "xyz_grid.py"), None)
        if plot is None:
            return
        known = {option.label for option in plot.axis_options}
        plot.axis_options.extend(option for option in _axes(plot.AxisOption) if option.label not in known)
    except (AttributeError, TypeError) as error:
        host.say(f"X/Y/Z plot gets no axes of ours: {error}")


def axes_of(p: Any) -> Mapping[str, Any]:
    """The values of our axes in the cell that `p` makes, by the names of the controls."""
    return getattr(p, _ATTRIBUTE, None) or {}


def _axes(option: Callable[..., Any]) -> Iterator[Any]:
    yield _toggle_axis(option, controls.SWITCH, "On/off")
    yield _knob_axis(option, speed_target.SPEED, speed_target.KNOB.label, speed_target.KNOB)
    for method in controls.ordered_methods():
        yield _toggle_axis(option, method.name, method.title)
        for knob in controls.knobs_as_shown(method):
            yield _knob_axis(option, f"{method.name}.{knob.name}", controls.knob_label(method, knob), knob)


def _toggle_axis(option: Callable[..., Any], name: str, label: str) -> Any:
    return option(f"[{TITLE}] {label}", str, _apply(name), choices=lambda: list(_SWITCHED))


def _knob_axis(option: Callable[..., Any], name: str, label: str, knob: Knob) -> Any:
    of_type = knob.type if knob.type in (int, float) else str
    values = _SWITCHED if knob.type is bool else list(knob.choices)
    extra = {"choices": lambda: list(values)} if values else {}
    axis = option(f"[{TITLE}] {label}", of_type, _apply(name), confirm=_confirm(knob), **extra)
    if of_type is not str:
        axis.prepare = _split(knob)
    return axis


def _apply(name: str) -> Callable[[Any, Any, Any], None]:
    def apply(p: Any, value: Any, _all_values: Any) -> None:
        # A new dict: the copies of `p` share what their attributes hold.
        setattr(p, _ATTRIBUTE, {**axes_of(p), name: value})

    return apply


def _split(knob: Knob) -> Callable[[str], list[str]]:
    """The plot's own splitting of a line of numbers, before it makes numbers and ranges of them.

    It would stumble over digits by the thousand, in words of Python's.
    """

    def split(line: str) -> list[str]:
        values = [value.strip() for row in csv.reader([line], skipinitialspace=True) for value in row]
        for value in values:
            if len(value) > _LONGEST_NUMBER:
                knob.parse(value)
        return values

    return split


def _confirm(knob: Knob) -> Callable[[Any, list[Any]], None]:
    def confirm(_p: Any, values: list[Any]) -> None:
        for value in values:
            knob.parse(value)

    return confirm
