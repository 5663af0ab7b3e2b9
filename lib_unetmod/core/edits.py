"""What an edit does, said once: it changes what goes into a module or a block, what comes out, or stands in for it.

A function is given maps and gives maps; whatever else the host passes goes on to the layer as it is. Where both sides or
the other arguments matter, as in attentions, an `Edit` has the whole call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor, nn

from .depth import Depth
from .patching import Edit
from .unet_map import Block

#: Maps (B, C, H, W) or tokens (B, N, C) to such.
Change = Callable[[Tensor], Tensor]


def before(module: nn.Module, change: Change, at: Depth | None = None) -> Edit:
    """`module` runs on `change(x)` in place of its input `x`."""

    def changed(call: Callable[..., Tensor], x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return call(change(x), *args, **kwargs)

    return Edit(module, changed, at)


def after(module: nn.Module, change: Change, at: Depth | None = None) -> Edit:
    """`module` answers `change(out)` in place of its own answer `out`."""

    def changed(call: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        return change(call(*args, **kwargs))

    return Edit(module, changed, at)


def instead(module: nn.Module, answer: Callable[[Change, Tensor], Tensor], at: Depth | None = None) -> Edit:
    """`module` answers `answer(layer, x)`, where `layer(maps)` is its own answer to other maps, or to `x`."""

    def answered(call: Callable[..., Tensor], x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return answer(lambda maps: call(maps, *args, **kwargs), x)

    return Edit(module, answered, at)


def around_block(block: Block, enter: Change | None, leave: Change | None, at: Depth | None = None) -> Iterator[Edit]:
    """The block runs on `enter(x)` and answers `leave(out)`.

    A block is its layers to hosts that walk them themselves, so these are edits of its first and of its last layer.
    """
    # The last layer's edit comes first, so that it stands outside where one layer is both.
    if leave is not None:
        yield after(block.layers[-1].module, leave, at)
    if enter is not None:
        yield before(block.layers[0].module, enter, at)


class NetworkEdit(Edit):
    """An edit of a module that a host runs in a call of the U-Net before its layers (`HostCall.networks`).

    It stands outside the traversals: it has to ask itself whether it is to act, and is not counted.
    """


class DecoderEdit(Edit):
    """An edit of the autoencoder for finished pictures: it acts on what is decoded in the last of a picture's passes.

    It keeps to the passes of its method but not to its window, which is about evaluations.
    """

    @classmethod
    def of(cls, edit: Edit) -> DecoderEdit:
        """The same edit, for finished pictures."""
        return cls(edit.module, edit.wrapper, edit.at)
