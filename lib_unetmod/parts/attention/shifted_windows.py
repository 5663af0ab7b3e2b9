"""Self-attention within windows that lie elsewhere each time.

HiDiffusion's MSW-MSA (Zhang et al. 2024, section 4.2): windows half as high and wide as the map, rolled by 0 to 3 quarters
of a window. Of two evaluations in a row the one draws among even and the other among odd quarters, and so do two attentions
in a row, so that the same windows never follow each other. Odd sizes are cut into unequal windows, exactly; the published
code resizes such maps there and back. HyperTile's tiles lie within the windows, and token downsampling and merging work on
what a window or tile holds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from ...core.patching import Edit
from ...core.run import Run
from ...core.size import Size
from ...core.unet_map import Block, TransformerBlock
from .local_attention import attend_in, holds_maps
from .tokens import grid, note_grid
from .windows import Windows, window_shift


def in_moving_windows(blocks: Iterable[Block], run: Run) -> Iterator[Edit]:
    """Edits of the self-attentions of `blocks`, in the order of a walk."""
    blocks = list(blocks)
    # Where a model's attn1 looks at the prompt there is no map to cut.
    inner = [one for block in blocks for one in block.transformer_blocks if _attends_to_itself(one)]
    for block in blocks:
        for layer in block.of_kind("attn"):
            yield note_grid(layer, run)
    for ordinal, one in enumerate(inner):
        yield Edit(one.self_attention, _in_windows(ordinal, len(inner), run))


def _attends_to_itself(inner: TransformerBlock) -> bool:
    return not getattr(inner.module, "disable_self_attn", False)


def _in_windows(ordinal: int, count: int, run: Run) -> Callable[..., Tensor]:
    """The edit of the attention that is number `ordinal` of `count` in a walk."""

    def attend(call: Callable[..., Tensor], x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        size = grid(run)
        if not holds_maps(size, x, *args, **kwargs):
            run.note(
                "HiDiffusion left some self-attentions whole: another extension gives them tokens or a mask that do not "
                "belong to the picture's grid."
            )
            return call(x, *args, **kwargs)
        windows = _windows(size, _quarters(ordinal, count, run), x.device, run)
        return attend_in(windows, run, call, x, *args, **kwargs)

    return attend


def _quarters(ordinal: int, count: int, run: Run) -> int:
    draws = torch.randint(2, (count,), generator=run.generator("hi_diffusion")).tolist()
    return quarters_to_shift(run.clock.evaluation + ordinal, draws[ordinal])


def quarters_to_shift(number: int, draw: int) -> int:
    """0 to 3, of which `draw` (0 or 1) picks one of two: 0 and 2 for even numbers, 1 and 3 for odd ones."""
    return number % 2 + 2 * draw


def _windows(size: Size, quarters: int, device: torch.device, run: Run) -> Windows:
    """For the attentions of one walk to share."""
    memory, key = run.traversal.memory, ("hi_diffusion", size, quarters, device)
    if key not in memory:
        memory[key] = Windows(size, window_shift(size, quarters), device)
    return memory[key]
