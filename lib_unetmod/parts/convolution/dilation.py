"""A 3x3 convolution that looks further: dilated by whole or fractional factors, by the module's own call alone.

A convolution dilated by d reads, for each d-th output, each d-th input only. So its d x d phases, the maps of every d-th
row and column, are d x d undilated convolutions; laid into the batch they are one call of the module as it stands. Whatever
a host does to weights in that call, LoRA, casting from fp8, another class, acts; no attribute of the module changes. It
costs the products of the undilated convolution and four copies of maps.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...core.size import Size, size_of
from ...core.tables import sent, table
from ..maps.resize import resize

#: A factor for height and one for width.
Factors = tuple[float, float]


def is_dilatable(module: nn.Module) -> bool:
    """Whether `module` is a 3x3 convolution with the padding that leaves sizes alone, undilated: all this file is for."""
    same = (getattr(module, name, None) for name in ("kernel_size", "padding", "dilation"))
    return isinstance(module, nn.Conv2d) and tuple(same) == ((3, 3), (1, 1), (1, 1))


def convolved_size(size: Size, stride: Size) -> Size:
    """What such a convolution makes of a map: a cell for each `stride`-th, the first one included."""
    return (size[0] - 1) // stride[0] + 1, (size[1] - 1) // stride[1] + 1


def re_dilated(
    call: Callable[[Tensor], Tensor], x: Tensor, factors: Factors, stride: Size, circular: bool = False
) -> Tensor:
    """A convolution that sees `factors` as far (He et al. 2023, section 3.2), on `x` (B, C, H, W).

    With `d = ceil(factor)` the map is enlarged by `d / factor`, convolved with dilation d and shrunk to what the plain
    convolution gives.

    Args:
        call: the plain convolution, as in `dilated`.
        circular: whether the map is a torus.
    """
    dilation = math.ceil(factors[0]), math.ceil(factors[1])
    size = size_of(x)
    larger = enlarged_size(size, factors, stride, circular)
    if larger == size:
        return dilated(call, x, dilation, stride, circular)
    out = dilated(call, resize(x, larger, "bilinear", circular), dilation, stride, circular)
    if tuple(out.shape[-2:]) != convolved_size(larger, stride):
        return out
    return resize(out, convolved_size(size, stride), "bilinear", circular)


def enlarged_size(size: Size, factors: Factors, stride: Size = (1, 1), circular: bool = False) -> Size:
    """The size at which whole dilations make fractional factors: sides times `ceil(factor) / factor`, rounded."""

    def enlarged(side: int, factor: float, stride: int) -> int:
        exact = side * math.ceil(factor) / factor
        # A torus that can be rolled by half of itself, in steps of the stride, still can: the answer is rolled then too.
        step = 2 * stride if circular and side % (2 * stride) == 0 else 1
        return step * round(exact / step)

    return enlarged(size[0], factors[0], stride[0]), enlarged(size[1], factors[1], stride[1])


def dilated(
    call: Callable[[Tensor], Tensor], x: Tensor, dilation: tuple[int, int], stride: Size = (1, 1), circular: bool = False
) -> Tensor:
    """`x` (B, C, H, W) convolved with `dilation` and as much padding, by calls of the undilated convolution.

    Args:
        call: a 3x3 convolution of this stride with padding 1. Should it answer for another map than it was given, as one
            does beneath which another method brings its own, that answer is returned.
        dilation: whole factors for height and width.
        circular: whether what lies beyond an edge is the other edge; else it is zero.
    """
    rows = Polyphase(x.shape[-2], dilation[0], stride[0], circular)
    columns = Polyphase(x.shape[-1], dilation[1], stride[1], circular)
    phases = columns.take(rows.take(x, -2), -1)  # (B, C, d, h, e, w)
    phases = phases.permute(2, 4, 0, 1, 3, 5).flatten(0, 2)
    out = call(phases)
    if len(out) != len(phases):
        return out
    out = out[..., rows.lead :, columns.lead :].unflatten(0, (rows.count, columns.count, -1))
    out = out.permute(2, 3, 4, 0, 5, 1).flatten(4, 5).flatten(2, 3)  # (B, C', h*d, w*e)
    height, width = convolved_size(size_of(x), stride)
    return out[..., :height, :width].contiguous()


@dataclass(frozen=True)
class Polyphase:
    """The sequences of one axis on which an undilated convolution does what a dilated one does.

    Sequence r is to give the outputs r, r + d, r + 2d, ..., so it reads from position `stride * r` in steps of d. A first
    output of a sequence is cut off where what lies before its first position is not the zeros of the padding: on a torus,
    and with a stride, which also reads positions between those where sequences begin.
    """

    size: int
    count: int
    stride: int
    circular: bool

    @property
    def lead(self) -> int:
        """Outputs before the first that counts."""
        return int(self.count > 1 and (self.circular or self.stride > 1))

    def positions(self) -> Tensor:
        """(d, n): where each sequence reads; `size` stands for what is zero."""
        if self.count == 1:
            return torch.arange(self.size)[None]
        outputs = -(-((self.size - 1) // self.stride + 1) // self.count)
        # Where a first output is cut off, the last one gets all that it reads, instead of the module's padding.
        length = self.stride * (outputs - 1 + self.lead) + 1 + self.lead
        steps = self.count * (torch.arange(length) - self.stride * self.lead)
        reads = self.stride * torch.arange(self.count)[:, None] + steps
        if self.circular:
            return reads % self.size
        return reads.masked_fill((reads < 0) | (reads >= self.size), self.size)

    def take(self, x: Tensor, axis: int) -> Tensor:
        """`x` with `axis` replaced by two of sizes (d, n)."""
        positions, beyond = _on_device(self, x.device)
        if beyond:
            x = F.pad(x, (0, 0, 0, 1) if axis == -2 else (0, 1))
        return x.index_select(axis, positions.flatten()).unflatten(axis, tuple(positions.shape))


@table
def _on_device(phases: Polyphase, device: torch.device) -> tuple[Tensor, bool]:
    positions = phases.positions()
    return sent(positions, device), bool((positions == phases.size).any())
