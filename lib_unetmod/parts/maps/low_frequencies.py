"""The low frequencies of a map, found by projection on the few waves that they are instead of a Fourier transform.

FreeU's filter cuts a box out of the centred spectrum: on each axis the frequencies -t to t - 1. The box is not symmetric,
since -t is in it and t is not, and the real part is taken of what comes back. With

    E[m, n] = sum_u cos(2 pi u (m - n) / N) / N        O[m, n] = sum_u sin(2 pi u (m - n) / N) / N

over the frequencies u inside, what the box holds of a map X is E_h X E_w - O_h X O_w^T, all real. In O all frequencies but
-t cancel. E has the rank of the waves inside, 3 at FreeU's t = 1, so that a map is reduced to a few numbers and grown again
by two thin products an axis, which works at any size, in any dtype and on every device. A Fourier transform does not.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from ...core.tables import sent, table


def fourier_filter(x: Tensor, low: float, high: float = 1.0, cutoff: float = 0.0) -> Tensor:
    """`x` (B, C, H, W) with its frequencies inside the box times `low` and the others times `high`, as a new tensor.

    FreeU's Fourier filter (Si et al. 2023, "FreeU: Free Lunch in Diffusion U-Net"); `high` and `cutoff` (see `highest`) are
    those of ljleb's extension.
    """
    batch, channels, height, width = x.shape
    wide = x.to(torch.promote_types(x.dtype, torch.float32)).flatten(1, 2)
    y, y_weights = _waves(height, highest(height, cutoff), wide.dtype, x.device)
    x_, x_weights = _waves(width, highest(width, cutoff), wide.dtype, x.device)
    with _no_autocast(x.device.type):
        # Waves from the left: a product of few rows and many columns is several times faster than the reverse.
        reduced = torch.matmul(x_, wide.transpose(1, 2)).view(-1, height)
        numbers = torch.matmul(y, reduced.T).view(len(y), batch, len(x_), channels)
        inside = _inside(numbers, y_weights[:, None, None, None] * x_weights[:, None])
        grown = torch.matmul(inside.flatten(1).T, y).view(batch, len(x_), channels * height)
        waves = x_.expand(batch, -1, -1)
        # Not as beta: of 0 times what lies in new memory torch 2.0 makes NaN.
        others = wide if high == 1 else wide * high
        return torch.baddbmm(others, grown.transpose(1, 2), waves, alpha=low - high).view(x.shape).to(x.dtype)


def highest(size: int, cutoff: float) -> int:
    """t, by which the box holds -t to t - 1 of an axis, at a `cutoff` from 0 to 1 as ljleb's extension rounds it.

    At 0 it is FreeU's 1; at 1 the box holds the whole axis, less the highest frequency of an odd size. An axis of one cell
    has the frequency 0 alone.
    """
    return min(max(1, math.floor(size // 2 * cutoff)), size // 2)


@table
def _waves(size: int, top: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """The cosines of frequencies 0 to `top` and the sines of 1 to `top`, (2 top + 1, size), and how much E has of each."""
    frequencies, places = (torch.arange(count, dtype=torch.float64) for count in (top + 1, size))
    turns = torch.outer(frequencies, places) * (2 * math.pi / size)
    # Both u and -u are inside, but for 0, which is one, and -t, without t.
    weights = torch.full((2 * top + 1,), 2.0 / size, dtype=torch.float64)
    weights[[0, top, 2 * top]] = 1.0 / size
    waves = torch.cat([turns.cos(), turns[1:].sin()])
    return sent(waves.to(dtype), device), sent(weights.to(dtype), device)


def _inside(numbers: Tensor, weights: Tensor) -> Tensor:
    """What the box holds of a map as amounts of waves, from the map's products with them (2 t_h + 1, B, 2 t_w + 1, C).

    O takes the cosine and the sine of t for each other, one of them with its sign turned.
    """
    out = numbers * weights
    cosine, sine = numbers.shape[0] // 2, numbers.shape[0] - 1
    cosine_w, sine_w = numbers.shape[2] // 2, numbers.shape[2] - 1
    if cosine and cosine_w:
        alike = out[cosine, :, cosine_w] - out[sine, :, sine_w]
        unlike = out[cosine, :, sine_w] + out[sine, :, cosine_w]
        out[cosine, :, cosine_w], out[sine, :, sine_w] = alike, -alike
        out[cosine, :, sine_w], out[sine, :, cosine_w] = unlike, unlike
    return out


def _no_autocast(device: str) -> AbstractContextManager:
    """Products in the precision of what they are given; devices without autocast refuse even to have it switched off."""
    return torch.autocast(device, enabled=False) if device in ("cpu", "cuda", "xpu") else nullcontext()
