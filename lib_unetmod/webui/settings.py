"""The WebUI's Settings: for each method a section that says how it starts, on the page and for the API.

A section holds whether the method is ticked and its knobs, with the panel's own labels. The first one is the speed; two
further ones say how much memory methods may take, and whether times are shown. What stands there is read anew when a page
opens and for every request. The accordion's buttons write the methods' options: "Make these my defaults" and "Reset".

UNet Mod 0.1.0 kept one line of text a method, "on" or "off; interval=2", under the key that holds the tick now. Such a line
is taken over once.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

import gradio as gr
from modules import shared

from ..core.config import knobs
from ..core.knobs import ConfigError, Knob, can_be_written, shortened
from ..core.registry import METHODS, Method
from ..settings import speed_target
from ..settings.selection import Selection, config_of, knobs_in_line, selection_of
from . import controls, host

try:
    from modules.options import categories
except ImportError:  # older WebUIs have a plain list of sections
    categories = None

_CATEGORY = ("unetmod", "UNet Mod")
_FROZEN = "Not saved, because this WebUI lets nobody change these settings: {}."
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
                values.append(self.speed)
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
    _take_over_lines()
    for problem in _put_right():
        host.say(problem)
    speed = speed_target.KNOB
    _add(_SPEED_KEY, speed.label, _SPEED_KEY, _option(speed, speed.label))
    for method in controls.ordered_methods():
        for key, option in _section(method):
            _add(_key(method), method.title, key, option)
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
                value = _value(key, knob)
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
    try:
        speed = _value(_SPEED_KEY, speed_target.KNOB)
    except ConfigError as error:
        speed = speed_target.OFF
        problems.append(f"Settings: {error} It is off.")
    problems.extend(_memory_problems())
    return Defaults(chosen, frozenset(ticked), speed, tuple(problems))


def keep_bytes() -> int | None:
    """The most that methods may keep between steps, in bytes; None where the user leaves it to us."""
    try:
        return _value(_MEMORY_KEY, _MEMORY) * 1_000_000 or None
    except ConfigError:  # `read` has said so
        return None


def shows_times() -> bool:
    """Whether what a generation took is to be said under its pictures."""
    try:
        return _value(_TIMES_KEY, _TIMES)
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
    for (_, method, knob), value in zip(controls.arguments(), values[1:], strict=True):
        if method is None:
            new[_SPEED_KEY] = knob.parse(value)
        elif knob is None:
            new[_key(method)] = controls.TICK.parse(value)
        else:
            new[_key(method, knob)] = controls.shown(knob, _parsed(method, knob, value))
    for method in METHODS.values():
        config_of(method.name, {knob.name: new[_key(method, knob)] for knob in knobs(method.config)})
    _store(new)
    titles = [f"Speed {new[_SPEED_KEY]}"] if new[_SPEED_KEY] != speed_target.OFF else []
    titles += [method.title for method in controls.ordered_methods() if new[_key(method)]]
    return f"Saved: UNet Mod starts with {_joined(titles)}." if titles else NOTHING_TICKED


def reset() -> str:
    """Take all defaults back to the methods' own: nothing ticked. Returns one sentence that says so.

    Raises:
        ConfigError: where settings cannot be changed.
    """
    _store({key: _default(knob) for key, knob in _all_options()})
    return RESET


def on_page() -> dict[gr.components.Component, Any]:
    """The Settings page's components of ours with the values that they are to show; empty before the page is made."""
    shown = getattr(shared, "settings_components", None) or {}
    ours = [key for key, _ in _all_options() if key in shown]
    return {shown[key]: shared.opts.data[key] for key in ours}


def _section(method: Method) -> Iterator[tuple[str, Any]]:
    yield _key(method) + "-about", _text(f"<b>{escape(method.title)}</b>", escape(method.benefit), _EXPLANATION)
    yield _key(method), shared.OptionInfo(False, tick_label(method))
    headed = False
    for knob in controls.knobs_as_shown(method):
        if controls.rarely_used(knob) and not headed:
            headed = True
            yield _key(method) + "-rarely", _text(f"<b>{_RARELY}</b>")
        yield _key(method, knob), _option(knob, controls.knob_label(method, knob))


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
    yield _key(method), controls.TICK
    for knob in knobs(method.config):
        yield _key(method, knob), knob


