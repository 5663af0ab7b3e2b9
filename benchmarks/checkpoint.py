"""A checkpoint as people have it, to draw with as with the small one: SD1, SD2 or SDXL in one safetensors file.

Everything is read from that file, text encoders and autoencoder included; widths are read off the weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from ldm.modules.diffusionmodules.util import timestep_embedding
from safetensors import safe_open
from torch import Tensor, nn

from benchmarks.full_size.models import data_type, device, model_in, unet_of, weights_in
from benchmarks.text_encoders import TextEncoder, clip, open_clip
from lib_unetmod.playground.model import AutoencoderKL, SmallModel, load

#: By family: how far latents are scaled, and the side in pixels at which the model was trained.
_SCALE = {"sd1": 0.18215, "sd2": 0.18215, "sdxl": 0.13025}
_TRAINED = {"sd1": 512, "sd2": 512, "sdxl": 1024}
_TRAINED_ON_V = 768
#: Numbers by which SDXL is told each of the six sizes.
_OF_A_SIZE = 256


def opened(file: Path) -> SmallModel | Checkpoint:
    """The model of a file, which may be of the playground's kind too.

    Raises:
        ValueError: for a file of another kind, in one sentence.
    """
    with safe_open(file, "pt") as content:
        of_playground = "architecture" in (content.metadata() or {})
    return load(file) if of_playground else Checkpoint(file)


class Checkpoint:
    """A model of a file, on the GPU where there is one: U-Net in half precision there, the rest in single.

    Attributes:
        unet, vae: as `SmallModel` has them.
        prediction_type: "epsilon" or "v_prediction".
        architecture: `trained_size`, in pixels.
    """

    def __init__(self, file: Path) -> None:
        kind = model_in(file)
        self.family, self.device = kind.family, device()
        self.unet = unet_of(kind, _width(file), file)
        self.vae = _autoencoder(_part(file, "first_stage_model.")).to(self.device)
        self._texts = [_moved(text, self.device) for text in _text_encoders(file, self.family)]
        self.prediction_type = "v_prediction" if self.family == "sd2" and self._predicts_v() else "epsilon"
        trained = _TRAINED_ON_V if self.prediction_type == "v_prediction" else _TRAINED[self.family]
        self.architecture: dict[str, Any] = {"trained_size": trained}

    @property
    def dtype(self) -> torch.dtype:
        return data_type()

    def conditions(self, prompts: Sequence[str], height: int, width: int) -> dict[str, Tensor]:
        """What the U-Net is called with beside latent and timestep; `height` and `width` are the picture's, in pixels."""
        hidden, whole = zip(*(text(prompts) for text in self._texts), strict=True)
        context = torch.cat(hidden, 2)
        if self.family != "sdxl":
            return {"context": context.to(self.dtype)}
        # As AUTOMATIC1111: an empty negative prompt is nothing at all.
        said = torch.tensor([bool(prompt) for prompt in prompts], device=self.device)[:, None]
        sizes = torch.tensor([height, width, 0, 0, height, width], device=self.device)
        told = timestep_embedding(sizes, _OF_A_SIZE).flatten().expand(len(prompts), -1)
        labels = torch.cat([whole[-1] * said, told], 1)
        return {"context": (context * said[:, None]).to(self.dtype), "y": labels.to(self.dtype)}

    def decode(self, latent: Tensor) -> Tensor:
        """Pictures (B, 3, 8h, 8w) in [-1, 1], on the CPU, of scaled latents (B, 4, h, w)."""
        return self.vae.decode(latent.float() / _SCALE[self.family]).clamp(-1, 1).cpu()

    @torch.no_grad()
    def _predicts_v(self) -> bool:
        """As AUTOMATIC1111 finds it out (sd_models_config.py): of a latent without a picture v is far below it."""
        x = torch.full((1, 4, 8, 8), 0.5, device=self.device, dtype=self.dtype)
        context = torch.full((1, 2, self._texts[0].network.config.hidden_size), -0.5, device=self.device, dtype=self.dtype)
        out = self.unet(x, timesteps=torch.full((1,), 999, device=self.device), context=context)
        return bool((out - x).mean() < -1)


def _part(file: Path, prefix: str) -> dict[str, Tensor]:
    """The weights whose names begin so, without that, in single precision."""
    return {name: value.float() for name, value in weights_in(file, prefix).items()}


def _width(file: Path) -> int:
    return len(_part(file, "model.diffusion_model.input_blocks.0.0.")["weight"])


def _text_encoders(file: Path, family: str) -> list[TextEncoder]:
    if family == "sd1":
        return [clip(_part(file, "cond_stage_model.transformer.text_model."), last=True)]
    if family == "sd2":
        return [open_clip(_part(file, "cond_stage_model.model."), normed=True)]
    small, large = (f"conditioner.embedders.{place}." for place in (0, 1))
    return [
        clip(_part(file, f"{small}transformer.text_model."), last=False),
        open_clip(_part(file, f"{large}model."), False),
    ]


def _moved(text: TextEncoder, where: torch.device) -> TextEncoder:
    projection = None if text.projection is None else text.projection.to(where)
    return replace(text, network=text.network.to(where), projection=projection)


def _autoencoder(weights: Mapping[str, Tensor]) -> nn.Module:
    levels = 1 + max(int(key.split(".")[2]) for key in weights if key.startswith("encoder.down."))
    blocks = 1 + max(int(key.split(".")[4]) for key in weights if key.startswith("encoder.down.0.block."))
    base = len(weights["encoder.conv_in.weight"])
    config = {
        "z_channels": weights["post_quant_conv.weight"].shape[1],
        "resolution": 256,
        "in_channels": 3,
        "out_ch": 3,
        "ch": base,
        "ch_mult": [len(weights[f"encoder.down.{at}.block.0.conv1.weight"]) // base for at in range(levels)],
        "num_res_blocks": blocks,
        "attn_resolutions": [],
        "double_z": True,
    }
    with torch.random.fork_rng(devices=[]):
        vae = AutoencoderKL(config)
    vae.load_state_dict({name: weights[name] for name in vae.state_dict()})
    return vae.eval().requires_grad_(False)
