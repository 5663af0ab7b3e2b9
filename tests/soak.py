"""Random settings, sizes and interruptions on a tiny real U-Net, on and on: `PYTHONPATH=. python tests/soak.py`.

After each picture nothing may be left on the U-Net, and every now and then the plain picture must be the first one to the
last bit. What grows is measured at such moments: tensors that live, objects that Python tracks, hooks.
"""

from __future__ import annotations

import argparse
import gc
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psutil
import torch
from contract import snapshot
from hosts import HOSTS
from torch import nn
from unets import call, fresh, inputs

from lib_unetmod import METHODS, Config, ConfigError, modified, what_is_on
from lib_unetmod.core.call import Guidance
from lib_unetmod.core.config import knobs
from lib_unetmod.core.knobs import Knob

SIZES = [(8, 8), (16, 16), (16, 24), (17, 13), (9, 40), (24, 24)]
PASSES = ("first", "hires", "img2img")
#: Its forward takes every size.
HOST = HOSTS["a1111"]
#: Pictures between two plain ones.
BETWEEN = 10


class Interrupted(Exception):
    """Stands for what ends a picture in the middle of a layer: an error, a click on Interrupt, memory running out."""


@dataclass(frozen=True)
class Sample:
    """What there is between two pictures."""

    pictures: int
    tensors: int
    tensor_bytes: int
    objects: int
    resident: int

    @classmethod
    def take(cls, pictures: int) -> Sample:
        gc.collect()
        objects = gc.get_objects()
        tensors = [one for one in objects if isinstance(one, torch.Tensor)]
        held = sum(one.untyped_storage().nbytes() for one in tensors)
        return cls(pictures, len(tensors), held, len(objects), psutil.Process().memory_info().rss)


def value_of(knob: Knob, chance: random.Random) -> Any:
    """A value that the knob takes; text keeps its default."""
    if knob.type is bool:
        return chance.random() < 0.5
    if knob.choices:
        return chance.choice(knob.choices)
    if knob.low is None:
        return knob.default
    return chance.randint(int(knob.low), int(knob.high)) if knob.type is int else chance.uniform(knob.low, knob.high)


def configs_by(chance: random.Random) -> list[Config]:
    """Up to five methods with up to four knobs each, those that no U-Net could have left out."""
    chosen: list[Config] = []
    for name in chance.sample(list(METHODS), chance.randint(1, 5)):
        declared = knobs(METHODS[name].config)
        picked = chance.sample(declared, min(len(declared), chance.randint(0, 4)))
        try:
            chosen.append(METHODS[name].config(**{knob.name: value_of(knob, chance) for knob in picked}))
        except ConfigError:
            continue
    return chosen


def picture(unet: nn.Module, chance: random.Random) -> str:
    """One picture with random settings; what became of it."""
    height, width = chance.choice(SIZES)
    timesteps = sorted(chance.sample(range(1000), chance.randint(1, 12)), reverse=True)
    interrupted_at = chance.choice(timesteps) if chance.random() < 0.3 else None
    try:
        run = modified(
            unet, configs_by(chance), pass_name=chance.choice(PASSES), seed=chance.randrange(2**32), trained_size=128
        )
        with run:
            run.guidance = chance.choice([None, Guidance(7.0, (1, 1)), Guidance(1.0, (1, 1))])
            for timestep in timesteps:
                run.new_evaluation()
                step = inputs("sd1", timestep=timestep, height=height, width=width)
                if timestep == interrupted_at:
                    _interrupted(unet, step, chance)
                assert HOST.forward(unet, **step).isfinite().all()
    except Interrupted:
        return "interrupted"
    except ConfigError:
        return "refused"
    return "drawn"


def _interrupted(unet: nn.Module, step: dict[str, Any], chance: random.Random) -> None:
    def interrupt(*_: Any) -> None:
        raise Interrupted

    handle = chance.choice(list(unet.modules())).register_forward_pre_hook(interrupt)
    try:
        HOST.forward(unet, **step)
    finally:
        handle.remove()


def soak(go_on: Callable[[int], bool], seed: int = 0) -> tuple[list[Sample], dict[str, int]]:
    """Draw pictures while `go_on(pictures)`; the samples taken on the way and how many pictures ended how.

    Raises:
        AssertionError: where something is left on the U-Net, or a plain picture is another one.
    """
    unet, chance = HOST.prepare(fresh("sd1")), random.Random(seed)
    step = inputs("sd1")
    with torch.inference_mode():
        plain, before = call(unet, step).clone(), snapshot(unet)
        samples, ended = [Sample.take(0)], {"drawn": 0, "interrupted": 0, "refused": 0}
        pictures = 0
        while go_on(pictures):
            ended[picture(unet, chance)] += 1
            pictures += 1
            assert what_is_on(unet) == {} and snapshot(unet) == before, f"picture {pictures} of seed {seed} left something"
            if pictures % BETWEEN == 0:
                assert torch.equal(call(unet, step), plain), f"plain differs after picture {pictures} of seed {seed}"
                samples.append(Sample.take(pictures))
    return samples, ended


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    end = time.monotonic() + 60 * options.minutes
    samples, ended = soak(lambda _: time.monotonic() < end, options.seed)
    print("pictures  tensors  MB in them  objects  MB resident")
    for sample in samples[:: max(len(samples) // 12, 1)] + samples[-1:]:
        print(
            f"{sample.pictures:8}  {sample.tensors:7}  {sample.tensor_bytes / 2**20:10.2f}  {sample.objects:7}  "
            f"{sample.resident / 2**20:11.0f}"
        )
    print(", ".join(f"{count} {how}" for how, count in ended.items()))


if __name__ == "__main__":
    main()
