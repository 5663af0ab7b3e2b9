"""What is kept of a search, and what a user is told of it."""

from __future__ import annotations

import pytest

from lib_unetmod import StepForecast
from lib_unetmod.parts.caching.plan import StepPlan
from lib_unetmod.settings.profiles import Profiles, read_file
from lib_unetmod.tuning.candidates import Candidate
from lib_unetmod.tuning.found import Found, Tuned
from lib_unetmod.tuning.result import keep, sentences
from lib_unetmod.tuning.trials import QUICK, Trial

from .test_search import upcoming

PLAN = "F" * 10 + "P" * 10
TUNED = Candidate("tuned plan", (StepForecast(plan=PLAN),), plans=(StepPlan(PLAN),))
SHIPPED = Candidate("shipped plan", (StepForecast(plan="FP" * 10),), plans=(StepPlan("FP" * 10),))
FEWER = Candidate("fewer steps", (), share=0.5)
STOPPED = Tuned("2x", Trial(TUNED, (0.2,), 0.52), judged=False)


def found(best=0.2, shipped=0.3, fewer=0.4, **changes):
    tuned = Tuned("2x", Trial(TUNED, (best,), 0.52), Trial(SHIPPED, (shipped,), 0.51), Trial(FEWER, (fewer,), 0.5))
    return Found(**{"tuned": (tuned,), "pictures": 24.4, **changes})


@pytest.mark.parametrize(
    "one, said",
    [
        (
            found(),
            "Speed 2x: tuned plan, 0.52 of the time. Its images differ 0.50 times as much as those of 10 steps, as shipped "
            "0.75 times.",
        ),
        (
            found(fewer=0.1),
            "Speed 2x: tuned plan, 0.52 of the time. Fewer steps are better here: set 10 sampling steps and Speed off.",
        ),
        (
            found(best=float("inf"), fewer=float("inf")),
            "Speed 2x: tuned plan, 0.52 of the time. Some of the images came out as no number (NaN), so that nothing can be "
            "compared.",
        ),
        (found(tuned=(), problems=("Nothing.",)), "Nothing."),
        (
            found(tuned=(STOPPED,), stopped=True),
            "Speed 2x: tuned plan, 0.52 of the time.",
        ),
    ],
)
def test_what_is_said(one, said):
    first, *rest = sentences(one, upcoming())
    assert first == said and rest[-1] == "Tuning took the time of 24 images."
    assert ("Tuning was stopped." in rest) is one.stopped


def test_what_was_stopped_is_kept_and_not_taken_for_done(tmp_path):
    profiles, drawn = Profiles(tmp_path / "tuned"), upcoming()
    assert keep(found(tuned=(STOPPED,), stopped=True), drawn, QUICK, profiles) == []
    assert profiles.nearest("2x", drawn).configs == TUNED.configs and not profiles.holds("2x", drawn, QUICK.one)
    assert keep(found(), drawn, QUICK, profiles) == [] and profiles.holds("2x", drawn, QUICK.one)
    assert not profiles.holds("2x", drawn, 200) and not profiles.holds("3x", drawn, QUICK.one)
    stopped = found(tuned=(Tuned("2x", Trial(SHIPPED, (0.2,), 0.52), judged=False),), stopped=True)
    assert keep(stopped, drawn, QUICK, profiles) == ["What was tuned before for Speed 2x stays."]
    (path,) = profiles.folder.iterdir()
    measured = {"effort": 25, "time": 0.52, "error": 0.2, "shipped": 0.3, "fewer_steps": 0.4}
    assert read_file(path).measured == measured and read_file(path).model == "model [1]"


def test_where_it_cannot_be_kept_that_is_a_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    (problem,) = keep(found(), upcoming(), QUICK, Profiles(tmp_path / "file"))
    assert "cannot be written" in problem
