"""HiDiffusion's published code and ours on the same weights: how far their predictions lie apart.

    pip install --no-deps --target DIRECTORY hidiffusion==0.1.10
    PYTHONPATH=DIRECTORY python -m benchmarks.hidiffusion_peer

The published code acts on diffusers' U-Nets; tiny ones of SD1's and SDXL's layout get the weights of the tests' ldm and sgm
U-Nets. Each line tells the largest difference between the two predictions, beside the largest change that the method makes,
around the ends of the published schedule's phases. The published code's thresholds are told a size, since a picture of that
size takes too long here. The random shift is fixed, to each in turn. Windows are compared at a size whose maps have even
sides: at others the published code resizes the map, where ours cuts unequal windows.
"""

from __future__ import annotations

import importlib
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import diffusers
import torch
from diffusers import UNet2DConditionModel
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint
from torch import Tensor, nn

from benchmarks.twins import diffusers_twin
from lib_unetmod import HiDiffusion, inspect_unet, modified
from lib_unetmod.methods.resolution import hi_diffusion
from lib_unetmod.parts.attention import shifted_windows as moving_windows

sys.path.append(str(Path(__file__).parent.parent / "tests"))

from hosts import HOSTS
from unets import fresh, inputs

STEPS = 50
NAMES = {"sd1": "runwayml/stable-diffusion-v1-5", "sdxl": "stabilityai/stable-diffusion-xl-base-1.0"}
#: Steps of 50 inside each phase: two thresholds below the extreme size, two from it on.
PHASES = {"sd1": {"large": (0, 19, 20), "extreme": (0, 14, 15, 34, 35)}}
PHASES["sdxl"] = {"large": (0, 7, 8, 19, 20), "extreme": (0, 14, 15, 34, 35)}
#: Latent sizes. Windows are compared at the first.
SIZES = [(32, 32), (34, 50), (23, 41)]
#: What the published code is told of the size for its thresholds.
CLAIMED = {"large": (100, 100), "extreme": (1000, 1000)}


def main() -> None:
    published = published_code()
    print(f"hidiffusion beside diffusers {diffusers.__version__}: largest difference / largest change")
    for family, phases in PHASES.items():
        for kind, steps in phases.items():
            for size in SIZES:
                compare(published, family, kind, size, steps, raunet=True, windows=False)
        for raunet in (False, True):
            compare(published, family, "large", SIZES[0], phases["large"], raunet, windows=True)


def compare(
    published: Any, family: str, kind: str, size: tuple[int, int], steps: tuple[int, ...], raunet: bool, windows: bool
) -> None:
    halves = " and ".join(["RAU-Net"] * raunet + ["windows"] * windows)
    for number, step in enumerate(steps):
        quarters = number % 4
        given = inputs(family, height=size[0], width=size[1], batch=1, timestep=999 * (1 - step / STEPS) - 1e-2)
        theirs = of_published(published, family, given, kind, step, quarters, raunet, windows)
        ours, plain = of_ours(family, given, kind, quarters, raunet, windows)
        differs, changes = (theirs - ours).abs().max().item(), (ours - plain).abs().max().item()
        print(
            f"{family:5} {size[0]:3}x{size[1]:<3} {kind:8} step {step:2}  {halves:19} {differs:.1e} / {changes:.1e}",
            flush=True,
        )


def of_ours(family: str, given: dict, kind: str, quarters: int, raunet: bool, windows: bool) -> tuple[Tensor, Tensor]:
    """Our prediction with the shift given, and the U-Net's own."""
    host = HOSTS["forge"]  # its Upsamples fit their skip connections while the method rests, as the published code's do
    unet = host.prepare(fresh(family))
    plain = host.forward(unet, **given)
    # Pixels of the latent's smaller side, as the trained one at which auto finds the kind that is to be compared.
    trained = 8 * min(given["x"].shape[-2:]) // (4 if kind == "extreme" else 2)
    config = HiDiffusion(raunet=raunet, windows=windows, above=0)
    with (
        mock.patch.object(moving_windows, "quarters_to_shift", lambda number, draw: quarters),
        # The trained size that is told below is no model's, and the published bounds stand.
        mock.patch.object(hi_diffusion, "at_trained_size", lambda progress, target: progress),
        modified(unet, [config], trained_size=trained),
    ):
        return host.forward(unet, **given), plain


