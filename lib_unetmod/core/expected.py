"""What a host expects of blocks that are not run."""

from __future__ import annotations

from torch import Tensor

from .size import Size, halved
from .unet_map import Block


def zeros_of(block: Block, x: Tensor, latent_size: Size) -> Tensor:
    """A fresh tensor of the shape that the block gives in the unmodified U-Net.

    Args:
        x: (B, C, H, W), what the block, or a layer of it, is given.
        latent_size: height and width of the latent with which the traversal began.
    """
    size = latent_size
    for _ in range(block.out_level - 1):
        size = halved(size)
    return x.new_zeros(len(x), block.out_channels, *size)
