"""What all the training shares: resumable state on disk, written atomically, and a line that shows the progress."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn


def write_atomically(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
    """A reader sees the old file or the new one, never half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".part")
    save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, temporary, metadata)
    temporary.chmod(0o644)
    os.replace(temporary, path)


def save_state(
    path: Path, module: nn.Module, optimizer: torch.optim.Optimizer, spent: float, samples: int, **more: nn.Module
) -> None:
    """Weights, the optimizer's moments, the seconds spent and the samples seen. `more` modules are saved by name."""
    tensors = {
        f"{name}:{key}": value
        for name, each in {"module": module, **more}.items()
        for key, value in each.state_dict().items()
    }
    for number, moments in optimizer.state_dict()["state"].items():
        tensors.update({f"optimizer:{number}:{key}": value for key, value in moments.items()})
    write_atomically(tensors, path, {"progress": json.dumps({"spent": spent, "samples": samples})})


def load_state(
    path: Path, module: nn.Module, optimizer: torch.optim.Optimizer | None = None, **more: nn.Module
) -> tuple[float, int]:
    """Puts back what `save_state` wrote; (seconds spent, samples seen), or (0, 0) where there is nothing."""
    if not path.is_file():
        return 0.0, 0
    with safe_open(str(path), framework="pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - it is no dict
        progress = json.loads(file.metadata()["progress"])
    for name, each in {"module": module, **more}.items():
        each.load_state_dict({key[len(name) + 1 :]: value for key, value in tensors.items() if key.startswith(name + ":")})
    moments: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("optimizer:"):
            _, number, name = key.split(":")
            moments.setdefault(int(number), {})[name] = value
    if optimizer is not None:
        optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})
    return progress["spent"], progress["samples"]


class Stopping:
    """True once the process was asked to end (SIGTERM, SIGINT): the loop ends after its step and saves."""

    def __init__(self) -> None:
        self.asked = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._ask)

    def _ask(self, *_: object) -> None:
        self.asked = True

    def __bool__(self) -> bool:
        return self.asked


class Log:
    """Now and then one line: share done, samples, samples a second (by the clock, and of CPU time), means of the values."""

    def __init__(self, name: str, total: int, seen: int, every: float = 60.0) -> None:
        self.name, self.total, self.every = name, total, every
        self._since(seen)

    def _since(self, seen: int) -> None:
        self.clock, self.cpu, self.first = time.time(), time.process_time(), seen
        self.sums: dict[str, float] = {}
        self.number = 0

    def add(self, seen: int, **values: float) -> None:
        """Values of one step, whose means the next line shows."""
        self.number += 1
        for key, value in values.items():
            self.sums[key] = self.sums.get(key, 0.0) + value
        clock, cpu = time.time() - self.clock, time.process_time() - self.cpu
        if clock < self.every:
            return
        speeds = {"per_second": (seen - self.first) / clock, "per_cpu_second": (seen - self.first) / max(cpu, 1e-9)}
        self.line(seen, **speeds, **{key: value / self.number for key, value in self.sums.items()})
        self._since(seen)

    def line(self, seen: int, **values: float) -> None:
        shown = "  ".join(f"{key} {value:.4g}" for key, value in values.items())
        print(
            f"{time.strftime('%F %T')}  {self.name} {100 * seen / self.total:5.2f} %  {seen} samples  {shown}",
            file=sys.stderr,
            flush=True,
        )
