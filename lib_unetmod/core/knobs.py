"""What a user needs to know of one setting, and how what comes from outside is read into it.

Panel, API, infotext, X/Y/Z axes, settings and the tables in docs/ are generated from these declarations.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import Any


class ConfigError(ValueError):
    """A setting that cannot be used; the message is one sentence that names the value to change."""


@dataclass(frozen=True)
class Knob:
    """What a user needs to know of one field.

    `low`, `high` and `step` hold for numbers, `choices` for text. `rarely` says that the panel keeps it folded away. `when`
    says which other knob decides whether this one counts: `threshold` (one that is not off, zero or empty), `not auto`,
    `power!=1`. `auto` is the number that leaves the choice to the method; the panel names it so.
    `name`, `default` and `type` (bool, int, float, str or tuple, a list of names) come from the field itself.
    """

    label: str
    help: str
    low: float | None = None
    high: float | None = None
    step: float | None = None
    unit: str = ""
    choices: tuple[str, ...] = ()
    when: str = ""
    auto: float | None = None
    rarely: bool = False
    name: str = ""
    default: Any = None
    type: type = str

    def parse(self, value: Any) -> Any:
        """Turn what a user, a file or a request supplied into this knob's type.

        Raises:
            ConfigError: naming the knob, what came and what may come instead.
        """
        parsed = PARSERS[self.type](value)
        if parsed is None or (self.choices and parsed not in self.choices):
            raise ConfigError(f"{self.name} is {shortened(value)}; it takes {self.domain()}.")
        if self.low is not None and not self.low <= parsed <= self.high:
            raise ConfigError(f"{self.name} is {shortened(parsed)}; it takes {self.domain()}.")
        return parsed

    def domain(self) -> str:
        """What the knob takes, in words."""
        if self.choices:
            return " or ".join(self.choices)
        if self.low is not None:
            kind = "a whole number" if self.type is int else "a number"
            return f"{kind} from {self.low:g} to {self.high:g}"
        return {bool: "true or false", tuple: "names separated by spaces"}.get(self.type, "text")

    def to_text(self, value: Any) -> str:
        """The value as one word or a line of words, which `parse` reads back."""
        if self.type is tuple:
            return " ".join(value)
        return f"{value:g}" if self.type is float else str(value).lower() if self.type is bool else str(value)


def knob(default: Any, label: str, help: str, **bounds: Any) -> Any:
    """A dataclass field that carries its `Knob`."""
    return field(default=default, metadata={"knob": Knob(label, help, **bounds)})


def redeclared(config: type, name: str, **changes: Any) -> Any:
    """The field `name` of `config` for a subclass, with changes to its `Knob` such as `when=...`; the default stays."""
    inherited = next(one for one in fields(config) if one.name == name)
    return field(default=inherited.default, metadata={"knob": replace(inherited.metadata["knob"], **changes)})


def shortened(value: Any) -> str:
    """What came from outside, as a sentence may quote it: in one line of printable characters, at most 40 of them.

    Whatever it is: `repr` fails on an int of more digits than Python writes out, on what is nested too deeply, and on
    objects whose own `__repr__` fails.
    """
    try:
        text = repr(value)
    except Exception:
        text = f"a number of {_digits(value)} digits" if isinstance(value, int) else f"an unreadable {type(value).__name__}"
    if isinstance(value, int) and len(text) > 40 and text.lstrip("-").isdigit():
        return f"a number of {_digits(value)} digits"
    text = text.encode("utf-8", "backslashreplace").decode()  # an object's own repr may hold lone surrogates
    return text if len(text) <= 40 else text[:37] + "..."


def _digits(number: int) -> int:
    """How many decimal digits an int has, without writing it out; one too many just below a power of ten."""
    return int(number.bit_length() * math.log10(2)) + 1


def can_be_written(text: str) -> bool:
    """Whether files and answers can hold the text: JSON may bring lone surrogates, which UTF-8 has no form for."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _parse_bool(value: Any) -> bool | None:
    if isinstance(value, str):
        return {"true": True, "on": True, "1": True, "false": False, "off": False, "0": False}.get(value.strip().lower())
    if isinstance(value, (bool, int, float)) and value in (0, 1):
        return bool(value)
    return None


def _parse_float(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _parse_int(value: Any) -> int | None:
    number = _parse_float(value)
    return int(number) if number is not None and number == int(number) else None


def _parse_text(value: Any) -> str | None:
    return value if isinstance(value, str) and len(value) <= 1000 and can_be_written(value) else None


def _parse_names(value: Any) -> tuple[str, ...] | None:
    if isinstance(value, str):
        value = re.split(r"[\s,;]+", value.strip()) if value.strip() else []
    if not isinstance(value, (list, tuple)) or len(value) > 1000:
        return None
    if not all(isinstance(name, str) and len(name) <= 100 and can_be_written(name) for name in value):
        return None
    return tuple(dict.fromkeys(value))


PARSERS: dict[type, Callable[[Any], Any]] = {
    bool: _parse_bool,
    int: _parse_int,
    float: _parse_float,
    str: _parse_text,
    tuple: _parse_names,
}
