"""How far two pictures are apart: pixel by pixel (PSNR) and in their structure (SSIM)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Distance:
    """`psnr` in dB: infinite for identical pictures, below 20 they differ at sight. `ssim`: 1 = same structure, 0 = none."""

    psnr: float
    ssim: float

    @property
    def identical(self) -> bool:
        return math.isinf(self.psnr)

    def __str__(self) -> str:
        return "identical" if self.identical else f"PSNR {self.psnr:.1f} dB, SSIM {self.ssim:.3f}"


def distance(first: Image.Image, second: Image.Image) -> Distance:
    """The distance of two pictures of one size.

    Raises:
        ValueError: where their sizes differ.
    """
    if first.size != second.size:
        raise ValueError(f"Pictures of {first.size} and {second.size} pixels cannot be compared; their sizes must agree.")
    a, b = _pixels(first), _pixels(second)
    return Distance(psnr(a, b), ssim(a, b))


def psnr(a: Tensor, b: Tensor) -> float:
    """Peak signal-to-noise ratio in dB of pictures (3, H, W) with values 0 to 255: 10 log10(255^2 / MSE)."""
    error = (a - b).square().mean().item()
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


def ssim(a: Tensor, b: Tensor) -> float:
    """Structural similarity of the lightness of pictures (3, H, W) with values 0 to 255, both sides at least 11.

    Wang et al. 2004, equation 13, with their window (11x11, Gaussian of 1.5 pixels) and constants, averaged over all places
    where the whole window fits.
    """
    x, y = _lightness(a), _lightness(b)
    mean_x, mean_y = _blur(x), _blur(y)
    variance_x, variance_y = _blur(x * x) - mean_x**2, _blur(y * y) - mean_y**2
    covariance = _blur(x * y) - mean_x * mean_y
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    lightness = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    structure = (2 * covariance + c2) / (variance_x + variance_y + c2)
    return (lightness * structure).mean().item()


def _pixels(picture: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1).double()


def _lightness(picture: Tensor) -> Tensor:
    """(3, H, W) -> (1, 1, H, W), weighted as in ITU-R BT.601."""
    return (picture * picture.new_tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(0)[None, None]


def _blur(x: Tensor) -> Tensor:
    """(1, 1, H, W) -> (1, 1, H - 10, W - 10)."""
    weights = torch.exp(-((torch.arange(11, dtype=x.dtype) - 5) ** 2) / (2 * 1.5**2))
    weights = weights / weights.sum()
    return F.conv2d(F.conv2d(x, weights.view(1, 1, 11, 1)), weights.view(1, 1, 1, 11))
