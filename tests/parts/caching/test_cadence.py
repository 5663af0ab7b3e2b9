"""When caches run in full, against schedules written down by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from lib_unetmod.core.clock import Clock
from lib_unetmod.core.state import bytes_of
from lib_unetmod.parts.caching.cadence import Cadence, CadenceConfig
from lib_unetmod.parts.caching.predictors import LastValue, LinearForecast


def fulls(timesteps, evaluations=None, **knobs):
    """Which of the evaluations at these timesteps run in full; `evaluations` are those this stream takes part in."""
    cadence, clock, found = Cadence(CadenceConfig(**knobs)), Clock(), []
    for index, timestep in enumerate(timesteps):
        clock.new_evaluation()
        clock.at_timestep(float(timestep))
        if evaluations is not None and index not in evaluations:
            continue
        if not cadence.advance(clock):
            found.append(index)
            cadence.ran_in_full()
    return found


STEPS = np.linspace(999, 0, 21)[:20]


@pytest.mark.parametrize(
    "knobs, expected",
    [
        (dict(interval=1), list(range(20))),
        (dict(interval=2), list(range(0, 20, 2))),
        (dict(interval=3), [0, 3, 6, 9, 12, 15, 18]),
        (dict(interval=3, first_full=3), [0, 1, 2, 5, 8, 11, 14, 17]),
        (dict(interval=20), [0]),
    ],
)
def test_even_intervals(knobs, expected):
    assert fulls(STEPS, **knobs) == expected


def test_intervals_that_grow():
    found = fulls(STEPS, interval=2, last_interval=8)
    gaps = np.diff(found)
    assert found[0] == 0 and gaps[0] in (2, 3) and all(a <= b for a, b in itertools.pairwise(gaps)) and gaps[-1] > 4


@pytest.mark.parametrize("centre, power", [(0.3, 1.4), (0.5, 2.0), (0.0, 2.0), (0.8, 1.2)])
def test_the_spacing_is_that_of_the_published_schedule(centre, power):
    """Knots c + w^p with w evenly spaced, as the paper places them, against the sum of 1/interval between two of them."""
    samples, evaluations = 5, 2000
    ends = -(centre ** (1 / power)), (1 - centre) ** (1 / power)
    w = np.linspace(*ends, samples + 1)
    knots = centre + np.sign(w) * np.abs(w) ** power
    config = CadenceConfig(interval=20, centre=centre, power=power)
    for start, end in itertools.pairwise(knots):
        progress = np.linspace(start, end, evaluations)
        # The interval never falls below 1, which cuts the densest part: compare where it does not.
        rates = np.array([20 / config.interval_at(p) for p in progress])
        share = ((rates[1:] + rates[:-1]) / 2 * np.diff(progress)).sum()
        cut = power * (1 / 20) / (ends[1] - ends[0])
        assert share == pytest.approx(1 / samples, abs=0.002 + cut)


def test_far_jumps_are_not_bridged():
    eight = np.linspace(999, 0, 9)[:8]
    assert fulls(eight, interval=3) == list(range(8))
    assert fulls(eight, interval=3, reach=1) == [0, 3, 6]
    # The last fifth of 30 steps, as in img2img: few evaluations, but near each other.
    assert fulls(np.linspace(999, 0, 31)[24:30], interval=3) == [0, 3]


def test_a_sampler_that_restarts_begins_anew():
    assert fulls([900, 870, 840, 900, 870, 840], interval=3) == [0, 3]


def test_repeated_timesteps_and_two_evaluations_a_step_count_as_evaluations():
    assert fulls([900, 860, 860, 820, 820, 780, 780], interval=3) == [0, 3, 6]
    assert fulls([900, 900, 900, 900], interval=3) == [0, 3]


def test_a_stream_that_is_visited_every_other_evaluation_ages_by_evaluations():
    assert fulls(STEPS, evaluations=range(0, 20, 2), interval=4) == [0, 4, 8, 12, 16]


def test_linear_forecast():
    line, progress = LinearForecast(), 0.1
    a, b = torch.tensor([1.0, 2.0]), torch.tensor([2.0, 6.0])
    line.keep(a, 0.0)
    assert torch.equal(line.predict(0.5), a)
    line.keep(b, progress)
    torch.testing.assert_close(line.predict(0.15), torch.tensor([2.5, 8.0]))
    torch.testing.assert_close(line.predict(0.9), torch.tensor([3.0, 10.0]))  # no further than the two are apart
    line.keep(a, progress)  # evaluated twice at one timestep
    assert torch.equal(line.predict(0.2), a)
    assert sum(map(bytes_of, line.tensors())) == 16


def test_what_is_kept_and_given_is_a_copy():
    for predictor in (LastValue(), LinearForecast()):
        value = torch.ones(3)
        predictor.keep(value, 0.1)
        value.zero_()
        given = predictor.predict(0.2)
        given += 1
        assert torch.equal(predictor.predict(0.2), torch.ones(3))
