"""What all the training shares: resumable state on disk, written atomically, and a line that shows the progress."""

from __future__ import annotations

import json
import os
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


class Progress:
    """One line a quarter of a minute: share done, time left, samples a second, running means of the losses."""

    def __init__(self, name: str, minutes: float, every: float = 15.0) -> None:
        self.name, self.minutes, self.every = name, minutes, every
        self.shown = self.started = time.time()
        self.first: int | None = None
        self.means: dict[str, float] = {}

    def show(self, spent: float, step: int, samples: int, **values: float) -> None:
        self.first = samples if self.first is None else self.first
        for key, value in values.items():
            self.means[key] = 0.98 * self.means.get(key, value) + 0.02 * value
        now = time.time()
        if now - self.shown < self.every and spent < self.minutes * 60:
            return
        self.shown = now
        speed = (samples - self.first) / max(now - self.started, 1e-9)
        losses = "  ".join(f"{key} {value:.4f}" for key, value in self.means.items())
        print(
            f"{self.name} {spent / (0.6 * self.minutes):5.1f} %  {self.minutes - spent / 60:5.1f} min left  "
            f"step {step}  {samples} samples  {speed:.1f}/s  {losses}",
            file=sys.stderr,
            flush=True,
        )
