"""Which knobs count now, and which stand at the value that means auto: what the page shows of it, without a request.

A knob's `when` names the knob of the same method that decides: `threshold` (counts unless that one is off, empty, zero or
at its lowest), `not auto`, `predictor=linear`, `fit!=zeros`. What a control's value does to other controls is written
here as plain data, which unetmod.js applies whenever the value changes.

One that is often used stays in sight beside one that is folded away, as Speed-up beside Plan, which a picture's text brings.
Set by hand it counts: the folded one is emptied.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..core.config import knobs
from ..core.knobs import Knob
from ..core.registry import Method

_WHEN = re.compile(r"(?P<no>not )?(?P<name>\w+)|(?P<compared>\w+)(?P<sign>!?=)(?P<value>.+)")


@dataclass(frozen=True)
class Condition:
    """Holds while the knob `by` is at one of `values`, or, where not `among`, at none of them."""

    by: str
    values: tuple[Any, ...]
    among: bool

    def holds(self, value: Any) -> bool:
        """Whether it holds while the knob is at this value."""
        return (value in self.values) is self.among


def condition(knob: Knob, method: Method) -> Condition | None:
    """When the knob counts; None = always.

    Raises:
        ValueError: for a `when` that is none of the four forms or names no knob of the method.
    """
    if not knob.when:
        return None
    read = _WHEN.fullmatch(knob.when)
    by = {other.name: other for other in knobs(method.config)}.get((read["name"] or read["compared"]) if read else "")
    if read is None or by is None:
        raise ValueError(f"{method.name}.{knob.name} counts when {knob.when!r}, which cannot be read.")
    if read["sign"]:
        return Condition(by.name, (by.parse(read["value"]),), read["sign"] == "=")
    off = (False, "", "off", 0) if by.low is None else (False, "", "off", 0, by.low)
    return Condition(by.name, off, read["no"] is not None)


def effects(method: Method, knob: Knob, elem_id: Callable[[str], str]) -> list[dict[str, Any]]:
    """What a knob's value does to the page: whom it makes count, and whether the knob itself stands at auto."""
    found: list[dict[str, Any]] = []
    for other in knobs(method.config):
        when = condition(other, method)
        if when is not None and when.by == knob.name and emptied_by(other, method) is None:
            found.append({"id": elem_id(f"{method.name}.{other.name}"), "values": when.values, "among": when.among})
    if knob.auto is not None:
        found.append({"id": elem_id(f"{method.name}.{knob.name}"), "auto": knob.auto})
    return found


def emptied_by(knob: Knob, method: Method) -> Knob | None:
    """The folded knob that is emptied when somebody sets this one, which is in sight; None = none."""
    when = condition(knob, method)
    by = next(other for other in knobs(method.config) if other.name == when.by) if when else None
    return by if by and by.rarely and not knob.rarely else None


def script(of_each: list[list[dict[str, Any]]]) -> str:
    """JavaScript for an event whose inputs are controls with these effects. Where unetmod.js is missing it does nothing."""
    return f"(...v) => {{ window.unetmodEffects?.({json.dumps(of_each)}, v); return []; }}"
