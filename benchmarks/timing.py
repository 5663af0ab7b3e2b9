"""Times of several ways to do the same, taken in turn so that a machine that slows down slows all of them."""

from __future__ import annotations

import platform
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping
from typing import TypeVar

import torch

from lib_unetmod.core.pace import Mark, seconds_between

W = TypeVar("W")


def in_turn(
    ways: Mapping[str, W],
    rounds: int,
    over: str | None = None,
    warm: bool = True,
    timed: Callable[[W], float] | None = None,
) -> dict[str, list[tuple[float, float]]]:
    """Seconds of each way, one run of each a round, after a round that is not counted; without it where not `warm`.

    Beside each stand the seconds of the way `over`, run immediately before it (its own, where `over` is None). A way is run
    by `timed`, which tells its seconds.
    """
    timed = timed or seconds_of
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for counted in [False] * warm + [True] * rounds:
        for name, run in ways.items():
            beside = timed(ways[over]) if over not in (None, name) else None
            own = timed(run)
            if counted:
                seconds[name].append((own, own if beside is None else beside))
    return seconds


def seconds_of(run: Callable[[], object]) -> float:
    """Seconds of one run, as `seconds_now` counts them."""
    began = seconds_now()
    run()
    return seconds_now() - began


def seconds_now() -> float:
    """A clock to take differences of: on a GPU wall time once it is done, else the process's seconds of CPU.

    What other programs take of the CPU does not count, so that ratios hold on a machine that is not idle.
    """
    if not torch.cuda.is_available():
        return time.process_time()
    wait()
    return time.perf_counter()


def wait() -> None:
    """Until a GPU is done with all that it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def mark() -> Mark:
    """Now, as a time to take differences of: an event in the GPU's queue, which is not held up, else CPU seconds."""
    if not torch.cuda.is_available():
        return time.process_time()
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


class Stopwatch:
    """Seconds that pass in each of several parts, between `begin` and `end`, together."""

    def __init__(self) -> None:
        self._began: dict[Hashable, Mark] = {}
        self._spans: list[tuple[Hashable, Mark, Mark]] = []

    def begin(self, part: Hashable) -> None:
        self._began[part] = mark()

    def end(self, part: Hashable) -> None:
        self._spans.append((part, self._began.pop(part), mark()))

    def seconds(self) -> dict[Hashable, float]:
        """Of each part until now. Waits for the GPU."""
        wait()
        total: dict[Hashable, float] = defaultdict(float)
        for part, began, ended in self._spans:
            total[part] += seconds_between(began, ended)
        return dict(total)


def median(seconds: Mapping[str, list[tuple[float, float]]], name: str) -> float:
    """Median seconds of one way."""
    return statistics.median(own for own, _ in seconds[name])


def ratio(seconds: Mapping[str, list[tuple[float, float]]], name: str) -> float:
    """One way's time over that of the way it was run beside, each in its least disturbed round."""
    return min(own for own, _ in seconds[name]) / min(beside for _, beside in seconds[name])


def device() -> str:
    """The machine in words, for the head of a table."""
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}{gpu}"
