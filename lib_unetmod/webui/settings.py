"""The WebUI's Settings: for each method a section that says how it starts, on the page and for the API.

A section holds whether the method is ticked and its knobs, with the panel's own labels. The first one is the speed; two
further ones say how much memory methods may take, and whether times are shown. What stands there is read anew when a page
opens and for every request. The accordion's buttons write the methods' options: "Make these my defaults" and "Reset".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

import gradio as gr
from modules import shared

from ..core.config import knobs
from ..core.knobs import ConfigError, Knob
from ..core.registry import METHODS, Method
from ..settings import speed_target
from ..settings.selection import Selection, config_of, selection_of
from . import controls, host, old_lines
from .stored_options import key_of, store, value_of

try:
    from modules.options import categories
except ImportError:  # older WebUIs have a plain list of sections
    categories = None

_CATEGORY = ("unetmod", "UNet Mod")
_RARELY = "Rarely changed"
NOTHING_TICKED = "Saved: UNet Mod starts with nothing ticked."
RESET = "Reset: UNet Mod starts with nothing ticked and every value as it came."
_SPEED_KEY = "unetmod_speed"
_MEMORY_KEY = "unetmod_memory"
_MEMORY = Knob(
    "Memory limit (MB)",
    "The most that methods together keep between steps, such as DeepCache; 0 = a quarter of the memory that is free.",
    type=int,
    default=0,
    low=0,
    high=999_999,
    step=1,
)
_TIMES_KEY = "unetmod_times"
_TIMES = Knob(
    "Show times under images",
    "What text encoder, U-Net and VAE took, and about what the U-Net takes alone.",
    type=bool,
    default=True,
)
#: Keys, what they take, and what is done where that cannot be read. Whether times are shown is no more than that.
_OF_NO_METHOD = (
    (_SPEED_KEY, speed_target.KNOB, "It is off."),
    (_MEMORY_KEY, _MEMORY, "A quarter of the memory that is free is used."),
)
_EXPLANATION = (
    "How it starts when a page opens, and for API requests that leave it out. The UNet Mod switch itself is not kept here."
)


@dataclass(frozen=True)
class Defaults:
    """What Settings say: the speed, which methods are ticked, and the knobs of those that are ticked or changed.

    `problems` has a sentence for each value that cannot be read; the method's own default stands in for it.
    """

    knobs: Selection = field(default_factory=dict)
    ticked: frozenset[str] = frozenset()
    speed: str = speed_target.OFF
    problems: tuple[str, ...] = ()

    def starting_values(self) -> list[Any]:
        """The values with which the panel's controls start, in the order of the arguments; the switch is off."""
        values: list[Any] = [False]
        for _, method, knob in controls.arguments():
            if method is None:
                values.append(self.speed if knob is speed_target.KNOB else knob.default)
            elif knob is None:
                values.append(method.name in self.ticked)
            else:
                values.append(controls.shown(knob, self.knobs.get(method.name, {}).get(knob.name, knob.default)))
        return values


def tick_label(method: Method) -> str:
    """The label of the option that says whether a method is ticked."""
    return f"{method.title}: ticked at start"


def add_options() -> None:
    """Register the sections; to be called when the WebUI asks for settings."""
    if categories is not None:
        categories.register_category(*_CATEGORY)
    old_lines.take_over()
    for problem in _put_right():
        host.say(problem)
    speed = speed_target.KNOB
    _add(_SPEED_KEY, speed.label, _SPEED_KEY, _option(speed, speed.label))
    for method in controls.ordered_methods():
        for key, option in _section(method):
            _add(key_of(method), method.title, key, option)
    _add(_MEMORY_KEY, "Memory", _MEMORY_KEY, _memory_option())
    _add(_TIMES_KEY, "Times", _TIMES_KEY, _option(_TIMES, _TIMES.label))


def read() -> Defaults:
    """What Settings say now."""
    chosen: Selection = {}
    ticked: set[str] = set()
    problems: list[str] = []
    for method in controls.ordered_methods():
        values: dict[str, Any] = {}
        for key, knob in _options(method):
            try:
                value = value_of(key, knob)
            except ConfigError as error:
                problems.append(f"Settings, {method.title}: {error} The method's own default is used.")
                continue
            if knob is not controls.TICK:
                values[knob.name] = value
            elif value:
                ticked.add(method.name)
        try:
            changed = selection_of([config_of(method.name, values)])[method.name]
        except ConfigError as error:
            problems.append(f"Settings: {error} {method.title} starts with its own defaults.")
            changed = {}
        if changed or method.name in ticked:
            chosen[method.name] = changed
    unread = _unread()
    speed = speed_target.OFF if _SPEED_KEY in unread else value_of(_SPEED_KEY, speed_target.KNOB)
    return Defaults(chosen, frozenset(ticked), speed, (*problems, *unread.values()))


def keep_bytes() -> int | None:
    """The most that methods may keep between steps, in bytes; None where the user leaves it to us."""
    try:
        return value_of(_MEMORY_KEY, _MEMORY) * 1_000_000 or None
    except ConfigError:  # `read` has said so
        return None


def shows_times() -> bool:
    """Whether what a generation took is to be said under its pictures."""
    try:
        return value_of(_TIMES_KEY, _TIMES)
    except ConfigError:  # whatever a request put there
        return _TIMES.default


