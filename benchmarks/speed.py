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
from contextlib import AbstractContextManager

import torch
from torch import nn

from benchmarks import subjects
from benchmarks.cases import EVALUATIONS, cases
from benchmarks.costs import HEAD, Cost, store
from benchmarks.live_memory import LiveMemory
from benchmarks.predicting import Shares, predicted
from benchmarks.published import Evaluate, deep_cache_on, tomesd_on
from benchmarks.subjects import scaled_dot_product_attention
from benchmarks.timing import device, in_turn, median, ratio
from benchmarks.twins import call_twin, diffusers_twin
from lib_unetmod import Config, modified
from lib_unetmod.core.call import Guidance
from lib_unetmod.core.registry import method_of


def sample(unet: nn.Module, inputs: dict, config: Config | None, evaluations: int) -> float:
    """Bytes kept in between, after `evaluations` at falling timesteps."""
    rows = len(inputs["x"])
    with modified(unet, [config] if config else [], evaluations=evaluations) as run:
        run.guidance = Guidance(1.0, (*range(rows // 2), *range(rows // 2)))
        for index in range(evaluations):
            run.new_evaluation()
            unet(**{**inputs, "timesteps": inputs["timesteps"] * 0 + 900 - 20 * index})
        return run.kept_bytes


def peers(unet: nn.Module, inputs: dict, rounds: int, names: list[str]) -> dict[str, float]:
    """Time over plain of each published implementation, by the name of our case, for those in `names`."""
    found = {}
    for share in (0.5, 0.75):
        if f"token merging {share:g}" in names:
            ways = {"plain": lambda: unet(**inputs), "peer": lambda share=share: once(tomesd_on(unet, share), [inputs])}
            found[f"token merging {share:g}"] = ratio(in_turn(ways, rounds, over="plain"), "peer")
    if "DeepCache 3" in names:
        twin = diffusers_twin(unet)
        timesteps = torch.arange(900.0, 900 - 20 * EVALUATIONS, -20)
        steps = [{**inputs, "timesteps": timestep[None]} for timestep in timesteps]
        ways = {
            "plain": lambda: [call_twin(twin, step) for step in steps],
            "peer": lambda: once(deep_cache_on(twin, timesteps.tolist(), 3), steps),
        }
        found["DeepCache 3"] = ratio(in_turn(ways, 1, over="plain", warm=False), "peer")
    return found


def once(published: AbstractContextManager[Evaluate], steps: list[dict]) -> None:
    """Put published code on, evaluate, and take it off."""
    with published as evaluate:
        for step in steps:
            evaluate(step)


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
