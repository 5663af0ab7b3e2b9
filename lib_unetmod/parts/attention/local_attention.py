"""Self-attention within pieces of a map, tiles or windows, by the attention's own call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from torch import Tensor

from ...core.size import Size
from .tokens import grid_is

if TYPE_CHECKING:
    from ...core.run import Run


class Pieces(Protocol):
    """What cuts the tokens of a map into pieces, those of equal size in one batch, as `tiling.Cutter` does."""

    shapes: list[Size]

    def cut(self, tokens: Tensor) -> list[Tensor]:
        """(B, m*N, C), m maps of N tokens one after another -> for each of `shapes` (B*pieces, m*h*w, C)."""

    def join(self, pieces: Sequence[Tensor]) -> Tensor:
        """The pieces of one map -> (B, N, C)."""


def attend_in(pieces: Pieces, run: Run, call: Callable[..., Tensor], x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """`call(x, *args, **kwargs)`, an attention, within the pieces; every tensor given holds maps of the size they cut."""
    others = [one for one in (*args, *kwargs.values()) if isinstance(one, Tensor)]
    cut = {id(one): pieces.cut(one) for one in (x, *others)}  # by identity: a context that is x stays the pieces of x
    attended = []
    for index, shape in enumerate(pieces.shapes):

        def piece_of(one: Any, index: int = index) -> Any:
            return cut[id(one)][index] if id(one) in cut else one

        with grid_is(run, shape):
            attended.append(call(piece_of(x), *map(piece_of, args), **{key: piece_of(one) for key, one in kwargs.items()}))
    return pieces.join(attended)


def holds_maps(size: Size, x: Tensor, *args: Any, **kwargs: Any) -> bool:
    """Whether an attention can be cut: x (B, N, C) is a map of `size`, each context one or several, and there is no mask."""
    height, width = size
    if x.shape[1] != height * width or kwargs.get("mask") is not None:
        return False
    contexts = [one for one in (*args, *kwargs.values()) if isinstance(one, Tensor)]
    return all(
        one.ndim == 3 and one.shape[0] == x.shape[0] and one.shape[1] and one.shape[1] % x.shape[1] == 0 for one in contexts
    )
