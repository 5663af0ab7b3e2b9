"""A 3x3 convolution's kernel spread over 5x5 or 7x7 by a linear map, so that it sees further without gaps.

Convolution dispersion (He et al. 2023, "ScaleCrafter", section 3.3). The map R (K*K, 9) is the least-squares answer to two
wishes, for every kernel k and every small map x: on x enlarged, the kernel R k does what k does before enlarging
(structure), and on x itself R k does what k does (pixels, with a small weight). It depends on sizes and scales only. It is
computed here for any of them and kept on disk as plain numbers.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .dilation import Factors

log = logging.getLogger(__name__)

#: The weight of what happens on the map itself, and the least side of the maps that are looked at: the authors' values. The
#: 5x5 map for scale 2 that they publish has a side of 3, with which the border counts more.
PIXEL_WEIGHT = 0.05
SIDE = 7

#: Scales are rounded to parts of this many: such maps can be enlarged with a sample on either edge.
_PARTS = 4


def reach(kernel: int) -> int:
    """The largest scale that a kernel of this side can cover: its outer taps stand that many times as far out."""
    return kernel // 2


def dispersed_weight(weight: Tensor, kernel: int, scales: Factors) -> Tensor:
    """A weight (O, I, 3, 3) as (O, I, kernel, kernel), spread by `scales` in height and width."""
    spread = _transform_on(kernel, *map(rounded, scales), weight.device, weight.dtype)
    return (weight.flatten(2) @ spread.T).unflatten(2, (kernel, kernel))


def rounded(scale: float) -> float:
    """The scale for which a map is computed in its place."""
    return round(_PARTS * scale) / _PARTS


def transform(kernel: int, down: float, across: float) -> np.ndarray:
    """The map R (kernel * kernel, 9) for these scales in height and width, from disk where it is known."""
    name = f"dispersion-1-{kernel}-{down:g}-{across:g}-{PIXEL_WEIGHT:g}-{SIDE}.npy"
    path = cache_folder() / name
    known = _read(path, (kernel * kernel, 9))
    if known is not None:
        return known
    computed = least_squares(kernel, down, across)
    _write(path, computed)
    return computed


def least_squares(kernel: int, down: float, across: float, side: int = SIDE) -> np.ndarray:
    """argmin over R of |up(x) * (R k) - up(x * k)|^2 + |weight * (x * (R k) - x * k)|^2, for all x and k together.

    `*` convolves with zeros beyond the edges, `up` enlarges bilinearly with corners kept. Both sides are linear in x and in
    the taps, so there is an equation for each number of the output, and each number of x, and both are products of an
    equation for rows and one for columns.
    """
    structure = [_equations(kernel, scale, side) for scale in (down, across)]
    pixels = [_equations(kernel, 1.0, side)] * 2
    large, small = (
        np.concatenate([np.kron(*(one[side] for one in structure)), PIXEL_WEIGHT * np.kron(*(one[side] for one in pixels))])
        for side in (0, 1)
    )
    return np.linalg.lstsq(large, small, rcond=None)[0]


def _equations(kernel: int, scale: float, side: int) -> tuple[np.ndarray, np.ndarray]:
    """For one axis (outputs * side of x, kernel) and (outputs * side of x, 3): what each tap brings from x to the output."""
    # The smallest map that the scale enlarges to a whole number of cells between the outermost.
    side = next(larger for larger in range(side, side + _PARTS) if (scale * (larger - 1)).is_integer())
    up = _enlarging(side, scale)
    large = _shifts(len(up), kernel) @ up  # (kernel, outputs, x)
    small = up @ _shifts(side, 3)  # (3, outputs, x)
    return large.reshape(kernel, -1).T, small.reshape(3, -1).T


def _enlarging(side: int, scale: float) -> np.ndarray:
    """Bilinear enlargement with corners kept, as a matrix (scale * (side - 1) + 1, side)."""
    at = np.arange(round(scale * (side - 1)) + 1) / scale
    return np.maximum(0, 1 - np.abs(at[:, None] - np.arange(side)))


def _shifts(side: int, kernel: int) -> np.ndarray:
    """(kernel, side, side): for each tap of a convolution of `side` numbers which one it reads for which output."""
    return np.stack([np.eye(side, k=tap - kernel // 2) for tap in range(kernel)])


@lru_cache(maxsize=64)
def _transform_on(kernel: int, down: float, across: float, device: torch.device, dtype: torch.dtype) -> Tensor:
    with torch.inference_mode(False):  # or it could be used in no other mode later
        return torch.from_numpy(transform(kernel, down, across)).to(device, dtype)


# On disk.


def cache_folder() -> Path:
    """Where maps are kept: the user's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path("~").expanduser() / ".cache") / "unetmod"


