"""What the page knows of the next picture before it is drawn: its size, for what the autos would choose to be shown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from ..core.target import Target
from ..core.unet_map import UNetMap


@dataclass(frozen=True)
class Sight:
    """The page's own controls on which the size depends, and how their values are read.

    Attributes:
        controls: of the page, not of the panel.
        read: from the values of `controls`, the U-Net and the picture it will draw last; None where no U-Net is loaded.
    """

    controls: Sequence[gr.components.Component]
    read: Callable[..., tuple[UNetMap, Target] | None]


def hires_size(width: float, height: float, scale: float, to_width: float, to_height: float) -> tuple[int, int]:
    """Width and height of hires fix's second pass in pixels, from its controls as AUTOMATIC1111 has them.

    With neither side given it is `scale` times the first pass; with one, the other keeps the aspect ratio.
    """
    if not to_width and not to_height:
        return int(width * scale), int(height * scale)
    return int(to_width or to_height * width / height), int(to_height or to_width * height / width)


def value_of(value: Any, default: float) -> float:
    """A number that a page's control holds; `default` for anything else."""
    return float(value) if isinstance(value, (int, float)) else default
