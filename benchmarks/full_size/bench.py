"""One row after another: the U-Net is kept while the setup stays, and what fails is written down in its place."""

from __future__ import annotations

import math
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

from torch import nn

from benchmarks.full_size import measuring
from benchmarks.full_size.measuring import Times
from benchmarks.full_size.mechanism import price
from benchmarks.full_size.models import Model, inputs_of, let_go, unet_of
from benchmarks.full_size.plan import CYCLES, Item, Setup
from benchmarks.full_size.results import Measured, Results, Row
from benchmarks.full_size.ways import Published, Subject, Way, our_way, plain_way, published_way
from benchmarks.predicting import Shares, predicted

#: A way is timed over at least so many seconds of plain evaluations in a row, where `CYCLES` of them last so long.
LONG_ENOUGH = 0.06
#: Rounds of the plain evaluation in which the time of its parts is taken.
SHARE_ROUNDS = 2
#: The side of the latent at which the mechanism's price is taken.
SMALLEST_SIDE = 8


class Bench:
    """Measures into `results`, under the name of this machine."""

    def __init__(self, results: Results, machine: str, width: int, checkpoint: Path | None, seconds: float) -> None:
        self.results = results
        self.machine = machine
        self.width, self.checkpoint, self.seconds = width, checkpoint, seconds
        self._model: Model | None = None
        self._unet: nn.Module | None = None
        self._subject: Subject | None = None
        self._shares: Shares | None = None

    def measure(self, setup: Setup, item: Item) -> None:
        """One row, kept at once. Where even the plain U-Net fails, so does the row."""
        began = time.monotonic()
        row, error = _tried(lambda: self._row(self._subject_of(setup), item))
        row = row or Row(error=error)
        self.results.store(self.machine, setup.name, item.name, row)
        over = f"{row.over_plain:.3f}" if row.over_plain else row.error
        print(f"{setup.name}: {item.name}: {over} ({time.monotonic() - began:.1f} s)", flush=True)
        if error:
            let_go()

    def _row(self, subject: Subject, item: Item) -> Row:
        evaluations, plain_evaluations = self._evaluations(subject, item.evaluations), self._evaluations(subject, 1)
        plain, ours = plain_way(subject, plain_evaluations), our_way(subject, item, evaluations)
        published = published_way(subject, item, evaluations, plain_evaluations)
        found, published_error = self._times(ours, plain, published)
        peak, finite = measuring.megabytes_and_finite(ours)
        row = Row(
            over_plain=round(found["ours"].over, 4),
            spread=round(found["ours"].spread, 4),
            milliseconds=round(found["ours"].milliseconds, 3),
            predicted=round(predicted(subject.unet, item.case, self._shares), 4) if item.case and self._shares else None,
            peak=round(peak / self._plain(subject)["peak"], 3),
            evaluations=evaluations,
            rounds=found["ours"].rounds,
            finite=finite,
            code=published.code if published else "",
            published_error=published_error,
        )
        if "published" not in found:
            return row
        beside = found["published"]
        return replace(row, published=round(beside.over, 4), published_milliseconds=round(beside.milliseconds, 3))

    def _times(self, ours: Way, plain: Way, published: Published | None) -> tuple[dict[str, Times], str]:
        """Of "ours" and, where it runs, "published", and why it does not. On one U-Net they are run in the same rounds."""
        if published is None:
            return measuring.times({"ours": ours}, plain, self.seconds), ""
        if published.on_same_unet:
            _, error = _tried(lambda: measuring.run(published.way))
            beside = {} if error else {"published": published.way}
            return measuring.times({"ours": ours, **beside}, plain, self.seconds), error
        found = measuring.times({"ours": ours}, plain, self.seconds)
        theirs, error = _tried(lambda: measuring.times({"published": published.way}, published.plain, self.seconds))
        return {**(theirs or {}), **found}, error

    def _evaluations(self, subject: Subject, cycle: int) -> int:
        """How many to time in a row, whole cycles of them."""
        lasts = self._plain(subject)["milliseconds"] / 1000 * cycle
        return cycle * min(max(math.ceil(LONG_ENOUGH / lasts), 1), max(CYCLES // cycle, 1))

    def _plain(self, subject: Subject) -> dict[str, float]:
        return self.results.machine(self.machine).setups[subject.setup.name].plain

    def _subject_of(self, setup: Setup) -> Subject:
        """The U-Net and the inputs; where the setup is new, what is told of the plain U-Net is measured first."""
        if self._subject is None or self._subject.setup != setup:
            self._subject = self._shares = None
            if self._model is not setup.model:
                self._unet = None
                let_go()
                self._unet, self._model = unet_of(setup.model, self.width, self.checkpoint), setup.model
                self._price(setup)
            subject = Subject(self._unet, setup, inputs_of(setup.model, setup.side, setup.rows))
            known = self.results.machine(self.machine).setups.setdefault(setup.name, Measured())
            known.plain = _plain_figures(subject)
            self._shares, _ = _tried(lambda: Shares.measure(subject.unet, subject.inputs, SHARE_ROUNDS))
            self._subject = subject
        return self._subject

    def _price(self, setup: Setup) -> None:
        if setup.model.name not in self.results.machine(self.machine).mechanism:
            smallest = Subject(self._unet, replace(setup, size=0), inputs_of(setup.model, SMALLEST_SIDE, 2))
            found, _ = _tried(lambda: price(smallest))
            if found:
                self.results.machine(self.machine).mechanism[setup.model.name] = asdict(found)


def _plain_figures(subject: Subject) -> dict[str, float]:
    way = plain_way(subject, 3)
    measuring.run(way)  # the first run of all loads kernels
    return {
        "milliseconds": round(measuring.milliseconds(way), 3),
        "issue": round(measuring.milliseconds_to_issue(way), 3),
        "peak": round(measuring.megabytes_and_finite(way)[0], 1),
    }


def _tried(work: Callable) -> tuple:
    """(result, ""), or (None, what went wrong), which is printed whole."""
    try:
        return work(), ""
    except Exception as error:
        traceback.print_exc(limit=-4, file=sys.stdout)
        return None, f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:200]
