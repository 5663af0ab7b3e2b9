"""Noise-damped guidance without a third conditioning: companions of the unconditional rows run along in the batch.

ScaleCrafter (He et al. 2023, section 3.4) takes layout from a widened U-Net d and removes noise with a less widened one, v:
v_uncond + s * (d_cond - d_uncond). By the host's own guidance that comes out where it gets v_uncond for uncond and
v_uncond + d_cond - d_uncond for cond. v is needed for the unconditional rows alone, which run along inside every layer's
call, behind the host's rows: three rows for two. What a host or ControlNet adds between blocks to a row is added to its
companion. Where cond and uncond are called apart, where ControlNet's reference or Forge's attention patches take rows by
their place, it stands aside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ...core.patching import Edit
from ...core.run import Run
from ...core.size import Size
from ...core.unet_map import Block, UNetMap

_KEY = "rows of the less widened U-Net"


@dataclass(eq=False)
class CompanionWalk:
    """The companions of a walk's unconditional rows: the same rows, as the less widened U-Net has them.

    Attributes:
        batch: how many rows the host has.
        conditional: for each unconditional row that of its picture's prompt.
        unconditional: these rows, in the order of their companions.
        damping: what the method that asked for the companions does to them in place of what it does to the other rows.
        h: the companions' map between two layers.
        given: what the host was last given for the unconditional rows, to see what it adds.
        skips: both, for each skip connection not yet joined.
    """

    batch: int
    unconditional: tuple[int, ...]
    conditional: tuple[int, ...]
    damping: Any
    h: Tensor
    given: Tensor
    skips: list[tuple[Tensor, Tensor]]

    def own(self, rows: Tensor) -> Tensor:
        """The unconditional rows of the host's, a tensor of its own."""
        return torch.cat([rows[number : number + 1] for number in self.unconditional])

    def joined(self, value: Any) -> Any:
        """A tensor of one entry a row with entries for the companions; anything else as it is."""
        if isinstance(value, list):
            return [self.joined(one) for one in value]
        if not isinstance(value, Tensor) or value.ndim == 0 or value.shape[0] != self.batch:
            return value
        return torch.cat([value, self.own(value)])


@dataclass(eq=False)
class Companions:
    """Lets companions of the unconditional rows run along in every layer's call, and guides by them at the end."""

    unet: UNetMap
    run: Run
    damping: Callable[[], Any]

    def edits(self) -> Iterator[Edit]:
        yield Edit(self.unet.unet.out, self._guide)
        begins = self.unet.input_blocks[0].layers[0]
        for block in self.unet.blocks:
            for layer in block.layers:
                # The first edit stands outside.
                if layer is begins:
                    yield Edit(layer.module, self._begin)
                elif layer is block.layers[0]:
                    yield Edit(layer.module, self._enter(block))
                if layer is block.layers[-1] and block.side == "input":
                    yield Edit(layer.module, self._keep_skip)
                yield Edit(layer.module, self._layer)

    @property
    def _walk(self) -> CompanionWalk | None:
        return companions_of(self.run)

    def _stand_aside(self, reason: str) -> None:
        self.run.traversal.memory.pop(_KEY, None)
        self.run.note(f"Noise-damped guidance stood aside: {reason}.")

    def _begin(self, call: Callable[..., Tensor], x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        rows = self._rows(len(x))
        if rows is not None:
            walk = CompanionWalk(len(x), *rows, self.damping(), x, x, [])
            walk.h = walk.given = walk.own(x)
            self.run.traversal.memory[_KEY] = walk
            if self.run.traversal.stream is not None:
                # What others keep from evaluations without companions is not for these, nor the other way round.
                self.run.traversal.stream = (self.run.traversal.stream, _KEY)
        return call(x, *args, **kwargs)

    def _rows(self, batch: int) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
        """The unconditional rows and their conditional ones; None where guidance cannot be damped."""
        guidance = self.run.guidance
        if guidance is None:
            self._stand_aside("it is not said which rows are conditional (run.guidance)")
            return None
        partner = guidance.partner
        pairs = [(row, of) for row, of in enumerate(partner) if row != of]
        if len(partner) != batch or len(pairs) * 2 != batch or len({of for _, of in pairs}) != len(pairs):
            self._stand_aside("an evaluation was not made of one conditional and one unconditional row for each picture")
            return None
        if any("_forward" in vars(inner.module) for block in self.unet.blocks for inner in block.transformer_blocks):
            self._stand_aside("ControlNet's reference takes rows by their place")
            return None
        return tuple(row for row, _ in pairs), tuple(of for _, of in pairs)

    def _enter(self, block: Block) -> Callable[..., Tensor]:
        def enter(call: Callable[..., Tensor], x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            walk = self._walk
            if walk is not None:
                if block.side == "output":
                    skip, given = walk.skips.pop()
                    size = (skip.shape[-2], skip.shape[-1])
                    walk.h, walk.given = _join(walk.h, skip, size), _join(walk.given, given, size)
                if len(x) != walk.batch or walk.given.shape[1:] != x.shape[1:]:
                    self._stand_aside("another method or extension resizes maps between blocks")
                else:
                    walk.h = walk.h + (walk.own(x) - walk.given)
            return call(x, *args, **kwargs)

        return enter

    def _layer(self, call: Callable[..., Tensor], x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        walk = self._walk
        if walk is not None and any(_takes_rows_by_place(value) for value in (*args, *kwargs.values())):
            self._stand_aside("another extension's patches of the attention take rows by their place")
            walk = None
        if walk is None:
            return call(x, *args, **kwargs)
        kept = {name: walk.joined(value) for name, value in kwargs.items()}
        out = call(torch.cat([x, walk.h]), *(walk.joined(value) for value in args), **kept)
        own, walk.h = out[: walk.batch], out[walk.batch :]
        # A copy: hosts add to what they get in place.
        walk.given = walk.own(own)
        return own

    def _keep_skip(self, call: Callable[..., Tensor], x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        out = call(x, *args, **kwargs)
        walk = self._walk
        if walk is not None:
            walk.skips.append((walk.h, walk.given))
        return out

    def _guide(self, call: Callable[..., Tensor], x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        walk = self.run.traversal.memory.pop(_KEY, None)
        if walk is None:
            return call(x, *args, **kwargs)
        h = walk.h + (walk.own(x) - walk.given).to(walk.h.dtype)
        out = call(torch.cat([x, h.to(x.dtype)]), *args, **kwargs)
        damped = out[: walk.batch].clone()
        for companion, (row, of) in enumerate(zip(walk.unconditional, walk.conditional, strict=True)):
            noise = out[walk.batch + companion]
            damped[row], damped[of] = noise, noise + (out[of] - out[row])
        return damped


def companions_of(run: Run) -> CompanionWalk | None:
    """The companions of the current walk; None where none run along."""
    return run.traversal.memory.get(_KEY)


def _join(h: Tensor, skip: Tensor, size: Size) -> Tensor:
    """A host's joining of `h` and its skip connection, along the channels; `h` is resized where it is of another size."""
    fitted = h if (h.shape[-2], h.shape[-1]) == size else F.interpolate(h, size, mode="nearest")
    return torch.cat([fitted, skip], 1)


def _takes_rows_by_place(value: Any) -> bool:
    """Whether `value` is Forge's options with functions that other extensions put into attentions and blocks."""
    return isinstance(value, dict) and bool(value.get("patches") or value.get("patches_replace"))
