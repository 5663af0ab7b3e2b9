"""Infotext: what is written into a picture's parameters, and how the panel is restored from them.

One entry for each method that acts, one for our notes. X/Y/Z cells share one dict of parameters and one of comments, so
both are replaced by copies without our entries before anything is written.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ..core.config import Config
from ..core.registry import METHODS
from ..settings.selection import INFOTEXT_NOTE, INFOTEXT_PREFIX, from_infotext, to_infotext
from . import controls, host


def begin(p: Any) -> None:
    """Give `p` parameters and comments of its own, without what an earlier generation of ours left in them."""
    p.extra_generation_params = {
        key: value for key, value in p.extra_generation_params.items() if not str(key).startswith(INFOTEXT_PREFIX)
    }
    if isinstance(getattr(p, "comments", None), dict):
        p.comments = {text: one for text, one in p.comments.items() if not str(text).startswith(host.PREFIX)}


def write(p: Any, configs: Iterable[Config], notes: Iterable[str]) -> None:
    """Write the entries of `configs` and the notes into the parameters of `p`, in place of earlier ones."""
    parameters = p.extra_generation_params
    for key in [key for key in parameters if str(key).startswith(INFOTEXT_PREFIX)]:
        del parameters[key]
    parameters.update(to_infotext(configs))
    text = " ".join(notes)
    if text:
        parameters[INFOTEXT_NOTE] = text


@dataclass(frozen=True)
class Restore:
    """Reads one control's value from a picture's parameters; None leaves the control as it is.

    Two of the same name are equal, by which the WebUI matches the controls of one tab with those of the other when it
    sends a picture's settings across.
    """

    name: str

    def __call__(self, parameters: Mapping[str, Any]) -> Any:
        ours = {key: text for key, text in parameters.items() if str(key).startswith(INFOTEXT_PREFIX)}
        selection, notes = from_infotext(ours)
        if self.name == controls.SWITCH:
            for note in notes:
                host.warn(note)
            return bool(selection)
        if not selection:
            return None
        if self.name in METHODS:
            return self.name in selection
        return self._knob(selection)

    def _knob(self, selection: Mapping[str, Any]) -> Any:
        method, _, _ = self.name.partition(".")
        if method not in selection:
            return None
        names = [name for name, _, _ in controls.arguments()]
        return controls.values_of(True, selection)[1 + names.index(self.name)]
