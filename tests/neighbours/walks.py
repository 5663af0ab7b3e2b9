"""U-Nets that are called often, or not as a whole: aria1th's DeepCache, Tiled Diffusion."""

from __future__ import annotations

import functools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from unets import SPATIAL_TRANSFORMERS, UPSAMPLES, embed

from .base import Neighbour, neighbour, of_rows


@neighbour("deepcache")
class ForeignDeepCache(Neighbour):
    """Walks the layers itself, of an Upsample only its convolution.

    In evaluations that reuse, neither the blocks below `level` nor the middle are called.
    """

    leaves = True
    evaluations = 4
    level = 3
    writes = ("_deepcache_hooked",)

    def put_on(self, unet: nn.Module) -> None:
        stored, self.number, self.kept = unet.forward, -1, None
        unet.forward = functools.partial(self.hijacked_unet_forward, unet)
        unet._deepcache_hooked = True

        def detach() -> None:
            unet.forward = stored
            unet._deepcache_hooked = False

        self._undo.append(detach)

    def hijacked_unet_forward(self, unet: nn.Module, x: Tensor, timesteps=None, context=None, y=None, **kwargs) -> Tensor:
        reuses = bool(self.strength) and self.number > 0 and self.number % 5 != 0 and self.kept is not None
        keeps = self.number >= 0
        emb, h, skips = embed(unet, timesteps, y), x, []
        for index, block in enumerate(unet.input_blocks):
            h = walk_layers(block, h, emb, context)
            skips.append(h)
            if reuses and index == self.level:
                break
        if not reuses:
            h = walk_layers(unet.middle_block, h, emb, context)
        entry = len(unet.output_blocks) - self.level - 1
        for index, block in enumerate(unet.output_blocks):
            if reuses and index < entry:
                continue
            if index == entry and reuses:
                h = self.kept
            elif index == entry and keeps:
                self.kept = h
            joined = torch.cat([h, skips.pop()], dim=1)
            h = walk_layers(block, joined, emb, context, skips[-1].shape if skips else None)
        self.number += 1
        return unet.out(h)


def walk_layers(block: nn.Module, x: Tensor, emb: Tensor, context: Tensor, output_shape: Any = None) -> Tensor:
    """A block's layers one by one, as extensions of A1111 that bring a walk of their own call them."""
    for layer in block:
        if hasattr(layer, "emb_layers"):
            x = layer(x, emb)
        elif isinstance(layer, SPATIAL_TRANSFORMERS):
            x = layer(x, context)
        elif isinstance(layer, UPSAMPLES) and output_shape is not None:
            x = layer.conv(F.interpolate(x, size=output_shape[-2:], mode="nearest"))
        else:
            x = layer(x)
    return x


@neighbour("tiles")
@neighbour("tiles_apart", apart=True)
@neighbour("tile_batches", together=3)
@neighbour("tiles_36", size=(28, 28))
@neighbour("tiles_200", size=(64, 44), apart=True)
class Tiles(Neighbour):
    """Tiles of 8x8 that overlap by half, each a call of its own or several in one; their mean is the picture."""

    size = (16, 16)
    has_zero = False
    apart = False
    together = 1

    def evaluate(self, unet: nn.Module, step: dict[str, Any]) -> Tensor:
        x = step["x"]
        out, weight = torch.zeros_like(x), torch.zeros_like(x)
        height, width = x.shape[-2:]
        corners = [(top, left) for top in range(0, height - 7, 4) for left in range(0, width - 7, 4)]
        for first in range(0, len(corners), self.together):
            batch = corners[first : first + self.together]
            tiles = [x[:, :, top : top + 8, left : left + 8] for top, left in batch]
            given = {name: None if v is None else v.repeat(len(batch), *[1] * (v.ndim - 1)) for name, v in step.items()}
            given["x"] = torch.cat(tiles)
            if self.apart:
                answers = torch.cat([self.call(unet, of_rows(given, row, row + 1)) for row in range(len(given["x"]))])
            else:
                answers = self.call(unet, given)
            for (top, left), answer in zip(batch, answers.split(len(x)), strict=True):
                out[:, :, top : top + 8, left : left + 8] += answer
                weight[:, :, top : top + 8, left : left + 8] += 1
        return out / weight
