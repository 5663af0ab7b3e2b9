"""The small Stable Diffusion checkpoint: its modules, its file, its loader.

The file is laid out as ldm and the WebUI lay out SD1 checkpoints (`model.diffusion_model.*`, `first_stage_model.*`,
`cond_stage_model.transformer.text_model.*`); only the widths differ. They, the vocabulary and the prediction type
stand as JSON in the file's metadata, so that one file says everything needed to load it.

    model = load()
    context = model.encode_prompt(["red apple"])            # (1, 77, C)
    v = model.unet(noisy, timesteps, context=context)       # noisy (1, 4, h, w); v-prediction
    picture = model.decode(latent)                          # (1, 3, 8h, 8w) in [-1, 1]
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import re
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

CHECKPOINT = Path(__file__).parent / "checkpoint" / "emoji.safetensors"

ARCHITECTURE: dict[str, Any] = {
    "unet": {
        "image_size": 16,
        "in_channels": 4,
        "out_channels": 4,
        "model_channels": 32,
        "channel_mult": [1, 2, 4, 4],
        "num_res_blocks": 2,
        "attention_resolutions": [4, 2, 1],
        "num_head_channels": 32,
        "use_spatial_transformer": True,
        "transformer_depth": 1,
        "context_dim": 128,
        "legacy": False,
        "use_checkpoint": False,
    },
    "vae": {
        "z_channels": 4,
        "resolution": 128,
        "in_channels": 3,
        "out_ch": 3,
        "ch": 32,
        "ch_mult": [1, 1, 2, 3],
        "num_res_blocks": 1,
        "attn_resolutions": [],
        "double_z": True,
    },
    "text": {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4},
    "vocabulary": [],
    "prediction_type": "v_prediction",
    "scale_factor": 0.18215,
    "trained_size": 128,
}


class WordTokenizer:
    """Whole lower-case words to numbers. As CLIP's: begin, words, end, then the end token up to 77 places."""

    length = 77

    def __init__(self, words: list[str]) -> None:
        self.words = list(words)
        self.number = {word: i for i, word in enumerate(self.words)}
        self.unknown, self.begin, self.end = (len(self.words) + i for i in range(3))

    def __len__(self) -> int:
        return len(self.words) + 3

    @staticmethod
    def split(text: str) -> list[str]:
        """'Red apple, big!' -> ['red', 'apple', 'big']"""
        return re.findall(r"[a-z0-9]+", text.lower().replace("’", "").replace("'", ""))

    def __call__(self, texts: list[str]) -> Tensor:
        """Token numbers (B, 77), int64."""
        rows = []
        for text in texts:
            row = [self.number.get(word, self.unknown) for word in self.split(text)][: self.length - 2]
            row = [self.begin, *row]
            rows.append(row + [self.end] * (self.length - len(row)))
        return torch.tensor(rows, dtype=torch.long)


class AutoencoderKL(nn.Module):
    """ldm's f=8 autoencoder without its training half; ldm's own encoder and decoder, so its key names."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        from ldm.modules.diffusionmodules.model import Decoder, Encoder

        with contextlib.redirect_stdout(io.StringIO()):  # ldm prints its latent shape
            self.encoder = Encoder(**config)
            self.decoder = Decoder(**config)
        z = config["z_channels"]
        self.quant_conv = nn.Conv2d(2 * z, 2 * z, 1)
        self.post_quant_conv = nn.Conv2d(z, z, 1)

    def moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of the latent, each (B, 4, H/8, W/8), of pictures (B, 3, H, W) in [-1, 1]."""
        mean, logvar = self.quant_conv(self.encoder(x)).chunk(2, dim=1)
        return mean, logvar.clamp(-30.0, 20.0)

    def decode(self, z: Tensor) -> Tensor:
        """Pictures (B, 3, 8h, 8w), about [-1, 1], of unscaled latents (B, 4, h, w)."""
        return self.decoder(self.post_quant_conv(z))


