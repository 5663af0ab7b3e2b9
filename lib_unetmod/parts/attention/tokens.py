"""The map behind an attention's tokens: its height and width, known from the transformer that flattened it.

An attention sees tokens (B, H*W, C) and no H or W. Neither the latent's size nor the level tells them for sure, since other
methods shrink maps on the way; the transformer (ldm's SpatialTransformer) has the map itself.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ...core.patching import Edit
from ...core.run import Run
from ...core.size import Size, size_of
from ...core.state import PerTraversal
from ...core.unet_map import Layer


@dataclass(frozen=True)
class TokenMap:
    """What the current attention sees: the tokens of a map of `size`, or of a piece of it.

    Attributes:
        size: height and width in tokens.
        piece: which piece of which cutting; () where it is the whole map.
    """

    size: Size
    piece: tuple[Hashable, ...] = ()


class _TokenMaps:
    """The map of the current attention, noted for all methods of a run."""

    def __init__(self, run: Run) -> None:
        self.now: PerTraversal[TokenMap | None] = run.per_traversal(lambda: None)


def note_map_size(transformer: Layer, run: Run) -> Edit:
    """The edit of a transformer layer by which `token_map` knows the map inside it."""

    def noting(call: Callable[..., Tensor], x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        with with_map_size(run, size_of(x)):
            return call(x, *args, **kwargs)

    return Edit(transformer.module, noting)


def token_map(run: Run) -> TokenMap:
    """The map whose tokens the current attention sees, or the tile where it sees tiles."""
    now = run.shared(_TokenMaps).now.get()
    if now is None:
        raise LookupError("No transformer layer was entered in this traversal.")
    return now


def map_size(run: Run) -> Size:
    """Its height and width."""
    return token_map(run).size


@contextmanager
def with_map_size(run: Run, size: Size, piece: Hashable = None) -> Iterator[None]:
    """Inside, the tokens are those of a map of `size`: of the whole one, or of a `piece` of what they were before."""
    slot = run.shared(_TokenMaps).now
    before = slot.get()
    cut = () if piece is None or before is None else (*before.piece, piece)
    slot.set(TokenMap(size, cut))
    try:
        yield
    finally:
        slot.set(before)
