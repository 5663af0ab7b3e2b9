"""Sizes on the way up: what a map must measure to be joined to its skip connection, and Upsample layers that give it.

A method that shrinks maps between two blocks leaves skip connections of two sizes. The layers that come back up double
their input, which fits the skip connection only by luck; here they give exactly its size, as Forge's do of themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch.nn.functional as F
from torch import Tensor

from ...core.depth import Depth
from ...core.patching import Edit
from ...core.size import Size
from ...core.unet_map import Block, Layer, UNetMap

if TYPE_CHECKING:
    from ...core.run import Run

_KEY = "size of skip connection"


@dataclass(eq=False)
class _Noted:
    """Sizes that one stream's input blocks handed over when they last ran, by their index."""

    sizes: dict[int, Size] = field(default_factory=dict)
    nbytes: int = 0


def note_skips(unet: UNetMap, run: Run) -> Iterator[Edit]:
    """Edits of the input blocks' last layers by which `skip_size` knows what they hand over."""
    for block in unet.input_blocks:
        yield Edit(block.layers[-1].module, _noting(block.index, run))


def skip_size(output: Block, run: Run) -> Size | None:
    """Height and width of the skip connection that `output` gets in this walk; None where they are not known.

    An input block that is left out hands on the map of the one before it. Where a cache answers for every input block,
    sizes are those of the walk that it keeps, the last of this stream in which they ran.
    """
    memory = run.traversal.memory
    index = len(run.map.input_blocks) - 1 - output.index
    for before in range(index, -1, -1):
        if (_KEY, before) in memory:
            return memory[_KEY, before]
    kept = run.shared_streams(_Noted).current()
    return kept.sizes.get(index) if kept else None


def fit_upsample(
    output: Block, run: Run, mode: str = "nearest", size: Callable[[], Size | None] | None = None
) -> Iterator[Edit]:
    """Edits by which the Upsample of `output`, where it has one, gives the size of the next block's skip connection.

    Its convolution, where it has one, runs on the map of that size, as in the unmodified layer. A `size` says in each walk
    which other size is wanted; None from it leaves the layer alone.
    """
    after = output.index + 1
    if after == len(run.map.output_blocks):
        return
    following = run.map.output_blocks[after]
    for layer in output.of_kind("up"):
        # Of several methods' edits that fit one layer to its skip connection the outermost does it; an edit that wants a
        # size of its own does not count among them.
        memory_key = ("before upsampling", size or layer.name)
        yield from _fitted(layer, size or (lambda: skip_size(following, run)), memory_key, run, mode)


def _fitted(layer: Layer, wanted: Callable[[], Size | None], memory_key: Hashable, run: Run, mode: str) -> Iterator[Edit]:
    convolution = getattr(layer.module, "conv", None)

    def grown(h: Tensor, doubled: Tensor) -> Tensor:
        size = wanted()
        return doubled if size in (None, tuple(doubled.shape[-2:])) else F.interpolate(h, size, mode=mode)

    def remember(call: Callable[..., Tensor], h: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if convolution is None:
            return grown(h, call(h, *args, **kwargs))
        run.traversal.memory[memory_key] = h
        return call(h, *args, **kwargs)

    def convolve(call: Callable[..., Tensor], doubled: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        h = run.traversal.memory.pop(memory_key, None)
        return call(doubled if h is None else grown(h, doubled), *args, **kwargs)

    yield Edit(layer.module, remember)
    if convolution is not None:
        yield Edit(convolution, convolve, Depth.RESIZED_MAPS)


def _noting(index: int, run: Run) -> Callable[..., Tensor]:
    def noting(call: Callable[..., Tensor], x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        out = call(x, *args, **kwargs)
        size = run.traversal.memory[_KEY, index] = (out.shape[-2], out.shape[-1])
        kept = run.shared_streams(_Noted).current()
        if kept is not None:
            kept.sizes[index] = size
        return out

    return noting