def of_published(
    published: Any, family: str, given: dict, kind: str, step: int, quarters: int, raunet: bool, windows: bool
) -> Tensor:
    twin = (sdxl_twin if family == "sdxl" else diffusers_twin)(fresh(family))
    pipeline = DiffusionPipeline(twin, NAMES[family])
    published.apply_hidiffusion(pipeline, apply_raunet=raunet, apply_window_attn=windows)
    if not windows:  # which take the size for what it is
        twin.register_forward_pre_hook(lambda module, args: twin.info.update(size=CLAIMED[kind]))
    for module in twin.modules():
        if hasattr(module, "max_timestep"):
            module.timestep = step
    labels = {} if given["y"] is None else {"class_labels": given["y"]}
    with drawn(published, (quarters + 0.5) / 4):
        return twin(given["x"], given["timesteps"][0], given["context"], return_dict=False, **labels)[0]


class DiffusionPipeline:
    """As much of a pipeline as the published code asks for; it tells one by the class's name."""

    def __init__(self, unet: nn.Module, name: str) -> None:
        self.unet = unet
        self.name_or_path = name
        self._num_timesteps = STEPS


def sdxl_twin(unet: nn.Module) -> UNet2DConditionModel:
    """A diffusers U-Net with the weights of `unet`, an sgm U-Net of SDXL's layout, with its labels as class labels."""
    width, structure = unet.model_channels, inspect_unet(unet)
    depths = [1] + [len(structure.block(name).transformer_blocks) for name in ("in.4", "in.7")]
    heads = [structure.block(name).transformer_blocks[0].self_attention.heads for name in ("in.4", "in.7")]
    with torch.random.fork_rng(devices=[]):
        twin = UNet2DConditionModel(
            block_out_channels=[width, 2 * width, 4 * width],
            layers_per_block=2,
            down_block_types=["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
            up_block_types=["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
            transformer_layers_per_block=depths,
            attention_head_dim=[heads[0] // 2, *heads],  # the number of heads, whatever its name
            use_linear_projection=True,
            cross_attention_dim=structure.block("in.4").transformer_blocks[0].cross_attention.to_k.in_features,
            class_embed_type="projection",
            projection_class_embeddings_input_dim=unet.label_emb[0][0].in_features,
        )
    state = {"model.diffusion_model." + key: value for key, value in unet.state_dict().items()}
    twin.load_state_dict(convert_ldm_unet_checkpoint(state, twin.config))
    return twin.eval().requires_grad_(False)


def published_code() -> types.ModuleType:
    """The published module; newer diffusers have moved a class that it imports and that nothing here uses."""
    moved = "diffusers.pipelines.controlnet.multicontrolnet"
    try:
        importlib.import_module(moved)
    except ImportError:
        sys.modules[moved] = types.ModuleType(moved)
        sys.modules[moved].MultiControlNetModel = object
    return importlib.import_module("hidiffusion.hidiffusion")


@contextmanager
def drawn(published: types.ModuleType, number: float) -> Iterator[None]:
    """Inside, the published code's `torch.rand` draws `number`."""

    class Torch(types.ModuleType):
        @staticmethod
        def rand(*size: int) -> Tensor:
            return torch.full(size, number)

        def __getattr__(self, name: str) -> Any:
            return getattr(torch, name)

    with mock.patch.object(published, "torch", Torch("torch")):
        yield


if __name__ == "__main__":
    with torch.inference_mode():
        main()
