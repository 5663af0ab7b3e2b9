"""The map behind an attention's tokens: its height and width, known from the transformer that flattened it.

An attention sees tokens (B, H*W, C) and no H or W. Neither the latent's size nor the level tells them for sure, since other
methods shrink maps on the way; the transformer (ldm's SpatialTransformer) has the map itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ...core.patching import Edit
from ...core.size import Size
from ...core.unet_map import Layer

if TYPE_CHECKING:
    from ...core.run import Run

_KEY = "token grid"


def note_grid(transformer: Layer, run: Run) -> Edit:
    """The edit of a transformer layer by which `grid` knows (H, W) inside it."""

    def noting(call: Callable[..., Tensor], x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        with grid_is(run, (x.shape[-2], x.shape[-1])):
            return call(x, *args, **kwargs)

    return Edit(transformer.module, noting)


def grid(run: Run) -> Size:
    """Height and width of the map whose tokens the current attention sees, or of the tile where it sees tiles."""
    return run.traversal.memory[_KEY]


@contextmanager
def grid_is(run: Run, size: Size) -> Iterator[None]:
    """Inside, the tokens are those of a map of `size`."""
    memory = run.traversal.memory
    before = memory.get(_KEY)
    memory[_KEY] = size
    try:
        yield
    finally:
        memory[_KEY] = before
