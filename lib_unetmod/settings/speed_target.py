"""Speed: how many times faster a picture is to be, and the methods that make it so with what changes it least.

What is chosen hangs on the sampler, the steps, the CFG scale and the size, and so is settled for each picture. Rows that CFG
1 does not need are left out first, which changes nothing. Then whole steps are skipped, which docs/speed.md found nearer to
the picture of all steps than anything else that takes as much time. Where steps are too few for that, large pictures get
coarser attention. A choice of methods holds the speed beside them: `{"speed": "2x", "free_u": {}}`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..core.config import Config
from ..core.knobs import PARSERS, ConfigError, Knob
from ..core.registry import method_of
from ..core.upcoming_picture import UpcomingPass, UpcomingPicture
from ..methods.speed.guidance_interval import GuidanceInterval
from ..methods.speed.step_forecast import StepForecast
from ..methods.speed.token_downsampling import TokenDownsampling
from ..parts.caching.plan import FULL
from .profiles import Profiles
from .selection import Selection, configs_of

#: Their names in a choice of methods, in requests and among the panel's controls.
SPEED, TUNE = "speed", "tune"
OFF = "off"

#: Those that do it; what a user does with them is left alone.
ITS_METHODS = ("guidance_interval", "step_forecast", "token_downsampling")
#: Evaluations of a pass from which skipping some was measured to be better than fewer steps.
FEWEST = 8
#: Leaving out the negative prompt's rows halves a call.
_ROWS = 2.0
#: Times the trained side, from which self-attention takes enough of the time for coarser keys to pay.
_LARGE = 1.5
#: A rest that is no more than rounding.
_ENOUGH = 1.1


@dataclass(frozen=True)
class _SpeedKnob(Knob):
    """Takes a number for its word: 2 is 2x, and 1 is off."""

    def parse(self, value: Any) -> str:
        if value is None or value is False:
            return OFF
        word = value.strip().lower() if isinstance(value, str) else value
        number = PARSERS[float](word.removesuffix("x") if isinstance(word, str) else word)
        if number is not None:
            word = OFF if number == 1 else f"{number:g}x"
        return word if isinstance(word, str) and word in self.choices else super().parse(value)


KNOB = _SpeedKnob(
    "Speed",
    "How many times faster than with all steps. What does it is chosen for each image, and written into its text.",
    name=SPEED,
    choices=(OFF, "1.3x", "1.5x", "2x", "2.5x", "3x"),
    default=OFF,
)


#: What is to be tuned before the next picture, and how long that may take.
TUNE_KNOB = Knob(
    "Tune for this model",
    "Before the next image, searches what your model can skip: quick in the time of 25 images, thorough of 200; below "
    "8 steps 300 and 900.",
    name=TUNE,
    choices=(OFF, "quick", "thorough"),
    default=OFF,
)
#: What stands beside the methods in a choice of them.
OF_NO_METHOD: Mapping[str, Knob] = {SPEED: KNOB, TUNE: TUNE_KNOB}


class Fitted(NamedTuple):
    """What makes a picture so much faster.

    Attributes:
        configs: the methods; empty where none can.
        words: what they do, for the chip: `2x: 10 of 20 steps run`.
        sentence: what cannot be reached, and what can; empty where the speed is met.
        note: how near the picture is for which it was tuned; empty where it is the same, or nothing was tuned.
    """

    configs: tuple[Config, ...]
    words: str
    sentence: str = ""
    note: str = ""


def taken_apart(selection: Any) -> tuple[str, Any]:
    """The word for the speed, whatever it is, and the methods beside it."""
    if not isinstance(selection, Mapping):
        return OFF, selection
    methods = {name: values for name, values in selection.items() if name not in OF_NO_METHOD}
    return selection.get(SPEED, OFF), methods


def tuning_of(selection: Any) -> tuple[str, str]:
    """The speed that is to be tuned first, and how: off and off where none is.

    Raises:
        ConfigError: for a way of tuning that there is not.
    """
    if not isinstance(selection, Mapping):
        return OFF, OFF
    way = TUNE_KNOB.parse(selection.get(TUNE, OFF))
    try:
        word = KNOB.parse(selection.get(SPEED, OFF))
    except ConfigError:  # `settled` says so
        word = OFF
    return (OFF, OFF) if OFF in (word, way) else (word, way)


def settled(
    selection: Any, upcoming: Callable[[], UpcomingPicture], profiles: Profiles | None = None
) -> tuple[list[Config], list[str]]:
    """The configs of a choice of methods with those that its speed needs, and a sentence for all that is left out.

    Args:
        selection: whatever came for one.
        upcoming: the picture that is drawn with them; asked only where a speed is set.
        profiles: what was tuned.
    """
    word, methods = taken_apart(selection)
    configs, problems = configs_of(methods)
    try:
        word = KNOB.parse(word)
    except ConfigError as error:
        return configs, [*problems, f"{error} It is left out."]
    if word == OFF:
        return configs, problems
    configs, found = with_speed(word, configs, upcoming(), profiles)
    unread = profiles.problems() if profiles else []
    return configs, [*problems, *unread, *(text for text in (found.sentence, found.note) if text)]


def with_speed(
    word: str, configs: Iterable[Config], upcoming: UpcomingPicture, profiles: Profiles | None = None
) -> tuple[list[Config], Fitted]:
    """The configs that change anything, and after them those that make the picture so much faster; what is said of these.

    Args:
        word: one of `KNOB.choices`, not off.
    """
    on = [config for config in configs if not config.neutral]
    found = fitted(word, {method_of(config).name for config in on}, upcoming, profiles)
    return [*on, *found.configs], found


def fitted(word: str, chosen: Collection[str], upcoming: UpcomingPicture, profiles: Profiles | None = None) -> Fitted:
    """The methods that make the picture so much faster: as it was tuned for this model, or as it was measured for all.

    Args:
        word: one of `KNOB.choices`, not off.
        chosen: names of the methods that are on anyway; what they do is left to them.
        upcoming: the picture.
        profiles: what was tuned.
    """
    profile = profiles.nearest(word, upcoming) if profiles else None
    if profile is None or any(method_of(config).name in chosen for config in profile.configs):
        return _as_it_comes(word, chosen, upcoming)
    forecast = next((config for config in profile.configs if isinstance(config, StepForecast)), None)
    does = _run(forecast, upcoming) if forecast else ", ".join(config.summary() for config in profile.configs)
    exact = profile.distance(word, upcoming) == 0
    note = "" if exact else f"Speed {word} goes by what was tuned for {profile}."
    if exact and not forecast and profile.beaten:
        note = f"When Speed {word} was tuned, fewer steps came nearer to the image of {upcoming.last.steps}."
    return Fitted(profile.configs, f"{word}: {does}, tuned", note=note)


def has_too_few_steps(upcoming: UpcomingPicture) -> bool:
    """Whether so few steps make the picture that none of them is better skipped."""
    return _evaluations(upcoming.last) < FEWEST


def _as_it_comes(word: str, chosen: Collection[str], upcoming: UpcomingPicture) -> Fitted:
    if "step_forecast" in chosen:
        sentence = f"Speed {word} is left out: Step forecast is on, and decides which steps run. Untick one of them."
        return Fitted((), f"{word}: left to Step forecast", sentence)
    configs: list[Config] = []
    wanted = float(word.rstrip("x"))
    if "guidance_interval" not in chosen and upcoming.last.cfg == 1 and _acts(GuidanceInterval(), upcoming):
        configs.append(GuidanceInterval())
        wanted /= _ROWS
    if wanted <= _ENOUGH:
        return Fitted(tuple(configs), f"{word}: negative prompt left out")
    short = {one.name for one in upcoming.passes if _evaluations(one) < FEWEST}
    forecast = StepForecast(
        speed=wanted, first_pass="first" not in short, hires_pass="hires" not in short, img2img="img2img" not in short
    )
    if upcoming.last.name not in short and _acts(forecast, upcoming):
        return Fitted((*configs, forecast), f"{word}: {_run(forecast, upcoming)}")
    coarser = [] if "token_downsampling" in chosen else _coarser_keys(upcoming)
    return _too_few(word, [*configs, *coarser], upcoming)


def _too_few(word: str, configs: list[Config], upcoming: UpcomingPicture) -> Fitted:
    last = upcoming.last
    count = _evaluations(last)
    steps = f"{count} step{'s' * (count != 1)}"
    in_pass = f" of {last.title}" * (last.name == "hires")
    left = " and ".join(one.title.partition(" (")[0] for one in configs)
    words = f"{word}: too few steps" + f", {left} only" * bool(left)
    does = f"{left} is all that is done" if left else "nothing is done"
    return Fitted(
        tuple(configs),
        words,
        f"Speed {word} cannot be reached with {steps}{in_pass}: {does}. Take {FEWEST} steps or more, or use Tune.",
    )


def _run(forecast: StepForecast, upcoming: UpcomingPicture) -> str:
    """`10 of 20 steps run`, for hires fix both passes; a share where the sampler decides on the way how many there are."""
    if any(one.evaluations is None for one in upcoming.passes):
        return f"about {100 / forecast.speed:.0f} % of the steps run"
    counts = []
    for one in upcoming.passes:
        total = _evaluations(one)
        acts = forecast.acts_in(one.name)
        counts.append(f"{forecast.plan_of(one).letters.count(FULL) if acts else total} of {total}")
    return f"{' and '.join(counts)} steps run"


def _evaluations(one: UpcomingPass) -> int:
    return one.steps if one.evaluations is None else len(one.evaluations)


def _coarser_keys(upcoming: UpcomingPicture) -> list[Config]:
    """Token downsampling in the passes that are large enough, by as much as they are larger, as its paper does."""
    if upcoming.unet is None or upcoming.last.target.scale < _LARGE:
        return []
    large = {one.name for one in upcoming.passes if one.target.scale >= _LARGE}
    first = "first" in large or upcoming.last.name != "hires"
    config = TokenDownsampling(factor=min(round(2 * upcoming.last.target.scale) / 2, 4.0), first_pass=first)
    return [config] if _acts(config, upcoming) else []


def _acts(config: Config, upcoming: UpcomingPicture) -> bool:
    try:
        return not config.idle_reason(upcoming)
    except ConfigError:
        return False


def checked(selection: Mapping[str, Any]) -> Selection:
    """The speed's part of a choice, to stand beside its methods; empty where it is off.

    Raises:
        ConfigError: for a speed that there is not.
    """
    word = KNOB.parse(taken_apart(selection)[0])
    return {} if word == OFF else {SPEED: word}
