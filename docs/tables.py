"""Writes the README's tables of knobs from the methods' declarations: `python docs/tables.py`.

What stands between the README's markers is generated; a test compares it with what this file would write.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from lib_unetmod import METHODS  # noqa: E402  (the package lies beside this folder)
from lib_unetmod.registry import SHARED_KNOBS, Knob, knobs  # noqa: E402

README = ROOT / "README.md"
BEGIN, END = "<!-- knobs: written by docs/tables.py -->", "<!-- /knobs -->"


def knob_tables() -> str:
    """One table a method, in the order in which the methods apply, and one of the knobs that all share."""
    parts = []
    for method in sorted(METHODS.values(), key=lambda method: method.order):
        own = [knob for knob in knobs(method.config) if knob.name not in SHARED_KNOBS]
        parts.append(f"### {method.title} (`{method.name}`, {method.group})\n\n{method.idea}\n\n{_table(own)}")
    shared = [knob for knob in knobs(next(iter(METHODS.values())).config) if knob.name in SHARED_KNOBS]
    parts.append(f"### Every method\n\n{_table(shared)}")
    return "\n\n".join(parts)


def with_tables(readme: str) -> str:
    """The README's text with its generated part written anew."""
    before, _, rest = readme.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{knob_tables()}\n\n{END}{after}"


def _table(rows: Iterable[Knob]) -> str:
    lines = ["| knob | in the page | takes | default | what it does |", "|---|---|---|---|---|"]
    for knob in rows:
        default = knob.to_text(knob.default) or "none"
        lines.append(f"| `{knob.name}` | {knob.label} | {knob.domain()} | {default} | {knob.help} |")
    return "\n".join(lines)


if __name__ == "__main__":
    README.write_text(with_tables(README.read_text(encoding="utf-8")), encoding="utf-8")
