"""Which way to fit the channels of a skipped level damages least, on the small checkpoint with real latents and prompts.

Latents are drawn plain from noise and stopped on the way; at each stop the prediction without the deep levels is compared
with the whole U-Net's: |difference| / |prediction|, root mean squares over all values, averaged over prompts.
"""

from __future__ import annotations

import argparse

import torch
from diffusers import DDIMScheduler

from lib_unetmod import SkipBlocks, modified
from lib_unetmod.playground.model import load

PROMPTS = ("red apple", "smiling cat", "rocket", "tree", "fish", "house", "guitar", "umbrella")
FITS = ("zeros", "repeat", "shortcut")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=20)
    options = parser.parse_args()
    model = load()
    configs = {
        (levels, middle, fit): SkipBlocks(levels=levels, middle=middle, fit=fit)
        for levels in (2, 3)
        for middle in (True, False)
        for fit in FITS
    }
    change = {key: [] for key in configs}
    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type=model.prediction_type,
        clip_sample=False,
    )
    scheduler.set_timesteps(options.steps)
    with torch.inference_mode():
        context = model.encode_prompt(list(PROMPTS))
        x = torch.randn(len(PROMPTS), 4, 16, 16, generator=torch.Generator().manual_seed(0))
        for timestep in scheduler.timesteps:
            inputs = {"timesteps": timestep.expand(len(PROMPTS)), "context": context}
            whole = model.unet(x, **inputs)
            for key, config in configs.items():
                with modified(model.unet, [config]):
                    difference = model.unet(x, **inputs) - whole
                change[key].append((difference.pow(2).mean().sqrt() / whole.pow(2).mean().sqrt()).item())
            x = scheduler.step(whole, timestep, x).prev_sample

    third = options.steps // 3
    print("| levels left out | middle | fit | noise (first third) | clean (last third) | all |\n|---|---|---|---|---|---|")
    for (levels, middle, fit), values in change.items():
        parts = values[:third], values[-third:], values
        cells = " | ".join(f"{sum(part) / len(part):.3f}" for part in parts)
        print(f"| {levels} | {'left out' if middle else 'kept'} | {fit} | {cells} |")


if __name__ == "__main__":
    main()
