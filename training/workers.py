"""Several processes that train one model: each has its share of a batch, all have the same weights.

On a CPU two processes of one thread give a third more than one of two: the U-Net's operations are small, and the
threads would wait for each other after every one of them, the processes only once a step.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor


def _enter(rank: int, number: int, port: int, threads: int, work: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(threads)
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    dist.init_process_group("gloo", rank=rank, world_size=number)
    try:
        work(*arguments)
    finally:
        dist.destroy_process_group()


def in_parallel(work: Callable[..., None], number: int, *arguments: Any) -> None:
    """Runs `work(*arguments)` in so many processes of one thread each, or right here where it is one."""
    if number <= 1:
        work(*arguments)
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    mp.spawn(_enter, (number, port, 1, work, arguments), nprocs=number)


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def number() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def average_gradients(parameters: list[Tensor], more: float) -> float:
    """Every process gets the mean gradients, in place, and the mean of `more`, so that all stop together."""
    if number() == 1:
        return more
    gradients = [p.grad for p in parameters]
    flat = torch.cat([*(g.flatten() for g in gradients), gradients[0].new_tensor([more])])
    dist.all_reduce(flat)
    flat /= number()
    parts = flat[:-1].split([g.numel() for g in gradients])
    torch._foreach_copy_(gradients, [part.view_as(g) for part, g in zip(parts, gradients, strict=True)])
    return float(flat[-1])
