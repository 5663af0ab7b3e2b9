"""Makes the side environments in which the panel is tested under the gradio versions of the WebUIs.

    python tests/gradio_versions.py

Each is a venv in the project's root with a WebUI's gradio and everything that gradio needs, at fixed versions. What the
package itself needs, above all torch, is found in the environment that runs this script: a .pth file appends its
site-packages behind the venv's own, which therefore win.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import sysconfig
import time
import venv
from importlib import metadata
from pathlib import Path

TESTS = Path(__file__).resolve().parent
WEBUIS = ("3.41.2", "4.40.0")
#: None beside one of them: what is installed is tested then (`make test-oldest`).
VERSIONS = () if metadata.version("gradio") in WEBUIS else WEBUIS


def folder(version: str) -> Path:
    """Where the side environment of a gradio version lies."""
    return TESTS.parent / f".venv-gradio-{version}"


def interpreter(version: str) -> Path:
    """The Python of a side environment."""
    inside = Path("Scripts/python.exe") if os.name == "nt" else Path("bin/python")
    return folder(version) / inside


def make(version: str) -> None:
    """Make a version's environment anew, unless it is there and made from the same pins."""
    pins = TESTS / f"gradio-{version}.txt"
    borrowed = dict.fromkeys([sysconfig.get_path("purelib"), sysconfig.get_path("platlib")])
    recipe = hashlib.sha256("\n".join([pins.read_text(), sys.version, *borrowed]).encode()).hexdigest()
    mark = folder(version) / "made-from"
    if mark.exists() and mark.read_text() == recipe:
        return
    began = time.monotonic()
    venv.create(folder(version), clear=True, with_pip=True)
    python = str(interpreter(version))
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"]
    subprocess.run([*pip, "--no-deps", "--only-binary=:all:", "--requirement", str(pins)], check=True)
    ask = [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    own = Path(subprocess.run(ask, check=True, capture_output=True, text=True).stdout.strip())
    (own / "borrowed.pth").write_text("\n".join(borrowed) + "\n")
    # torch is imported last: with this gradio's numpy it must still load.
    subprocess.run([python, "-c", f"import gradio, torch; assert gradio.__version__ == {version!r}"], check=True)
    mark.write_text(recipe)
    print(f"gradio {version}: {folder(version).name} made in {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    for version in VERSIONS:
        make(version)
