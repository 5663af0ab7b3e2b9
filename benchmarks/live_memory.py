"""The most bytes of tensors alive at once while something runs, on any device.

Counted from what every operation returns, so that what an operation needs inside itself and gives back is not seen.
"""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten


class LiveMemory(TorchDispatchMode):
    """`with LiveMemory() as memory: ...` and then `memory.peak`, in bytes; tensors from before are not counted."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0
        self.peak = 0
        self._counted: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        known = {one.untyped_storage()._cdata for one in tree_flatten((args, kwargs))[0] if isinstance(one, torch.Tensor)}
        out = func(*args, **(kwargs or {}))
        for one in tree_flatten(out)[0]:
            if isinstance(one, torch.Tensor) and one.untyped_storage()._cdata not in known | self._counted:
                self._count(one.untyped_storage())
        return out

    def _count(self, storage: torch.UntypedStorage) -> None:
        size, key = storage.nbytes(), storage._cdata
        self._counted.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._gone, key, size)

    def _gone(self, key: int, size: int) -> None:
        self._counted.discard(key)
        self.now -= size
