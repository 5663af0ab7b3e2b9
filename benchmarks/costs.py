"""What `benchmarks.speed` measured, kept in docs/costs.json and written as docs/costs.md.

A row that is measured again takes the place of the old one; a setup is U-Net, width, size, data type and device.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

DOCS = Path(__file__).parent.parent / "docs"
RESULTS, TABLE = DOCS / "costs.json", DOCS / "costs.md"

HEAD = "| method | time over plain | predicted | above | published code | peak memory over plain | kept | rounds |"


@dataclass(frozen=True)
class Cost:
    """One method in one setup.

    Attributes:
        method: its registered name.
        over_plain: time per evaluation over that of the unmodified U-Net.
        predicted: what the removed work leads to expect.
        peer: the published implementation's time over plain on the same weights; None where none was run.
        peak: bytes of tensors at their most in one evaluation over plain's, weights not counted.
        kept: MB kept between evaluations.
        rounds: how often it was run in turn with plain; the median counts.
    """

    method: str
    over_plain: float
    predicted: float
    peer: float | None
    peak: float
    kept: float
    rounds: int

    def line(self, name: str) -> str:
        """A row of the table with `HEAD`."""
        peer = "" if self.peer is None else f"{self.peer:.3f}"
        above = 100 * (self.over_plain / self.predicted - 1)
        return (
            f"| {name} | {self.over_plain:.3f} | {self.predicted:.3f} | {above:+.1f} % "
            f"| {peer} | {self.peak:.2f} | {self.kept:.0f} MB | {self.rounds} |"
        )


def costs() -> dict[str, dict[str, Cost]]:
    """By setup and name of the row."""
    if not RESULTS.exists():
        return {}
    stored = json.loads(RESULTS.read_text(encoding="utf-8"))
    return {setup: {name: Cost(**cost) for name, cost in rows.items()} for setup, rows in stored.items()}


def store(setup: str, name: str, cost: Cost) -> None:
    """Keep a row, and write the table anew."""
    known = costs()
    known.setdefault(setup, {})[name] = cost
    plain = {setup: {name: asdict(cost) for name, cost in rows.items()} for setup, rows in known.items()}
    RESULTS.write_text(json.dumps(plain, indent=1) + "\n", encoding="utf-8")
    lines = [
        "# Time and memory of an evaluation",
        "",
        "Written by `python -m benchmarks.speed --write` into docs/costs.json and here. *Predicted* is the time that the",
        "work left would take, from the time that each layer takes in a plain evaluation; *above* is how far the measured",
        "time lies above it. Where a method takes no time off, what is left is the machine's scatter.",
        "",
    ]
    for setup, rows in known.items():
        lines += [f"## {setup}", "", HEAD, "|---|---|---|---|---|---|---|---|"]
        lines += [*(cost.line(name) for name, cost in rows.items()), ""]
    TABLE.write_text("\n".join(lines), encoding="utf-8")
