"""install.py as the WebUI runs it, and that a WebUI lacks nothing that it could install."""

from __future__ import annotations

import ast
import os
import runpy
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
#: What every WebUI of the supported ones brings; psutil is done without where it is missing.
BROUGHT = {"PIL", "gradio", "modules", "numpy", "psutil", "torch"}
#: What only tests and the page without a WebUI import.
NOT_NEEDED = ("einops", "safetensors", "tomesd", "psutil")
#: Executes the WebUI's script where these packages cannot be imported.
SCRIPT = """
import runpy, sys
from types import ModuleType
from unittest.mock import MagicMock

for package in sys.argv[2:]:
    sys.modules[package] = None
webui = ModuleType("modules")
webui.__path__ = []
webui.scripts = MagicMock(Script=object)
webui.__getattr__ = lambda name: MagicMock()
sys.modules["modules"] = webui
script = runpy.run_path(sys.argv[1])
print(script["UNetModScript"].title(None))
"""


def test_installs_nothing_and_says_nothing(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "launch", ModuleType("launch"))  # which can install nothing here
    runpy.run_path(str(ROOT / "install.py"))
    out, err = capsys.readouterr()
    assert out == err == ""


def test_the_webuis_script_starts_without_what_it_does_not_bring():
    command = [sys.executable, "-c", SCRIPT, str(ROOT / "scripts" / "unetmod.py"), *NOT_NEEDED]
    ran = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=300
    )
    assert (ran.stdout, ran.returncode) == ("UNet Mod\n", 0), ran.stderr


FOLDERS = [path.name for path in (ROOT / "lib_unetmod").iterdir() if (path / "__init__.py").is_file()]


@pytest.mark.parametrize("folder", sorted({*FOLDERS} - {"playground"}))  # which has requirements of its own
def test_no_file_imports_anything_else(folder):
    """Also where the import stands inside a function."""
    for path in (ROOT / "lib_unetmod" / folder).rglob("*.py"):
        assert _imported(path) - set(sys.stdlib_module_names) <= BROUGHT, path


def _imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {one.name.partition(".")[0] for one in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add(node.module.partition(".")[0])
    return found
