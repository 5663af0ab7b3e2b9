"""The published code of methods, on the weights that ours is measured on.

Each is entered, and gives what makes one evaluation of a call's inputs; all is undone when it is left. tomesd acts on the
ldm or sgm U-Net itself, the others on its twin in diffusers' classes. hidiffusion is not among the requirements:
`pip install --no-deps hidiffusion==0.1.10`.
"""

from __future__ import annotations

import importlib
import sys
import types
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.twins import call_twin
from lib_unetmod import FreeU, inspect_unet

#: One evaluation of x, timesteps, context and, for SDXL, y.
Evaluate = Callable[[dict[str, Tensor]], Tensor]

#: What the published HiDiffusion knows the models by, and in how many steps its thresholds are counted.
HIDIFFUSION_NAMES = {"sd1": "runwayml/stable-diffusion-v1-5", "sdxl": "stabilityai/stable-diffusion-xl-base-1.0"}
HIDIFFUSION_STEPS = 50


@contextmanager
def tomesd_on(unet: nn.Module, ratio: float) -> Iterator[Evaluate]:
    """tomesd with the top left token of each cell as its destination, at the first level that has attention."""
    import tomesd

    holder = nn.Module()  # tomesd looks for model.diffusion_model, as ldm's LatentDiffusion has it
    holder.model = nn.Module()
    holder.model.diffusion_model = unet
    tomesd.apply_patch(
        holder, ratio=ratio, max_downsample=2 ** (min(inspect_unet(unet).attention_levels) - 1), use_rand=False
    )
    try:
        # It reads the first argument by its place.
        yield lambda step: unet(step["x"], **{name: value for name, value in step.items() if name != "x"})
    finally:
        tomesd.remove_patch(holder)


@contextmanager
def deep_cache_on(twin: nn.Module, timesteps: Sequence[float], interval: int) -> Iterator[Evaluate]:
    """DeepCache's helper over evaluations at `timesteps`, one after another."""
    from DeepCache.extension.deepcache import DeepCacheSDHelper

    helper = DeepCacheSDHelper(SimpleNamespace(unet=twin, scheduler=SimpleNamespace(timesteps=torch.tensor(timesteps))))
    helper.set_params(cache_interval=interval, cache_branch_id=0)
    helper.enable()
    try:
        yield lambda step: call_twin(twin, step)
    finally:
        helper.disable()


@contextmanager
def free_u_on(twin: nn.Module, family: str) -> Iterator[Evaluate]:
    """diffusers' FreeU with the values that ours has for this family."""
    first, second, _ = FreeU().filled_in(family).stages
    twin.enable_freeu(s1=first.s, s2=second.s, b1=first.b, b2=second.b)
    try:
        yield lambda step: call_twin(twin, step)
    finally:
        twin.disable_freeu()


@contextmanager
def hidiffusion_on(twin: nn.Module, family: str, step: int) -> Iterator[Evaluate]:
    """HiDiffusion, both halves, from this step of `HIDIFFUSION_STEPS` on."""
    published = hidiffusion()
    pipeline = DiffusionPipeline(twin, HIDIFFUSION_NAMES[family])
    upsamplers = twin.num_upsamplers
    published.apply_hidiffusion(pipeline)
    for module in twin.modules():
        if hasattr(module, "max_timestep"):
            module.timestep = step
    try:
        yield lambda inputs: call_twin(twin, inputs)
    finally:
        published.remove_hidiffusion(pipeline)
        twin.num_upsamplers = upsamplers


class DiffusionPipeline:
    """As much of a pipeline as the published HiDiffusion asks for; it tells one by the class's name."""

    def __init__(self, unet: nn.Module, name: str) -> None:
        self.unet = unet
        self.name_or_path = name
        self._num_timesteps = HIDIFFUSION_STEPS


def hidiffusion() -> Any:
    """The published module; newer diffusers have moved a class that it imports and that nothing here uses."""
    moved = "diffusers.pipelines.controlnet.multicontrolnet"
    try:
        importlib.import_module(moved)
    except ImportError:
        sys.modules[moved] = types.ModuleType(moved)
        sys.modules[moved].MultiControlNetModel = object
    return importlib.import_module("hidiffusion.hidiffusion")
