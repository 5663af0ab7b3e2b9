"""From declared knobs to plain gradio components, and from the components' values to a selection and back.

The order of the values is the order of the script's arguments: the switch, then for every method its toggle and its knobs,
and what belongs to no method: the speed and its tuning.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import gradio as gr

from ..core.config import SHARED_KNOBS, knobs
from ..core.knobs import ConfigError, Knob
from ..core.registry import METHODS, Method
from ..settings import speed_target
from ..settings.selection import Selection

SWITCH = "switch"
#: The groups in the panel's order, by the word under which users look for them.
GROUPS = {"speed": "Faster", "resolution": "Larger", "detail": "More detail"}
#: The methods of each group as the panel lists them: what most users want comes first. Others follow by name.
_LISTED = (
    *(
        "guidance_interval",
        "step_forecast",
        "deep_cache",
        "encoder_reuse",
        "hyper_tile",
        "token_downsampling",
        "token_merging",
        "skip_blocks",
    ),
    *("deep_shrink", "hi_diffusion", "scale_crafter"),
    *("free_u", "cd_tuner", "color_map"),
)
#: What an event's JavaScript is called: gradio 4 renamed it.
JS = "_js" if gr.__version__.startswith("3.") else "js"
#: An event that is answered at once, shows no progress and is no part of the API.
QUIET: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_name": False}

TICK = Knob("", "", name="toggle", type=bool, default=False)


def ordered_methods() -> list[Method]:
    """All methods as the panel lists them: by group, and in a group what most users want first."""
    listed = {name: place for place, name in enumerate(_LISTED)}
    return sorted(METHODS.values(), key=lambda m: (_group_place(m), listed.get(m.name, len(listed)), m.name))


def knobs_as_shown(method: Method) -> list[Knob]:
    """A method's knobs as lists show them: those often used, the rarely used ones, then those that every method has."""
    return sorted(knobs(method.config), key=rarely_used)


def rarely_used(knob: Knob) -> int:
    """0 for a knob that is often used, 1 for one that is rarely, 2 for those that every method has."""
    return 2 if knob.name in SHARED_KNOBS else int(knob.rarely)


def arguments() -> Iterator[tuple[str, Method | None, Knob | None]]:
    """Every argument after the switch: its name, its method, and its knob or, for the method's toggle, None.

    The speed and its tuning are no method's.

    Their order is that of a request's list, on which scripts rely: as in arguments.txt, to whose end new ones are written.
    """
    known: dict[str, tuple[str, Method | None, Knob | None]] = {
        name: (name, None, knob) for name, knob in speed_target.OF_NO_METHOD.items()
    }
    for method in sorted(METHODS.values(), key=lambda m: (_group_place(m), m.at, m.name)):
        known[method.name] = (method.name, method, None)
        known |= {
            f"{method.name}.{knob.name}": (f"{method.name}.{knob.name}", method, knob) for knob in knobs(method.config)
        }
    published = [name for name in _published() if name in known]
    yield from (known[name] for name in dict.fromkeys([*published, *known]))


@cache
def _published() -> tuple[str, ...]:
    return tuple((Path(__file__).parent / "arguments.txt").read_text(encoding="utf-8").split())


def _group_place(method: Method) -> int:
    groups = list(GROUPS)
    return groups.index(method.group) if method.group in groups else len(groups)


def knob_label(method: Method, knob: Knob) -> str:
    """A label that no other control has: the WebUI keeps a control's default under its label.

    The page's script and style shorten it to the knob's part, where it stands under the method's title.
    """
    unit = f" ({knob.unit})" if knob.unit else ""
    return f"{method.title}: {knob.label}{unit}"


def knob_control(method: Method, knob: Knob, value: Any, elem_id: str) -> gr.components.Component:
    """The plain component for a knob; it is rendered later."""
    common: dict[str, Any] = {
        "label": knob_label(method, knob),
        "info": knob.help,
        "value": shown(knob, value),
        "elem_id": elem_id,
        "elem_classes": ["unetmod-knob", f"unetmod-{knob.type.__name__}"],
        "render": False,
    }
    if knob.type is bool:
        return gr.Checkbox(**common)
    if knob.choices:
        return gr.Dropdown(choices=list(knob.choices), **common)
    if knob.low is not None and knob.high is not None:
        step = knob.step or (1 if knob.type is int else 0.01)
        return gr.Slider(minimum=knob.low, maximum=knob.high, step=step, **common)
    if knob.type in (int, float):
        return gr.Number(precision=0 if knob.type is int else None, **common)
    return gr.Textbox(lines=1, max_lines=1, **common)


def strip_control(knob: Knob, value: str, elem_id: str) -> gr.components.Component:
    """The strip of a knob of no method, such as the speeds; it is rendered later."""
    classes = ["unetmod-speed", f"unetmod-of-{knob.name}"]
    return gr.Radio(list(knob.choices), value=value, label=knob.label, elem_id=elem_id, elem_classes=classes, render=False)


def shown(knob: Knob, value: Any) -> Any:
    """A knob's value as its control holds it: names become a line of words. What cannot be read becomes the default."""
    try:
        parsed = knob.parse(value)
    except ConfigError:
        parsed = knob.default
    return " ".join(parsed) if knob.type is tuple else parsed


def values_of(on: bool, selection: Selection) -> list[Any]:
    """The controls' values that show a selection. Methods and knobs that do not exist are passed over."""
    values: list[Any] = [_ticked(on)]
    for _, method, knob in arguments():
        if method is None:
            values.append(shown(knob, _of_no_method(selection, knob)))
            continue
        chosen = _chosen(selection, method)
        if knob is None:
            values.append(chosen is not None)
        else:
            values.append(shown(knob, (chosen or {}).get(knob.name, knob.default)))
    return values


def selection_of_values(values: Any, defaults: Selection | None = None) -> tuple[bool, Selection]:
    """Whether the switch is on, and of every ticked method the knobs that differ from the method's own defaults.

    None, and what a short list leaves out, stands for what `defaults` say, else for off and the method's own default. A
    value that cannot be read is passed on, for the selection's reader to say what is wrong with it.
    """
    given = list(values) if isinstance(values, (list, tuple)) else []
    on, rest = _ticked(given[0] if given else None), given[1:]
    selection: Selection = {}
    for position, (_, method, knob) in enumerate(arguments()):
        value = rest[position] if position < len(rest) else None
        if method is None:
            value = _of_no_method(defaults, knob) if value is None else value
            if value is not None:
                _set_if_changed(selection, knob, value)
            continue
        chosen = _chosen(defaults, method)
        if knob is None:
            if chosen is not None if value is None else _ticked(value):
                selection[method.name] = {}
        elif method.name in selection:
            value = (chosen or {}).get(knob.name) if value is None else value
            if value is not None:
                _set_if_changed(selection[method.name], knob, value)
    return on, selection


def _set_if_changed(chosen: dict[str, Any], knob: Knob, value: Any) -> None:
    try:
        parsed = knob.parse(value)
    except ConfigError:
        chosen[knob.name] = value
        return
    if parsed != knob.default:
        chosen[knob.name] = list(parsed) if knob.type is tuple else parsed


def _of_no_method(selection: Any, knob: Knob) -> Any:
    return selection.get(knob.name) if isinstance(selection, Mapping) else None


def _chosen(selection: Any, method: Method) -> Mapping[str, Any] | None:
    chosen = selection.get(method.name) if isinstance(selection, Mapping) else None
    return chosen if isinstance(chosen, Mapping) else None


def _ticked(value: Any) -> bool:
    try:
        return TICK.parse(value)
    except ConfigError:
        return False
