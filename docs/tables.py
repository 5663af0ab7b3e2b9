"""Writes the README's tables from the methods' declarations and from what was measured: `python docs/tables.py`.

What stands between the README's markers is generated; a test compares it with what this file would write.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterable
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

# The package and the tests lie beside this folder.
from unets import FAMILIES, fresh  # noqa: E402

from benchmarks.costs import Cost, costs  # noqa: E402
from lib_unetmod import METHODS, ConfigError, modified  # noqa: E402
from lib_unetmod.core.config import SHARED_KNOBS, knobs  # noqa: E402
from lib_unetmod.core.knobs import Knob  # noqa: E402
from lib_unetmod.core.registry import Method  # noqa: E402
from lib_unetmod.settings.measured import Change, Size, Speed, measured  # noqa: E402

README = ROOT / "README.md"
#: The setup of docs/costs.json whose figures the README shows.
SETUP = "SD1.5, width 320, latent 64x64"
#: The size whose figures it shows of the methods for large pictures.
SIZE = "256x256"


def method_table() -> str:
    """One row a method: what it changes, what it costs, how far pictures move, for which U-Nets, and not with what."""
    lines = [
        "| method | changes | time, memory | picture | U-Nets | not with |",
        "|---|---|---|---|---|---|",
    ]
    for method in in_order():
        others = [
            METHODS[name].title for name in METHODS if name in method.excludes or method.name in METHODS[name].excludes
        ]
        lines.append(
            f"| {method.title} | {changes(method)} | {cost(method)} | {picture(method)} | {families(method)} "
            f"| {', '.join(others) or '-'} |"
        )
    return "\n".join(lines)


def exclusion_table() -> str:
    """Every pair of methods that cannot act at one time, and why."""
    lines = ["| method | not with | because |", "|---|---|---|"]
    for method in in_order():
        for name, reason in method.excludes.items():
            lines.append(f"| {method.title} | {METHODS[name].title} | {reason} |")
    return "\n".join(lines)


def conflicts(one: Method, other: Method) -> bool:
    return other.name in one.excludes or one.name in other.excludes


def in_order() -> list[Method]:
    groups = ["speed", "resolution", "detail"]
    return sorted(METHODS.values(), key=lambda method: (groups.index(method.group), method.at))


def changes(method: Method) -> str:
    """What the method's file says behind "Changes:"."""
    text = inspect.getdoc(sys.modules[method.config.__module__]) or ""
    return re.search(r"Changes:\s*(.*?)(?:\n\n|\Z)", text, re.S).group(1).replace("\n", " ").rstrip(".")


def cost(method: Method) -> str:
    """Its first row in `benchmarks.speed`: time over plain, memory over plain and what is kept."""
    rows = next((rows for setup, rows in costs().items() if setup.startswith(SETUP)), {})
    for name, one in rows.items():
        if one.method == method.name:
            return f"{one.over_plain:.2f}, {_memory(one)} ({name})"
    return "not measured"


def _memory(one: Cost) -> str:
    return f"{one.peak:.2f}" + (f" and {one.kept:.0f} MB kept" if one.kept else "")


def picture(method: Method) -> str:
    """Of speed and detail the perceptual distance to the plain picture, of size who is recognised beside plain."""
    match measured().get(method.name, ()):
        case [Speed(), *_] as found:
            nearest, farthest = min(found, key=lambda one: one.distance), max(one.distance for one in found)
            return f"distance {nearest.distance:.3f} (fewer steps {nearest.fewer_steps:.3f}) to {farthest:.3f}"
        case [Size(), *_] as found:
            at_two = next(one for one in found if one.size == SIZE)
            return f"recognised {100 * at_two.recognised:.0f} % (plain {100 * at_two.plain:.0f} %) at {at_two.size}"
        case [Change(), *_] as found:
            distances = [one.distance for one in found]
            return f"distance {min(distances):.3f} to {max(distances):.3f} (another seed {found[0].other_seed:.3f})"
    return "not measured"


def families(method: Method) -> str:
    """The U-Nets that take the first config with which the contract test runs the method."""
    config = (getattr(import_module(f"test_{method.name}"), "CONTRACT", None) or [method.config()])[0]
    takes = [family for family in FAMILIES if _taken(family, config)]
    return "all" if len(takes) == len(FAMILIES) else ", ".join(takes)


def _taken(family: str, config: object) -> bool:
    try:
        with modified(fresh(family), [config]):
            return True
    except ConfigError:
        return False


def knob_tables() -> str:
    """One table a method, in the order in which the methods apply, and one of the knobs that all share."""
    parts = []
    for method in sorted(METHODS.values(), key=lambda method: method.at):
        own = [knob for knob in knobs(method.config) if knob.name not in SHARED_KNOBS]
        parts.append(
            f"### {method.title} (`{method.name}`, {method.group})\n\n{method.idea}\n\n{_pair(method)}\n\n{_table(own)}"
        )
    shared = [knob for knob in knobs(next(iter(METHODS.values())).config) if knob.name in SHARED_KNOBS]
    parts.append(f"### Every method\n\n{_table(shared)}")
    return "\n\n".join(parts)


#: What stands between `<!-- name: written by docs/tables.py -->` and `<!-- /name -->`.
PARTS: dict[str, Callable[[], str]] = {"methods": method_table, "exclusions": exclusion_table, "knobs": knob_tables}


def with_tables(readme: str) -> str:
    """The README's text with its generated parts written anew."""
    for name, write in PARTS.items():
        begin, end = f"<!-- {name}: written by docs/tables.py -->", f"<!-- /{name} -->"
        before, _, rest = readme.partition(begin)
        _, _, after = rest.partition(end)
        readme = f"{before}{begin}\n\n{write()}\n\n{end}{after}"
    return readme


def _pair(method: Method) -> str:
    return f"![The same prompt and seed without and with {method.title}](docs/pictures/methods/{method.name}.png)"


def _table(rows: Iterable[Knob]) -> str:
    lines = ["| knob | in the page | takes | default | what it does |", "|---|---|---|---|---|"]
    for knob in rows:
        default = knob.to_text(knob.default) or "none"
        lines.append(f"| `{knob.name}` | {knob.label} | {knob.domain()} | {default} | {knob.help} |")
    return "\n".join(lines)


if __name__ == "__main__":
    README.write_text(with_tables(README.read_text(encoding="utf-8")), encoding="utf-8")
