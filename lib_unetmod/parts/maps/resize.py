"""Maps made smaller or larger: every kind of interpolation, in every dtype, on planes and on tori."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ...core.size import Size, size_of

#: What `resize` knows. "antialiased" is bicubic whose kernel widens with the factor when a map is made smaller.
RESIZE_METHODS = ("bicubic", "bilinear", "area", "nearest", "antialiased")


def resize(x: Tensor, size: Size, method: str = "bicubic", circular: bool = False) -> Tensor:
    """`x` (B, C, H, W) as (B, C, *size), always a tensor of its own. Samples stand at the centres of their cells.

    Args:
        method: one of `RESIZE_METHODS`; "nearest" takes the cell that holds the new cell's centre. Or "as Upsample": the
            cell that holds the new cell's upper left corner, as the U-Net's own layers have it.
        circular: whether the map is a torus, as tiling pictures (circular padding) have it, and not clamped at its edges.
    """
    if size == size_of(x):
        return x.clone()
    wide = x if _keeps_precision(method, x.dtype, x.device.type) else x.float()
    return (_on_torus(wide, size, method) if circular else _interpolated(wide, size, method)).to(x.dtype)


def _keeps_precision(method: str, dtype: torch.dtype, device: str) -> bool:
    """Whether maps of this dtype are interpolated as they are.

    Not every device interpolates half precision, and bicubic weights lose too much in it; "nearest" only moves numbers.
    """
    moves = method in ("nearest", "as Upsample")
    return dtype in (torch.float32, torch.float64) or (moves and dtype == torch.float16 and device == "cuda")


def scaled(size: Size, y: float, x: float) -> Size:
    """`size` divided by a factor an axis, rounded, at least one cell."""
    return max(round(size[0] / y), 1), max(round(size[1] / x), 1)


def _interpolated(x: Tensor, size: Size, method: str) -> Tensor:
    if method == "antialiased":
        return F.interpolate(x, size, mode="bicubic", align_corners=False, antialias=True)
    if method in ("bicubic", "bilinear"):
        return F.interpolate(x, size, mode=method, align_corners=False)
    return F.interpolate(x, size, mode={"nearest": "nearest-exact", "as Upsample": "nearest"}.get(method, method))


def _on_torus(x: Tensor, size: Size, method: str) -> Tensor:
    # Three copies in a row keep the phase of the samples, and the middle one sees no edge. One axis after the other.
    height, width = size
    tall = _interpolated(torch.cat([x, x, x], 2), (3 * height, x.shape[-1]), method)[:, :, height : 2 * height]
    return _interpolated(torch.cat([tall, tall, tall], 3), (height, 3 * width), method)[..., width : 2 * width].contiguous()
