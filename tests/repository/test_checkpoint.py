"""A checkpoint as people have it: its text encoders against a transformer written out here, and drawing with it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn

pytest.importorskip("imaginairy")

from benchmarks.checkpoint import Checkpoint, opened
from benchmarks.drawing import drawn
from benchmarks.full_size import models
from benchmarks.speed_cells import Study
from benchmarks.text_encoders import clip, open_clip, tokenized
from lib_unetmod import StepForecast
from lib_unetmod.playground.model import ARCHITECTURE, CHECKPOINT, AutoencoderKL, SmallModel

BEGIN, END, WORDS = 49406, 49407, 49408
#: From OpenAI's CLIP.
OWL = [BEGIN, 736, 3055, 1823, 539, 550, 9899, END]


def weights_of_clip(width, layers, of_open_clip):
    """Random ones under OpenCLIP's names, or transformers'."""
    generator = torch.Generator().manual_seed(width)

    def noise(*shape):
        return torch.randn(*shape, generator=generator) * shape[-1] ** -0.5

    theirs = {"token_embedding.weight": noise(WORDS, width), "positional_embedding": noise(77, width)}
    theirs |= {"ln_final.weight": 1 + noise(width), "ln_final.bias": noise(width), "text_projection": noise(width, width)}
    for layer in range(layers):
        at = f"transformer.resblocks.{layer}."
        for norm in ("ln_1", "ln_2"):
            theirs |= {f"{at}{norm}.weight": 1 + noise(width), f"{at}{norm}.bias": noise(width)}
        theirs |= {f"{at}attn.in_proj_weight": noise(3 * width, width), f"{at}attn.in_proj_bias": noise(3 * width)}
        theirs |= {f"{at}attn.out_proj.weight": noise(width, width), f"{at}attn.out_proj.bias": noise(width)}
        theirs |= {f"{at}mlp.c_fc.weight": noise(4 * width, width), f"{at}mlp.c_fc.bias": noise(4 * width)}
        theirs |= {f"{at}mlp.c_proj.weight": noise(width, 4 * width), f"{at}mlp.c_proj.bias": noise(width)}
    if of_open_clip:
        return theirs
    named = {"embeddings.token_embedding.weight": theirs["token_embedding.weight"]}
    named["embeddings.position_embedding.weight"] = theirs["positional_embedding"]
    named |= {f"final_layer_norm.{kind}": theirs[f"ln_final.{kind}"] for kind in ("weight", "bias")}
    for layer in range(layers):
        at, to = f"transformer.resblocks.{layer}.", f"encoder.layers.{layer}."
        pairs = {"ln_1": "layer_norm1", "ln_2": "layer_norm2", "mlp.c_fc": "mlp.fc1", "mlp.c_proj": "mlp.fc2"}
        for kind in ("weight", "bias"):
            named |= {f"{to}{ours}.{kind}": theirs[f"{at}{one}.{kind}"] for one, ours in pairs.items()}
            named[f"{to}self_attn.out_proj.{kind}"] = theirs[f"{at}attn.out_proj.{kind}"]
            parts = zip("qkv", theirs[f"{at}attn.in_proj_{kind}"].chunk(3), strict=True)
            named |= {f"{to}self_attn.{part}_proj.{kind}": value.contiguous() for part, value in parts}
    return named


def transformer(weights, tokens, layers, activation):
    """OpenCLIP's text transformer on its own weights: the output of each layer, and the normed last."""
    width = weights["ln_final.bias"].numel()
    h, outs = weights["token_embedding.weight"][tokens] + weights["positional_embedding"], []
    mask = torch.full((77, 77), float("-inf")).triu(1)
    for layer in range(layers):
        own = {
            key.removeprefix(f"transformer.resblocks.{layer}."): value
            for key, value in weights.items()
            if key.startswith(f"transformer.resblocks.{layer}.")
        }
        with torch.random.fork_rng(devices=[]):
            attention = nn.MultiheadAttention(width, max(width // 64, 1), batch_first=True)
        attention.load_state_dict({key.removeprefix("attn."): v for key, v in own.items() if key.startswith("attn.")})
        normed = F.layer_norm(h, (width,), own["ln_1.weight"], own["ln_1.bias"])
        h = h + attention(normed, normed, normed, need_weights=False, attn_mask=mask)[0]
        normed = F.layer_norm(h, (width,), own["ln_2.weight"], own["ln_2.bias"])
        inner = activation(F.linear(normed, own["mlp.c_fc.weight"], own["mlp.c_fc.bias"]))
        h = h + F.linear(inner, own["mlp.c_proj.weight"], own["mlp.c_proj.bias"])
        outs.append(h)
    return outs, lambda x: F.layer_norm(x, (width,), weights["ln_final.weight"], weights["ln_final.bias"])


def quick_gelu(x):
    return x * torch.sigmoid(1.702 * x)


PROMPTS = ["red apple left of an owl", ""]


def test_tokens_are_clips():
    assert tokenized(PROMPTS, 0).tolist() == [OWL + [0] * 69, [BEGIN, END] + [0] * 75]
    assert tokenized(["owl " * 90], END).shape == (1, 77)


@pytest.mark.parametrize("last", (True, False))
def test_clips_text_encoder(last):
    outs, norm = transformer(weights_of_clip(64, 3, True), tokenized(PROMPTS, END), 3, quick_gelu)
    hidden, whole = clip(weights_of_clip(64, 3, False), last)(PROMPTS)
    torch.testing.assert_close(hidden, norm(outs[-1]) if last else outs[-2], rtol=1e-4, atol=1e-4)
    assert whole is None


@pytest.mark.parametrize("normed", (True, False))
def test_open_clips_text_encoder(normed):
    weights, tokens = weights_of_clip(128, 3, True), tokenized(PROMPTS, 0)
    outs, norm = transformer(weights, tokens, 3, F.gelu)
    hidden, whole = open_clip(weights, normed)(PROMPTS)
    torch.testing.assert_close(hidden, norm(outs[-2]) if normed else outs[-2], rtol=1e-4, atol=1e-4)
    ends = norm(outs[-1])[torch.arange(2), torch.tensor([len(OWL) - 1, 1])]
    torch.testing.assert_close(whole, ends @ weights["text_projection"], rtol=1e-4, atol=1e-4)


def test_sdxl_is_told_prompt_and_size():
    one = Checkpoint.__new__(Checkpoint)
    one.family, one.device = "sdxl", torch.device("cpu")
    one._texts = [clip(weights_of_clip(64, 2, False), False), open_clip(weights_of_clip(128, 2, True), False)]
    told = one.conditions(PROMPTS, 768, 1024)
    assert told["context"].shape == (2, 77, 64 + 128) and not told["context"][1].any()
    labels = told["y"]
    assert labels.shape == (2, 128 + 6 * 256) and labels[0, :128].any() and not labels[1, :128].any()
    # sgm's embedding of a number: cosines, then sines, of falling frequencies; that of 0 is 1 and 0.
    sizes = labels[0, 128:].unflatten(0, (6, 256))
    frequencies = torch.exp(-torch.log(torch.tensor(10000.0)) * torch.arange(128) / 128)
    for at, size in enumerate((768, 1024, 0, 0, 768, 1024)):
        torch.testing.assert_close(sizes[at], torch.cat([(size * frequencies).cos(), (size * frequencies).sin()]))


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """SD1's layout with random weights, and a narrow U-Net."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        parts = {
            "model.diffusion_model.": models.SD15.built(32).state_dict(),
            "first_stage_model.": AutoencoderKL(ARCHITECTURE["vae"]).state_dict(),
            "cond_stage_model.transformer.text_model.": weights_of_clip(768, 1, False),
        }
    path = tmp_path_factory.mktemp("checkpoint") / "narrow.safetensors"
    save_file({f"{at}{key}": value.half().contiguous() for at, part in parts.items() for key, value in part.items()}, path)
    return path


@pytest.mark.long
def test_pictures_are_drawn_with_a_file(file):
    model = Checkpoint(file)
    assert (model.family, model.prediction_type, model.architecture) == ("sd1", "epsilon", {"trained_size": 512})
    stored = load_file(file)
    for part, prefix in ((model.unet, "model.diffusion_model."), (model.vae, "first_stage_model.")):
        assert all(torch.equal(value.half(), stored[f"{prefix}{name}"]) for name, value in part.state_dict().items())
    plain, _ = drawn(model, ["owl"], "euler", 4, size=(64, 64), decoded=True, schedule="automatic")
    forecast = [StepForecast(plan="FFPP")]
    modified, _ = drawn(model, ["owl"], "euler", 4, forecast, size=(64, 64), decoded=True, schedule="automatic")
    assert plain.shape == modified.shape == (1, 3, 64, 64) and not torch.equal(plain, modified)
    study = Study.of(file)
    assert study.results.parent == study.page.parent == study.plot.parent == file.parent


def test_sd2s_prediction_is_asked_of_its_unet():
    one = Checkpoint.__new__(Checkpoint)
    one.device, one._texts = (
        torch.device("cpu"),
        [SimpleNamespace(network=SimpleNamespace(config=SimpleNamespace(hidden_size=8)))],
    )
    for far, of_v in ((-2.0, True), (0.1, False)):
        one.unet = lambda x, timesteps, context, far=far: x + far
        assert one._predicts_v() is of_v


def test_a_file_of_another_kind_is_refused(tmp_path):
    save_file({"weight": torch.zeros(1)}, tmp_path / "lora.safetensors")
    with pytest.raises(ValueError, match="lora.safetensors is no checkpoint of SD1, SD2 or SDXL"):
        opened(tmp_path / "lora.safetensors")


def test_a_checkpoint_of_the_playgrounds_kind_is_taken_too():
    assert isinstance(opened(CHECKPOINT), SmallModel)
