"""Add or remove detail during sampling and adjust contrast, brightness and color of the finished image: costs no time, but
more detail also brings noise.

CD-Tuner (hako-mikan 2023, github.com/hako-mikan/sd-webui-cd-tuner). Detail 1 makes the weight of the first convolution
smaller and its bias larger, detail 2 those of the group norm before the last convolution; contrast adds to the first channel
of the prediction. Numbers mean what they mean there, but no weight is edited: each is what the layer's answer to the map and
its answer to zeros add up to (`affine`).

Costs: a few products of small maps; colour, contrast 2, brightness and saturation cost nothing to speak of. Changes: detail
and with it noise, in early steps the composition too; colors and contrast of the finished image.

Colours, contrast 2 and brightness are constants that the latent's channels are moved by (`latent_colors`). The original
subtracts them from the prediction two steps before the end, of which a picture gets as much as those steps remove noise, and
none in a single step. Here they are subtracted where the finished latent enters the autoencoder: once, at any number of
steps, with any sampler, however cond and uncond are called. Saturation multiplies weights of the autoencoder's decoder. Both
act in the last of a picture's passes alone: what hires fix decodes and encodes between its passes is left as it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ...core.config import Config
from ...core.depth import Depth
from ...core.edits import Change, DecoderEdit, after, before, instead
from ...core.knobs import ConfigError, knob
from ...core.patching import Edit
from ...core.registry import method
from ...core.run import Run
from ...core.tables import sent, table
from ...core.unet_map import UNetMap
from ...core.upcoming_picture import Idle, UpcomingPass, UpcomingPicture
from ...parts.convolution.affine import rescaled
from ...parts.latents.latent_colors import colors_of

_UNIT = 0.02  # of the latent for 1 on a slider
_BEFORE_THE_END = 20 / 3  # by how much more it counts on the finished latent
#: How much of the decoder's weights 1 on a slider is, and which they are.
_SATURATION = 0.075, ("up.1.upsample.conv", "up.0.block.0.nin_shortcut")
_SATURATION_2 = 0.02, ("up.3.upsample.conv", "up.2.upsample.conv", "up.1.block.0.nin_shortcut", "conv_in", "conv_out")


def _detail(default: float, label: str, help: str, **more: Any) -> Any:
    return knob(default, label, help, low=-10, high=10, step=0.1, **more)


def _finish(label: str, help: str) -> Any:
    return knob(0.0, label, f"Finished image: {help}", low=-20, high=20, step=0.1, rarely=True)


@dataclass(frozen=True, kw_only=True)
class CDTuner(Config):
    """Sliders as in CD-Tuner, 0 = as it is. Start and end hold for detail and contrast."""

    short = "CD-Tuner"

    detail1: float = _detail(
        3.0, "Detail 1", "Above 0 adds detail and noise, below 0 flattens; early steps also change the composition. 0 = off."
    )
    detail2: float = _detail(0.0, "Detail 2", "Like Detail 1, but keeps more of the composition; 0 = off.")
    contrast: float = knob(
        0.0,
        "Contrast",
        "Above 0 darker with more contrast, at every step, so that the drawing changes too; 0 = off.",
        low=-20,
        high=20,
        step=0.1,
    )
    brightness: float = _finish("Brightness", "above 0 brighter, below 0 darker; 0 = off.")
    contrast2: float = _finish("Contrast 2", "above 0 darker with more contrast, without changing the drawing; 0 = off.")
    saturation: float = _finish("Saturation", "above 0 stronger colors, below 0 paler; 0 = off.")
    saturation2: float = _finish("Saturation 2", "milder than Saturation, over more of the VAE; 0 = off.")
    color1: float = _finish("Cyan - Red", "above 0 more red, below 0 more cyan; 0 = off.")
    color2: float = _finish("Magenta - Green", "above 0 more green, below 0 more magenta; 0 = off.")
    color3: float = _finish("Yellow - Blue", "above 0 more blue, below 0 more yellow; 0 = off.")
    hires_scaling: bool = knob(
        False,
        "Scale detail in Hires. fix",
        "Keeps detail visible in Hires. fix: multiplies both by the gain in pixels, 4x at twice the side.",
        rarely=True,
    )
    hires_own: bool = knob(
        False,
        "Own detail in Hires. fix",
        "Gives the second pass of Hires. fix detail values of its own, in the two fields that appear.",
        rarely=True,
    )
    hires_detail1: float = _detail(
        0.0, "Hires. fix detail 1", "Detail 1 in the second pass of Hires. fix; 0 = off.", when="hires_own", rarely=True
    )
    hires_detail2: float = _detail(
        0.0, "Hires. fix detail 2", "Detail 2 in the second pass of Hires. fix; 0 = off.", when="hires_own", rarely=True
    )

    def changes_nothing(self) -> bool:
        return not (self._on_the_way or self._on_the_finished)

    @property
    def _on_the_way(self) -> bool:
        return any((*self._details(1), *self._details(2), self.contrast))

    @property
    def _on_the_finished(self) -> bool:
        return any((self.contrast2, *self._colors, self.saturation, self.saturation2))

    @property
    def _colors(self) -> tuple[float, ...]:
        return self.brightness, self.color1, self.color2, self.color3

    def _details(self, number: int) -> tuple[float, float]:
        """The value of detail 1 or 2 in hires fix's second pass, and elsewhere."""
        elsewhere, own = ((self.detail1, self.hires_detail1), (self.detail2, self.hires_detail2))[number - 1]
        return own if self.hires_own else elsewhere, elsewhere

    def detail(self, number: int, pass_name: str, enlargement: float) -> float:
        """The value of detail 1 or 2 in a pass that has `enlargement` pixels for one of the first pass."""
        hires, elsewhere = self._details(number)
        if pass_name != "hires":
            return elsewhere
        return hires * enlargement if self.hires_scaling else hires

    def details(self) -> str:
        values = {
            "detail": (self.detail1, self.detail2),
            "contrast": (self.contrast, self.contrast2),
            "brightness": (self.brightness,),
            "color": (self.color1, self.color2, self.color3),
            "saturation": (self.saturation, self.saturation2),
        }
        parts = [f"{name} {'/'.join(f'{one:g}' for one in ones)}" for name, ones in values.items() if any(ones)]
        return ", ".join(parts)

    def idle_in(self, one: UpcomingPass, upcoming: UpcomingPicture) -> Idle | None:
        # The finished picture is changed wherever the range lies.
        return None if self._on_the_finished and one is upcoming.last else super().idle_in(one, upcoming)

    def idle_at(self, reached: tuple[float, ...] | None, one: UpcomingPass, unet: UNetMap | None) -> Idle | None:
        if self.contrast or any(self.detail(number, one.name, 1.0) for number in (1, 2)):
            return None
        return Idle(f"in {one.title}", f"{self.short}: all values for {one.title} are 0.")


