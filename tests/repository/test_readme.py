"""The READMEs and the pages under docs/, as a reader gets them: rendered."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

from lib_unetmod import METHODS
from lib_unetmod.core.config import SHARED_KNOBS, knobs

ROOT = Path(__file__).resolve().parents[2]
README, JAPANESE, METHODS_PAGE = ROOT / "README.md", ROOT / "README.ja.md", ROOT / "docs" / "methods.md"
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("*/README.md")])


@dataclass
class Page:
    """A rendered page: the text of its headings by level, of its tables' cells, and what it links to or shows."""

    headings: list[tuple[str, str]]
    tables: list[list[list[str]]]
    targets: list[str]

    @property
    def slugs(self) -> set[str]:
        """The fragments that GitHub gives its headings: in lower case, without punctuation, with hyphens for spaces."""
        return {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for _, text in self.headings}

    def table_under(self, heading: str, path: Path) -> list[list[str]]:
        """The first table under a heading."""
        text = path.read_text(encoding="utf-8")
        _, found, rest = text.partition(f"\n{heading}\n")
        assert found, f"{path.name} has no {heading}"
        return _rendered(rest).tables[0]


def _rendered(text: str) -> Page:
    page, cells = Page([], [], []), None
    tokens = MarkdownIt("commonmark", {"html": True}).enable("table").parse(text)
    for token, following in zip(tokens, [*tokens[1:], None], strict=True):
        if token.type == "heading_open":
            page.headings.append((token.tag, _plain(following)))
        elif token.type == "table_open":
            page.tables.append([])
        elif token.type == "tr_open":
            cells = []
            page.tables[-1].append(cells)
        elif token.type in ("td_open", "th_open"):
            cells.append(_plain(following))
        for inner in [token, *(token.children or ())]:
            page.targets += [str(value) for key, value in inner.attrs.items() if key in ("href", "src")]
            if inner.type in ("html_inline", "html_block"):
                page.targets += re.findall(r'(?:src|href)="([^"]+)"', inner.content)
    return page


def _plain(inline: Token) -> str:
    """What a reader sees of a line."""
    return "".join(one.content for one in inline.children if one.type in ("text", "code_inline", "text_special"))


@cache
def rendered(path: Path) -> Page:
    return _rendered(path.read_text(encoding="utf-8"))


@cache
def tables() -> ModuleType:
    spec = importlib.util.spec_from_file_location("tables", ROOT / "docs" / "tables.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_what_is_generated_is_what_the_declarations_give() -> None:
    for path, text in tables().written().items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name} is old: run python docs/tables.py"


@pytest.mark.parametrize("name", METHODS)
def test_a_methods_knobs_are_shown_as_declared(name: str) -> None:
    method = METHODS[name]
    shown = rendered(METHODS_PAGE).table_under(f"### {method.title}", METHODS_PAGE)[1:]
    declared = [knob for knob in knobs(method.config) if knob.name not in SHARED_KNOBS]
    assert shown == [_as_shown(knob) for knob in declared]


def test_the_knobs_of_every_method_are_shown_as_declared() -> None:
    shown = rendered(METHODS_PAGE).table_under("## Every method", METHODS_PAGE)[1:]
    declared = [knob for knob in knobs(METHODS["deep_cache"].config) if knob.name in SHARED_KNOBS]
    assert shown == [_as_shown(knob) for knob in declared]


def _as_shown(knob) -> list[str]:
    return [knob.label, knob.name, knob.domain(), knob.to_text(knob.default) or "none", knob.help]


def test_a_cell_may_hold_anything() -> None:
    hostile = "a|b ||c\\|d *e* `f` <g> [h](i) \\"
    row = [tables().escaped(hostile), "last"]
    assert _rendered(tables().table(("one", "two"), [row])).tables == [[["one", "two"], [hostile, "last"]]]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_row_of_a_table_has_as_many_cells_as_its_head_in_the_source(path: Path) -> None:
    """Rendering cuts or fills rows silently."""
    for block in re.findall(r"(?:^\|.*\n)+", path.read_text(encoding="utf-8"), re.M):
        counts = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(counts) == 1, block


def test_every_method_is_in_both_readmes() -> None:
    for path in (README, JAPANESE):
        rows = next(table for table in rendered(path).tables if len(table) == len(METHODS) + 1)
        assert all(any(method.title in row[1] for row in rows) for method in METHODS.values()), path.name


def test_a_readme_is_read_in_minutes() -> None:
    for path in (README, JAPANESE):
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 150


def test_the_japanese_readme_has_what_the_english_one_has() -> None:
    english, japanese = rendered(README), rendered(JAPANESE)
    assert [level for level, _ in japanese.headings] == [level for level, _ in english.headings]
    assert [len(table) for table in japanese.tables] == [len(table) for table in english.tables]
    assert _sources(JAPANESE) == _sources(README)
    swapped = {"README.ja.md": "README.md"}
    assert sorted(swapped.get(one, one) for one in english.targets) == sorted(japanese.targets)


def _sources(path: Path) -> list[str]:
    """The blocks of code, without their comments."""
    blocks = re.findall(r"```\w*\n(.*?)```", path.read_text(encoding="utf-8"), re.S)
    return [re.sub(r"\s+#.*", "", block) for block in blocks]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_a_page_links_to_or_shows_is_there(path: Path) -> None:
    for target in rendered(path).targets:
        if re.match(r"https?:", target):
            continue
        file, _, fragment = target.partition("#")
        found = (path.parent / file).resolve() if file else path
        assert found.exists(), f"{path.name}: {target}"
        if fragment:
            assert fragment in rendered(found).slugs, f"{path.name}: {target}"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_mark_is_left_unrendered(path: Path) -> None:
    """As asterisks are beside a bracket and a Japanese letter."""
    for token in MarkdownIt("commonmark").enable("table").parse(path.read_text(encoding="utf-8")):
        for inner in token.children or ():
            assert inner.type != "text" or not re.search(r"\*\S|\S\*|\]\(", inner.content), inner.content


def test_the_python_example_runs() -> None:
    """With a tiny U-Net in place of the reader's."""
    from unets import call, fresh, inputs

    code = re.search(r"```python\n(.*?)```", (ROOT / "docs" / "using.md").read_text(encoding="utf-8"), re.DOTALL).group(1)
    unet = fresh("sd1")
    drawn = []
    exec(code, {"unet": unet, "sample": lambda: drawn.append(call(unet, inputs("sd1", height=8, width=8)))})
    assert drawn


@pytest.mark.parametrize("path", [README, JAPANESE, ROOT / "docs" / "using.md"], ids=lambda path: path.name)
def test_every_selection_in_the_examples_can_be_read(path: Path) -> None:
    import json

    from lib_unetmod.settings.speed_target import settled
    from lib_unetmod.webui.upcoming_picture import Loaded, picture_of

    usual = picture_of("txt2img", {}, Loaded())
    examples = re.findall(r"```json\n(.*?)```", path.read_text(encoding="utf-8"), re.S)
    assert examples
    for example in map(json.loads, examples):
        selection = example.get("methods") or example["alwayson_scripts"]["unet mod"]["args"][0]
        configs, problems = settled(selection, lambda: usual)
        assert len(configs) == len(selection) and not problems
