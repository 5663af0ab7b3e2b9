"""What a search found: as a profile to be kept, and in the words of a user."""

from __future__ import annotations

import math

from ..core.upcoming_picture import UpcomingPicture
from ..settings.profiles import Profile, ProfileError, Profiles, TunedPass
from ..settings.selection import selection_of
from .found import Found, Tuned
from .trials import QUICK, Effort


def profile_of(tuned: Tuned, upcoming: UpcomingPicture, effort: Effort) -> Profile:
    """What is kept of a speed's search, in which so much was drawn."""
    measured = {"effort": effort.one if tuned.judged else 0.0, "time": tuned.best.time, "error": tuned.best.error}
    for name, trial in (("shipped", tuned.shipped), ("fewer_steps", tuned.fewer_steps)):
        if trial is not None:
            measured[name] = trial.error
    return Profile(
        upcoming.model,
        tuned.word,
        tuple(TunedPass.of(one) for one in upcoming.passes),
        selection_of(tuned.best.candidate.configs),
        {name: float(f"{value:.4g}") for name, value in measured.items()},
    )


def keep(found: Found, upcoming: UpcomingPicture, effort: Effort, profiles: Profiles) -> list[str]:
    """Keep all that was found, but not in place of what was tuned to its end what was not.

    Returns:
        A sentence for each that is not kept.
    """
    said = []
    for tuned in found.tuned:
        if not tuned.judged and profiles.holds(tuned.word, upcoming, QUICK.one):
            said.append(f"What was tuned before for Speed {tuned.word} stays.")
            continue
        try:
            profiles.keep(profile_of(tuned, upcoming, effort))
        except ProfileError as error:
            said.append(str(error))
    return said


def sentences(found: Found, upcoming: UpcomingPicture) -> list[str]:
    """What was found for each speed, and at which cost."""
    said = [sentence(one, upcoming) for one in found.tuned]
    said += found.problems
    if found.stopped:
        said.append("Tuning was stopped.")
    return [*said, *([f"Tuning took the time of {found.pictures:.0f} images."] if found.pictures else [])]


def sentence(tuned: Tuned, upcoming: UpcomingPicture) -> str:
    """`Speed 2x: tuned plan, 0.51 of the time. Its images differ 0.14 times as much as those of 10 steps.`"""
    best, fewer = tuned.best, tuned.fewer_steps
    said = f"Speed {tuned.word}: {best.candidate.name}, {best.time:.2f} of the time."
    if fewer is None:
        return said
    last = upcoming.last
    steps = max(round(fewer.candidate.share * last.steps), 1)
    if tuned.beaten:
        return f"{said} Fewer steps are better here: set {steps} sampling steps and Speed off."
    beside = best.error / fewer.error
    if not math.isfinite(beside):
        return f"{said} Some of the images came out as no number (NaN), so that nothing can be compared."
    said += f" Its images differ {beside:.2f} times as much as those of {steps} steps"
    if tuned.shipped and tuned.shipped.candidate != best.candidate:
        said += f", as shipped {tuned.shipped.error / fewer.error:.2f} times"
    return said + "."