class SmallModel(nn.Module):
    """A whole text-to-picture model. Latents seen from outside are scaled (unit spread), as the U-Net wants them."""

    def __init__(self, architecture: dict[str, Any]) -> None:
        super().__init__()
        from ldm.modules.diffusionmodules.openaimodel import UNetModel
        from transformers import CLIPTextConfig, CLIPTextModel

        self.architecture = architecture
        self.source: Path | None = None
        self.tokenizer = WordTokenizer(architecture["vocabulary"])
        self.unet = UNetModel(**architecture["unet"])
        self.vae = AutoencoderKL(architecture["vae"])
        self.text_encoder = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(self.tokenizer),
                max_position_embeddings=WordTokenizer.length,
                bos_token_id=self.tokenizer.begin,
                eos_token_id=self.tokenizer.end,
                pad_token_id=self.tokenizer.end,
                **architecture["text"],
            )
        )
        self.prediction_type: str = architecture["prediction_type"]
        self.scale_factor: float = architecture["scale_factor"]
        # SD1's "scaled linear" schedule: betas are linear in their square roots
        betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
        self.register_buffer("alphas_cumprod", (1 - betas).cumprod(0).float(), persistent=False)

    @cached_property
    def name(self) -> str:
        """What tells it from others: its file's name and the beginning of its SHA-256; empty where there is no file."""
        if self.source is None:
            return ""
        return f"{self.source.stem} [{hashlib.sha256(self.source.read_bytes()).hexdigest()[:10]}]"

    @property
    def device(self) -> torch.device:
        return self.alphas_cumprod.device

    @property
    def dtype(self) -> torch.dtype:
        return next(self.unet.parameters()).dtype

    def encode_prompt(self, prompts: list[str]) -> Tensor:
        """The context (B, 77, C) the U-Net's cross-attention reads."""
        return self.text_encoder(input_ids=self.tokenizer(prompts).to(self.device)).last_hidden_state

    def encode_image(self, x: Tensor) -> Tensor:
        """Scaled latents (B, 4, H/8, W/8) of pictures (B, 3, H, W) in [-1, 1]; H and W multiples of 8."""
        return self.vae.moments(x)[0] * self.scale_factor

    def decode(self, latent: Tensor) -> Tensor:
        """Pictures (B, 3, 8h, 8w) in [-1, 1] of scaled latents (B, 4, h, w)."""
        return self.vae.decode(latent / self.scale_factor).clamp(-1, 1)


def build(architecture: dict[str, Any] | None = None, vocabulary: list[str] | None = None) -> SmallModel:
    """The untrained modules."""
    architecture = dict(ARCHITECTURE if architecture is None else architecture)
    if vocabulary is not None:
        architecture["vocabulary"] = list(vocabulary)
    return SmallModel(architecture)


_TEXT = "cond_stage_model.transformer.text_model."
_PREFIXES = (
    ("unet.", "model.diffusion_model."),
    ("vae.", "first_stage_model."),
    ("text_encoder.text_model.", _TEXT),
    ("text_encoder.", _TEXT),
)


def to_checkpoint(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Our module names to ldm's. transformers 5 dropped `text_model.` from the names; ldm's layout has it."""
    return {
        theirs + name[len(ours) :]: tensor
        for name, tensor in state.items()
        for ours, theirs in [next(pair for pair in _PREFIXES if name.startswith(pair[0]))]
        if not name.endswith("position_ids")
    }


def load(
    path: str | Path = CHECKPOINT, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
) -> SmallModel:
    """The trained model of a checkpoint file, in eval mode, without gradients; `source` is the file.

    Raises:
        FileNotFoundError: where there is no file.
        ValueError: for a file that is no checkpoint of the playground's kind, or a damaged one; in one sentence.
        SafetensorError: for a file of another format.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"There is no checkpoint at {path}: `python -m training` makes one.")
    with safe_open(str(path), framework="pt") as file:
        metadata = file.metadata() or {}
        if "architecture" not in metadata:
            raise ValueError(f"{path} is not the playground's checkpoint: its metadata names no architecture.")
        stored = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - it is no dict
    model = _untrained(metadata["architecture"], path)
    state = model.state_dict()
    wanted = to_checkpoint({name: name for name in state})  # type: ignore[dict-item]
    missing = [key for key in wanted if key not in stored]
    if missing:
        raise ValueError(f"{path} lacks {len(missing)} tensors, the first is {missing[0]}.")
    for key, name in wanted.items():
        if stored[key].shape != state[name].shape:
            shapes = " instead of ".join("x".join(map(str, tensor.shape)) for tensor in (stored[key], state[name]))
            raise ValueError(f"{path} does not fit the architecture that it names: {key} is {shapes}.")
        if not stored[key].isfinite().all():
            raise ValueError(f"{path} is damaged: {key} holds values that are no finite numbers.")
    model.load_state_dict({name: stored[key] for key, name in wanted.items()}, strict=False)
    model.source = Path(path)
    return model.to(device=device, dtype=dtype).eval().requires_grad_(False)


def _untrained(architecture: str, path: str | Path) -> SmallModel:
    """The modules that a checkpoint's metadata describe.

    Raises:
        ValueError: where it describes none.
    """
    refusal = f"{path} is not the playground's checkpoint: the architecture in its metadata cannot be built"
    try:
        described = json.loads(architecture)
    except (ValueError, RecursionError):
        described = None
    if not isinstance(described, dict):
        raise ValueError(f"{refusal}: it is no JSON object.")
    lacking = [part for part in ARCHITECTURE if part not in described and part != "trained_size"]
    if lacking:
        raise ValueError(f"{refusal}: it lacks {', '.join(lacking)}.")
    try:
        with torch.random.fork_rng(devices=[]):  # the untrained weights are drawn, and thrown away
            return build(described)
    except Exception as error:  # ldm, torch and transformers each raise what they like
        raise ValueError(f"{refusal} ({type(error).__name__}).") from None
