"""The search against a drawer whose pictures are numbers: each step that is left out adds an error of its own."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from unets import fresh

from lib_unetmod import DeepCache, StepForecast, inspect_unet
from lib_unetmod.core.target import Target
from lib_unetmod.core.upcoming_picture import UpcomingPass, UpcomingPicture
from lib_unetmod.parts.caching.plan import StepPlan
from lib_unetmod.settings.speed_target import KNOB
from lib_unetmod.tuning.candidates import Candidate
from lib_unetmod.tuning.drawer import Drawn, Stopped
from lib_unetmod.tuning.search import tune
from lib_unetmod.tuning.trials import QUICK, THOROUGH, Trial

STEPS = 20
#: Of a step that is left out; the cheapest are the last ten.
COSTS = [100.0, *(10.0 - 0.1 * step for step in range(1, 10)), *(0.1 + 0.01 * step for step in range(10))]


def upcoming(steps=STEPS, passes=("first",), cfg=7.0):
    def one(name):
        evaluations = tuple(at / steps for at in range(steps))
        return UpcomingPass(name, Target(512, 512, 512), steps, "Euler", "uniform", cfg, evaluations=evaluations)

    return UpcomingPicture(inspect_unet(fresh("sd1")), tuple(one(name) for name in passes), "model [1]")


class Drawer:
    """A picture costs as many seconds as steps run; `luck` changes what a step's omission costs in a picture."""

    own = ()

    def __init__(self, picture=None, fewer=50.0, cache=500.0, stops_after=None, luck=lambda number, step: 1.0):
        self.upcoming = picture or upcoming()
        self.fewer, self.cache, self.stops_after, self.luck = fewer, cache, stops_after, luck
        self.seconds, self.drawn = 0.0, []

    def draw(self, number, configs, share=1.0):
        if self.stops_after is not None and len(self.drawn) >= self.stops_after:
            raise Stopped
        self.drawn.append((number, configs, share))
        error, ran = 0.0, 0.0
        for one in self.upcoming.passes:
            plan = [config.plan_of(one).letters for config in configs if isinstance(config, StepForecast)]
            letters = plan[0] if plan else "F" * STEPS
            ran += letters.count("F") * (0.6 if any(isinstance(config, DeepCache) for config in configs) else 1.0)
            error += sum(COSTS[at] * self.luck(number, at) for at, letter in enumerate(letters) if letter == "P")
        if share < 1:
            error, ran = self.fewer, share * ran
        error += self.cache * any(isinstance(config, DeepCache) for config in configs)
        self.seconds += ran
        return Drawn(torch.full((1, 4, 2, 2), float(error)), ran)


def missed(letters):
    return sum(COSTS[at] for at, letter in enumerate(letters) if letter == "P")


def test_it_climbs_to_the_plan_that_leaves_out_what_costs_least():
    found = tune(Drawer(), ["2x"], THOROUGH)
    (tuned,) = found.tuned
    (config,) = tuned.best.candidate.configs
    assert config.plan.count("F") == 10 and tuned.best.time == pytest.approx(0.5)
    assert tuned.best.error == pytest.approx(missed(config.plan))
    assert tuned.best.error < 0.25 * tuned.shipped.error
    assert tuned.fewer_steps.error == pytest.approx(50.0) and not tuned.beaten and not found.problems


@pytest.mark.parametrize("effort, words", [(QUICK, ["2x"]), (QUICK, [*KNOB.choices[1:]]), (THOROUGH, ["2x"])])
def test_it_keeps_to_the_pictures_time_that_it_may_take(effort, words):
    drawer = Drawer()
    found = tune(drawer, words, effort)
    most = effort.one if len(words) == 1 else effort.all
    assert [one.word for one in found.tuned] == words
    assert found.pictures == pytest.approx(drawer.seconds / STEPS) and 0.8 * most < found.pictures <= most


def test_what_is_better_on_the_pictures_climbed_on_alone_is_not_kept():
    shipped = StepForecast(speed=2.0).plan_of(upcoming().passes[0]).letters

    def luck(number, step):
        return 1.0 if number < THOROUGH.choosing or shipped[step] == "P" else 100.0

    (tuned,) = tune(Drawer(luck=luck), ["2x"], THOROUGH).tuned
    assert tuned.best == tuned.shipped and tuned.best.candidate.name == "shipped plan"


