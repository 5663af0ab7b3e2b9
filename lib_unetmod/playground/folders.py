"""Where the playground keeps what is the user's own."""

from __future__ import annotations

import os
from pathlib import Path


def presets_folder() -> Path:
    """Where the page keeps presets: among the user's settings, as each system has them."""
    if os.name == "nt":
        settings = os.environ.get("APPDATA") or Path.home() / "AppData" / "Roaming"
    else:
        settings = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(settings) / "unetmod" / "presets"


def tuned_folder() -> Path:
    """Where it keeps what tuning found."""
    return presets_folder() / "tuned"
