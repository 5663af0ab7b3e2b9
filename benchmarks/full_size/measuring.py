"""Time and memory of one way over another's, run in turn."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass

import torch

from benchmarks.full_size.ways import Way
from benchmarks.live_memory import LiveMemory
from benchmarks.timing import in_turn, mark, wait
from lib_unetmod.core.pace import seconds_between

LEAST_ROUNDS, MOST_ROUNDS = 3, 15


@dataclass(frozen=True)
class Times:
    """Of one way beside another: what an evaluation takes of its own, and over the other's.

    Attributes:
        milliseconds: of an evaluation, the median over the rounds.
        over: the median of the ratios to the other way, run immediately before.
        spread: the distance between the quartiles of these ratios.
        rounds: how often it was run.
    """

    milliseconds: float
    over: float
    spread: float
    rounds: int


def times(ways: dict[str, Way], over: Way, seconds: float) -> dict[str, Times]:
    """Of each way and of `over` beside `over`, in as many rounds as fit into the seconds, after one that is not counted."""
    known = {"over": over, **ways}
    lasts = {name: way.evaluations * _seconds(way) for name, way in known.items()}
    if sum(lasts.values()) < seconds:  # the first run of all loads kernels
        lasts = {name: way.evaluations * _seconds(way) for name, way in known.items()}
    rounds = round(seconds / (sum(lasts.values()) + len(ways) * lasts["over"]))
    rounds = min(max(rounds, LEAST_ROUNDS), MOST_ROUNDS)
    found = in_turn(known, rounds, over="over", warm=False, timed=_seconds)
    return {name: _summary(pairs) for name, pairs in found.items()}


def _summary(pairs: list[tuple[float, float]]) -> Times:
    ratios = [own / beside for own, beside in pairs]
    quartiles = statistics.quantiles(ratios, n=4)
    return Times(
        milliseconds=1000 * statistics.median(own for own, _ in pairs),
        over=statistics.median(ratios),
        spread=quartiles[2] - quartiles[0],
        rounds=len(pairs),
    )


def _seconds(way: Way) -> float:
    """Of one evaluation, the mean over all that the way has."""
    steps = way.subject.steps(way.evaluations)
    with way.entered() as evaluate:
        wait()
        began = mark()
        for step in steps:
            evaluate(step)
        ended = mark()
        wait()
    return seconds_between(began, ended) / way.evaluations


def milliseconds(way: Way) -> float:
    """Of one evaluation, the median of three runs."""
    return 1000 * statistics.median(_seconds(way) for _ in range(3))


def milliseconds_to_issue(way: Way) -> float:
    """Wall time of the program for one evaluation until the GPU has all of it to do; on a CPU that of the evaluation.

    Where this is about as long as the evaluation itself, the GPU waits for the program.
    """
    steps = way.subject.steps(way.evaluations)
    with way.entered() as evaluate:
        wait()
        began = time.perf_counter()
        for step in steps:
            evaluate(step)
        issued = time.perf_counter()
        wait()
    return 1000 * (issued - began) / way.evaluations


def megabytes_and_finite(way: Way) -> tuple[float, bool]:
    """Memory at its most, what is kept included and the weights not; and whether the prediction is finite."""
    if not torch.cuda.is_available():
        with LiveMemory() as memory:
            out = run(way)
        return memory.peak / 2**20, bool(torch.isfinite(out).all())
    wait()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    out = run(way)
    return (torch.cuda.max_memory_allocated() - before) / 2**20, bool(torch.isfinite(out).all())


def run(way: Way) -> torch.Tensor:
    """All of its evaluations; the last one's prediction."""
    with way.entered() as evaluate:
        for step in way.subject.steps(way.evaluations):
            out = evaluate(step)
    wait()
    return out
