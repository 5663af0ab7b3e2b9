"""Infotext: what is written into a picture's parameters, and how the panel is restored from them.

One entry for each method that was on, under the method's stable name, which UNet Mod 0.1.0 reads too. Of our notes every
picture gets a few words, `UNet Mod note: Deep Shrink did nothing; HyperTile`: which methods did nothing, and about which
others something was said. (Not in the method's own entry, which 0.1.0 refuses with anything in it but knobs.) The whole
sentences stand once, under the picture; an API request, whose answer has no such place, gets them as the entry
`UNet Mod notes` in `info.extra_generation_params`, which no file holds.

X/Y/Z cells share one dict of parameters and one of comments, so both are replaced by copies without our entries before
anything is written.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..core.config import Config
from ..core.registry import METHODS, Method
from ..settings.selection import INFOTEXT_NOTE, INFOTEXT_PREFIX, from_infotext, to_infotext
from ..settings.speed_target import OF_NO_METHOD, OFF
from . import controls, host

_LONGEST = 60


def begin(p: Any) -> None:
    """Give `p` parameters and comments of its own, without what an earlier generation of ours left in them."""
    p.extra_generation_params = {
        key: value for key, value in p.extra_generation_params.items() if not str(key).startswith(INFOTEXT_PREFIX)
    }
    if isinstance(getattr(p, "comments", None), dict):
        p.comments = {text: one for text, one in p.comments.items() if not str(text).startswith(host.PREFIX)}


def write(p: Any, configs: Iterable[Config], notes: Iterable[str], idle: Collection[str] = ()) -> None:
    """Write the entries of `configs` and the notes into the parameters of `p`, in place of earlier ones.

    `idle` are the names of methods that were on and did nothing.
    """
    parameters = p.extra_generation_params
    for key in [key for key in parameters if str(key).startswith(INFOTEXT_PREFIX)]:
        del parameters[key]
    parameters.update(to_infotext(configs))
    text = in_short(notes, idle)
    if text:
        parameters[INFOTEXT_NOTE] = text


def in_short(notes: Iterable[str], idle: Collection[str] = ()) -> str:
    """What a file keeps of the notes, in at most 60 characters: the methods that they name, in the order of the panel.

    Those in `idle`, which did nothing, come first and are the last to be only counted. `general` stands for notes that name
    no method: about the WebUI, the model or a request that cannot be read.
    """
    told = [{name for method in METHODS.values() for name in method.names if name in note} for note in notes]
    order = controls.ordered_methods()
    nothing = [_short(method) for method in order if method.name in idle]
    others = [_short(method) for method in order if method.name not in idle and any(method.names & names for names in told)]
    others += ["general"] if not all(told) else []
    count, short = 0, _in_words(nothing, others, 0)
    while len(short) > _LONGEST:
        (others or nothing).pop()
        count += 1
        short = _in_words(nothing, others, count)
    return short


def _in_words(nothing: Sequence[str], others: Sequence[str], more: int) -> str:
    # Without a comma or a colon, for which the WebUI would put the entry in quotes.
    words = [f"{' + '.join(nothing)} did nothing"] if nothing else []
    return "; ".join([*words, *others, *([f"{more} more"] if more else [])])


def tell_request(processed: Any, notes: Iterable[str]) -> None:
    """Add the whole sentences to what an API request is answered; pictures are written already and do not get them."""
    text = " ".join(notes)
    if text:
        processed.extra_generation_params = {**processed.extra_generation_params, INFOTEXT_NOTE + "s": text}


def _short(method: Method) -> str:
    return method.title.partition(" (")[0]


@dataclass(frozen=True)
class Restore:
    """Reads one control's value from a picture's parameters; None leaves the control as it is.

    A picture's text sets exactly what it had: the switch and every tick as in the text, all off for one without entries of
    ours; of ticked methods every knob, those that are not named at the method's own default; others keep their knobs. The
    speed is off: the methods that it chose stand in the text themselves.

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
        if self.name in METHODS:
            return self.name in selection
        if self.name in OF_NO_METHOD:
            return OFF
        return self._knob(selection)

    def _knob(self, selection: Mapping[str, Any]) -> Any:
        method, _, _ = self.name.partition(".")
        if method not in selection:
            return None
        names = [name for name, _, _ in controls.arguments()]
        return controls.values_of(True, selection)[1 + names.index(self.name)]
