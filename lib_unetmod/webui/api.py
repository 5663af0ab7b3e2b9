"""What a generation asks of us, read from the script's arguments.

The page sends one value for each control. A request to the API may do the same and stop early, or send one dict:
`{"alwayson_scripts": {"unet mod": {"args": [{"skip_blocks": {"middle": true}}]}}}`. What is left out, or null, is as
Settings say; only the switch is off unless it is sent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ..core.knobs import shortened
from ..core.registry import METHODS
from ..settings.selection import Selection
from ..settings.speed_target import SPEED
from . import controls
from .settings import Defaults


@dataclass(frozen=True)
class Choice:
    """What is asked for.

    Attributes:
        on: the master switch.
        selection: the methods that are ticked, with their knobs.
        spare: the knobs from which a method starts that only an X/Y/Z axis puts on.
        problems: a sentence for each thing that cannot be read.
    """

    on: bool
    selection: Selection = field(default_factory=dict)
    spare: Selection = field(default_factory=dict)
    problems: tuple[str, ...] = ()


def read(args: Sequence[Any], defaults: Defaults) -> Choice:
    """The choice in the script's arguments, whatever they hold."""
    first = args[0] if args else None
    if isinstance(first, Mapping):
        return Choice(True, _with_knobs(first, defaults), defaults.knobs, defaults.problems)
    if first not in (None, True, False, 0, 1):
        sentence = f"The first argument is {shortened(first)}; it takes true, false, or one dict of methods. Nothing is on."
        return Choice(False, problems=(sentence,))
    given = _filled(args, defaults.starting_values())
    on, selection = controls.selection_of_values(given)
    _, spare = controls.selection_of_values(_all_ticked(given))
    return Choice(on, selection, spare, defaults.problems if on else ())


def with_axes(choice: Choice, axes: Mapping[str, Any]) -> Choice:
    """The choice of one cell of an X/Y/Z plot: `axes` maps the names of controls to the cell's values.

    An axis on a knob puts its method on, and any axis the switch, unless other axes say that these are off.
    """
    if not axes:
        return choice
    on = _truth(axes.get(controls.SWITCH, True))
    ticked = choice.on or controls.SWITCH in axes
    selection = _with_knobs(choice.selection, Defaults()) if ticked else {}
    if SPEED in axes:
        selection[SPEED] = axes[SPEED]
    for name, value in axes.items():
        method, _, knob = name.partition(".")
        knobs = selection.setdefault(method, dict(choice.spare.get(method, {}))) if knob else None
        if isinstance(knobs, dict):
            knobs[knob] = value
    for name, value in axes.items():
        if name in METHODS and _truth(value):
            selection.setdefault(name, dict(choice.spare.get(name, {})))
        elif name in METHODS:
            selection.pop(name, None)
    return replace(choice, on=on, selection=selection)


def _with_knobs(asked: Mapping[Any, Any], defaults: Defaults) -> Selection:
    """Each method asked for, its knobs laid over those of Settings; what is no mapping is left for the reader to refuse."""
    return {
        name: {**defaults.knobs.get(name, {}), **knobs} if isinstance(knobs, Mapping) else knobs
        for name, knobs in asked.items()
    }


def _filled(args: Sequence[Any], start: list[Any]) -> list[Any]:
    given = [*args, *[None] * len(start)]
    return [value if value is not None else first for value, first in zip(given, start, strict=False)]


def _all_ticked(values: list[Any]) -> list[Any]:
    toggles = [False, *(knob is None for _, _, knob in controls.arguments())]
    return [True if toggle else value for toggle, value in zip(toggles, values, strict=True)]


def _truth(value: Any) -> bool:
    return value in (True, 1) if not isinstance(value, str) else value.strip().lower() in ("true", "on", "1", "yes")
