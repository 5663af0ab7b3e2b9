"""A choice of methods in plain values, as a page, a request, an infotext or a file supplies it, and back to configs.

A selection maps a method's name to the knobs that are set: `{"skip_blocks": {"middle": true, "levels": 1}}`. Whatever is in
one is read here and nowhere else; what cannot be read costs a sentence, never an exception and never the other methods.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..core.config import Config, knobs
from ..core.knobs import ConfigError, shortened
from ..core.registry import METHODS, method_of

Selection = dict[str, Any]

INFOTEXT_PREFIX = "UNet Mod "
INFOTEXT_NOTE = INFOTEXT_PREFIX + "note"


def configs_of(selection: Any) -> tuple[list[Config], list[str]]:
    """The configs of all methods that can be read, and one sentence for each that cannot, and for what else is left out.

    Knobs that there are not are left out alone: another instance that sends its choice may be a version ahead or behind.
    """
    if not isinstance(selection, Mapping):
        return [], [f"Methods are given by name, such as {_example()}; not as {type(selection).__name__}."]
    configs, problems = [], []
    for name, values in selection.items():
        values, unknown = _without_unknown(name, values)
        problems.extend(
            f"{METHODS[name].title} has no knob {shortened(one)} in this version; it is left out." for one in unknown
        )
        try:
            configs.append(config_of(name, values))
        except ConfigError as error:
            problems.append(f"{error} The method is left out.")
    return configs, problems


def config_of(name: Any, values: Any) -> Config:
    """The config of the method `name` with the knobs in `values`, whatever both are.

    Raises:
        ConfigError: for what there is no such method or knob for, and for values that it does not take.
    """
    if not isinstance(name, str) or name not in METHODS:
        raise ConfigError(f"There is no method {shortened(name)}; there are {', '.join(METHODS)}.")
    if not isinstance(values, Mapping):
        raise ConfigError(f"{name} takes its knobs by name, such as {_example()}; not as {type(values).__name__}.")
    return METHODS[name].config.from_values(values)


def selection_of(configs: Iterable[Config]) -> Selection:
    """The selection that reads back as `configs`: of each, the knobs that differ from their defaults."""
    return {method_of(config).name: _changed(config) for config in configs}


def to_infotext(configs: Iterable[Config]) -> dict[str, str]:
    """One readable entry for each config: `UNet Mod skip blocks: middle=true; levels=1`."""
    return {_key(method_of(config).name): _entry(config) for config in configs}


def from_infotext(parameters: Mapping[str, Any]) -> tuple[Selection, list[str]]:
    """The selection in the parameters of a picture, and one note if some of it is unknown or damaged."""
    names = {_key(name): name for name in METHODS}
    selection: Selection = {}
    ignored = []
    for key, text in parameters.items():
        if not (isinstance(key, str) and key.startswith(INFOTEXT_PREFIX)) or key == INFOTEXT_NOTE:
            continue
        try:
            if key not in names:
                raise ConfigError("unknown")
            selection[names[key]] = knobs_in_line(names[key], text)
        except ConfigError:
            ignored.append(repr(key[:60])[1:-1])
    names_ignored = ", ".join(sorted(ignored)[:5])
    return selection, [f"Unknown settings in the image's text are ignored: {names_ignored}."] if ignored else []


def knobs_in_line(name: str, line: Any) -> dict[str, Any]:
    """The knobs of method `name` that a line such as `middle=true; levels=1`, or `on`, sets to other than their defaults.

    Raises:
        ConfigError: for a line that cannot be read, naming what is wrong with it.
    """
    return _changed(config_of(name, _read_entry(line)))


def summary(configs: Iterable[Config]) -> str:
    """What is on, in one line: `Skip blocks middle · FreeU 0-0.8`; empty when nothing is."""
    return " · ".join(config.summary() for config in configs if not config.neutral)


def _without_unknown(name: Any, values: Any) -> tuple[Any, list[Any]]:
    """The values without those for which the method has no knob, and the names of these. Whatever both are."""
    if not (isinstance(name, str) and name in METHODS and isinstance(values, Mapping)):
        return values, []
    known = {knob.name for knob in knobs(METHODS[name].config)}
    unknown = [one for one in values if one not in known]
    return {one: value for one, value in values.items() if one in known} if unknown else values, unknown


def _changed(config: Config) -> dict[str, Any]:
    values = config.values()
    return {knob.name: values[knob.name] for knob in knobs(type(config)) if getattr(config, knob.name) != knob.default}


def _key(name: str) -> str:
    return INFOTEXT_PREFIX + name.replace("_", " ")


def _entry(config: Config) -> str:
    changed = _changed(config)
    pairs = [f"{knob.name}={knob.to_text(changed[knob.name])}" for knob in knobs(type(config)) if knob.name in changed]
    return "; ".join(pairs) or "on"


def _read_entry(text: Any) -> dict[str, str]:
    if not isinstance(text, str) or len(text) > 10_000:
        raise ConfigError("It is no line of text, or too long a one.")
    if text.strip() == "on":
        return {}
    values = {}
    for pair in text.split(";"):
        name, equals, value = pair.partition("=")
        if not equals:
            raise ConfigError(f"{shortened(pair.strip())} sets no knob; write knobs as middle=true; levels=1.")
        values[name.strip()] = value.strip()
    return values


def _example() -> str:
    return '{"skip_blocks": {"middle": true}}'
