"""One press for what most users want: a choice of methods that fits the loaded model and the page's settings.

A method is chosen only where it will act on the next picture. Where none will, nothing is chosen, and the sentence says so.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from ..core.config import Config
from ..core.knobs import ConfigError
from ..core.upcoming_picture import UpcomingPicture
from ..methods.detail.cd_tuner import CDTuner
from ..methods.detail.free_u import FreeU
from ..methods.resolution.deep_shrink import DeepShrink
from ..methods.resolution.hi_diffusion import HiDiffusion
from .selection import Selection, config_of, selection_of
from .speed_target import OFF, SPEED, taken_apart

#: The buttons' words by what they are called here.
GOALS = {"larger": "Larger", "detail": "More detail"}
NOTHING_FOR_DETAIL = "No method for detail acts at these settings; nothing was set."

#: Models made for fewer steps than this compose in the first of them.
_FEW_STEPS = 10


class Quick(NamedTuple):
    """A choice, empty where nothing fits, and in a line for the user what it is or why there is none."""

    selection: Selection
    sentence: str


def quick(goal: str, upcoming: UpcomingPicture) -> Quick:
    """The choice for a goal, one of `GOALS`, with the next picture as the page's settings have it."""
    return {"larger": _larger, "detail": _more_detail}[goal](upcoming)


def acting(selection: Selection, upcoming: UpcomingPicture) -> tuple[Selection, list[str]]:
    """The part of a selection that will act on the next picture, and a sentence for each method that will not."""
    word, methods = taken_apart(selection)
    left, reasons = {SPEED: word} if word != OFF else {}, []
    for name, values in methods.items():
        reason = _why_idle(config_of(name, values), upcoming)
        if reason:
            reasons.append(reason)
        else:
            left[name] = values
    return left, reasons


def _larger(upcoming: UpcomingPicture) -> Quick:
    last = upcoming.last
    few = last.cfg == 1 or last.steps < _FEW_STEPS
    wanted: list[Config] = [HiDiffusion()] if few else [DeepShrink(), HiDiffusion(raunet=False)]
    if upcoming.unet is None:
        return Quick(
            selection_of(wanted), f"{_set(wanted)} No model is loaded yet; they act on images above its native size."
        )
    trained = f"{last.target.trained}x{last.target.trained}"
    if last.target.scale <= 1:
        native = "this model's native size" if last.size == trained else f"not above this model's native size, {trained}"
        return Quick({}, f"{last.size} is {native}: choose a larger size, or Hires. fix, then press Larger.")
    configs = _that_act(wanted, upcoming)
    if not configs:
        times = f"{last.target.scale:.2g} times this model's native size, {trained}"
        return Quick({}, f"{last.size} is only {times}, and needs no help; nothing was set.")
    if any(isinstance(config, DeepShrink) or config == HiDiffusion() for config in configs):
        return Quick(selection_of(configs), f"{_set(configs)} Composed as at {trained}, so subjects do not repeat.")
    return Quick(selection_of(configs), f"{_set(configs)} In {last.title} the composition stays; this saves time.")


def _more_detail(upcoming: UpcomingPicture) -> Quick:
    configs = _that_act([FreeU(), CDTuner(detail1=0, detail2=2)], upcoming)
    if not configs:
        return Quick({}, NOTHING_FOR_DETAIL)
    said = "Stronger shapes and contrast, more fine detail. The composition may change."
    return Quick(selection_of(configs), f"{_set(configs)} {said}")


def _that_act(configs: Iterable[Config], upcoming: UpcomingPicture) -> list[Config]:
    return [config for config in configs if not _why_idle(config, upcoming)]


def _why_idle(config: Config, upcoming: UpcomingPicture) -> str:
    try:
        return config.idle_reason(upcoming)
    except ConfigError as error:
        return str(error)


def _set(configs: Iterable[Config]) -> str:
    return f"Set: {', '.join(_in_words(config) for config in configs)}."


def _in_words(config: Config) -> str:
    if isinstance(config, CDTuner):
        return f"CD-Tuner with Detail 2 at {config.detail2:g}"
    return f"{config.short} {config.details()}".removesuffix(" auto").removesuffix(" v2").removesuffix(" at CFG 1")
