"""At which progress AUTOMATIC1111's samplers evaluate the U-Net, known before they do.

From modules/sd_schedulers.py, sd_samplers_kdiffusion.py, sd_samplers_timesteps.py and sd_samplers_common.py of 1.10.1. A
schedule is a list of noise levels; img2img and the second pass of hires fix take its last part, `int(min(denoising strength,
0.999) * steps) + 1` of them. Forge and its kin do the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from ..core.noise_levels import LAST, SCHEDULES, ddim_timesteps, even

_ALL_BUT_ALL = 0.999


@dataclass(frozen=True)
class Sampler:
    """What a sampler does with the noise levels of its schedule.

    Attributes:
        schedule: the one that "Automatic" stands for.
        again: it evaluates at the end of each step too.
        by_timesteps: it has a schedule of its own, in timesteps.
        left_out: how many of that schedule's last timesteps it does not evaluate at.
        discards: it leaves out the level before the last.
    """

    schedule: str = "Uniform"
    again: bool = False
    by_timesteps: bool = False
    left_out: int = 0
    discards: bool = False


#: The samplers that evaluate at the levels of their schedule and nowhere else. Others choose levels between them, or more.
_SAMPLERS = {
    "Euler": Sampler(),
    "Euler a": Sampler(),
    "LMS": Sampler(),
    "LCM": Sampler(),
    "Heun": Sampler(again=True),
    "DPM++ 2M": Sampler("Karras"),
    "DPM++ 2M SDE": Sampler("Exponential"),
    "DPM++ 3M SDE": Sampler("Exponential", discards=True),
    "DDIM": Sampler(by_timesteps=True, left_out=1),
    "DDIM CFG++": Sampler(by_timesteps=True, left_out=1),
}


@dataclass(frozen=True)
class Course:
    """Progress at which a pass begins, that of each evaluation, None where the sampler chooses them on the way, and spacing.

    `schedule` is the schedule type in lower case, "uniform" for a sampler that has timesteps of its own.
    """

    begins: float
    evaluations: tuple[float, ...] | None
    schedule: str = "uniform"


def apart(sampler: str) -> tuple[str, str]:
    """A sampler's name and its schedule type, which Forge Classic and A1111 before 1.9 write behind it; else empty.

    `DPM++ 2M Karras` is DPM++ 2M with Karras.
    """
    for schedule in ("Karras", "Exponential", "SGM Uniform"):
        if sampler.endswith(f" {schedule}"):
            return sampler.removesuffix(f" {schedule}"), schedule
    return sampler, ""


def course(sampler: str, schedule: str, steps: int, denoising: float | None = None, exact: bool = False) -> Course:
    """The course of a pass.

    Args:
        sampler: its name as the page shows it; of older versions with the schedule behind it, as `DPM++ 2M Karras`.
        schedule: the schedule type, "Automatic" or empty for the sampler's own.
        steps: sampling steps, at least 1.
        denoising: denoising strength, None in a pass that begins with noise.
        exact: the pass takes `steps` steps whatever the strength is: hires fix, and img2img by a setting.
    """
    sampler, older = apart(sampler)
    schedule = older or schedule
    known = _SAMPLERS.get(sampler)
    taken = steps
    if denoising is not None:
        share = min(denoising, _ALL_BUT_ALL)
        if exact and share <= 0:
            return Course(1.0, ())
        steps, taken = (int(steps / share), steps) if exact else (steps, int(share * steps) + 1)
    if known is not None and known.by_timesteps:
        return _by_timesteps(known, steps, None if denoising is None else taken - 1)
    if schedule in ("", "Automatic", "None"):
        schedule = known.schedule if known else "Karras" if sampler.startswith("DPM") else "Uniform"
    levels = _levels(SCHEDULES.get(schedule, even), steps, known is not None and known.discards)
    levels = levels[steps - taken :]
    if known is None or schedule not in SCHEDULES:
        return Course(levels[0], None, schedule.lower())
    return Course(levels[0], tuple(levels if not known.again else _twice(levels)), schedule.lower())


def _levels(schedule: Callable[[int], list[float]], steps: int, discards: bool) -> list[float]:
    return schedule(steps + 1)[:-1] if discards else schedule(steps)


def _twice(levels: Sequence[float]) -> list[float]:
    """Each step's beginning and end, but for the end of the last, which is clean."""
    return [levels[0], *(level for _, end in pairwise(levels) for level in (end, end))]


def _by_timesteps(sampler: Sampler, steps: int, last: int | None) -> Course:
    """DDIM's timesteps from the highest down; in img2img the lowest `last` of them."""
    progress = tuple(1 - timestep / LAST for timestep in reversed(ddim_timesteps(steps)[sampler.left_out : last]))
    return Course(progress[0] if progress else 1.0, progress)
