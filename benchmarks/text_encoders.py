"""The text encoders of a checkpoint file: CLIP's as SD1 and SDXL have it, and OpenCLIP's of SD2 and SDXL.

Sizes are read off the weights. OpenCLIP's layers are computed by transformers' CLIP, which is the same network under other
names. The vocabulary is OpenAI's, as the package of the U-Nets ships it.
"""

from __future__ import annotations

import gzip
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import imaginairy
import torch
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

LENGTH = 77
_BEGIN, _END = "<|startoftext|>", "<|endoftext|>"
_MERGES = 49152 - 256 - 2
#: OpenCLIP's names to transformers'.
_NAMES = {
    "transformer.resblocks.": "encoder.layers.",
    "token_embedding.": "embeddings.token_embedding.",
    "positional_embedding": "embeddings.position_embedding.weight",
    "ln_final.": "final_layer_norm.",
    "ln_1.": "layer_norm1.",
    "ln_2.": "layer_norm2.",
    "mlp.c_fc.": "mlp.fc1.",
    "mlp.c_proj.": "mlp.fc2.",
    "attn.out_proj.": "self_attn.out_proj.",
}


@dataclass(frozen=True, eq=False)
class TextEncoder:
    """One text encoder, and how it is used.

    Attributes:
        network: transformers' CLIP.
        pad: the token that fills a prompt up to 77.
        last: whether its last layer's output is taken, and not the one before.
        normed: whether that goes through the last norm.
        projection: (D, P), from the end token's output to the prompt's own vector, of OpenCLIP's.
    """

    network: nn.Module
    pad: int
    last: bool
    normed: bool
    projection: Tensor | None = None

    def __call__(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor | None]:
        """Embeddings (B, 77, D) of the tokens, and (B, P) of the prompts, where there is a projection."""
        tokens = tokenized(prompts, self.pad).to(next(self.network.parameters()).device)
        out = self.network(input_ids=tokens, output_hidden_states=True)
        hidden = out.hidden_states[-1 if self.last else -2]
        if self.normed:
            hidden = getattr(self.network, "text_model", self.network).final_layer_norm(hidden)
        if self.projection is None:
            return hidden, None
        ends = (tokens == _tokenizer().convert_tokens_to_ids(_END)).int().argmax(1)
        return hidden, out.last_hidden_state[torch.arange(len(tokens)), ends] @ self.projection


def clip(weights: Mapping[str, Tensor], last: bool) -> TextEncoder:
    """CLIP's of a file's `transformer.text_model.*`, given without that; `last`: SD1 takes the last layer, SDXL not."""
    return TextEncoder(_network(weights, "quick_gelu"), _tokenizer().convert_tokens_to_ids(_END), last, normed=last)


def open_clip(weights: Mapping[str, Tensor], normed: bool) -> TextEncoder:
    """OpenCLIP's of a file's `model.*`, given without that; `normed`: SD2 norms the last layer but one, SDXL does not."""
    named: dict[str, Tensor] = {}
    for key, value in weights.items():
        for theirs, ours in _NAMES.items():
            key = key.replace(theirs, ours)
        if ".attn.in_proj_" in key:
            layer, kind = key.split(".attn.in_proj_")
            parts = zip("qkv", value.chunk(3), strict=True)
            named |= {f"{layer}.self_attn.{part}_proj.{kind}": of_part for part, of_part in parts}
        else:
            named[key] = value
    return TextEncoder(_network(named, "gelu"), 0, last=False, normed=normed, projection=weights.get("text_projection"))


def _network(weights: Mapping[str, Tensor], activation: str) -> nn.Module:
    words, width = weights["embeddings.token_embedding.weight"].shape
    layers = 1 + max(int(key.split(".")[2]) for key in weights if key.startswith("encoder.layers."))
    config = CLIPTextConfig(
        vocab_size=words,
        hidden_size=width,
        intermediate_size=len(weights["encoder.layers.0.mlp.fc1.weight"]),
        num_hidden_layers=layers,
        num_attention_heads=max(width // 64, 1),
        hidden_act=activation,
        # Read by versions that look for the end token themselves.
        bos_token_id=words - 2,
        eos_token_id=words - 1,
    )
    with torch.random.fork_rng(devices=[]):
        network = CLIPTextModel(config)
    # transformers 5 has dropped `text_model.` from the names.
    own = {name: name.removeprefix("text_model.") for name in network.state_dict() if not name.endswith("position_ids")}
    network.load_state_dict({name: weights[key] for name, key in own.items()}, strict=False)
    return network.eval().requires_grad_(False)


def tokenized(prompts: Sequence[str], pad: int) -> Tensor:
    """(B, 77) numbers of CLIP's tokens; what is longer is cut."""
    known = _tokenizer()
    rows = []
    for prompt in prompts:
        inner = known(prompt, add_special_tokens=False)["input_ids"][: LENGTH - 2]
        row = [known.convert_tokens_to_ids(_BEGIN), *inner, known.convert_tokens_to_ids(_END)]
        rows.append(row + [pad] * (LENGTH - len(row)))
    return torch.tensor(rows)


@cache
def _tokenizer() -> CLIPTokenizer:
    packed = Path(imaginairy.__file__).parent / "vendored" / "clip" / "bpe_simple_vocab_16e6.txt.gz"
    lines = gzip.decompress(packed.read_bytes()).decode("utf-8").split("\n")
    merges = [tuple(line.split()) for line in lines[1 : _MERGES + 1]]
    single = _letters()
    words = [*single, *(f"{letter}</w>" for letter in single), *map("".join, merges), _BEGIN, _END]
    vocabulary = {word: number for number, word in enumerate(words)}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, bos_token=_BEGIN, eos_token=_END, unk_token=_END, pad_token=_END)


def _letters() -> list[str]:
    """A sign for each byte, in the vocabulary's order: what can be printed is itself, the rest follows."""
    printed = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    rest = [byte for byte in range(256) if byte not in printed]
    return [chr(byte) for byte in printed] + [chr(256 + place) for place in range(len(rest))]
