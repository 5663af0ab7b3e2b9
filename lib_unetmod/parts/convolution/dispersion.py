"""A 3x3 convolution whose kernel is spread over 5x5 or 7x7 by a linear map, so that it sees further without gaps.

Convolution dispersion (He et al. 2023, "ScaleCrafter", section 3.3), by the maps of `dispersion_matrix.py`.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ...core.size import Size
from ...core.tables import sent, table
from .dilation import Factors
from .dispersion_file import dispersion_matrix
from .dispersion_matrix import rounded
from .effective_weight import EffectiveWeight


def dispersed(
    x: Tensor, own: EffectiveWeight, kernel: int, factors: Factors, stride: Size = (1, 1), circular: bool = False
) -> Tensor:
    """`x` (B, C, H, W) convolved with the kernel spread to `kernel`, so that it sees `factors` as far.

    What the kernel cannot reach is left to whole dilations: factor 4 is a 5x5 kernel for scale 2, dilated by 2. Fractions
    are the map's, so that nothing is enlarged.

    Args:
        circular: whether the map is a torus; else zeros lie beyond its edges.
    """
    y, x_ = dilation = math.ceil(factors[0] / reach(kernel)), math.ceil(factors[1] / reach(kernel))
    weight = dispersed_weight(own.weight, kernel, (factors[0] / y, factors[1] / x_))
    tall, wide = (kernel // 2 * times for times in dilation)
    x = x.to(weight.dtype)
    if not circular:
        return F.conv2d(x, weight, own.bias, stride, (tall, wide), dilation)
    height, width = x.shape[-2:]
    rows = torch.arange(-tall, height + tall, device=x.device) % height
    columns = torch.arange(-wide, width + wide, device=x.device) % width
    around = x.index_select(2, rows).index_select(3, columns)
    return F.conv2d(around, weight, own.bias, stride, 0, dilation)


def reach(kernel: int) -> int:
    """The largest scale that a kernel of this side can cover: its outer taps stand that many times as far out."""
    return kernel // 2


def dispersed_weight(weight: Tensor, kernel: int, scales: Factors) -> Tensor:
    """A weight (O, I, 3, 3) as (O, I, kernel, kernel), spread by `scales` in height and width."""
    spread = _matrix_on(kernel, *map(rounded, scales), weight.device, weight.dtype)
    return (weight.flatten(2) @ spread.T).unflatten(2, (kernel, kernel))


@table
def _matrix_on(kernel: int, y: float, x: float, device: torch.device, dtype: torch.dtype) -> Tensor:
    return sent(torch.from_numpy(dispersion_matrix(kernel, y, x)), device, dtype)
