"""What is trained: the published topology with a larger autoencoder and a deeper text encoder, for scenes."""

from __future__ import annotations

from typing import Any

from lib_unetmod.playground.model import ARCHITECTURE as PUBLISHED

ARCHITECTURE: dict[str, Any] = {
    **PUBLISHED,
    "vae": {**PUBLISHED["vae"], "ch_mult": [1, 2, 4, 8]},
    "text": {**PUBLISHED["text"], "intermediate_size": 512, "num_hidden_layers": 4},
}