def _key(method: Method, knob: Knob | None = None) -> str:
    return f"unetmod_{method.name}" + (f"_{knob.name}" if knob else "")


def _default(knob: Knob) -> Any:
    return controls.shown(knob, knob.default)


def _value(key: str, knob: Knob) -> Any:
    """The option's value as its knob takes it.

    Raises:
        ConfigError: naming the option.
    """
    value = shared.opts.data.get(key)
    try:
        return knob.default if value is None else knob.parse(value)
    except ConfigError:
        raise ConfigError(f"{key} is {shortened(value)}; it takes {knob.domain()}.") from None


def _memory_problems() -> list[str]:
    """A sentence where the memory limit cannot be read; none where it can."""
    try:
        _value(_MEMORY_KEY, _MEMORY)
    except ConfigError as error:
        return [f"Settings, {_MEMORY.label}: {error} A quarter of the memory that is free is used."]
    return []


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
                _value(key, knob)
            except ConfigError as error:
                shared.opts.data[key] = _default(knob)
                yield f"Settings, {method.title}: {error} The method's own default is used."
    try:
        _value(_SPEED_KEY, speed_target.KNOB)
    except ConfigError as error:
        shared.opts.data[_SPEED_KEY] = speed_target.OFF
        yield f"Settings: {error} It is off."
    for problem in _memory_problems():
        shared.opts.data[_MEMORY_KEY] = _MEMORY.default
        yield problem


def _take_over_lines() -> None:
    """Write what 0.1.0 kept as lines of text into the options of today, and save them."""
    data = shared.opts.data
    lines = [(method, data[_key(method)]) for method in METHODS.values() if isinstance(data.get(_key(method)), str)]
    for method, line in lines:
        del data[_key(method)]
        off, entry = _split_off(line)
        if not entry:
            continue
        try:
            values = knobs_in_line(method.name, entry)
        except ConfigError as error:
            kept = _key(method) + "_unread"
            data[kept] = line if can_be_written(line) else line.encode("utf-8", "backslashreplace").decode()
            host.say(
                f"Settings: {shortened(line)}, how {method.title} was to start, cannot be read. {error} Set it anew in "
                f"Settings; the line is kept in config.json as {kept}."
            )
            continue
        data[_key(method)] = not off
        for knob in knobs(method.config):
            if knob.name in values:
                data[_key(method, knob)] = controls.shown(knob, values[knob.name])
    if lines:
        try:
            _write_file()
        except ConfigError as error:
            host.say(f"Settings of UNet Mod 0.1.0 are taken over, but not saved. {error}")


def _split_off(line: str) -> tuple[bool, str]:
    """Whether a line of 0.1.0 leaves its method unticked, and the rest of it, empty for an empty line."""
    line = line.strip().strip(";").strip()
    first, _, rest = line.partition(";")
    if first.strip().lower() in ("off", "on"):
        return first.strip().lower() == "off", rest.strip() or "on"
    return False, line


def _store(new: Mapping[str, Any]) -> None:
    """Set options and save them; where one cannot be set or saved, all stay as they were."""
    data = shared.opts.data
    before = {key: data[key] for key in new if key in data}
    try:
        for key, value in new.items():
            if data.get(key) != value:
                # As by hand on the page, so that --freeze-settings and its like are heeded.
                setattr(shared.opts, key, value)
        _write_file()
    except (AssertionError, RuntimeError, ConfigError) as error:
        for key in new.keys() - before.keys():
            data.pop(key, None)
        data.update(before)
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(_FROZEN.format(error)) from None


def _write_file() -> None:
    """Have the WebUI write config.json.

    Raises:
        ConfigError: where it cannot.
    """
    try:
        # The WebUI empties the file before it writes; what it stumbles over would cost the user all settings.
        json.dumps(shared.opts.data, ensure_ascii=False).encode("utf-8")
        shared.opts.save(shared.config_filename)
    except AssertionError as error:
        raise ConfigError(_FROZEN.format(error)) from None
    except (ValueError, TypeError, RecursionError) as error:
        raise ConfigError(
            f"Not saved, because another setting cannot be written to config.json: {shortened(str(error))}."
        ) from None
    except OSError as error:
        raise ConfigError(f"Not saved, because config.json cannot be written: {error.strerror or error}.") from None


def _joined(titles: Sequence[str]) -> str:
    return " and ".join(part for part in (", ".join(titles[:-1]), *titles[-1:]) if part)
