"""The linear map that spreads a 3x3 kernel over 5x5 or 7x7: the least-squares answer for any scales.

Convolution dispersion (He et al. 2023, "ScaleCrafter", section 3.3). The map R (K*K, 9) answers two wishes, for every kernel
k and every small map x: on x enlarged, the kernel R k does what k does before enlarging (structure), and on x itself R k
does what k does (pixels, with a small weight). It depends on sizes and scales only.
"""

from __future__ import annotations

import numpy as np

#: The weight of what happens on the map itself, and the least side of the maps that are looked at: the authors' values. The
#: 5x5 map for scale 2 that they publish has a side of 3, with which the border counts more.
PIXEL_WEIGHT = 0.05
SIDE = 7

#: Scales are rounded to parts of this many: such maps can be enlarged with a sample on either edge.
PARTS_OF_SCALE = 4


def rounded(scale: float) -> float:
    """The scale for which a map is computed in its place."""
    return round(PARTS_OF_SCALE * scale) / PARTS_OF_SCALE


def least_squares(kernel: int, y: float, x: float, side: int = SIDE) -> np.ndarray:
    """argmin over R of |up(x) * (R k) - up(x * k)|^2 + |weight * (x * (R k) - x * k)|^2, for all x and k together.

    `*` convolves with zeros beyond the edges, `up` enlarges bilinearly with corners kept. Both sides are linear in x and in
    the taps, so there is an equation for each number of the output, and each number of x, and both are products of an
    equation for rows and one for columns.
    """
    structure = [_equations(kernel, scale, side) for scale in (y, x)]
    pixels = [_equations(kernel, 1.0, side)] * 2
    large, small = (
        np.concatenate([np.kron(*(one[side] for one in structure)), PIXEL_WEIGHT * np.kron(*(one[side] for one in pixels))])
        for side in (0, 1)
    )
    return np.linalg.lstsq(large, small, rcond=None)[0]


def _equations(kernel: int, scale: float, side: int) -> tuple[np.ndarray, np.ndarray]:
    """For one axis (outputs * side of x, kernel) and (outputs * side of x, 3): what each tap brings from x to the output."""
    # The smallest map that the scale enlarges to a whole number of cells between the outermost.
    side = next(larger for larger in range(side, side + PARTS_OF_SCALE) if (scale * (larger - 1)).is_integer())
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