# Inside the caches: where they leave the first convolution out, so is its edit.
@method(CDTuner, title="CD-Tuner", benefit="Adjust detail, contrast and color", at=Depth.LAYER)
def cd_tuner(config: CDTuner, unet: UNetMap, run: Run) -> Iterator[Edit]:
    """Edits of the first convolution, the last norm and the last convolution, and of the autoencoder."""
    if any(config._details(1)):
        yield instead(unet.input_blocks[0].layers[0].module, _detailed(config, 1, run))
    if any(config._details(2)):
        yield instead(_present(unet.out_norm, "detail2"), _detailed(config, 2, run))
    if config.contrast:
        lighter = (config.contrast * _UNIT, 0.0, 0.0, 0.0)
        yield after(_present(unet.out_conv, "contrast"), lambda out: out + _channels(lighter, out))
    if config._on_the_finished:
        yield from _finishing(config, unet, run)


def moved_by(config: CDTuner, family: str) -> tuple[float, ...]:
    """What the published way subtracts from the four channels of a latent, for contrast 2, brightness and colours."""
    channels = (config.contrast2, *colors_of(family).away(config._colors))
    return tuple(_UNIT * _BEFORE_THE_END * one for one in channels)


def _present(module: nn.Module | None, name: str) -> nn.Module:
    if module is None:
        raise ConfigError(f"CDTuner: this U-Net does not end in a group norm and a convolution; set {name} to 0.")
    return module


def _detailed(config: CDTuner, number: int, run: Run) -> Callable[[Change, Tensor], Tensor]:
    def detailed(layer: Change, x: Tensor) -> Tensor:
        detail = config.detail(number, run.pass_name, _enlargement(config, run))
        return rescaled(layer, x, weight=1 - 0.01 * detail, bias=1 + 0.02 * detail) if detail else layer(x)

    return detailed


def _enlargement(config: CDTuner, run: Run) -> float:
    """Pixels of this pass for one of the first."""
    if not config.hires_scaling or run.pass_name != "hires":
        return 1.0
    if run.first_size is None:
        run.note("CD-Tuner: no first pass, so Scale detail in Hires. fix has no effect.")
        return 1.0
    return math.prod(run.traversal.latent_size) / math.prod(run.first_size)


def _channels(constants: Sequence[float], like: Tensor) -> Tensor:
    """(1, C, 1, 1): a constant for each channel of `like` (B, C, H, W), 0 for those beyond them."""
    constants = (*constants, *[0.0] * (like.shape[1] - len(constants)))
    return _on_device(constants, like.device, like.dtype)


@table
def _on_device(constants: tuple[float, ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    return sent(torch.tensor(constants, dtype=dtype), device).view(1, -1, 1, 1)


# The autoencoder.


def _finishing(config: CDTuner, unet: UNetMap, run: Run) -> Iterator[Edit]:
    decoder = getattr(run.vae, "decoder", None)
    entry = _entry(run.vae)
    if entry is None or decoder is None:
        run.note(
            "CD-Tuner: colors, brightness, contrast 2 and saturation need the full VAE. Choose Full for VAE type for decode "
            "in Settings, VAE."
        )
        return
    moved = moved_by(config, unet.family)
    if any(moved):
        constants = [channel / colors_of(unet.family).scale_factor for channel in moved]
        yield DecoderEdit.of(before(entry, lambda latent: latent - _channels(constants, latent)))
    for value, (unit, places) in ((config.saturation, _SATURATION), (config.saturation2, _SATURATION_2)):
        found = [module for place in places if (module := _at(decoder, place)) is not None] if value else []
        if len(found) < len(places) and value:
            run.note(f"CD-Tuner: saturation is weaker with this VAE, which has {len(found)} of {len(places)} layers for it.")
        for module in found:
            weighted = partial(rescaled, weight=1 + unit * value, bias=1.0)
            yield DecoderEdit.of(instead(module, weighted))


def _entry(vae: nn.Module | None) -> nn.Module | None:
    """The layer that a latent, in the autoencoder's own numbers, enters first on its way to a picture."""
    first = getattr(vae, "post_quant_conv", None)
    return first if isinstance(first, nn.Module) else _at(getattr(vae, "decoder", None), "conv_in")


def _at(module: Any, path: str) -> nn.Module | None:
    for name in path.split("."):
        module = getattr(module, name, None)
    return module if isinstance(module, nn.Module) else None
