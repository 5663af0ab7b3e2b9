"""The chips in the closed panel: what the speed and each method will do to the next picture, or why they will do nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape
from itertools import islice
from typing import Any

from ..core.config import Config, knobs
from ..core.knobs import ConfigError
from ..core.registry import METHODS, Method
from ..core.upcoming_picture import UpcomingPicture
from ..settings import speed_target
from ..settings.profiles import Profiles
from ..tuning.search import leaves_out_parts
from ..tuning.trials import EFFORTS
from .upcoming_picture import PictureControls


def summarise(method: Method, picture: PictureControls | None = None) -> Callable[..., Any]:
    """The event function that writes a method's chip from its toggle, its knobs and the page's controls.

    It is a coroutine so that gradio runs it on its event loop: requests are answered in the order in which they came.
    """

    async def write(*values: Any) -> str:
        own = 1 + len(knobs(method.config))
        return summary_chip(method, list(values[:own]), upcoming(picture, values[own:]))

    return write


def upcoming(picture: PictureControls | None, values: Any) -> UpcomingPicture | None:
    """The next picture, from the values of the page's controls."""
    return picture.read(*values) if picture and values else None


def summary_chip(method: Method, values: Sequence[Any], picture: UpcomingPicture | None = None) -> str:
    """What a method's toggle and knobs amount to: a few words or a complaint; nothing when it is not ticked."""
    if not values[0]:
        return ""
    try:
        return _chip_of(_config_of(method, values), picture)
    except ConfigError as error:
        return f"<span class='unetmod-wrong'>{escape(str(error))}</span>"


def summarise_speed(methods: Sequence[Method], picture: PictureControls | None = None) -> Callable[..., Any]:
    """The event function that writes the speed's chip: of its value, its tuning, all that `methods` are set to, the page."""
    counts = [1 + len(knobs(method.config)) for method in methods]

    async def write(word: Any, way: Any, *values: Any) -> str:
        rest = iter(values)
        own = {method.name: [*islice(rest, count)] for method, count in zip(methods, counts, strict=True)}
        return speed_chip(word, own, upcoming(picture, [*rest]), way, picture.profiles if picture else None)

    return write


def speed_chip(
    word: Any,
    own: Mapping[str, Sequence[Any]],
    picture: UpcomingPicture | None = None,
    way: Any = speed_target.OFF,
    profiles: Profiles | None = None,
) -> str:
    """What the speed will do beside the methods named in `own`, by their toggles and knobs; nothing where it is off.

    `way` says how it is to be tuned; `profiles` are what was.
    """
    try:
        word = speed_target.KNOB.parse(word)
    except ConfigError as error:
        return f"<span class='unetmod-wrong'>{escape(str(error))}</span>"
    if word == speed_target.OFF:
        return ""
    if picture is None:
        return f"<span>{speed_target.KNOB.label} {escape(word)}</span>"
    on = {name for name, values in own.items() if _is_on(METHODS[name], values)}
    found = speed_target.fitted(word, on, picture, profiles)
    asked = way in tuple(EFFORTS) and profiles is not None
    if asked and leaves_out_parts(found, picture, on):
        return f"<span>{escape(word)}: parts of the U-Net left out, tuned first</span>"
    idle = f" class='unetmod-idle' title='{escape(found.sentence)}'" if found.sentence else ""
    tunes = asked and not found.sentence
    tuned = ", tuned first" if tunes and not profiles.holds(word, picture, EFFORTS[way].one) else ""
    return f"<span{idle}>{escape(found.words)}{tuned}</span>"


def _is_on(method: Method, values: Sequence[Any]) -> bool:
    """Whether a method is ticked and its knobs change anything; what cannot be read is left out of the image."""
    try:
        return bool(values[0]) and not _config_of(method, values).neutral
    except ConfigError:
        return False


def _config_of(method: Method, values: Sequence[Any]) -> Config:
    """The config of its toggle's and its knobs' values."""
    named = zip([knob.name for knob in knobs(method.config)], values[1:], strict=False)
    return method.config.from_values({name: value for name, value in named if value is not None})


def _chip_of(config: Config, picture: UpcomingPicture | None) -> str:
    if config.neutral:
        return f"<span class='unetmod-idle'>{escape(config.short)}: changes nothing</span>"
    if picture is None:
        return f"<span>{escape(config.summary())}</span>"
    idle = config.idle(picture)
    if idle is not None:
        words = f"{config.short}: nothing to do {idle.at}"
        return f"<span class='unetmod-idle' title='{escape(idle.why)}'>{escape(words)}</span>"
    if not config.automatic or picture.unet is None:
        return f"<span>{escape(config.summary())}</span>"
    words = config.resolved(picture.unet, picture.last.target).summary()
    return f"<span>{escape(words)} (auto)</span>"
