"""Writes docs/methods.md and the READMEs' tables from the methods' declarations and from what was measured.

`python docs/tables.py` writes them; a test compares the files with what this one would write.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

# The package lies beside this folder.
from benchmarks.costs import Cost, costs  # noqa: E402
from lib_unetmod import METHODS  # noqa: E402
from lib_unetmod.core.config import SHARED_KNOBS, knobs  # noqa: E402
from lib_unetmod.core.knobs import Knob  # noqa: E402
from lib_unetmod.core.registry import Method  # noqa: E402
from lib_unetmod.settings.measured import Change, Size, Speed, measured  # noqa: E402
from lib_unetmod.webui.controls import ordered_methods  # noqa: E402

README, JAPANESE = ROOT / "README.md", ROOT / "README.ja.md"
METHODS_PAGE = ROOT / "docs" / "methods.md"
#: The setup of docs/costs.json whose figures are shown.
SETUP = "SD1.5, width 320, latent 64x64"
#: The size whose figures are shown of the methods for large pictures.
SIZE = "256x256"

GOALS = {"speed": "Faster", "resolution": "Larger", "detail": "Detail, color"}
#: Readers of Japanese know the authors of Deep Shrink and CD-Tuner: their groups come first.
JAPANESE_GOALS = {"resolution": "大きく", "detail": "ディテールと色", "speed": "速く"}


def readme_table() -> str:
    """One row a method: for what, how long a U-Net call takes, and what changes in the image."""
    rows = [
        (
            goal,
            f"[{escaped(method.title)}](docs/methods.md#{slug(method.title)})",
            method.benefit,
            time(method),
            price(method),
        )
        for goal, method in _with_goals(GOALS)
    ]
    return table(("goal", "method", "what you get", "time", "what changes in the image"), rows)


def japanese_table() -> str:
    """The same in Japanese: titles and benefits as the panel shows them, prices from docs/prices.ja.json.

    What is not translated yet stays in English.
    """
    words = _json(ROOT / "localizations" / "ja_JP.json")
    prices = _json(ROOT / "docs" / "prices.ja.json")
    rows = []
    for goal, method in _with_goals(JAPANESE_GOALS):
        title = words.get(method.title, method.title)
        shown = escaped(title if title == method.title else f"{title} / {method.title}")
        link = f"[{shown}](docs/methods.md#{slug(method.title)})"
        rows.append(
            (goal, link, words.get(method.benefit, method.benefit), time(method), prices.get(method.name, price(method)))
        )
    return table(("目的", "手法", "効果", "時間", "代償(画像の何が変わるか)"), rows)


def methods_page() -> str:
    """docs/methods.md: of each method its pair of pictures, its idea, what was measured, its knobs."""
    own = {
        method.name: [knob for knob in knobs(method.config) if knob.name not in SHARED_KNOBS] for method in in_order(GOALS)
    }
    shared = [knob for knob in knobs(next(iter(METHODS.values())).config) if knob.name in SHARED_KNOBS]
    parts = [
        _BEGINNING,
        exclusion_table(),
        _TABLE_EXPLAINED,
        overview_table(),
        "## Every method",
        _SHARED,
        knob_table(shared),
    ]
    goal = None
    for method in in_order(GOALS):
        if method.group != goal:
            goal = method.group
            parts.append(f"## {GOALS[goal]}")
        parts += [
            f"### {method.title}",
            f"**{method.benefit}.** In scripts, presets and the API: `{method.name}`.",
            f"![The same prompt and seed without and with {method.title}](pictures/methods/{method.name}.png)",
            escaped(f"{method.idea} {_costs_and_changes(method)}"),
            knob_table(own[method.name]),
        ]
    return "\n\n".join(parts) + "\n"


_BEGINNING = """# The methods, their knobs, and what was measured of them

Written by `python docs/tables.py` from the methods' own files. The images are from the small model that is built in
(`python docs/method_pictures.py`): the same prompt and seed, without the method and with it.

