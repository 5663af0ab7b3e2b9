"""What was measured, kept in one JSON file that is written after each row, so that a run that is ended loses nothing."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Row:
    """One item in one setup. What could not be measured is None, and `error` says why.

    Attributes:
        over_plain: time of an evaluation over the plain U-Net's, the median of the ratios.
        spread: the distance between the quartiles of these ratios.
        milliseconds: of an evaluation.
        predicted: the ratio that the removed work leads to expect.
        peak: memory at its most over the plain U-Net's, weights not counted.
        evaluations: in a row.
        rounds: how often they were run.
        finite: whether the prediction was.
        code: the published code that was run beside, empty where there is none.
        published: its time over that of the plain U-Net which it acts on.
        published_milliseconds: of an evaluation with it.
        error: why ours was not measured.
        published_error: why the published code was not.
    """

    over_plain: float | None = None
    spread: float | None = None
    milliseconds: float | None = None
    predicted: float | None = None
    peak: float | None = None
    evaluations: int = 0
    rounds: int = 0
    finite: bool = True
    code: str = ""
    published: float | None = None
    published_milliseconds: float | None = None
    error: str = ""
    published_error: str = ""


@dataclass
class Measured:
    """All of one setup.

    Attributes:
        plain: "milliseconds" of an evaluation, those until the GPU has all of it to do ("issue"), and "peak" in MB.
    """

    plain: dict[str, float] = field(default_factory=dict)
    rows: dict[str, Row] = field(default_factory=dict)


@dataclass
class Machine:
    """All that was measured on one device with one set of versions.

    Attributes:
        versions: of torch and of the packages whose code was run.
        setups: by name.
        mechanism: what resting edits cost, by the model's name.
    """

    versions: dict[str, str] = field(default_factory=dict)
    setups: dict[str, Measured] = field(default_factory=dict)
    mechanism: dict[str, dict[str, float]] = field(default_factory=dict)


class Results:
    """The machines in a file, by a line that says device, data type and how the U-Net was made."""

    def __init__(self, file: Path) -> None:
        self.file = file
        stored = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        self.machines = {name: _machine(one) for name, one in stored.items()}

    def machine(self, name: str) -> Machine:
        return self.machines.setdefault(name, Machine())

    def has(self, machine: str, setup: str, row: str) -> bool:
        """Whether this was measured; what failed is to be tried again."""
        known = self.machine(machine).setups.get(setup, Measured()).rows.get(row)
        return known is not None and not known.error and not known.published_error

    def store(self, machine: str, setup: str, row: str, found: Row) -> None:
        self.machine(machine).setups.setdefault(setup, Measured()).rows[row] = found
        self.write()

    def write(self) -> None:
        """Write the file as a whole or not at all."""
        text = json.dumps({name: asdict(one) for name, one in self.machines.items()}, indent=1)
        self.file.parent.mkdir(parents=True, exist_ok=True)
        begun = self.file.with_suffix(".part")
        begun.write_text(text + "\n", encoding="utf-8")
        os.replace(begun, self.file)


def _machine(stored: dict[str, Any]) -> Machine:
    setups = {
        name: Measured(one["plain"], {row: Row(**found) for row, found in one["rows"].items()})
        for name, one in stored["setups"].items()
    }
    return Machine(stored["versions"], setups, stored["mechanism"])
