"""How long a sampler's evaluations take, and about how long they would take with no method on.

An evaluation reaches from where the sampler calls its denoiser to the next such call, so that a ControlNet's network and
the sampler's own work are in it. On CUDA the marks between are events in the device's own stream: it is waited for once a
pass, at its end.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import pairwise
from statistics import median
from typing import Union

import torch

#: A moment: a reading of a clock, or an event in a GPU's queue, which is not held up.
Mark = Union[float, torch.cuda.Event]


class Pace:
    """Marks a pass's evaluations and adds up what they took.

    Attributes:
        seconds: of all evaluations of the passes that have ended.
        evaluations: how many these were.
        plain: about how many seconds they would have taken with no method on; None where no evaluation of a pass ran as
            the U-Net is.
    """

    def __init__(self, changes: Callable[[], int], device: torch.device) -> None:
        """`changes` counts what methods have changed so far: an evaluation in which it stays runs as the U-Net is."""
        self.seconds = 0.0
        self.evaluations = 0
        self.plain: float | None = 0.0
        self._changes = changes
        self._device = device
        self._marks: list[tuple[Mark, int]] = []

    def evaluation_begins(self) -> None:
        self._mark()

    def pass_ends(self) -> None:
        """Waits for the device. Nothing happens where no evaluation has begun."""
        if not self._marks:
            return
        self._mark()
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        spans = [(seconds_between(begin, end), before == after) for (begin, before), (end, after) in pairwise(self._marks)]
        self._marks.clear()
        self.seconds += sum(seconds for seconds, _ in spans)
        self.evaluations += len(spans)
        plain = _plain(spans)
        self.plain = None if self.plain is None or plain is None else self.plain + plain

    def _mark(self) -> None:
        self._marks.append((mark(self._device), self._changes()))


def _plain(spans: list[tuple[float, bool]]) -> float | None:
    """What a pass would take where only some of its evaluations, each of so many seconds, ran as the U-Net is."""
    as_it_is = [seconds for seconds, untouched in spans if untouched]
    if len(as_it_is) in (0, len(spans)):
        return sum(as_it_is) or None
    # A first one may hold what torch does once: a choice of kernels, a first allocation.
    as_it_is = as_it_is[spans[0][1] and len(as_it_is) > 1 :]
    return median(as_it_is) * len(spans)


def mark(device: torch.device) -> Mark:
    """Now, as a moment to take differences of."""
    if device.type != "cuda":
        return time.perf_counter()
    now = torch.cuda.Event(enable_timing=True)
    now.record(torch.cuda.current_stream(device))
    return now


def seconds_between(begin: Mark, end: Mark) -> float:
    """What passed between two marks; on a GPU only once it is done with both."""
    return end - begin if isinstance(begin, float) else begin.elapsed_time(end) / 1000
