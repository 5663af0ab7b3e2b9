"""The two things that are trained, each from the data to the published file."""

from __future__ import annotations

import argparse

import torch
from torch import Tensor

from lib_unetmod.playground.model import CHECKPOINT, AutoencoderKL, build, load
from training import train_unet, train_vae
from training.data import Captions, load_items, load_pictures, vocabulary
from training.export import export


def vae_part(options: argparse.Namespace) -> None:
    """Trains the autoencoder and publishes it, with whatever U-Net the checkpoint has."""
    items = load_items()
    published = CHECKPOINT.is_file() and (options.resume or train_unet.STATE.is_file())
    model = load() if published else build(vocabulary=vocabulary(items))
    vae = model.vae
    if options.resume and published:
        train_vae.fold_scale(vae, 1 / model.scale_factor)
    else:
        vae = model.vae = AutoencoderKL(model.architecture["vae"])
    train_vae.train(vae.to(options.device), load_pictures(items).to(options.device), options.vae_minutes)
    train_vae.fold_scale(vae, model.scale_factor)
    export(model)


def unet_part(options: argparse.Namespace) -> None:
    """Trains U-Net and text encoder, in one of the workers, and publishes now and then."""
    items = load_items()
    torch.manual_seed(0)  # all workers start from the same weights
    model = load() if options.resume and CHECKPOINT.is_file() else build(vocabulary=vocabulary(items))
    model.to(options.device)

    def publish(averaged: dict[str, Tensor], samples: int) -> None:
        train_vae.trained(model.vae, model.scale_factor)
        print(f"published, {export(model, averaged, samples=str(samples)) / 1e6:.2f} MB", flush=True)

    bank = train_unet.latent_bank(load_pictures(items))
    train_unet.train(model, bank, Captions(items), options.unet_minutes, options.batch, options.rate, publish=publish)