def save(values: Sequence[Any]) -> str:
    """Make what a panel shows the defaults: `values` are those of all its controls, the switch first, which is not kept.

    Returns:
        One sentence that says what was saved.

    Raises:
        ConfigError: for a value that its knob does not take, or where settings cannot be changed; nothing is changed then.
    """
    new: dict[str, Any] = {}
    for (name, method, knob), value in zip(controls.arguments(), values[1:], strict=True):
        if name == speed_target.TUNE:
            continue  # is for one picture
        if method is None:
            new[_SPEED_KEY] = knob.parse(value)
        elif knob is None:
            new[key_of(method)] = controls.TICK.parse(value)
        else:
            new[key_of(method, knob)] = controls.shown(knob, _parsed(method, knob, value))
    for method in METHODS.values():
        config_of(method.name, {knob.name: new[key_of(method, knob)] for knob in knobs(method.config)})
    store(new)
    titles = [f"Speed {new[_SPEED_KEY]}"] if new[_SPEED_KEY] != speed_target.OFF else []
    titles += [method.title for method in controls.ordered_methods() if new[key_of(method)]]
    return f"Saved: UNet Mod starts with {_joined(titles)}." if titles else NOTHING_TICKED


def reset() -> str:
    """Take all defaults back to the methods' own: nothing ticked. Returns one sentence that says so.

    Raises:
        ConfigError: where settings cannot be changed.
    """
    store({key: _default(knob) for key, knob in _all_options()})
    return RESET


def on_page() -> dict[gr.components.Component, Any]:
    """The Settings page's components of ours with the values that they are to show; empty before the page is made."""
    shown = getattr(shared, "settings_components", None) or {}
    ours = [key for key, _ in _all_options() if key in shown]
    return {shown[key]: shared.opts.data[key] for key in ours}


def _section(method: Method) -> Iterator[tuple[str, Any]]:
    yield key_of(method) + "-about", _text(f"<b>{escape(method.title)}</b>", escape(method.benefit), _EXPLANATION)
    yield key_of(method), shared.OptionInfo(False, tick_label(method))
    headed = False
    for knob in controls.knobs_as_shown(method):
        if controls.rarely_used(knob) and not headed:
            headed = True
            yield key_of(method) + "-rarely", _text(f"<b>{_RARELY}</b>")
        yield key_of(method, knob), _option(knob, controls.knob_label(method, knob))


def _option(knob: Knob, label: str) -> Any:
    component, arguments = None, None
    if knob.choices:
        component, arguments = gr.Dropdown, {"choices": list(knob.choices)}
    elif knob.low is not None:
        step = knob.step or (1 if knob.type is int else 0.01)
        component, arguments = gr.Slider, {"minimum": knob.low, "maximum": knob.high, "step": step}
    return _explained(shared.OptionInfo(_default(knob), label, component, arguments), knob)


def _explained(option: Any, knob: Knob) -> Any:
    option.comment_after = f"<span class='info'>{escape(knob.help)}</span>"
    return option


def _text(*lines: str) -> Any:
    return shared.OptionHTML("<br>".join(f"<span>{line}</span>" for line in lines))


def _memory_option() -> Any:
    # A field and no slider, whose finest step from nothing to what the largest cards have would be too coarse.
    return _explained(shared.OptionInfo(_MEMORY.default, _MEMORY.label, gr.Number, {"precision": 0}), _MEMORY)


def _add(section: str, title: str, key: str, option: Any) -> None:
    # Where there are categories the section stands under "UNet Mod", so that its own name is enough.
    option.section = (section, title if categories is not None else f"{_CATEGORY[1]}: {title}")
    option.category_id = _CATEGORY[0]
    shared.opts.add_option(key, option)


def _all_options() -> Iterator[tuple[str, Knob]]:
    """The keys of everything that the panel starts with."""
    yield _SPEED_KEY, speed_target.KNOB
    for method in METHODS.values():
        yield from _options(method)


def _options(method: Method) -> Iterator[tuple[str, Knob]]:
    """The keys of a method's values with what they take; the first is the tick."""
    yield key_of(method), controls.TICK
    for knob in knobs(method.config):
        yield key_of(method, knob), knob


def _default(knob: Knob) -> Any:
    return controls.shown(knob, knob.default)


def _unread() -> dict[str, str]:
    """By key, a sentence for each of the options that are no method's and cannot be read."""
    found = {}
    for key, knob, instead in _OF_NO_METHOD:
        try:
            value_of(key, knob)
        except ConfigError as error:
            found[key] = f"Settings, {knob.label}: {error} {instead}"
    return found


def _parsed(method: Method, knob: Knob, value: Any) -> Any:
    try:
        return knob.parse(value)
    except ConfigError as error:
        raise ConfigError(f"{method.title}: {error}") from None


def _put_right() -> Iterator[str]:
    """Put the own default in place of each value that cannot be read: one would keep the whole page from being applied."""
    for method in controls.ordered_methods():
        for key, knob in _options(method):
            try:
                value_of(key, knob)
            except ConfigError as error:
                shared.opts.data[key] = _default(knob)
                yield f"Settings, {method.title}: {error} The method's own default is used."
    defaults = {key: knob.default for key, knob, _ in _OF_NO_METHOD}
    for key, problem in _unread().items():
        shared.opts.data[key] = defaults[key]
        yield problem


def _joined(titles: Sequence[str]) -> str:
    return " and ".join(part for part in (", ".join(titles[:-1]), *titles[-1:]) if part)
