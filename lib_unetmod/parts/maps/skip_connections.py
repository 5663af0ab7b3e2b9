"""On the way up: Upsample layers that give the size of the skip connection that comes next.

A method that shrinks maps between two blocks leaves skip connections of two sizes. The layers that come back up double
their input, which fits the skip connection only by luck; here they give exactly its size, as Forge's do of themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from torch import Tensor

from ...core.depth import Depth
from ...core.edits import before, instead
from ...core.patching import Edit
from ...core.run import Run
from ...core.size import Size, size_of
from ...core.unet_map import Block, Layer
from ..maps.resize import resize


def fit_upsample(output: Block, run: Run, size: Callable[[], Size | None]) -> Iterator[Edit]:
    """Edits by which the Upsample of `output`, where it has one, gives `size()`; None from it leaves the layer alone.

    Its convolution, where it has one, runs on the map of that size, as in the unmodified layer.
    """
    for layer in output.of_kind("up"):
        yield from _fitted(layer, size, run)


def _fitted(layer: Layer, wanted: Callable[[], Size | None], run: Run) -> Iterator[Edit]:
    convolution = getattr(layer.module, "conv", None)
    entered = run.per_traversal(_nothing)

    def grown(h: Tensor, doubled: Tensor) -> Tensor:
        size = wanted()
        return doubled if size in (None, size_of(doubled)) else resize(h, size, "as Upsample")

    def remember(h: Tensor) -> Tensor:
        entered.set(h)
        return h

    def convolved(doubled: Tensor) -> Tensor:
        h = entered.take()
        return doubled if h is None else grown(h, doubled)

    if convolution is None:
        yield instead(layer.module, lambda upsample, h: grown(h, upsample(h)))
    else:
        yield before(layer.module, remember)
        yield before(convolution, convolved, Depth.RESIZED_MAPS)


def _nothing() -> Tensor | None:
    return None
