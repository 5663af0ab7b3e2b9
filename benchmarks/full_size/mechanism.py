"""What edits cost that do nothing: many methods are on, outside their windows, and each wrapped layer only passes on.

At the smallest latent a GPU waits for the program, so that the wall time is the program's.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from benchmarks.cases import OUTSIDE
from benchmarks.full_size.plan import Item
from benchmarks.full_size.ways import Subject, Way, our_way, plain_way
from benchmarks.timing import in_turn, seconds_now
from lib_unetmod import CDTuner, DeepCache, FreeU, HyperTile, TokenMerging, modified, what_is_on

#: How often edits are put on and taken off.
ON_AND_OFF = 5
ROUNDS = 20
#: Methods of all kinds that go together, outside their windows.
RESTING = Item(
    "all resting",
    (
        DeepCache(end=OUTSIDE),
        TokenMerging(end=OUTSIDE, cross_attention=True),
        HyperTile(end=OUTSIDE, depth=4),
        FreeU(end=OUTSIDE),
        CDTuner(detail1=5, detail2=5, contrast=5, end=OUTSIDE),
    ),
)


@dataclass(frozen=True)
class Price:
    """Of edits that rest.

    Attributes:
        layers: wrapped ones.
        edits: on them.
        microseconds: that an evaluation takes longer with them, the median.
        on_and_off: milliseconds to put them on and take them off, once a picture.
        plain: milliseconds of the program for a plain evaluation.
    """

    layers: int
    edits: int
    microseconds: float
    on_and_off: float
    plain: float


def price(subject: Subject) -> Price:
    ways = {"plain": plain_way(subject, 1), "resting": our_way(subject, RESTING, 1)}
    found = in_turn(ways, ROUNDS, over="plain", timed=_seconds)
    with modified(subject.unet, RESTING.configs):
        on = what_is_on(subject.unet)
    began = seconds_now()
    for _ in range(ON_AND_OFF):
        with modified(subject.unet, RESTING.configs):
            pass
    return Price(
        layers=len(on),
        edits=sum(map(len, on.values())),
        microseconds=round(1e6 * statistics.median(own - beside for own, beside in found["resting"]), 1),
        on_and_off=round(1000 * (seconds_now() - began) / ON_AND_OFF, 2),
        plain=round(1000 * statistics.median(own for own, _ in found["plain"]), 2),
    )


def _seconds(way: Way) -> float:
    """Of the second evaluation: nothing is new in it."""
    first, second = way.subject.steps(2)
    with way.entered() as evaluate:
        evaluate(first)
        began = seconds_now()
        evaluate(second)
        return seconds_now() - began