@pytest.mark.parametrize(
    "errors, others, nearer",
    [
        ((1.0, 1.0, 1.0), (1.2, 1.2, 1.2), True),
        ((1.0, 1.0, 1.0), (1.1, 1.1, 1.1), False),  # too little
        ((1.0, 1.0, 1.0), (3.0, 3.0, 0.9), False),  # in one of three it is farther
        ((1.0, 1.0, 1.0, 1.0), (3.0, 3.0, 3.0, 0.9), True),
        ((float("inf"), 1.0, 1.0), (9.0, 9.0, 9.0), False),
    ],
)
def test_a_gain_that_may_be_chance_is_none(errors, others, nearer):
    candidate = Candidate("any", ())
    assert Trial(candidate, errors, 0.5).is_clearly_nearer(Trial(candidate, others, 0.5)) is nearer


def test_fewer_steps_that_are_better_are_said_and_the_best_plan_is_kept_all_the_same():
    (tuned,) = tune(Drawer(fewer=0.01), ["2x"]).tuned
    assert tuned.beaten and tuned.best.candidate.plans


@pytest.mark.parametrize("cache, kept", [(-60.0, True), (500.0, False)])
def test_a_cache_is_kept_where_it_is_nearer_in_no_more_time(cache, kept):
    (tuned,) = tune(Drawer(cache=cache), ["2x"]).tuned
    assert any(isinstance(config, DeepCache) for config in tuned.best.candidate.configs) is kept


def test_hires_fix_is_searched_in_both_passes():
    (tuned,) = tune(Drawer(upcoming(passes=("first", "hires"))), ["2x"], THOROUGH).tuned
    (config,) = tuned.best.candidate.configs
    parts = config.plan.split("/")
    assert [part.count("F") for part in parts] == [10, 10]
    assert sum(map(missed, parts)) < 0.5 * tuned.shipped.error and max(map(missed, parts)) < 0.3 * tuned.shipped.error


def test_without_the_negative_prompt_half_as_many_steps_are_left_out():
    (tuned,) = tune(Drawer(upcoming(cfg=1.0)), ["3x"]).tuned
    names = [type(config).__name__ for config in tuned.best.candidate.configs]
    assert names == ["GuidanceInterval", "StepForecast"]
    assert tuned.best.candidate.configs[1].plan.count("F") == 13


def test_what_cannot_be_reached_is_a_sentence_and_costs_no_other_speed():
    found = tune(Drawer(upcoming(steps=4, passes=("first", "hires"))), ["2x"])
    assert found.tuned == () and found.problems == (
        "What may be left out at few steps is tuned without Hires. fix: turn it off for that.",
    )


def test_what_is_found_for_an_unknown_model_could_not_be_kept():
    drawer = Drawer(replace(upcoming(), model=""))
    found = tune(drawer, ["2x"])
    assert found.tuned == () and "not known from which file" in found.problems[0] and drawer.drawn == []


@pytest.mark.parametrize("after, kept", [(0, []), (11, []), (12, []), (50, ["2x"])])
def test_where_it_is_stopped_the_best_so_far_is_kept(after, kept):
    found = tune(Drawer(stops_after=after), ["2x"], THOROUGH)
    assert found.stopped and [one.word for one in found.tuned] == kept
    if kept:
        letters = found.tuned[0].best.candidate.plans[0].letters
        assert sum(COSTS[at] for at, letter in enumerate(letters) if letter == "P") == pytest.approx(
            found.tuned[0].best.error
        )


def test_it_says_what_is_left():
    told = []
    tune(Drawer(), ["2x"], QUICK, lambda *said: told.append(said))
    words, shares, seconds = zip(*told, strict=True)
    assert words[0] == "Drawing without" and "2x: shipped plan" in words
    assert list(shares) == sorted(shares) and 0.8 < shares[-1] <= 1
    after_plain = [left for word, left in zip(words, seconds, strict=True) if word != "Drawing without"]
    assert after_plain == sorted(after_plain, reverse=True) and after_plain[0] == pytest.approx(20 * STEPS)


def test_a_plan_begins_with_a_step_that_runs():
    drawer = Drawer()
    tune(drawer, ["3x"], THOROUGH)
    plans = {config.plan for _, configs, _ in drawer.drawn for config in configs if isinstance(config, StepForecast)}
    assert len(plans) > 50 and all(StepPlan(plan).letters.count("F") == 7 for plan in plans if plan)
