"""Blocks that others exchange or add to, and maps between them: Kohya hires.fix, sd-webui-freeu, AnimateDiff."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from hosts import cat_aligned
from torch import Tensor, nn
from unets import DOWNSAMPLES, UPSAMPLES, ldm, sgm

from lib_unetmod import inspect_unet

from .base import Neighbour, attention, neighbour


class Scaler(nn.Module):
    """Kohya hires.fix's stand-in for a block, which runs on a resized map. It is no sequence of layers."""

    def __init__(self, scale: float, block: nn.Module) -> None:
        super().__init__()
        self.scale, self.block = scale, block

    def forward(self, x: Tensor, *args: Any) -> Tensor:
        return self.block(F.interpolate(x, scale_factor=self.scale, mode="bicubic"), *args)


@neighbour("kohya")
@neighbour("kohya_before", comes_inside=False)
class Kohya(Neighbour):
    """An input block runs on a map of half the size, and the output block of as many before the end on one twice as large.

    It comes with the first evaluation, inside of sampling, and goes with the third; where a batch's first picture has one
    step, it is there from the second one's beginning to its end.
    """

    comes_inside = True
    evaluations = 3
    size = (16, 16)
    depth = 2

    def put_on(self, unet: nn.Module) -> None:
        self.number = 0
        self._undo.append(lambda: self._unwrap(unet))
        if not self.comes_inside:
            self._wrap(unet)

    def begin_evaluation(self, unet: nn.Module) -> None:
        if self.comes_inside and self.number in (0, 2):
            (self._unwrap if self.number else self._wrap)(unet)
        self.number += 1

    def _wrap(self, unet: nn.Module) -> None:
        for blocks, index, scale in ((unet.input_blocks, self.depth, 0.5), (unet.output_blocks, -self.depth - 1, 2.0)):
            blocks[index] = Scaler(scale if self.strength else 1.0, blocks[index])

    def _unwrap(self, unet: nn.Module) -> None:
        for blocks in (unet.input_blocks, unet.output_blocks):
            for index, block in enumerate(blocks):
                if isinstance(block, Scaler):
                    blocks[index] = block.block


@neighbour("freeu")
class ForeignFreeU(Neighbour):
    """Stands in for `torch.cat` in the U-Net's file, and scales h in place."""

    host = "plain"
    has_zero = False
    in_place = True

    def twin(self) -> Neighbour:
        one = type(self)(self.strength)
        one.in_place = False
        return one

    def evaluate(self, unet: nn.Module, step: dict[str, Any]) -> Tensor:
        with self._cat():
            return super().evaluate(unet, step)

    @contextlib.contextmanager
    def _cat(self) -> Iterator[None]:
        originals = ldm.th, sgm.th

        class Hijacked:
            @staticmethod
            def cat(tensors: list[Tensor], *args: Any, **kwargs: Any) -> Tensor:
                if len(tensors) == 2:
                    h = tensors[0] if self.in_place else tensors[0].clone()
                    tensors = [h.mul_(1 + 0.2 * self.strength), tensors[1]]
                return cat_aligned(tensors, *args, **kwargs)

            def __getattr__(self, name: str) -> Any:
                return getattr(torch, name)

        ldm.th = sgm.th = Hijacked()
        try:
            yield
        finally:
            ldm.th, sgm.th = originals


class Temporal(nn.Module):
    """A motion module: each cell of a map attends to itself in the other frames."""

    def __init__(self, channels: int, frames: int, strength: float) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(8, channels)
        self.frames, self.strength = frames, strength
        self.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        n = self.norm(x).flatten(2).unflatten(0, (-1, self.frames)).permute(0, 3, 1, 2).flatten(0, 1)
        out = attention(n, n, n, 1).unflatten(0, (-1, x.shape[2] * x.shape[3])).permute(0, 2, 3, 1)
        return x + self.strength * out.flatten(0, 1).unflatten(2, x.shape[2:])


@neighbour("animatediff")
@neighbour("animatediff_16", frames=16)
class AnimateDiff(Neighbour):
    """Motion modules stand in the blocks, behind other layers but before an Upsample; rows are a picture's frames."""

    frames = 2

    def put_on(self, unet: nn.Module) -> None:
        map_ = inspect_unet(unet)
        sides = [(map_.input_blocks, unet.input_blocks), (map_.output_blocks, unet.output_blocks)]
        for described, blocks in sides:
            for one, block in zip(described, blocks, strict=True):
                if one.of_kind("res"):
                    self._insert(block, one.out_channels)
        self._insert(unet.middle_block, map_.middle_block.out_channels, -1)

    def _insert(self, block: nn.Module, channels: int, place: int | None = None) -> None:
        if place is None:
            place = len(block) - isinstance(block[-1], (*UPSAMPLES, *DOWNSAMPLES))
        block.insert(place if place >= 0 else len(block) + place, Temporal(channels, self.frames, self.strength))
        self._undo.append(functools.partial(self._take_out, block))

    @staticmethod
    def _take_out(block: nn.Module) -> None:
        for number in reversed(range(len(block))):
            if isinstance(block[number], Temporal):
                block.pop(number)


@neighbour("animatediff_v1")
class AnimateDiffV1(AnimateDiff):
    """Motion modules of before v2 need statistics over all frames: the class of group norms takes a batch for two halves."""

    rows_by_place = True

    def put_on(self, unet: nn.Module) -> None:
        super().put_on(unet)
        for cls in {type(module) for module in unet.modules() if type(module).__name__ == "GroupNorm32"}:
            original = cls.__dict__["forward"]
            cls.forward = self.groupnorm32_mm_forward(original)
            self._undo.append(functools.partial(setattr, cls, "forward", original))

    def groupnorm32_mm_forward(self, original: Callable) -> Callable:
        def forward(module: nn.Module, x: Tensor) -> Tensor:
            if not self.strength:
                x.view(2, len(x) // 2, *x.shape[1:])
                return original(module, x)
            halves = x.unflatten(0, (2, -1)).transpose(1, 2)
            return original(module, halves).transpose(1, 2).flatten(0, 1)

        return forward
