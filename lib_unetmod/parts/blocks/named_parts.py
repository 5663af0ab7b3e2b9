"""The parts of a U-Net by the names that a user gives them, and what stands in for each when it is left out.

`in.4` is a whole block, `in.4.res` its ResBlock, `mid.res.1` the middle's second one, `in.4.attn` its transformer, and
`in.4.self`, `in.4.cross` and `in.4.ff` are what is added to the tokens in that; `in.4.ff@0.5-1` is meant from half of the
way on. Each is a branch beside a shortcut, which remains.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...core.edits import Change
from ...core.knobs import PARSERS, ConfigError
from ...core.schedule import ProgressRange
from ...core.unet_map import Block, UNetMap

#: `answer(layer, x)` as `core.edits.instead` has it.
Answer = Callable[[Change, Tensor], Tensor]

#: In the order in which they run; `attn` holds the three after it.
KINDS = ("res", "attn", "self", "cross", "ff")
IN_ATTN = ("self", "cross", "ff")
#: Between a name and the progress from and until which it is meant.
AT = "@"
ALWAYS = ProgressRange()


@dataclass(frozen=True, eq=False)
class Branch:
    """A module that is not run, and what is answered instead. `kept` is what of it runs all the same, if anything."""

    module: nn.Module
    answer: Answer
    kept: nn.Module | None = None


def branches_of(name: str, unet: UNetMap) -> list[Branch]:
    """The branches that a name, with or without a window, means.

    Raises:
        ConfigError: for what the U-Net does not have; a sentence that begins with "names".
    """
    block, kind, number = _parsed(name.partition(AT)[0], unet)
    chosen = [*_of_kind(block, "res"), *_of_kind(block, "attn")] if kind is None else _of_kind(block, kind)
    if number is not None:
        chosen = chosen[number : number + 1]
    if not chosen:
        raise ConfigError(f"names {name}, but {_contents(block)}.")
    return chosen


def window_of(name: str) -> ProgressRange:
    """The progress in which a name is meant: all of it where it says none.

    Raises:
        ConfigError: for what is no such range; a sentence that begins with "names".
    """
    _, at, window = name.partition(AT)
    if not at:
        return ALWAYS
    start, end = (PARSERS[float](one) for one in (window.partition("-")[::2]))
    if start is None or end is None or not 0 <= start < end <= 1:
        raise ConfigError(f"names {name[:40]!r}; after {AT} come two numbers from 0 to 1, the lower first, such as 0.5-1.")
    return ProgressRange(start, end)


def within(name: str, window: ProgressRange) -> str:
    """The name of a part, meant in this window alone."""
    return name if window.always else f"{name}{AT}{window.start:g}-{window.end:g}"


def all_names(unet: UNetMap) -> Iterator[str]:
    """Of every part that can be left out; transformers of several layers are named as one."""
    for block in unet.blocks:
        for kind in KINDS:
            count = len(_of_kind(block, kind))
            if kind == "res" and count > 1:
                yield from (f"{block.name}.{kind}.{number}" for number in range(count))
            elif count:
                yield f"{block.name}.{kind}"


def share_branches(name: str, other: str) -> bool:
    """Whether two different names of `all_names` mean something of each other: a transformer and what is in it."""
    (block, kind), (its_block, its_kind) = (one.partition(AT)[0].rsplit(".", 1) for one in (name, other))
    return block == its_block and {"attn"} < {kind, its_kind} <= {"attn", *IN_ATTN}


def _of_kind(block: Block, kind: str) -> list[Branch]:
    inner = block.transformer_blocks
    if kind == "res":
        layers = (layer.module for layer in block.of_kind("res"))
        return [Branch(module, _shortcut_of(module), module.skip_connection) for module in layers]
    if kind == "attn":
        return [Branch(layer.module, _identity) for layer in block.of_kind("attn")]
    modules = {
        "self": (one.self_attention for one in inner),
        "cross": (one.cross_attention for one in inner),
        "ff": (one.feed_forward for one in inner),
    }[kind]
    return [Branch(module, _nothing_added) for module in modules if module is not None]


def _parsed(name: str, unet: UNetMap) -> tuple[Block, str | None, int | None]:
    side, *rest = name.split(".")
    if side != "mid" and rest:
        side, rest = f"{side}.{rest[0]}", rest[1:]
    try:
        block = unet.block(side)
    except KeyError:
        last = len(unet.input_blocks) - 1
        raise ConfigError(f"names {name[:40]!r}; this U-Net has in.0 to in.{last}, mid, and out.0 to out.{last}.") from None
    kind, number = [*rest, None, None][:2]
    if len(rest) > 2 or (kind is not None and kind not in KINDS) or (number is not None and not number.isdecimal()):
        raise ConfigError(f"names {name[:40]!r}; after {side} may come {', '.join(KINDS)} and then a number.")
    return block, kind, None if number is None else int(number)


def _contents(block: Block) -> str:
    counts = {
        "ResBlock": len(block.of_kind("res")),
        "transformer": len(block.of_kind("attn")),
        "transformer layer": len(block.transformer_blocks),
    }
    present = [f"{count} {thing}{'s' * (count > 1)}" for thing, count in counts.items() if count]
    return f"{block.name} has only {' and '.join(present)}" if present else f"{block.name} has nothing to leave out"


def _shortcut_of(res_block: nn.Module) -> Answer:
    def shortcut(layer: Change, x: Tensor) -> Tensor:
        kept = res_block.skip_connection(x)
        return kept.clone() if kept is x else kept

    return shortcut


def _identity(layer: Change, x: Tensor) -> Tensor:
    return x.clone()


def _nothing_added(layer: Change, x: Tensor) -> Tensor:
    return torch.zeros_like(x)
