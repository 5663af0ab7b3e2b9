"""What a host says of its calls of the U-Net: one value, made in one place a host, and what the rows of a batch are."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Rows:
    """How the rows of a call's batch belong together. Calls of another batch size are not described.

    Attributes:
        conditional_of: (B,) for each row the row that holds the same picture's conditional input; a conditional row is its
            own.
    """

    conditional_of: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.conditional_of)

    @cached_property
    def conditional(self) -> tuple[int, ...]:
        """Numbers of the C conditional rows, ascending."""
        return tuple(sorted(set(self.conditional_of)))

    @cached_property
    def unconditional(self) -> tuple[int, ...]:
        """Numbers of the U other rows, ascending."""
        return tuple(row for row, of in enumerate(self.conditional_of) if row != of)

    @property
    def conditional_of_unconditional(self) -> tuple[int, ...]:
        """(U,) for each unconditional row the conditional one of its picture."""
        return tuple(self.conditional_of[row] for row in self.unconditional)

    @property
    def in_pairs(self) -> bool:
        """Whether each conditional row has one unconditional row, and the other way round."""
        others = self.conditional_of_unconditional
        return 2 * len(others) == len(self) and len(set(others)) == len(others)

    @property
    def signs(self) -> tuple[int, ...]:
        """(B,) 1 for conditional rows, -1 for the others."""
        return tuple(1 if row == of else -1 for row, of in enumerate(self.conditional_of))

    def take(self, value: Any) -> Any:
        """The conditional rows of a tensor (B, ...): a view where they are neighbours. Anything else stays as it is."""
        if isinstance(value, list):
            return [self.take(one) for one in value]
        if not self.are_of(value):
            return value
        first, last = self.conditional[0], self.conditional[-1]
        if last - first == len(self.conditional) - 1:
            return value[first : last + 1]
        return _rows_of(value, self.conditional)

    def fill(self, computed: Tensor) -> Tensor:
        """(C, ...), of the conditional rows -> (B, ...), a fresh tensor: each row gets its conditional row's."""
        places = {row: place for place, row in enumerate(self.conditional)}
        return _rows_of(computed, [places[of] for of in self.conditional_of])

    def take_unconditional(self, value: Tensor) -> Tensor:
        """(B, ...) -> (U, ...), a tensor of its own."""
        return _rows_of(value, self.unconditional)

    def are_of(self, value: Any) -> bool:
        """Whether `value` is a tensor with an entry for each row."""
        return isinstance(value, Tensor) and value.ndim > 0 and value.shape[0] == len(self)

    @classmethod
    def of_chunks(cls, conditional: Sequence[bool], batch: int) -> Rows | None:
        """Those of a batch of equal chunks, each with a row for each picture; None where several are of one kind."""
        if sorted(conditional) not in ([False, True], [True]):
            return None
        size = batch // len(conditional)
        begins = list(conditional).index(True) * size
        return cls((*range(begins, begins + size),) * len(conditional))


def _rows_of(value: Tensor, numbers: Sequence[int]) -> Tensor:
    # Not by an index tensor, which would lose the channels-last layout and have to be sent to the device.
    return torch.cat([value[number : number + 1] for number in numbers])


@dataclass(frozen=True, eq=False)
class Prompts:
    """What the rows of an evaluation are called with, by which they are told where they come in calls of their own.

    Attributes:
        conditional: (C, N, D) embeddings of the prompts and of their parts.
        unconditional: (U, M, D) embeddings of the negative prompts.
    """

    conditional: Tensor
    unconditional: Tensor

    def kinds(self, context: Tensor) -> tuple[bool, ...] | None:
        """Whether each row of a call with this context (B, L, D) is conditional; None where one cannot be told.

        A host lengthens or shortens embeddings for a batch, so they are compared as far as both go. Waits for the device.
        """
        are = [_are_among(context, known) for known in (self.conditional, self.unconditional)]
        found = torch.stack(are, 1).tolist()
        return tuple(cond for cond, _ in found) if all(cond != uncond for cond, uncond in found) else None


def _are_among(context: Tensor, known: Tensor) -> Tensor:
    """(B,) whether each row of (B, L, D) is one of (K, N, D), as far as both go."""
    length = min(context.shape[1], known.shape[1])
    if context.shape[2:] != known.shape[2:] or not length:
        return torch.zeros(len(context), dtype=torch.bool, device=context.device)
    a, b = context[:, None, :length], known[None, :, :length].to(context)
    return (a == b).flatten(2).all(2).any(1)


#: The reason where a host says nothing of the rows.
UNTOLD = "this program does not say which part of a batch is the prompt's (run.guidance)."


@dataclass(frozen=True)
class Guidance:
    """Classifier-free guidance: its scale, and which rows it joins.

    Attributes:
        scale: of classifier-free guidance, times the weights of a prompt's parts; at 1 the unconditional rows do not count.
        rows: how the rows of a call that holds all of them belong together; a tuple stands for `Rows` of it.
        reason: where no conditional row can stand in for an unconditional one, why, as a sentence's end for the user, after
            a colon.
        reason_at_one: the same for where the unconditional rows do not count, since the scale is 1.
        prompts: by which rows that come in calls of their own can be told.
        joined_by: asks for the name of an extension that joins the rows in the host's place, and may use them all at any
            scale; empty where the host does. To be asked as late as can be: some come after the host has told the rest.
    """

    scale: float
    rows: Rows = Rows()
    reason: str = ""
    reason_at_one: str = ""
    prompts: Prompts | None = field(default=None, compare=False)
    joined_by: Callable[[], str] = field(default=lambda: "", compare=False, repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.rows, Rows):
            object.__setattr__(self, "rows", Rows(tuple(self.rows)))


@dataclass(frozen=True)
class HostCall:
    """What a host says of its next calls of the U-Net.

    Attributes:
        guidance: of these calls, None where nothing is known.
        prediction: what the U-Net predicts: "eps", the noise, or "v".
        pass_name: "first", "hires" or "img2img".
        last_pass: whether what this pass draws is the picture, and not what another pass begins with.
        seed: the picture's, from which methods that draw at random take their generators.
        denoising: the pass's denoising strength, None where it is not known.
        evaluations: how many evaluations the pass makes, None where it is not known.
        sampler: the pass's sampler, as A1111 calls it ("DPM++ 2M"); empty where it is not known.
        schedule: how its noise levels are spaced: "uniform", "karras", "exponential", "trailing"; empty where not known.
        moving: where the rows of a call are others than in the same call of the evaluation before, so that nothing can be
            continued: why and what to do, as sentences for the user, after a colon. Empty where they stay.
        conditions: asks for what acts on the prediction besides the prompt, as a value to compare: weights of LoRAs,
            ControlNets that are on now. Where it changes, nothing is continued. Asked in each call, since some change later
            than the host has told the rest.
        networks: asks for the modules that a host runs in a call of the U-Net before its layers, and whose answers (lists of
            tensors) it adds on the way: ControlNets.
    """

    guidance: Guidance | None = None
    prediction: str = "eps"
    pass_name: str = "first"
    last_pass: bool = True
    seed: int = 0
    denoising: float | None = None
    evaluations: int | None = None
    sampler: str = ""
    schedule: str = ""
    moving: str = ""
    conditions: Callable[[], Hashable] = field(default=lambda: None, compare=False, repr=False)
    networks: Callable[[], Iterable[nn.Module]] = field(default=tuple, compare=False, repr=False)
