"""ControlNets are spared where no layer of the U-Net runs: their answers would be added to what nobody computes.

A host runs them in the call of the U-Net, before its first layer is entered, and so before a method is asked. Whether the
traversal to come is one in which no layer runs is therefore asked beforehand, of the state in which that traversal will be.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ...core.edits import NetworkEdit
from ...core.patching import Edit
from ...core.run import Run
from ...core.unet_call import UNetCall


class SparedNetworks:
    """The networks that the host names, and whether they run in the current call of the U-Net.

    Args:
        idle: asked in the state of a traversal, whether no layer runs in it.
    """

    def __init__(self, run: Run, idle: Callable[[], bool]) -> None:
        self._run = run
        self._idle = idle
        self._answered: dict[nn.Module, tuple[torch.Size, list[Tensor]]] = {}
        self._asked_in: weakref.ref[UNetCall] | None = None
        self._idle_then = False
        self._spared_in: weakref.ref[UNetCall] | None = None

    def edits(self) -> Iterator[Edit]:
        for network in dict.fromkeys(self._run.call.networks()):
            yield NetworkEdit(network, partial(self._answer, network))

    @property
    def spared(self) -> bool:
        """Whether one was, in the current call."""
        return self._spared_in is not None and self._spared_in() is self._run.called_with

    def _answer(self, network: nn.Module, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        x = self._run.called_with.x
        if x is None:
            return call(*args, **kwargs)
        shape, last = self._answered.get(network, (None, ()))
        if shape == x.shape and self._is_idle():
            self._spared_in = weakref.ref(self._run.called_with)
            return [one.new_zeros(one.shape) for one in last]
        out = call(*args, **kwargs)
        if _is_list_of_tensors(out):
            self._answered[network] = x.shape, [one.new_empty(1).expand(one.shape) for one in out]
        return out

    def _is_idle(self) -> bool:
        called = self._run.called_with
        if self._asked_in is None or self._asked_in() is not called:
            self._idle_then = self._asked()
            self._asked_in = weakref.ref(called)
        return self._idle_then

    def _asked(self) -> bool:
        # What goes wrong here does so again in the traversal, where it is caught and told.
        with suppress(Exception), self._run.coming_traversal():
            return self._idle()
        return False


def _is_list_of_tensors(out: Any) -> bool:
    return isinstance(out, Sequence) and all(isinstance(one, Tensor) for one in out)
