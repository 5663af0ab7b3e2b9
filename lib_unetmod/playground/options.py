"""What the command line's options mean: settings, methods, files and the model; one sentence for what cannot be used."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, UnidentifiedImageError
from safetensors import SafetensorError

from ..core.config import Config
from ..settings.selection import Selection, config_of
from .model import SmallModel, load
from .settings import Settings


class UsageError(ValueError):
    """Input that cannot be used; the message is one sentence."""


def settings_of(options: argparse.Namespace, prompt: str) -> Settings:
    """What is drawn for a prompt.

    Raises:
        UsageError: for a picture to begin from that cannot be read.
    """
    return Settings(
        prompt=prompt,
        negative_prompt=options.negative,
        seed=options.seed,
        steps=options.steps,
        sampler=options.sampler,
        schedule=options.schedule,
        cfg=options.cfg,
        width=options.width,
        height=options.height,
        image=_opened(options.image),
        strength=options.strength,
    )


def configs_of(assignments: Sequence[str]) -> list[Config]:
    """The configs of `METHOD.KNOB=VALUE` and of `METHOD`, which sets a method on with its defaults."""
    selection: Selection = {}
    for assignment in assignments:
        target, equals, value = assignment.partition("=")
        method, dot, knob = target.partition(".")
        if bool(equals) != bool(dot) or not method or (dot and not knob):
            raise UsageError(f"--set {assignment} cannot be read; it takes METHOD.KNOB=VALUE or METHOD.")
        values = selection.setdefault(method, {})
        if dot:
            values[knob] = value
    # A page goes on without what it cannot read; a command that was told to use it must not.
    return [config_of(name, values) for name, values in selection.items()]


def _opened(path: Path | None) -> Image.Image | None:
    if path is None:
        return None
    try:
        with Image.open(path) as picture:
            picture.load()
            return picture
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError):
        raise UsageError(f"--image {path} cannot be read as a picture.") from None


def png(path: Path) -> Path:
    """A file that a picture can be written to.

    Raises:
        UsageError: where it cannot be.
    """
    if path.suffix.lower() != ".png":
        raise UsageError(f"The output is {path}; its name must end in .png.")
    if not path.parent.is_dir():
        raise UsageError(f"The output is {path}, but there is no folder {path.parent}.")
    return path


def save(picture: Image.Image, path: Path) -> None:
    """Write a picture.

    Raises:
        UsageError: where it cannot be written.
    """
    try:
        picture.save(path)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror or error}.") from None


def loaded(options: argparse.Namespace) -> SmallModel:
    """The model in the checkpoint that is named, on its device.

    Raises:
        UsageError: where it cannot be loaded.
    """
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # nothing is downloaded here, and nobody is asked for updates
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # ldm prints that xformers is missing
            return load(options.checkpoint, options.device)
    except SafetensorError as error:
        raise UsageError(f"{options.checkpoint} cannot be read as a checkpoint: {error}.") from None
    except (OSError, ValueError) as error:
        raise UsageError(str(error)) from None
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"The model cannot be loaded on {options.device}: {str(error).splitlines()[0]}") from None
