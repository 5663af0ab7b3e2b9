from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_knob_tables_are_those_the_declarations_give():
    spec = importlib.util.spec_from_file_location("tables", ROOT / "docs" / "tables.py")
    tables = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tables)
    assert tables.with_tables(README) == README, "run python docs/tables.py"


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\((?!http|#)([^)]+)\)", README))))
def test_what_it_links_to_is_there(target):
    assert (ROOT / target).exists()


def test_its_python_example_runs():
    """The README's library example, with a tiny U-Net in place of the reader's."""
    from unets import call, fresh, inputs

    code = re.search(r"```python\n(.*?)```", README, re.DOTALL).group(1)
    unet = fresh("sd1")
    drawn = []
    exec(code, {"unet": unet, "sample": lambda: drawn.append(call(unet, inputs("sd1", height=8, width=8)))})
    assert drawn
