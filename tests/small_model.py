"""The playground's model with random weights: settings of quick pictures, and its page served."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor

from lib_unetmod.playground.model import SmallModel, to_checkpoint
from lib_unetmod.playground.sampling import Picture
from lib_unetmod.playground.settings import Settings


def settings(**changes: Any) -> Settings:
    return Settings(**{"prompt": "red apple", "steps": 2, "width": 64, "height": 64, "cfg": 1.0, **changes})


def same(a: Picture, b: Picture) -> bool:
    return a.image.tobytes() == b.image.tobytes()


def tensors_of(model: SmallModel) -> dict[str, Tensor]:
    """As its file holds them."""
    return to_checkpoint({name: value.contiguous() for name, value in model.state_dict().items()})


@contextmanager
def served(model: SmallModel, presets: Path | None = None, **options: Any) -> Iterator[str]:
    """The page's address; it ends with a slash."""
    from lib_unetmod.playground.page import build
    from lib_unetmod.playground.serving import launch

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    blocks = build(model, presets, **options)
    launch(blocks, "127.0.0.1", port)
    yield f"http://127.0.0.1:{port}/"
    blocks.close()
