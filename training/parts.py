"""The two things that are trained, each from the data to its state and to a file the playground loads."""

from __future__ import annotations

import argparse
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from lib_unetmod.playground.model import AutoencoderKL, SmallModel, build
from training import train_unet, train_vae
from training.architecture import ARCHITECTURE
from training.data import Captions, Item, load_cutouts, load_items, vocabulary
from training.export import PARTS, export, import_part
from training.latents import Latents
from training.state import Budget, load_state


def vae_state(folder: Path) -> Path:
    return folder / "vae.safetensors"


def unet_state(folder: Path) -> Path:
    return folder / "unet.safetensors"


def fixed_vae(folder: Path) -> Path:
    """The autoencoder the U-Net is trained on. It must not change any more, for the latents would."""
    return folder / "vae-fixed.safetensors"


@cache
def _data() -> tuple[list[Item], Tensor]:
    """The emoji and their cutouts (N, 4, 128, 128)."""
    items = load_items()
    return items, load_cutouts(items)


def _fresh(device: str) -> SmallModel:
    torch.manual_seed(0)
    return build(ARCHITECTURE, vocabulary(_data()[0])).to(device)


def _unfolded(model: SmallModel) -> AutoencoderKL:
    """The autoencoder of a file, its latents of unit spread again, as in training."""
    train_vae.fold(model.vae, *torch.tensor([[0.0] * 4, [1 / model.scale_factor] * 4], device=model.device))
    return model.vae


def trained_vae(model: SmallModel, folder: Path, cutouts: Tensor) -> int:
    """Fills the model's autoencoder with the averaged weights trained so far, as they are published; samples seen."""
    if not vae_state(folder).is_file():
        return 0
    learner = AutoencoderKL(model.architecture["vae"])
    _, samples = load_state(vae_state(folder), learner, averaged=model.vae)
    train_vae.normalise(model.vae.eval().requires_grad_(False), cutouts, model.scale_factor)
    return samples


def vae_part(options: argparse.Namespace) -> None:
    """Trains the autoencoder, from the state, the snapshot or anew."""
    model = _fresh(options.device)
    samples = 0
    if not vae_state(options.state).is_file() and (samples := import_part(model, options.snapshot, "vae")):
        print(f"from {options.snapshot}: {samples} samples", flush=True)
        _unfolded(model)
    train_vae.train(
        model.vae,
        _data()[1].to(options.device),
        Budget(options.vae_samples, 60 * options.vae_minutes),
        vae_state(options.state),
        options.vae_batch,
        options.vae_rate,
        samples,
        options.workers,
        options.compile,
        options.log_every,
    )


def unet_part(options: argparse.Namespace) -> None:
    """Trains U-Net and text encoder on the autoencoder as it is when this first starts."""
    items, cutouts = _data()
    model, cutouts = _fresh(options.device), cutouts.to(options.device)
    fixed = fixed_vae(options.state)
    vae_samples = import_part(model, fixed, "vae") or trained_vae(model, options.state, cutouts)
    vae_samples = vae_samples or import_part(model, options.snapshot, "vae")
    if not vae_samples:
        raise SystemExit("The U-Net needs an autoencoder: python -m training --only vae")
    if not fixed.is_file():
        export(model, fixed, {"vae": vae_samples})
    samples = 0 if unet_state(options.state).is_file() else import_part(model, options.snapshot, "unet")
    model.vae.eval().requires_grad_(False)

    def publish(averaged: dict[str, Tensor], seen: int) -> None:
        size = export(model, options.output, {"vae": vae_samples, "unet": seen}, averaged)
        print(f"{options.output}, {size / 1e6:.2f} MB", flush=True)

    train_unet.train(
        model,
        Latents(model, cutouts, Captions(items), samples, options.workers),
        Budget(options.unet_samples, 60 * options.unet_minutes),
        unet_state(options.state),
        options.batch,
        options.rate,
        samples,
        options.compile,
        publish,
        60 * options.publish_every,
        options.log_every,
    )


def publish_state(folder: Path, path: Path) -> dict[str, int]:
    """Writes a snapshot in half precision of the parts that have state; samples seen by each."""
    model = _fresh("cpu")
    progress: dict[str, int] = {}
    if unet_state(folder).is_file():
        progress["vae"] = import_part(model, fixed_vae(folder), "vae")
        learner = torch.nn.ModuleDict({name.rstrip("."): getattr(model, name.rstrip(".")) for name in PARTS["unet"]})
        _, progress["unet"] = load_state(unet_state(folder), _fresh_learner(model), averaged=learner)
    elif samples := trained_vae(model, folder, _data()[1]):
        progress["vae"] = samples
    else:
        raise SystemExit(f"{folder} holds no state.")
    export(model, path, progress)
    return progress


def _fresh_learner(model: SmallModel) -> torch.nn.ModuleDict:
    other = build(model.architecture)
    return torch.nn.ModuleDict({"unet": other.unet, "text_encoder": other.text_encoder})
