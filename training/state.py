"""What all the training shares: resumable state on disk, written atomically, and a line that shows the progress."""

from __future__ import annotations

import json
import math
import os
import signal
import sys
import time
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Budget:
    """How long to train: until so many samples were seen or so many seconds of the clock are over, with all restarts."""

    samples: float = math.inf
    seconds: float = math.inf

    def spent(self, samples: int, seconds: float) -> float:
        """The share that is spent, from 0 to 1."""
        return min(1.0, max(samples / self.samples, seconds / self.seconds))


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
    """Now and then one line: share of the budget that is spent, samples, samples a second, means of the values."""

    def __init__(self, name: str, seen: int, every: float = 60.0) -> None:
        self.name, self.every = name, every
        self._since(seen)

    def _since(self, seen: int) -> None:
        self.clock, self.first, self.number = time.time(), seen, 0
        self.sums: dict[str, float | Tensor] = {}

    def add(self, spent: float, seen: int, **values: float | Tensor) -> None:
        """Values of one step, whose means the next line shows; tensors are waited for only then."""
        self.number += 1
        for key, value in values.items():
            self.sums[key] = self.sums.get(key, 0.0) + value
        if time.time() - self.clock < self.every:
            return
        means = {key: float(value) / self.number for key, value in self.sums.items()}
        self.line(spent, seen, per_second=(seen - self.first) / (time.time() - self.clock), **means)
        self._since(seen)

    def line(self, spent: float, seen: int, **values: float) -> None:
        shown = "  ".join(f"{key} {value:.4g}" for key, value in values.items())
        print(
            f"{time.strftime('%F %T')}  {self.name} {100 * spent:5.2f} %  {seen} samples  {shown}",
            file=sys.stderr,
            flush=True,
        )