def _read(path: Path, shape: tuple[int, int]) -> np.ndarray | None:
    """What `_write` wrote; None for anything else, which is computed anew."""
    try:
        found = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    # A map keeps flat pictures flat: sums of columns are about 1.
    sound = isinstance(found, np.ndarray) and found.shape == shape and found.dtype == np.float64
    return found if sound and np.isfinite(found).all() and np.abs(found.sum(0) - 1).max() < 0.5 else None


def _write(path: Path, computed: np.ndarray) -> None:
    """Put the file into place whole; not being able to is no fault, the map is computed in a moment."""
    unfinished = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with unfinished.open("wb") as file:
            np.save(file, computed, allow_pickle=False)
        unfinished.replace(path)
    except OSError as error:
        log.debug("%s was not kept: %s", path, error)


# The convolution.


@dataclass(frozen=True)
class SeenWeight:
    """Weight (O, I, 3, 3) and bias (O,) of a convolution as its host applies them, in the dtype of what it returns.

    `costly` says that they were read off the convolution's answers.
    """

    weight: Tensor
    bias: Tensor
    costly: bool = False


def dispersed(
    x: Tensor, seen: SeenWeight, kernel: int, factors: Factors, stride: tuple[int, int] = (1, 1), wraps: bool = False
) -> Tensor:
    """`x` (B, C, H, W) convolved with the kernel spread to `kernel`, so that it sees `factors` as far.

    What the kernel cannot reach is left to whole dilations: factor 4 is a 5x5 kernel for scale 2, dilated by 2. Fractions
    are the map's, so that nothing is enlarged.

    Args:
        wraps: whether the map is a torus; else zeros lie beyond its edges.
    """
    down, across = (math.ceil(factor / reach(kernel)) for factor in factors)
    weight = dispersed_weight(seen.weight, kernel, (factors[0] / down, factors[1] / across))
    tall, wide = (kernel // 2 * dilation for dilation in (down, across))
    x = x.to(weight.dtype)
    if not wraps:
        return F.conv2d(x, weight, seen.bias, stride, (tall, wide), (down, across))
    height, width = x.shape[-2:]
    rows = torch.arange(-tall, height + tall, device=x.device) % height
    columns = torch.arange(-wide, width + wide, device=x.device) % width
    around = x.index_select(2, rows).index_select(3, columns)
    return F.conv2d(around, weight, seen.bias, stride, 0, (down, across))


def seen_weight(call: Callable[[Tensor], Tensor], module: nn.Conv2d, like: Tensor) -> SeenWeight | None:
    """The weight with which `call`, the module's own call as it stands, convolves maps of the dtype of `like`.

    The call itself, on one 5x5 map and one of zeros, makes a host do to the weight what it does on the way: put LoRAs into
    it, for one. Where the weight that then stands on the module gives the same answer, it is the one. Where it does not
    (LoRA beside the weight, packed or quantised weights), the weight is read off the answers to maps with a single 1, one
    for each input channel; None where a stride leaves that too little to see.
    """
    asked = _probe(module.in_channels).to(like.device, like.dtype)
    centre = 2 // module.stride[0], 2 // module.stride[1]
    answer, bias = call(torch.cat([asked, torch.zeros_like(asked)]))[..., centre[0], centre[1]]
    weight = module.weight
    if weight.shape == (module.out_channels, module.in_channels, 3, 3) and weight.is_floating_point():
        weight = weight.detach().to(answer.device, answer.dtype)
        own = F.conv2d(asked[..., 1:4, 1:4].to(answer.dtype), weight)[0, :, 0, 0]
        if (own + bias - answer).float().norm() <= _ROUNDING * (answer - bias).float().norm():
            return SeenWeight(weight, bias.to(weight.dtype))
    return None if module.stride != (1, 1) else SeenWeight(_read_off(call, module, like, bias), bias, costly=True)


#: Numbers that differ by less of their length are the same in half precision; a LoRA's share is larger.
_ROUNDING = 0.004


@lru_cache(maxsize=16)
def _probe(channels: int) -> Tensor:
    """(1, C, 5, 5): 1 and -1 without a pattern, the same every time. At its centre a convolution sees no padding."""
    with torch.inference_mode(False):
        drawn = torch.randint(2, (1, channels, 5, 5), generator=torch.Generator().manual_seed(0))
        return (2 * drawn - 1).float()


def _read_off(call: Callable[[Tensor], Tensor], module: nn.Conv2d, like: Tensor, bias: Tensor) -> Tensor:
    """On a 3x3 map with a 1 in the middle, the answer is the kernel turned by half a turn."""
    ones = torch.eye(module.in_channels, device=like.device, dtype=like.dtype)
    maps = F.pad(ones[:, :, None, None], (1, 1, 1, 1))
    return (call(maps) - bias[:, None, None]).flip((2, 3)).transpose(0, 1).contiguous()
