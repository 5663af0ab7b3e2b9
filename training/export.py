"""Writes the published file, and snapshots to go on from: half precision, ldm's key names, metadata as JSON.

A snapshot is such a file with only the parts trained so far; `progress` in the metadata says how many samples each saw.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from lib_unetmod.playground.model import CHECKPOINT, SmallModel, to_checkpoint
from training.state import write_atomically

LIMIT = 48_000_000
#: What training goes on from where there is no state.
SNAPSHOT = CHECKPOINT
PARTS = {"vae": ("vae.",), "unet": ("unet.", "text_encoder.")}


def export(
    model: SmallModel, path: Path, progress: dict[str, int], averaged: dict[str, Tensor] | None = None, **notes: str
) -> int:
    """Writes the parts of the model that `progress` names, with the averaged weights where given; the file's bytes."""
    state = {**model.state_dict(), **(averaged or {})}
    wanted = tuple(prefix for part in progress for prefix in PARTS[part])
    state = {name: value for name, value in state.items() if name.startswith(wanted)}
    tensors = {key: value.to("cpu", torch.float16) for key, value in to_checkpoint(state).items()}
    metadata = {
        "architecture": json.dumps(model.architecture),
        "format": "pt",
        "license": "MIT",
        "pictures": "Noto Color Emoji (SIL OFL 1.1); names: emojibase-data (MIT)",
        "progress": json.dumps(progress),
        **notes,
    }
    write_atomically(tensors, path, metadata)
    size = path.stat().st_size
    if size > LIMIT:
        raise ValueError(f"{path} holds {size} bytes, more than {LIMIT}.")
    return size


def import_part(model: SmallModel, path: Path, part: str) -> int:
    """Fills one part of the model from a snapshot or published file; the samples it saw, 0 where the file lacks it.

    A file of another architecture is refused with a ValueError.
    """
    if not path.is_file():
        return 0
    with safe_open(str(path), framework="pt") as file:
        metadata = file.metadata()
        samples = json.loads(metadata.get("progress", "{}")).get(part, 0)
        if not samples:
            return 0
        theirs = json.loads(metadata["architecture"])
        for name in {"vae": ("vae", "scale_factor"), "unet": ("unet", "text", "vocabulary")}[part]:
            if theirs[name] != model.architecture[name]:
                raise ValueError(f"{path} is of another architecture: {name} differs. --state or --snapshot elsewhere.")
        names = to_checkpoint(
            {name: name for name in model.state_dict() if name.startswith(PARTS[part])}  # type: ignore[misc]
        )
        stored = {str(name): file.get_tensor(key).float() for key, name in names.items()}
    model.load_state_dict(stored, strict=False)
    return int(samples)
