"""Self-attention within pieces of a map, tiles or windows, by the attention's own call."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from ...core.patching import Wrapper
from ...core.run import Run
from ...core.size import Size
from .tokens import map_size, with_map_size


class Pieces(Protocol):
    """What cuts the tokens of a map into pieces, those of equal size in one batch, as `tiling.Cutter` does."""

    shapes: list[Size]
    #: Equal for pieces that are cut alike.
    key: Hashable

    def cut(self, tokens: Tensor) -> list[Tensor]:
        """(B, m*N, C), m maps of N tokens one after another -> for each of `shapes` (B*pieces, m*h*w, C)."""

    def join(self, pieces: Sequence[Tensor]) -> Tensor:
        """The pieces of one map -> (B, N, C)."""


def attending_locally(title: str, run: Run, pieces_of: Callable[[Size, torch.device], Pieces | None]) -> Wrapper:
    """The wrapper of a self-attention that attends within `pieces_of(size, device)` of its map; None leaves it whole.

    `title` is the method's, for the note where the tokens are no map.
    """

    def attend(call: Callable[..., Tensor], x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        size = map_size(run)
        if not holds_maps(size, x, *args, **kwargs):
            run.note(f"{title}: some layers run as without it, because another extension changed them.")
            return call(x, *args, **kwargs)
        pieces = pieces_of(size, x.device)
        return call(x, *args, **kwargs) if pieces is None else attend_in(pieces, run, call, x, *args, **kwargs)

    return attend


def attend_in(pieces: Pieces, run: Run, call: Callable[..., Tensor], x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """`call(x, *args, **kwargs)`, an attention, within the pieces; every tensor given holds maps of the size they cut."""
    others = [given for given in (*args, *kwargs.values()) if isinstance(given, Tensor)]
    cut = {id(given): pieces.cut(given) for given in (x, *others)}  # by identity: a context that is x stays the pieces of x
    attended = []
    for index, shape in enumerate(pieces.shapes):

        def piece_of(given: Any, index: int = index) -> Any:
            return cut[id(given)][index] if id(given) in cut else given

        with with_map_size(run, shape, piece=(pieces.key, index)):
            cut_kwargs = {name: piece_of(given) for name, given in kwargs.items()}
            attended.append(call(piece_of(x), *map(piece_of, args), **cut_kwargs))
    return pieces.join(attended)


def holds_maps(size: Size, x: Tensor, *args: Any, **kwargs: Any) -> bool:
    """Whether an attention can be cut: x (B, N, C) is a map of `size`, each context one or several, and there is no mask."""
    height, width = size
    if x.shape[1] != height * width or kwargs.get("mask") is not None:
        return False
    contexts = [given for given in (*args, *kwargs.values()) if isinstance(given, Tensor)]
    return all(
        context.ndim == 3 and context.shape[0] == x.shape[0] and context.shape[1] and context.shape[1] % x.shape[1] == 0
        for context in contexts
    )
