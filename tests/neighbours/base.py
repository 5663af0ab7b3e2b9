"""What an extension does to a U-Net, as tests put it on and ask of it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from hosts import HOSTS
from torch import Tensor, nn
from unets import TRANSFORMER_BLOCKS


class Neighbour:
    """What one extension does to a U-Net.

    Attributes:
        name: by which it is registered; empty of nobody.
        host: in which of `HOSTS` it lives.
        rows_by_place: whether its picture is wrong where a layer gets fewer or more rows than the U-Net does.
        comes_inside: whether it comes and goes while the sampler runs, and not around the sampling.
        stays: whether it is on for good: what is left of a picture before.
        evaluations: how many it takes until all that it does was done.
        frames: how many rows a prompt has: a batch's pictures, or frames of one.
        writes: attributes of modules that it sets while the U-Net runs.
        leaves: whether anything but that stays on a U-Net when its picture is done.
        has_zero: whether a strength of 0 tells anything.
        answers: of the U-Net, to each call of the picture.
        missed: what it waited for in vain.
    """

    name = ""
    host = "a1111"
    rows_by_place = False
    comes_inside = False
    stays = False
    evaluations = 2
    size = (8, 8)
    frames = 1
    writes: tuple[str, ...] = ()
    leaves = False
    has_zero = True

    def __init__(self, strength: float = 1.0) -> None:
        self.strength = strength
        self.answers: list[Tensor] = []
        self.missed: list[str] = []
        self._undo: list[Callable[[], None]] = []

    @property
    def in_fork(self) -> bool:
        return HOSTS[self.host].name in ("forge", "forge_classic", "reforge")

    @property
    def conditional_of(self) -> tuple[int, ...]:
        """For each row of a call the conditional row of its picture: the forks put the negative prompt's first."""
        n = self.frames
        first = n if self.in_fork else 0
        return (*range(first, first + n), *range(first, first + n))

    def put_on(self, unet: nn.Module) -> None:
        """Its picture begins."""

    def take_off(self) -> None:
        """Its picture is done. What extensions leave behind stays."""
        while self._undo:
            self._undo.pop()()

    def twin(self) -> Neighbour | None:
        """One that draws what this one does, by means that nobody can get in the way of; None where there is none."""
        return self.alone() if self.has_zero and not self.strength else None

    def alone(self) -> Neighbour:
        """Nobody, in the same host and with the same pictures."""
        nobody = Neighbour(0.0)
        for name in ("host", "size", "frames", "evaluations"):
            setattr(nobody, name, getattr(self, name))
        return nobody

    @contextlib.contextmanager
    def on(self, unet: nn.Module) -> Iterator[None]:
        """Its picture, whatever happens in it."""
        self.put_on(unet)
        try:
            yield
        finally:
            self.take_off()

    def begin_evaluation(self, unet: nn.Module) -> None:
        """The host's callback before an evaluation (`on_cfg_denoiser`)."""

    def evaluate(self, unet: nn.Module, step: dict[str, Any]) -> Tensor:
        """What the host makes of one evaluation, as large as the step's x."""
        return self.call(unet, step)

    def call(self, unet: nn.Module, step: dict[str, Any], **more: Any) -> Tensor:
        """One call of the U-Net."""
        if self.in_fork:
            chunks = [1, 0] if len(step["x"]) > 1 else [1]
            options = {"cond_or_uncond": chunks, **more.pop("transformer_options", {})}
            more["transformer_options"] = options
        self.answers.append(HOSTS[self.host].forward(unet, **step, **more))
        return self.answers[-1]


NEIGHBOURS: dict[str, Callable[..., Neighbour]] = {}


def neighbour(name: str, **settings: Any) -> Callable[[type[Neighbour]], type[Neighbour]]:
    """Register a class under a name, with settings of its own where one class stands for several."""

    def register(cls: type[Neighbour]) -> type[Neighbour]:
        NEIGHBOURS[name] = type(cls.__name__, (cls,), {"name": name, **settings})
        return cls

    return register


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def transformers(unet: nn.Module) -> list[nn.Module]:
    return [module for module in unet.modules() if isinstance(module, TRANSFORMER_BLOCKS)]


def of_rows(step: dict[str, Any], first: int, last: int) -> dict[str, Any]:
    return {name: None if value is None else value[first:last] for name, value in step.items()}


def attention(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """Multi-head attention of projected tokens (B, N, inner), without the projection after it."""
    q, k, v = (t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
