"""How much of a device's memory is free, as far as it says, and how much of that a run keeps states in by itself."""

from __future__ import annotations

import os

import torch

try:
    import psutil
except ImportError:  # the WebUIs bring it; a program of one's own may not
    psutil = None

#: The rest is for activations, for the autoencoder, and for what else the host loads.
KEPT_OF_FREE = 1 / 4
#: What a device counts as that does not say (DirectML among them): little enough for the smallest that draws pictures.
FREE_WHERE_UNTOLD = 2 * 2**30
#: These compute in the machine's own memory.
_IN_MAIN_MEMORY = ("cpu", "mps")


def kept_by_itself(device: torch.device) -> int:
    """Bytes that a run may keep on `device` from one evaluation to the next where nobody says how many."""
    free = free_bytes(device)
    return int((FREE_WHERE_UNTOLD if free is None else free) * KEPT_OF_FREE)


def free_bytes(device: torch.device) -> int | None:
    """Bytes that tensors could take on `device` now; None where that is not told."""
    return _of_main_memory() if device.type in _IN_MAIN_MEMORY else _of_accelerator(device)


def _of_main_memory() -> int | None:
    if psutil is not None:
        return psutil.virtual_memory().available
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf, macOS not these names
        return None


def _of_accelerator(device: torch.device) -> int | None:
    backend = getattr(torch, device.type, None)
    ask = getattr(backend, "mem_get_info", None)
    if ask is None:
        return None
    try:
        free, _ = ask(device)
        # What torch has taken from the driver and does not use is free for tensors too.
        return free + backend.memory_reserved(device) - backend.memory_allocated(device)
    except (AssertionError, AttributeError, NotImplementedError, RuntimeError):
        return None
