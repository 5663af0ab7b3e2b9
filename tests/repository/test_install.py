"""install.py as the WebUI runs it, with a stand-in for the WebUI's `launch`."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from types import ModuleType

import pytest

INSTALL = Path(__file__).resolve().parents[2] / "install.py"


@pytest.mark.parametrize("missing", [(), ("einops",), ("tomesd", "safetensors")], ids=str)
def test_installs_what_is_missing_and_says_nothing(missing, monkeypatch, capsys):
    launch, commands = ModuleType("launch"), []
    launch.is_installed = lambda package: package not in missing
    launch.run_pip = lambda command, what: commands.append(command)
    monkeypatch.setitem(sys.modules, "launch", launch)
    runpy.run_path(str(INSTALL))
    assert sorted(commands) == sorted(f"install {package}" for package in missing)
    assert not any("torch" in command for command in commands) and capsys.readouterr().out == ""
