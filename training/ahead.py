"""What other processes make while the device is busy."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import TypeVar

from torch.utils.data import DataLoader, IterableDataset, get_worker_info

T = TypeVar("T")


class _Endless(IterableDataset):
    def __init__(self, make: Callable[[random.Random], T], seed: int) -> None:
        self.make, self.seed = make, seed

    def __iter__(self) -> Iterator[T]:
        worker = get_worker_info()
        pick = random.Random(f"{self.seed} {worker.id if worker else 0}")
        while True:
            yield self.make(pick)


def _as_it_is(made: T) -> T:
    return made


def ahead(make: Callable[[random.Random], T], seed: int, workers: int) -> Iterator[T]:
    """What `make` makes, again and again: ahead, by so many processes, or with 0 here, when it is asked for."""
    return iter(DataLoader(_Endless(make, seed), batch_size=None, collate_fn=_as_it_is, num_workers=workers))
