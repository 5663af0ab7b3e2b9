"""Maps of dispersed kernels kept on disk as plain numbers: computing one takes a moment, and it follows from its name."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import numpy as np

from .dispersion_matrix import PIXEL_WEIGHT, SIDE, least_squares

log = logging.getLogger(__name__)


def dispersion_matrix(kernel: int, y: float, x: float) -> np.ndarray:
    """The map R (kernel * kernel, 9) for these scales in height and width, from disk where it is known."""
    name = f"dispersion-1-{kernel}-{y:g}-{x:g}-{PIXEL_WEIGHT:g}-{SIDE}.npy"
    path = cache_folder() / name
    known = _read(path, (kernel * kernel, 9))
    if known is not None:
        return known
    computed = least_squares(kernel, y, x)
    _write(path, computed)
    return computed


def cache_folder() -> Path:
    """Where maps are kept: the user's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path("~").expanduser() / ".cache") / "unetmod"


def _read(path: Path, shape: tuple[int, int]) -> np.ndarray | None:
    """What `_write` wrote; None for anything else, which is computed anew."""
    try:
        found = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    # A map keeps flat pictures flat: sums of columns are about 1.
    sound = isinstance(found, np.ndarray) and found.shape == shape and found.dtype == np.float64
    return found if sound and np.isfinite(found).all() and np.abs(found.sum(0) - 1).max() < 0.5 else None


def _write(path: Path, computed: np.ndarray) -> None:
    """Put the file into place whole; not being able to is no fault, the map is computed in a moment."""
    unfinished = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with unfinished.open("wb") as file:
            np.save(file, computed, allow_pickle=False)
        unfinished.replace(path)
    except OSError as error:
        log.debug("%s was not kept: %s", path, error)
