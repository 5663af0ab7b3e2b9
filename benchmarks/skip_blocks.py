"""SkipBlocks on SD1.5: time per evaluation over the unmodified U-Net's, beside what the removed blocks' share predicts.

    python -m benchmarks.skip_blocks [--width 320] [--side 64] [--rounds 5]

`side` is the latent's: 64 for pictures of 512 pixels. The prediction is 1 minus the share of the time of a plain evaluation
that was spent inside the blocks left out; a middle that is kept while levels are left out runs on four times the pixels for
each of them, which is added. The bar is 5 % of a plain evaluation above the prediction.
"""

from __future__ import annotations

import argparse

import torch
from torch import nn

from benchmarks import subjects
from benchmarks.subjects import scaled_dot_product_attention
from benchmarks.timing import Stopwatch, device, in_turn, median, ratio
from lib_unetmod import SkipBlocks, inspect_unet, modified

CONFIGS = {
    "middle": SkipBlocks(middle=True),
    "level 4, the middle kept": SkipBlocks(levels=1),
    "middle and level 4": SkipBlocks(middle=True, levels=1),
    "middle and levels 3 to 4": SkipBlocks(middle=True, levels=2),
    "self-attention of level 1": SkipBlocks(
        blocks=[f"{name}.self" for name in ("in.1", "in.2", "out.9", "out.10", "out.11")]
    ),
}


def shares(unet: nn.Module, inputs: dict, rounds: int) -> dict[nn.Module, float]:
    """The share of a plain evaluation's time that each layer and each self-attention takes, from forward hooks."""
    structure = inspect_unet(unet)
    parts = [layer.module for block in structure.blocks for layer in block.layers]
    parts += [inner.self_attention for block in structure.blocks for inner in block.transformer_blocks]
    watch, handles = Stopwatch(), []
    for part in parts:
        handles.append(part.register_forward_pre_hook(lambda m, a: watch.begin(m)))
        handles.append(part.register_forward_hook(lambda m, a, o: watch.end(m)))
    for _ in range(rounds):
        watch.begin(unet)
        unet(**inputs)
        watch.end(unet)
    for handle in handles:
        handle.remove()
    spent = watch.seconds()
    whole = spent.pop(unet)
    return {part: seconds / whole for part, seconds in spent.items()}


def left_out(unet: nn.Module, config: SkipBlocks) -> list[nn.Module]:
    """The layers and self-attentions that a config of `CONFIGS` does not run."""
    structure = inspect_unet(unet)
    if config.blocks:
        names = [name.removesuffix(".self") for name in config.blocks]
        return [inner.self_attention for name in names for inner in structure.block(name).transformer_blocks]
    blocks = [structure.middle_block] if config.middle else []
    shallowest = structure.levels - config.levels + 1
    blocks += [block for block in structure.blocks if block.level >= shallowest and block.side != "middle"]
    return [layer.module for block in blocks for layer in block.layers]


def predicted(unet: nn.Module, config: SkipBlocks, share: dict[nn.Module, float]) -> float:
    """Time over plain that the blocks' shares of a plain evaluation lead to expect."""
    middle = sum(share[layer.module] for layer in inspect_unet(unet).middle_block.layers)
    finer = 0.0 if config.middle else middle * (4**config.levels - 1)
    return 1 - sum(share[module] for module in left_out(unet, config)) + finer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options = subjects.options(parser, rounds=5)

    unet, inputs = subjects.subject(options)

    def run(config: SkipBlocks | None) -> None:
        with modified(unet, [] if config is None else [config]):
            unet(**inputs)

    with torch.inference_mode(), scaled_dot_product_attention():
        ways = {"plain": lambda: run(None)}
        ways |= {name: lambda config=config: run(config) for name, config in CONFIGS.items()}
        seconds = in_turn(ways, options.rounds, over="plain")
        share = shares(unet, inputs, options.rounds)

    print(f"SkipBlocks on SD1.5, width {options.width}, latent {options.side}x{options.side}, batch 2, SDPA ({device()})\n")
    print(f"plain: {median(seconds, 'plain'):.2f} s an evaluation\n")
    print(
        "| left out | time over plain | predicted by the share of those blocks | above the prediction |\n|---|---|---|---|"
    )
    for name, config in CONFIGS.items():
        measured, expected = ratio(seconds, name), predicted(unet, config, share)
        print(f"| {name} | {measured:.3f} | {expected:.3f} | {100 * (measured - expected):+.1f} % |")


if __name__ == "__main__":
    main()
