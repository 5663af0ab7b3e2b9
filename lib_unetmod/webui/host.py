"""Which WebUI this is: where its U-Net is, what else acts on it, and how it tells its user something.

The only file that differs from host to host. AUTOMATIC1111 keeps the U-Net in `sd_model.model.diffusion_model`; Forge keeps
it behind a patcher, of which no reference may be held, because its memory management counts them. Tried in AUTOMATIC1111
1.10.1; written for Forge from its source, and not tried in a running one.
"""

from __future__ import annotations

from typing import Any

import gradio as gr
from modules import shared
from torch import nn

try:
    from modules import sd_unet
except ImportError:  # a fork without U-Net replacements
    sd_unet = None

PREFIX = "UNet Mod: "


def current_unet() -> nn.Module | None:
    """The U-Net that the host calls now; None when no model is loaded."""
    model = shared.sd_model
    forge = getattr(model, "forge_objects", None)
    inner = forge.unet.model if forge is not None else getattr(model, "model", None)
    return getattr(inner, "diffusion_model", None)


def timesteps() -> int:
    """The length of the training schedule to which the U-Net's timesteps belong."""
    count = getattr(shared.sd_model, "num_timesteps", None)
    return count if isinstance(count, int) and count > 1 else 1000


def pass_of(p: Any) -> str:
    """Which pass `p` is in: "first", "hires" or "img2img"."""
    if getattr(p, "is_hr_pass", False):
        return "hires"
    return "img2img" if getattr(p, "init_images", None) else "first"


def replacement() -> str | None:
    """A sentence when something else is called in the U-Net's place (TensorRT and its like), so that nothing can act."""
    unet = getattr(sd_unet, "current_unet", None)
    if unet is None:
        return None
    label = getattr(getattr(unet, "option", None), "label", None) or type(unet).__name__
    return f"Nothing acts, because the SD Unet {label} stands in for the model's own; choose None for SD Unet in Settings."


def rivals(p: Any) -> list[str]:
    """A sentence for each of the WebUI's own modifications of the U-Net that acts beside ours."""
    hires = bool(getattr(p, "enable_hr", False))
    found = []
    if _own_token_merging(p, hires):
        found.append("The WebUI's own token merging is on as well (Settings, Optimizations); both act.")
    second_pass = hires and _setting("hypertile_enable_unet_secondpass")
    if _setting("hypertile_enable_unet") or second_pass:
        found.append("The WebUI's own Hypertile is on as well (Settings, Hypertile); both act.")
    return found


def tell(p: Any, sentence: str) -> None:
    """Show a sentence under the picture that `p` makes, and print it."""
    if hasattr(p, "comment"):
        p.comment(PREFIX + sentence)
    say(sentence)


def say(sentence: str) -> None:
    """Print a sentence to the console."""
    print(PREFIX + sentence)


def warn(sentence: str) -> None:
    """Show a sentence on the page, to whoever pressed the button that is being answered, and print it."""
    say(sentence)
    gr.Warning(PREFIX + sentence)


def _own_token_merging(p: Any, hires: bool) -> bool:
    ratio_of = getattr(p, "get_token_merging_ratio", None)
    if ratio_of is None:
        return False
    return bool(ratio_of() or (hires and ratio_of(for_hr=True)))


def _setting(name: str) -> Any:
    return getattr(shared.opts, name, None)
