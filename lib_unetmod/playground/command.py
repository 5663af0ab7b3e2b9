"""The command line that draws a picture again: everything it hangs on, quoted for the shell."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Iterable

from ..core.config import Config, knobs
from ..core.knobs import Knob
from ..settings.selection import selection_of
from .model import CHECKPOINT, SmallModel
from .samplers import TRAILING
from .settings import Settings

#: Stand for the files that only the user has: the picture to be written, and the one that img2img begins from.
OUTPUT, IMAGE = "picture.png", "start.png"
PROGRAM = ("python", "-m", "lib_unetmod.playground", "generate")


def command_line(model: SmallModel, settings: Settings, configs: Iterable[Config] = ()) -> str:
    """`python -m lib_unetmod.playground generate 'red apple' -o picture.png --seed 7 ...`, quoted for this system's shell.

    `settings` are settled ones. The picture that img2img began from is called `IMAGE`.
    """
    words = [*PROGRAM, *arguments(model, settings, configs)]
    return subprocess.list2cmdline(words) if os.name == "nt" else shlex.join(words)


def arguments(model: SmallModel, settings: Settings, configs: Iterable[Config] = ()) -> list[str]:
    """What follows `generate`, one element a word, every setting and each knob that differs from its default."""
    dashed = settings.prompt.startswith("-")
    words = [*([] if dashed else [settings.prompt]), "-o", OUTPUT]
    if settings.negative_prompt:
        words += _option("--negative", settings.negative_prompt)
    schedule = () if settings.schedule == TRAILING else ("schedule",)
    for name in ("seed", "steps", "sampler", *schedule, "cfg", "width", "height"):
        words += [f"--{name}", _text(getattr(settings, name))]
    if settings.image is not None:
        words += ["--image", IMAGE, "--strength", _text(settings.strength)]
    for config in configs:
        words += _assignments(config)
    if model.source is not None and model.source != CHECKPOINT:
        words += _option("--checkpoint", str(model.source))
    if model.device.type != "cpu":
        words += ["--device", str(model.device)]
    return [*words, "--", settings.prompt] if dashed else words


def _option(name: str, value: str) -> list[str]:
    return [f"{name}={value}"] if value.startswith("-") else [name, value]


def _assignments(config: Config) -> list[str]:
    ((method, changed),) = selection_of([config]).items()
    if not changed:
        return ["--set", method]
    by_name = {knob.name: knob for knob in knobs(type(config))}
    return [word for name, value in changed.items() for word in ("--set", f"{method}.{name}={_knob(by_name[name], value)}")]


def _knob(knob: Knob, value: object) -> str:
    return _text(value) if isinstance(value, float) else knob.to_text(value)


def _text(value: object) -> str:
    """As short as it may be without rounding: `4` of 4.0, `0.1` of 0.1."""
    if isinstance(value, float):
        return f"{value:g}" if float(f"{value:g}") == value else repr(value)
    return str(value)
