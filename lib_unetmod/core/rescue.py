"""What becomes of an exception of ours: the U-Net is called again without the methods, and the picture is made.

Nothing of ours stands around the whole U-Net, only around its layers. So where one fails, it and those after it answer with
zeros of the shapes that the host expects, and the U-Net's last layers with what the U-Net gives when it is called again as
it is. Where that fails too, the exception is not ours, and goes its way.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Collection, Iterator
from functools import partial
from typing import Any

from torch import Tensor, nn

from .expected import zeros_of
from .patching import Edit
from .size import Size, size_of
from .unet_map import Block, Layer, UNetMap

log = logging.getLogger(__name__)


class LayerBypassed(RuntimeError):
    """A part of a layer was called and the layer was not, so that what stands around the layer did not act."""


class Failure:
    """An exception, without the tensors that its frames hold."""

    def __init__(self, error: Exception) -> None:
        where = getattr(error, "unetmod_method", "")
        self.reason = f"An error{f' in {where}' if where else ''} ({type(error).__name__})"
        if isinstance(error, LayerBypassed):
            self.reason = "Another extension, which runs the U-Net in a way of its own,"
        self.text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
        traceback.clear_frames(error.__traceback__)


class Rescue:
    """Guards the layers of blocks in which anything of ours stands.

    Args:
        call_plainly: calls the U-Net again as it was called, with no method acting.
        stand_aside: is told what failed when that has worked.
    """

    def __init__(self, unet: UNetMap, call_plainly: Callable[[], Tensor], stand_aside: Callable[[Failure], None]) -> None:
        self._unet = unet
        self._call_plainly = call_plainly
        self._stand_aside = stand_aside
        self._failure: Failure | None = None
        self._inside: nn.Module | None = None
        self._latent_size: Size = (0, 0)
        self._watches = True  # until it had to stand aside once

    def edits(self, edited: Collection[nn.Module]) -> Iterator[Edit]:
        """Edits that stand outside all others, where these modules lie; none for a U-Net without last layers of its own."""
        if self._unet.out is None:
            return
        yield Edit(self._unet.out, self._end)
        first = self._unet.input_blocks[0]
        for block in self._unet.blocks:
            inner = (module for layer in block.layers for module in layer.module.modules())
            if block is first or any(module in edited for module in inner):
                for layer in block.layers:
                    yield Edit(layer.module, partial(self._run, block, layer, layer is first.layers[0]))
                    # Walks of other extensions' own resize a map in an Upsample's place and call its convolution alone.
                    if layer.kind == "up" and layer.module in edited and hasattr(layer.module, "conv"):
                        yield Edit(layer.module.conv, partial(self._part, layer))

    def _run(
        self, block: Block, layer: Layer, begins: bool, call: Callable[..., Tensor], x: Tensor, *args: Any, **kwargs: Any
    ) -> Tensor:
        if not self._watches:
            return call(x, *args, **kwargs)
        if begins:
            self._failure, self._latent_size = None, size_of(x)
        self._inside = layer.module
        out = None if self._failure else self._tried(call, x, *args, **kwargs)
        self._inside = None
        return zeros_of(block, x, self._latent_size) if out is None else out

    def _part(self, layer: Layer, call: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        if self._watches and self._inside is not layer.module and not self._failure:
            self._failure = Failure(LayerBypassed(f"{layer.name}.conv was called, and {layer.name} was not"))
        return call(*args, **kwargs)

    def _tried(self, call: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor | None:
        """What a layer answers; None where it fails."""
        try:
            return call(*args, **kwargs)
        except Exception as error:
            self._failure = Failure(error)
            return None

    def _end(self, call: Callable[..., Tensor], h: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if not self._watches:
            return call(h, *args, **kwargs)
        out = None if self._failure else self._tried(call, h, *args, **kwargs)
        return self._rescued() if out is None else out

    def _rescued(self) -> Tensor:
        failure, self._failure, self._watches = self._failure, None, False
        try:
            out = self._call_plainly()
        except BaseException:
            self._watches = True  # it was not ours
            raise
        log.error("UNet Mod was left out of an image after this error:\n%s", failure.text)
        self._stand_aside(failure)
        return out
