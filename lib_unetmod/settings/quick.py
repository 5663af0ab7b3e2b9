"""One press for what most users want: a choice of methods that fits the loaded model and the page's settings.

A method is chosen only where it will act on the next picture and did not lose by what was measured (`measured`): a cache of
steps is worth its change only where fewer sampling steps of the same time would change the picture more, which hangs on
the sampler. Where nothing pays, nothing is chosen, and the sentence says so.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from ..core.config import Config
from ..core.knobs import ConfigError
from ..core.upcoming_picture import UpcomingPass, UpcomingPicture
from ..methods.detail.cd_tuner import CDTuner
from ..methods.detail.free_u import FreeU
from ..methods.resolution.deep_shrink import DeepShrink
from ..methods.resolution.hi_diffusion import HiDiffusion
from ..methods.speed.deep_cache import DeepCache
from ..methods.speed.guidance_interval import GuidanceInterval
from ..methods.speed.step_forecast import StepForecast
from ..methods.speed.token_downsampling import TokenDownsampling
from .measured import Speed, measured
from .selection import Selection, config_of, knobs_in_line, selection_of

#: The buttons' words by what they are called here.
GOALS = {"faster": "Faster", "larger": "Larger", "detail": "More detail"}
NOTHING_FOR_DETAIL = "No method for detail acts at these settings; nothing was set."

#: Samplers like a measured one: deterministic first-order ones step alike, and with all that add noise on the way each
#: number of steps draws another picture.
_LIKE = {
    "DDIM": "Euler",
    "DPM++ 2M SDE": "Euler a",
    "DPM++ 2M SDE Heun": "Euler a",
    "DPM++ 3M SDE": "Euler a",
    "DPM++ SDE": "Euler a",
    "DPM++ 2S a": "Euler a",
    "DPM2 a": "Euler a",
}
#: Steps from which caches were measured.
_STEPS_MEASURED = 20
#: A cache that saves less is not worth a press, over plain.
_MOST_TIME = 0.6
#: Times the trained side, from which self-attention takes enough of the time for coarser keys to pay.
_LARGE = 1.5
_ORDINALS = {2: "2nd", 3: "3rd"}
#: Models made for fewer steps than this compose in the first of them.
_FEW_STEPS = 10


class Quick(NamedTuple):
    """A choice, empty where nothing fits, and in a line for the user what it is or why there is none."""

    selection: Selection
    sentence: str


def quick(goal: str, upcoming: UpcomingPicture) -> Quick:
    """The choice for a goal, one of `GOALS`, with the next picture as the page's settings have it."""
    return {"faster": _faster, "larger": _larger, "detail": _more_detail}[goal](upcoming)


def acting(selection: Selection, upcoming: UpcomingPicture) -> tuple[Selection, list[str]]:
    """The part of a selection that will act on the next picture, and a sentence for each method that will not."""
    left, reasons = {}, []
    for name, values in selection.items():
        reason = _why_idle(config_of(name, values), upcoming)
        if reason:
            reasons.append(reason)
        else:
            left[name] = values
    return left, reasons


def _faster(upcoming: UpcomingPicture) -> Quick:
    last = upcoming.last
    forecast, (cache, like) = _forecast_for(last), _cache_for(last)
    fewer_runs = forecast or cache
    configs = _that_act([GuidanceInterval(), *([fewer_runs] if fewer_runs else []), *_coarser_keys(upcoming)], upcoming)
    if not configs:
        return Quick({}, _why_not_faster(last, like))
    said = _set(configs)
    if forecast in configs:
        said += f" Step forecast takes {100 * _best_plan(last.sampler).time:.0f} % of the time (test model)."
    elif cache in configs and like == last.sampler:
        said += f" DeepCache takes {100 * _best_cache(like).time:.0f} % of the time (test model, {like})."
    elif cache in configs:
        said += f" DeepCache was measured with {like}, not with {last.sampler}."
    return Quick(selection_of(configs), said)


def _forecast_for(last: UpcomingPass) -> StepForecast | None:
    """Step forecast as it pays with a pass's sampler and steps, None where it does not."""
    best = _best_plan(last.sampler)
    if best is None or last.steps < _STEPS_MEASURED:
        return None
    return StepForecast(**knobs_in_line("step_forecast", best.setting))


def _best_plan(sampler: str) -> Speed | None:
    """The speed that changes pictures least, among those that pay with the sampler and save enough."""
    return _best("step_forecast", sampler)


def _cache_for(last: UpcomingPass) -> tuple[DeepCache | None, str]:
    """DeepCache as it pays with a pass's sampler and steps, None where it does not; and the measured sampler it is like."""
    like = _LIKE.get(last.sampler, last.sampler)
    best = _best_cache(like)
    if best is None or last.steps < _STEPS_MEASURED:
        return None, like if best else ""
    return DeepCache(**knobs_in_line("deep_cache", best.setting)), like


def _best_cache(sampler: str) -> Speed | None:
    """The setting that changes pictures least, among those that pay with the sampler and save enough."""
    return _best("deep_cache", sampler)


def _best(method: str, sampler: str) -> Speed | None:
    found = [one for one in measured().get(method, ()) if isinstance(one, Speed)]
    paying = [one for one in found if sampler in one.pays_with and one.time <= _MOST_TIME]
    return min(paying, key=lambda one: one.distance, default=None)


def _coarser_keys(upcoming: UpcomingPicture) -> list[Config]:
    """Token downsampling in the passes that are large enough, by as much as they are larger, as its paper does."""
    if upcoming.unet is None or upcoming.last.target.scale < _LARGE:
        return []
    large = {one.name for one in upcoming.passes if one.target.scale >= _LARGE}
    first = "first" in large or upcoming.last.name != "hires"
    return [TokenDownsampling(factor=min(round(2 * upcoming.last.target.scale) / 2, 4.0), first_pass=first)]


def _why_not_faster(last: UpcomingPass, like: str) -> str:
    steps = f"{last.steps} step{'s' * (last.steps != 1)}"
    if like and last.steps < _STEPS_MEASURED:
        return f"At {steps} there is too little to reuse from one step to the next; nothing was set."
    return f"At {steps} with {last.sampler}, fewer steps are the better way to save time; nothing was set."


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
    if isinstance(config, DeepCache):
        return f"DeepCache, every {_ORDINALS.get(config.interval, f'{config.interval}th')} step in full"
    if isinstance(config, TokenDownsampling):
        return "Token downsampling"
    if isinstance(config, CDTuner):
        return f"CD-Tuner with Detail 2 at {config.detail2:g}"
    return f"{config.short} {config.details()}".removesuffix(" auto").removesuffix(" v2").removesuffix(" at CFG 1")
