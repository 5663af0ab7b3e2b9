"""Writes the published file: half precision, ldm's key names, the architecture as JSON in the metadata."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor

from lib_unetmod.playground.model import CHECKPOINT, SmallModel, to_checkpoint
from training.state import write_atomically

LIMIT = 22_000_000


def export(model: SmallModel, averaged: dict[str, Tensor] | None = None, path: Path = CHECKPOINT, **notes: str) -> int:
    """Writes the model, with the averaged weights in place of its own where given; the file's bytes."""
    state = {**{name: value for name, value in model.state_dict().items() if name != "alphas_cumprod"}, **(averaged or {})}
    tensors = {key: value.to("cpu", torch.float16) for key, value in to_checkpoint(state).items()}
    metadata = {
        "architecture": json.dumps(model.architecture),
        "format": "pt",
        "license": "MIT",
        "pictures": "Noto Color Emoji (SIL OFL 1.1); names: emojibase-data (MIT)",
        **notes,
    }
    write_atomically(tensors, path, metadata)
    size = path.stat().st_size
    if size > LIMIT:
        raise ValueError(f"{path} holds {size} bytes, more than {LIMIT}.")
    return size