Every method takes the U-Nets of SD 1.x, SD 2.x and SDXL, of inpainting models and of the SDXL refiner, and pruned ones such
as SSD-1B. All methods may be ticked at once, except:"""

_TABLE_EXPLAINED = f"""*Time* and *memory* are those of one U-Net call over the original's, at the setting named in brackets
and while the method acts ({SETUP}, one CPU core; [all settings](costs.md)). *Image* is from the small model. Of methods for
speed and detail it says how far images move: LPIPS, a perceptual distance, and in brackets that of fewer steps in the same
time, or of another seed. Of methods for size it says in how many images the subject is recognized at twice the side. See
[speed](speed.md), [larger images](resolution.md), [detail](detail.md), and [in short](measured.md)."""

_SHARED = """Start and end are noise levels, not a share of the steps: 0 is pure noise, 1 is the finished image. So a setting
means the same at any number of steps, with any sampler and any denoising strength."""


def overview_table() -> str:
    """One row a method: what it costs and how far pictures move."""
    rows = [(escaped(one.title), cost(one), picture(one)) for one in in_order(GOALS)]
    return table(("method", "time, memory", "image"), rows)


def exclusion_table() -> str:
    """Every pair of methods that cannot act at one time, and why."""
    rows = [
        (escaped(method.title), escaped(METHODS[name].title), escaped(reason))
        for method in in_order(GOALS)
        for name, reason in method.excludes.items()
    ]
    return table(("method", "not with", "because"), rows)


def knob_table(rows: Iterable[Knob]) -> str:
    """One row a knob, as the page shows it."""
    cells = [
        (
            escaped(knob.label),
            f"`{knob.name}`",
            escaped(knob.domain()),
            escaped(knob.to_text(knob.default) or "none"),
            escaped(knob.help),
        )
        for knob in rows
    ]
    return table(("knob", "name", "takes", "default", "what it does"), cells)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of cells that are markdown already."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def escaped(text: str) -> str:
    """Plain text as markdown shows it, in a table's cell too."""
    return re.sub(r"([\\|*<`\[])", r"\\\1", text)


def slug(heading: str) -> str:
    """The fragment by which GitHub links to a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def in_order(goals: Mapping[str, str]) -> list[Method]:
    """The methods by goal, then in the panel's order."""
    groups = list(goals)
    return sorted(ordered_methods(), key=lambda method: groups.index(method.group))


def _with_goals(goals: Mapping[str, str]) -> Iterable[tuple[str, Method]]:
    """Each method, and its goal where it is the first of it."""
    named = set()
    for method in in_order(goals):
        yield "" if method.group in named else f"**{goals[method.group]}**", method
        named.add(method.group)


def _costs_and_changes(method: Method) -> str:
    """What the method's file says from "Costs:" to the end of the paragraph."""
    text = inspect.getdoc(sys.modules[method.config.__module__]) or ""
    return re.search(r"Costs:.*?(?=\n\n|\Z)", text, re.S).group().replace("\n", " ")


def price(method: Method) -> str:
    """The first clause of what the method's file says behind "Changes:"."""
    said = re.search(r"Changes:\s*(.*)", _costs_and_changes(method)).group(1)
    return escaped(re.split(r"[;.](?:\s|$)", said)[0])


def time(method: Method) -> str:
    """The time of a U-Net call over the original's, in percent, on one line of however narrow a column."""
    return f"{100 * _first_cost(method)[1].over_plain:.0f}\u00a0%"


def cost(method: Method) -> str:
    """Time over plain, memory over plain and what is kept, and of which setting."""
    name, one = _first_cost(method)
    kept = f" and {one.kept:.0f} MB kept" if one.kept else ""
    return f"{one.over_plain:.2f}, {one.peak:.2f}{kept} ({escaped(name)})"


def _first_cost(method: Method) -> tuple[str, Cost]:
    """Its first row in `benchmarks.speed`."""
    rows = next(rows for setup, rows in costs().items() if setup.startswith(SETUP))
    return next((name, one) for name, one in rows.items() if one.method == method.name)


def picture(method: Method) -> str:
    """Of speed and detail the perceptual distance to the plain picture, of size who is recognised beside plain."""
    match measured().get(method.name, ()):
        case [Speed(), *_] as found:
            nearest, farthest = min(found, key=lambda one: one.distance), max(one.distance for one in found)
            return f"{nearest.distance:.3f} (fewer steps {nearest.fewer_steps:.3f}) to {farthest:.3f}"
        case [Size(), *_] as found:
            at_two = next(one for one in found if one.size == SIZE)
            return f"{100 * at_two.recognised:.0f} % recognized (original {100 * at_two.plain:.0f} %)"
        case [Change(), *_] as found:
            distances = [one.distance for one in found]
            return f"{min(distances):.3f} to {max(distances):.3f} (another seed {found[0].other_seed:.3f})"
    return "not measured"


@cache
def _json(path: Path) -> dict[str, str]:
    return json.loads(path.read_text(encoding="utf-8"))


def written() -> dict[Path, str]:
    """Each file that is generated, or holds a generated table between its markers, with its text written anew."""
    tables = {README: readme_table(), JAPANESE: japanese_table()}
    return {path: _with_table(path, text) for path, text in tables.items()} | {METHODS_PAGE: methods_page()}


def _with_table(path: Path, text: str) -> str:
    begin, end = "<!-- methods: written by docs/tables.py -->", "<!-- /methods -->"
    before, found, rest = path.read_text(encoding="utf-8").partition(begin)
    _, closed, after = rest.partition(end)
    assert found and closed, f"{path.name} has no place for the table of methods"
    return f"{before}{begin}\n\n{text}\n\n{end}{after}"


if __name__ == "__main__":
    for file, text in written().items():
        file.write_text(text, encoding="utf-8")
