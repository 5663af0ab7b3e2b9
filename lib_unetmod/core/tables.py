"""Small tensors that follow from sizes and settings alone: made once, kept on their device while a run is on.

Sending one to the device in every evaluation would make the host wait for it each time; keeping them for the life of the
process would keep a device that is not used any more.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor

P = ParamSpec("P")
T = TypeVar("T")

#: Of one function: the sizes of a picture's levels, in two passes.
MOST = 256

_kept: list[OrderedDict[Hashable, Any]] = []
_runs_on = 0


def table(make: Callable[P, T]) -> Callable[P, T]:
    """`make`, whose results for equal arguments are kept, the last `MOST` of them, until no run is on.

    Nothing may change what it returns. Where no run is on it is made anew at each call.
    """
    results: OrderedDict[Hashable, T] = OrderedDict()
    _kept.append(results)

    @wraps(make)
    def kept(*args: P.args, **kwargs: P.kwargs) -> T:
        key = (args, tuple(kwargs.items()))
        if key in results:
            results.move_to_end(key)
            return results[key]
        with torch.inference_mode(False):  # or it could be used in no other mode later
            made = make(*args, **kwargs)
        if _runs_on:
            results[key] = made
            while len(results) > MOST:
                results.popitem(last=False)
        return made

    return kept


def sent(tensor: Tensor, device: torch.device, dtype: torch.dtype | None = None) -> Tensor:
    """A tensor of the host's on the device, without waiting for what the device does."""
    # Copies from ordinary memory are safe so on CUDA; on MPS they are not.
    return tensor.to(device, dtype or tensor.dtype, non_blocking=device.type != "mps")


def run_begins() -> None:
    """Tables are kept from now on."""
    global _runs_on
    _runs_on += 1


def run_ends() -> None:
    """With the last run that is on, all tables go."""
    global _runs_on
    _runs_on -= 1
    if not _runs_on:
        for results in _kept:
            results.clear()


def count() -> int:
    """How many are kept now."""
    return sum(map(len, _kept))
