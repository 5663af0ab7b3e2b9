"""Time per evaluation of each method over plain, beside what the removed work predicts and the peers.

    python -m benchmarks.speed [--width 320] [--side 64] [--rounds 3] [--only "token merging" ...] [--peers] [--write]

SD1.5's U-Net with random weights, two rows, torch's SDPA as the WebUI uses it. Each way is run right after the plain U-Net;
caches are run over 12 evaluations, token merging over as many as share a matching, and set beside as many plain ones. Peers
act on the same weights in the same process: tomesd on the ldm U-Net, DeepCache's helper on diffusers' U-Net with these
weights, over diffusers' own plain time. Memory is what tensors hold at their most in one evaluation, weights not counted,
and what is kept between evaluations. With --write the rows are kept in docs/costs.md.

The prediction takes the time that each part of a plain evaluation takes (from hooks) and scales it by the work that is left:
an attention's product by queries times keys, its projections and the feed-forward by their tokens.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace

import torch
from torch import nn

from benchmarks import subjects
from benchmarks.costs import HEAD, Cost, store
from benchmarks.live_memory import LiveMemory
from benchmarks.skip_blocks import predicted as predicted_of_skipping
from benchmarks.skip_blocks import shares
from benchmarks.subjects import scaled_dot_product_attention
from benchmarks.timing import device, in_turn, median, ratio, seconds_now
from benchmarks.twins import call_twin, diffusers_twin
from lib_unetmod import (
    CDTuner,
    ColorMap,
    Config,
    DeepCache,
    DeepShrink,
    EncoderReuse,
    FreeU,
    GuidanceInterval,
    HiDiffusion,
    HyperTile,
    ScaleCrafter,
    SkipBlocks,
    TokenDownsampling,
    TokenMerging,
    inspect_unet,
    modified,
)
from lib_unetmod.core.call import Guidance
from lib_unetmod.core.registry import method_of

EVALUATIONS = 12
#: Evaluations that share a matching of token merging.
MATCHING = TokenMerging().refresh


@dataclass(frozen=True)
class Case:
    """One row of the table. `evaluations` are run in a row; `scale` says what is left of a part's work.

    `scale(level, part)` is for the parts "product" (of the self-attentions) and "projections" of a level; None where the
    prediction is another one. `shrunk` names the first and the last block, in the order of a walk, whose maps have half
    the height and width.
    """

    name: str
    config: Config
    evaluations: int = 1
    scale: Callable[[int, str], float] | None = None
    shrunk: tuple[int, int] | None = None


#: The settings themselves, at any size.
BY_HAND = {"auto": False, "above": 0}
#: An end before the progress at which evaluations are timed.
OUTSIDE = 0.05


def same(level: int, part: str) -> float:
    return 1.0


def merged(ratio_: float) -> Callable[[int, str], float]:
    kept = 1 - ratio_
    return lambda level, part: 1.0 if level > 1 else kept**2 if part == "product" else kept


def downsampled(factor: float) -> Callable[[int, str], float]:
    # Half of the projections are those of keys and values.
    kept = 1 / factor**2
    return lambda level, part: 1.0 if level > 1 else kept if part == "product" else (1 + kept) / 2


def tiled(side: int, tile: int, depth: int) -> Callable[[int, str], float]:
    def scale(level: int, part: str) -> float:
        across = max(round(8 * side / tile), 1)
        return 1 / across**2 if part == "product" and level <= depth else 1.0

    return scale


def cases(side: int) -> list[Case]:
    return [
        Case("skip middle and level 4", SkipBlocks(middle=True, levels=1)),
        Case("token merging 0.5", TokenMerging(ratio=0.5), MATCHING, merged(0.5)),
        Case("token merging 0.75", TokenMerging(ratio=0.75), MATCHING, merged(0.75)),
        Case("token downsampling 2", TokenDownsampling(factor=2), scale=downsampled(2)),
        Case("HyperTile 256, depth 1", HyperTile(tile=256, depth=1, variations=1), scale=tiled(side, 256, 1)),
        Case("HyperTile 128, depth 2", HyperTile(tile=128, depth=2, variations=1), scale=tiled(side, 128, 2)),
        Case("DeepCache 3", DeepCache(interval=3), EVALUATIONS),
        Case("DeepCache 2", DeepCache(interval=2), EVALUATIONS),
        Case("DeepCache 3, branch 3", DeepCache(interval=3, branch=3), EVALUATIONS),
        Case("Faster Diffusion 3", EncoderReuse(interval=3), EVALUATIONS),
        Case("negative prompt skipped, CFG 1", GuidanceInterval(scale_one=True)),
        Case("Deep Shrink 2, block 3", DeepShrink(**BY_HAND), scale=same, shrunk=(3, -4)),
        Case("Deep Shrink, outside its window", DeepShrink(**BY_HAND, end=OUTSIDE), scale=same),
        Case("HiDiffusion, RAU-Net", HiDiffusion(**BY_HAND, windows=False), scale=same, shrunk=(3, -4)),
        Case("HiDiffusion, windows", HiDiffusion(**BY_HAND, raunet=False), scale=tiled(2, 8, 1)),
        Case("HiDiffusion, outside its window", HiDiffusion(**BY_HAND, end=OUTSIDE), scale=same),
        Case("ScaleCrafter 2", ScaleCrafter(**BY_HAND, dilation=2), scale=same),
        Case("ScaleCrafter 1.5", ScaleCrafter(**BY_HAND, dilation=1.5), scale=same),
        Case("ScaleCrafter, outside its window", ScaleCrafter(**BY_HAND, dilation=2, end=OUTSIDE), scale=same),
        Case("FreeU", FreeU(), scale=same),
        Case("CD-Tuner, detail and contrast", CDTuner(detail1=5, detail2=5, contrast=5), scale=same),
        Case("color map", ColorMap(end=1), scale=same),
    ]


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
        projections: dict[nn.Module, float] = dict.fromkeys(levels, 0.0)
        whole = 0.0
        with _timed_projections(levels) as spent:
            for _ in range(rounds):
                began = seconds_now()
                unet(**inputs)
                whole += seconds_now() - began
        for attention, seconds in spent.items():
            projections[attention] = seconds / whole
        for attention, level in levels.items():
            of_level = found.attention
            product = max(found.layers[attention] - projections[attention], 0.0)
            of_level[level, "product"] = of_level.get((level, "product"), 0.0) + product
            of_level[level, "projections"] = of_level.get((level, "projections"), 0.0) + projections[attention]
        return found


@contextmanager
def _timed_projections(levels: dict[nn.Module, int]) -> Iterator[dict[nn.Module, float]]:
    spent: dict[nn.Module, float] = dict.fromkeys(levels, 0.0)
    began, handles = {}, []
    for attention in levels:
        for linear in (attention.to_q, attention.to_k, attention.to_v, attention.to_out):
            handles.append(linear.register_forward_pre_hook(lambda m, a: began.__setitem__(m, seconds_now())))
            handles.append(
                linear.register_forward_hook(
                    lambda m, a, o, of=attention: spent.__setitem__(of, spent[of] + seconds_now() - began[m])
                )
            )
    yield spent
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


def sample(unet: nn.Module, inputs: dict, config: Config | None, evaluations: int) -> float:
    """Bytes kept in between, after `evaluations` at falling timesteps."""
    rows = len(inputs["x"])
    with modified(unet, [config] if config else []) as run:
        run.guidance = Guidance(1.0, (*range(rows // 2), *range(rows // 2)))
        for index in range(evaluations):
            run.new_evaluation()
            unet(**{**inputs, "timesteps": inputs["timesteps"] * 0 + 900 - 20 * index})
        return run.kept_bytes


def tomesd_peer(unet: nn.Module, inputs: dict, ratio_: float) -> Callable[[], object]:
    import tomesd

    holder = nn.Module()  # tomesd looks for model.diffusion_model, as ldm's LatentDiffusion has it
    holder.model = nn.Module()
    holder.model.diffusion_model = unet

    def run() -> None:
        tomesd.apply_patch(holder, ratio=ratio_, use_rand=False)
        try:
            unet(inputs["x"], timesteps=inputs["timesteps"], context=inputs["context"])  # it reads the first by its place
        finally:
            tomesd.remove_patch(holder)

    return run


def deep_cache_peer(unet: nn.Module, inputs: dict, interval: int) -> tuple[Callable[[], object], Callable[[], object]]:
    """(plain, cached): diffusers' U-Net with these weights over 12 evaluations, without and with the published helper."""
    from DeepCache.extension.deepcache import DeepCacheSDHelper

    twin = diffusers_twin(unet)
    timesteps = torch.arange(900, 900 - 20 * EVALUATIONS, -20)
    helper = DeepCacheSDHelper(SimpleNamespace(unet=twin, scheduler=SimpleNamespace(timesteps=timesteps)))
    helper.set_params(cache_interval=interval, cache_branch_id=0)

    def run() -> None:
        for timestep in timesteps:
            call_twin(twin, {**inputs, "timesteps": timestep[None]})

    def cached() -> None:
        helper.enable()
        try:
            run()
        finally:
            helper.disable()

    return run, cached


