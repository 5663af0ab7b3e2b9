"""Rows of another U-Net that run along in the batch: the unconditional rows once more, as a less widened U-Net has them.

Noise-damped guidance (He et al. 2023, "ScaleCrafter", section 3.4) takes layout from a widened U-Net d and removes noise
with a less widened one, v: v_uncond + s * (d_cond - d_uncond). By the host's own guidance that comes out where it gets
v_uncond for uncond and v_uncond + d_cond - d_uncond for cond. v is needed for the unconditional rows alone, which run along
inside every layer's call, behind the host's rows: three rows for two. What a host or ControlNet adds between blocks to a row
is added to its companion. Where cond and uncond are called apart, where ControlNet's reference or Forge's attention patches
take rows by their place, it stands aside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ...core.call import Rows
from ...core.edits import after, before, instead
from ...core.knobs import ConfigError
from ...core.patching import Edit
from ...core.run import Run
from ...core.size import size_of
from ...core.unet_map import Block, UNetMap
from ..maps.resize import resize

#: The embedding and the prompt, by which every layer is called, and what a host may give beside them.
_MOST_JOINED = 4


@dataclass(eq=False)
class Companions:
    """In one traversal the companions of the unconditional rows: the same rows, as the less widened U-Net has them.

    Attributes:
        rows: those of the host.
        damping: what the method that asked for the companions does to them in place of what it does to the other rows.
        h: the companions' map between two layers.
        given: what the host was last given for the unconditional rows, to see what it adds.
        skips: both, for each skip connection not yet joined.
    """

    rows: Rows
    damping: Any
    h: Tensor
    given: Tensor
    skips: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    _joined: list[tuple[Tensor, int, Tensor]] = field(default_factory=list)

    @property
    def batch(self) -> int:
        """How many rows the host has."""
        return len(self.rows)

    def own(self, value: Tensor) -> Tensor:
        """The unconditional rows of the host's, a tensor of its own."""
        return self.rows.take_unconditional(value)

    def joined(self, value: Any) -> Any:
        """A tensor of one entry a row with entries for the companions; anything else as it is."""
        if isinstance(value, list):
            return [self.joined(each) for each in value]
        if not self.rows.are_of(value):
            return value
        # Every layer is given the same few tensors.
        version = 0 if value.is_inference() else value._version
        for given, then, whole in self._joined:
            if given is value and then == version:
                return whole
        whole = torch.cat([value, self.own(value)])
        self._joined = [*self._joined[1 - _MOST_JOINED :], (value, version, whole)]
        return whole


@dataclass(eq=False)
class ExtraRows:
    """Lets companions of the unconditional rows run along in every layer's call, and guides by them at the end.

    Attributes:
        title: of what is done with them, for notes.
        damping: what the companions of a traversal get for their `damping`.
    """

    title: str
    unet: UNetMap
    run: Run
    damping: Callable[[], Any]

    def __post_init__(self) -> None:
        self._now = self.run.per_traversal(_none)

    @property
    def companions(self) -> Companions | None:
        """Those of the current traversal; None where none run along."""
        return self._now.get()

    def edits(self) -> Iterator[Edit]:
        if self.unet.out is None:
            raise ConfigError(f"{self.title} is not for this U-Net, which does not end in layers of its own; switch it off.")
        yield instead(self.unet.out, self._guide)
        begins = self.unet.input_blocks[0].layers[0]
        for block in self.unet.blocks:
            for layer in block.layers:
                # The first edit stands outside.
                if layer is begins:
                    yield before(layer.module, self._begin)
                elif layer is block.layers[0]:
                    yield before(layer.module, partial(self._enter, block))
                if layer is block.layers[-1] and block.side == "input":
                    yield after(layer.module, self._keep_skip)
                yield Edit(layer.module, self._layer)

    def _stand_aside(self, reason: str) -> None:
        self._now.set(None)
        self.run.note(f"{self.title} is off: {reason}")

    def _begin(self, x: Tensor) -> Tensor:
        rows = self._rows(len(x))
        if rows is not None:
            own = rows.take_unconditional(x)
            self._now.set(Companions(rows, self.damping(), own, own))
            # What others keep from evaluations without companions is not for these, nor the other way round.
            self.run.traversal.split(self.title)
        return x

    def _rows(self, batch: int) -> Rows | None:
        """The rows of the host's call; None where guidance cannot be damped, or there is none without unconditional rows."""
        if self.run.left_out.get() is not None:
            return None
        told = self.run.rows(batch)
        if told.rows is not None and not told.rows.unconditional:
            return None
        apart = "prompt and negative prompt do not run together; turn on Batch cond/uncond."
        if told.rows is None or not told.rows.in_pairs or told.reason:
            self._stand_aside(told.reason or apart)
            return None
        if self.run.needs_all_rows:
            self._stand_aside(self.run.needs_all_rows)
            return None
        return told.rows

    def _enter(self, block: Block, x: Tensor) -> Tensor:
        companions = self.companions
        if companions is None:
            return x
        if block.side == "output":
            skip, given = companions.skips.pop()
            companions.h, companions.given = _join(companions.h, skip), _join(companions.given, given)
        if len(x) != companions.batch or companions.given.shape[1:] != x.shape[1:]:
            self._stand_aside("another method or extension resizes feature maps.")
        else:
            companions.h = companions.h + (companions.own(x) - companions.given)
        return x

    def _layer(self, call: Callable[..., Tensor], x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        companions = self.companions
        if companions is None:
            return call(x, *args, **kwargs)
        kept = {name: companions.joined(value) for name, value in kwargs.items()}
        out = call(torch.cat([x, companions.h]), *(companions.joined(value) for value in args), **kept)
        own, companions.h = out[: companions.batch], out[companions.batch :]
        # A copy: hosts add to what they get in place.
        companions.given = companions.own(own)
        return own

    def _keep_skip(self, out: Tensor) -> Tensor:
        companions = self.companions
        if companions is not None:
            companions.skips.append((companions.h, companions.given))
        return out

    def _guide(self, layers: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        companions = self._now.take()
        if companions is None:
            return layers(x)
        h = companions.h + (companions.own(x) - companions.given).to(companions.h.dtype)
        out, rows = layers(torch.cat([x, h.to(x.dtype)])), companions.rows
        damped = out[: companions.batch].clone()
        for place, (row, of) in enumerate(zip(rows.unconditional, rows.conditional_of_unconditional, strict=True)):
            noise = out[companions.batch + place]
            damped[row], damped[of] = noise, noise + (out[of] - out[row])
        return damped


def _none() -> Companions | None:
    return None


def _join(h: Tensor, skip: Tensor) -> Tensor:
    """A host's joining of `h` and its skip connection, along the channels; `h` is resized where it is of another size."""
    return torch.cat([h if size_of(h) == size_of(skip) else resize(h, size_of(skip), "as Upsample"), skip], 1)
