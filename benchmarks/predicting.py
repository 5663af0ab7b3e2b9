"""The time that a method should take: that of each part of a plain evaluation, scaled by the work that is left of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from torch import nn

from benchmarks.cases import Case
from benchmarks.skip_blocks import predicted as predicted_of_skipping
from benchmarks.skip_blocks import shares
from benchmarks.timing import Stopwatch
from lib_unetmod import DeepCache, GuidanceInterval, HiDiffusion, SkipBlocks, StepForecast, inspect_unet


@dataclass
class Shares:
    """What part of a plain evaluation each layer takes, and each level's self-attention product and projections."""

    layers: dict[nn.Module, float]
    attention: dict[tuple[int, str], float] = field(default_factory=dict)

    @classmethod
    def measure(cls, unet: nn.Module, inputs: dict, rounds: int) -> Shares:
        structure = inspect_unet(unet)
        found = cls(shares(unet, inputs, rounds))
        levels = {inner.self_attention: block.level for block in structure.blocks for inner in block.transformer_blocks}
        watch = Stopwatch()
        with _timed_projections(levels, watch):
            for _ in range(rounds):
                watch.begin(unet)
                unet(**inputs)
                watch.end(unet)
        spent = watch.seconds()
        projections = {attention: spent[attention] / spent[unet] for attention in levels}
        for attention, level in levels.items():
            of_level = found.attention
            product = max(found.layers[attention] - projections[attention], 0.0)
            of_level[level, "product"] = of_level.get((level, "product"), 0.0) + product
            of_level[level, "projections"] = of_level.get((level, "projections"), 0.0) + projections[attention]
        return found


@contextmanager
def _timed_projections(attentions: Iterable[nn.Module], watch: Stopwatch) -> Iterator[None]:
    """Inside, `watch` counts the time of each attention's four projections under the attention."""
    handles = []
    for attention in attentions:
        for linear in (attention.to_q, attention.to_k, attention.to_v, attention.to_out):
            handles.append(linear.register_forward_pre_hook(lambda m, a, of=attention: watch.begin(of)))
            handles.append(linear.register_forward_hook(lambda m, a, o, of=attention: watch.end(of)))
    yield
    for handle in handles:
        handle.remove()


def predicted(unet: nn.Module, case: Case, share: Shares) -> float:
    """Time over plain that the removed work leads to expect."""
    structure, config = inspect_unet(unet), case.config
    if isinstance(config, SkipBlocks):
        return predicted_of_skipping(unet, config, share.layers)
    if isinstance(config, GuidanceInterval):
        return 0.5
    if case.shrunk is not None:
        return predicted_of_shrinking(unet, case, share)
    if case.scale is not None:
        return 1 - sum(part * (1 - case.scale(*key)) for key, part in share.attention.items())
    span = [*structure.input_blocks, structure.middle_block]
    if isinstance(config, DeepCache):
        last = len(structure.input_blocks) - 1
        span = [*span[config.branch + 1 :], *structure.output_blocks[: last - config.branch]]
    if isinstance(config, StepForecast):
        span = structure.blocks
    reused = 1 - len(range(0, case.evaluations, config.interval)) / case.evaluations
    return 1 - reused * sum(share.layers[layer.module] for block in span for layer in block.layers)


def predicted_of_shrinking(unet: nn.Module, case: Case, share: Shares) -> float:
    """A quarter of the cells is left in these blocks; the products of their self-attentions go by its square."""
    structure = inspect_unet(unet)
    first, last = case.shrunk
    blocks = structure.blocks[first : len(structure.blocks) + last + 1]
    layers = sum(share.layers[layer.module] for block in blocks for layer in block.layers)
    if isinstance(case.config, HiDiffusion):  # whose last Upsample gives the full size to its convolution
        layers -= sum(share.layers[layer.module] for layer in blocks[-1].of_kind("up"))
    levels = {block.level for block in blocks}
    products = sum(part for (level, kind), part in share.attention.items() if kind == "product" and level in levels)
    return 1 - layers * (1 - 1 / 4) - products * (1 / 4 - 1 / 16)