def peers(unet: nn.Module, inputs: dict, rounds: int, names: list[str]) -> dict[str, float]:
    """Time over plain of each published implementation, by the name of our case, for those in `names`."""
    found = {}
    for share in (0.5, 0.75):
        if f"token merging {share:g}" in names:
            ways = {"plain": lambda: unet(**inputs), "peer": tomesd_peer(unet, inputs, share)}
            found[f"token merging {share:g}"] = ratio(in_turn(ways, rounds, over="plain"), "peer")
    if "DeepCache 3" in names:
        plain, cached = deep_cache_peer(unet, inputs, 3)
        found["DeepCache 3"] = ratio(in_turn({"plain": plain, "peer": cached}, 1, over="plain", warm=False), "peer")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", default=[], help="words of which a row's name must hold one")
    parser.add_argument("--peers", action="store_true", help="run tomesd and DeepCache's helper as well")
    parser.add_argument("--write", action="store_true", help="keep the rows in docs/costs.json and docs/costs.md")
    options = subjects.options(parser, rounds=3)

    unet, inputs = subjects.subject(options)
    chosen = [case for case in cases(options.side) if not options.only or any(w in case.name for w in options.only)]

    with torch.inference_mode(), scaled_dot_product_attention():
        share = Shares.measure(unet, inputs, options.rounds)
        setup = f"SD1.5, width {options.width}, latent {options.side}x{options.side}, 2 rows, SDPA, {device()}"
        print(f"{setup}\n\n{HEAD}\n|---|---|---|---|---|---|---|---|", flush=True)
        published = peers(unet, inputs, options.rounds, [case.name for case in chosen]) if options.peers else {}
        plain_peak = peak(unet, inputs, None, 1)
        for case in chosen:
            # 12 evaluations of a cache beside one plain evaluation, which is as steady and takes a twelfth of the time.
            ways = {
                "plain": lambda: sample(unet, inputs, None, 1),
                "ours": lambda case=case: sample(unet, inputs, case.config, case.evaluations),
            }
            # A minute and more of caches needs no warming up, and scatters less.
            long = case.evaluations >= EVALUATIONS
            rounds = 1 if long else options.rounds
            seconds = in_turn(ways, rounds, over="plain", warm=not long)
            cost = Cost(
                method_of(case.config).name,
                round(ratio(seconds, "ours") / case.evaluations, 4),
                round(predicted(unet, case, share), 4),
                round(published[case.name], 4) if case.name in published else None,
                round(peak(unet, inputs, case.config, 1) / plain_peak, 3),
                round(sample(unet, inputs, case.config, 1) / 2**20, 1) if case.evaluations > 1 else 0.0,
                rounds,
            )
            print(cost.line(case.name), flush=True)
            if options.write:
                store(setup, case.name, cost)
        print(f"\nplain: {median(seconds, 'plain'):.2f} s an evaluation, {plain_peak / 2**20:.0f} MB of tensors")


def peak(unet: nn.Module, inputs: dict, config: Config | None, evaluations: int) -> int:
    """Bytes of tensors at their most, weights not counted."""
    with LiveMemory() as memory:
        sample(unet, inputs, config, evaluations)
    return memory.peak


if __name__ == "__main__":
    main()
