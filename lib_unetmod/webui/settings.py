"""The section "UNet Mod" of the WebUI's Settings: for each method one line that says how it starts.

A line has the form in which a picture's infotext shows the method, so that it can be copied from there. The page starts
with it, and so does a request to the API; a method without a line starts off, or as ui-config.json says.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any

from modules import shared

from ..core.config import SHARED_KNOBS, knobs
from ..core.knobs import ConfigError
from ..core.registry import METHODS, Method
from ..settings.selection import Selection, knobs_in_line
from . import controls, host

SECTION = ("unetmod", "UNet Mod")

_OFF = "off"
_EXPLANATION = (
    "How each method starts, on the page and for the API. A line holds <b>on</b>, or knobs that differ from the method's "
    "own defaults, such as <b>middle=true; levels=1</b>: the method is ticked. Begin with <b>off;</b> to set its knobs "
    "without ticking it. A picture's infotext shows methods in the same form. An empty line leaves the method to "
    "<i>Defaults</i> (ui-config.json). All lines take effect on the page after Reload UI, in the API at once. Every method "
    f"also takes {', '.join(SHARED_KNOBS)}."
)


@dataclass(frozen=True)
class Defaults:
    """What Settings say: the knobs of each method that has a line, and which of these methods are ticked."""

    knobs: Selection = field(default_factory=dict)
    ticked: frozenset[str] = frozenset()
    problems: tuple[str, ...] = ()

    def starting_values(self) -> list[Any]:
        """The values with which the panel's controls start, in the order of the arguments; the switch is off."""
        values: list[Any] = [False]
        for _, method, knob in controls.arguments():
            if knob is None:
                values.append(method.name in self.ticked)
            else:
                values.append(controls.shown(knob, self.knobs.get(method.name, {}).get(knob.name, knob.default)))
        return values


def add_options() -> None:
    """Register the section; to be called when the WebUI asks for settings."""
    explanation = shared.OptionHTML(_EXPLANATION)
    _add("unetmod_explanation", explanation)
    for method in controls.ordered_methods():
        complain = partial(_complain, method.name)
        _add(_key(method.name), shared.OptionInfo("", method.title, onchange=complain).info(_own_knobs(method)))


def read() -> Defaults:
    """What Settings say now. A line that cannot be read counts as empty, with a sentence."""
    chosen, ticked, problems = {}, set(), []
    for name in METHODS:
        off, selection, problem = _line(name)
        chosen.update(selection)
        if problem:
            problems.append(problem)
        elif selection and not off:
            ticked.add(name)
    return Defaults(chosen, frozenset(ticked), tuple(problems))


def _line(name: str) -> tuple[bool, Selection, str]:
    """Of one method's line: whether it begins with off, the knobs it sets, and what is wrong with it."""
    line = shared.opts.data.get(_key(name))
    if not isinstance(line, str) or not line.strip():
        return False, {}, ""
    off, entry = _split_off(line)
    try:
        return off, {name: knobs_in_line(name, entry)}, ""
    except ConfigError as error:
        return off, {}, f"Settings: the line of {METHODS[name].title} cannot be read and is left out. {error}"


def _complain(name: str) -> None:
    _, _, problem = _line(name)
    if problem:
        host.warn(problem)


def _split_off(line: str) -> tuple[bool, str]:
    first, _, rest = line.strip().strip(";").partition(";")
    if first.strip().lower() in (_OFF, "on"):
        return first.strip().lower() == _OFF, rest.strip() or "on"
    return False, line.strip().strip(";")


def _own_knobs(method: Method) -> str:
    own = [knob for knob in knobs(method.config) if knob.name not in SHARED_KNOBS]
    return "; ".join(f"{knob.name}: {knob.domain()}" for knob in own)


def _key(name: str) -> str:
    return f"unetmod_{name}"


def _add(key: str, option: Any) -> None:
    option.section = SECTION
    option.category_id = "sd"
    shared.opts.add_option(key, option)
