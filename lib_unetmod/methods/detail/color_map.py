"""Push areas of the image toward colors of your choice in the first steps: the prompt still decides what is drawn there, and
the composition can change.

The colour map of CD-Tuner (hako-mikan 2023, github.com/hako-mikan/sd-webui-cd-tuner). While there is little but noise, the
noise is coloured: in each region a part of the latent's colour channels is taken away and the colour put in its place, with
the opposite sign for the negative prompt, so that guidance pushes the same way. A prompt decides what is there to take the
colour up; it is not painted.

Costs: nothing to speak of. Changes: colors of areas, and the composition with them.

In region k, with colour c_k and by a share r_k of the latent, the input u of the U-Net becomes (1 - r_k) u - c_k r_k mean|u|
for the prompt and (1 - r_k) u + c_k r_k mean|u| for the negative prompt. As in the original, the clean latent that the
prediction means is that of the changed input: hosts compute it with their own, so the prediction makes up for the
difference (`noise`). The original's share depends on how many steps it acts in; here it is what that gives in each of two,
and the window takes the place of counting: the same part of the way at any number of steps.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...core.call import UNTOLD
from ...core.config import Config
from ...core.depth import Depth
from ...core.edits import after, before
from ...core.knobs import ConfigError, knob
from ...core.noise import prediction_correction
from ...core.patching import Edit
from ...core.registry import method
from ...core.run import Run
from ...core.size import Size, size_of
from ...core.state import PerTraversal
from ...core.tables import sent, table
from ...core.unet_map import UNetMap
from ...parts.latents.latent_colors import Color, Vector, parse_color
from ...parts.latents.regions import Region, parse_regions

_COLORED = slice(1, 4)  # the channels of a latent that hold colour
#: Published: strength / 2, times 0.85 for two steps, times 1 / (1 + (1 + step)^1.5 / 10), which is 0.84 on average in them.
_SHARE = 0.5 * 0.85 * 0.84
_UNIT = 0.02 * 6  # of the mean of a channel, for 1 on a slider
_SECOND_PASS = 0.25


@dataclass(frozen=True, kw_only=True)
class ColorMap(Config):
    """Which parts of the picture are pushed toward which colours, and how far."""

    short = "Color map"

    regions: str = knob(
        "1,1",
        "Regions",
        "Ratios that split the image: 1,1 or 3,1,2. Groups stand between |, each led by its own share: 1,2,1|2,1.",
    )
    colors: str = knob(
        "blue|orange",
        "Colors",
        "One per region, between |: light blue, none, #ff8000, or cyan-red, magenta-green and yellow-blue up to 5: 5,0,-2.",
    )
    strength: float = knob(
        1.0,
        "Strength",
        "How far areas are pushed toward their color; Hires. fix takes a quarter of it, 0 = off.",
        low=0,
        high=2,
        step=0.1,
    )
    split: str = knob(
        "columns",
        "Split into",
        "columns = parts stand side by side and groups below each other, rows = the other way round.",
        choices=("columns", "rows"),
        rarely=True,
    )
    end: float = knob(
        0.15,
        "Active until",
        "Noise level: 0.15 = about the first 3 of 20 steps, 1 = finished image. img2img and Hires. fix need a higher value.",
        low=0,
        high=1,
        step=0.01,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("regions", "colors"):
            # An infotext keeps ; for itself.
            object.__setattr__(self, name, getattr(self, name).replace(";", "|").strip())
        regions = self._parsed("regions", self.regions, lambda text: parse_regions(text, self.split))
        colors = [self._parsed("colors", text, parse_color) for text in self.colors.split("|")]
        if len(regions) != len(colors):
            raise ConfigError(
                f"ColorMap: colors has {len(colors)} and regions has {len(regions)}; give each region one, "
                "none for no color."
            )

    @staticmethod
    def _parsed(name: str, text: str, parse: Callable[[str], Any]) -> Any:
        if re.search(r"[^\w\s#.,|+-]", text):
            raise ConfigError(f"ColorMap: {name} has characters other than letters, digits and #.,|+-; leave them out.")
        try:
            return parse(text)
        except ValueError as error:
            raise ConfigError(f"ColorMap: {name} cannot be read: {error}.") from None

    def areas(self) -> tuple[tuple[Region, Color], ...]:
        """Each region with its colour."""
        colors = (parse_color(text) for text in self.colors.split("|"))
        return tuple(zip(parse_regions(self.regions, self.split), colors, strict=True))

    def changes_nothing(self) -> bool:
        return not self.strength or all(color == parse_color("none") for _, color in self.areas())

    def details(self) -> str:
        return self.colors


# Inside the guidance rows, so that it knows which rows are left, and outside what adds rows of its own.
@method(ColorMap, title="Color map", benefit="Choose colors by image area", at=Depth.COLOR)
def color_map(config: ColorMap, unet: UNetMap, run: Run) -> Iterator[Edit]:
    """An edit of the first layer, which colours its input, and one of the last layers, which make up for it."""
    if unet.out is None or unet.in_channels < _COLORED.stop:
        raise ConfigError("ColorMap: needs a model with four latent channels; set strength to 0.")

    areas = tuple((region, color.away(unet.family)) for region, color in config.areas())
    added: PerTraversal[Tensor | None] = run.per_traversal(lambda: None)

    def coloring(x: Tensor) -> Tensor:
        if not run.traversal.continues:
            return x  # a picture of ControlNet's
        strength = config.strength * (_SECOND_PASS if run.pass_name == "hires" else 1.0)
        taken, put = _fields(areas, strength, size_of(x), x.device)
        latent = x[:, _COLORED].float()
        change = added_to(latent, taken, put, signs(run, len(x)))
        added.set(change)
        x = x.clone()
        x[:, _COLORED] = latent + change
        return x

    def making_up(out: Tensor) -> Tensor:
        change, rows = added.take(), run.left_out.get()
        if change is None:
            return out
        if rows is not None:
            change = rows.fill(change)
        out = out.clone()
        out[:, _COLORED] -= (prediction_correction(run.clock.progress, run.prediction) * change).to(out.dtype)
        return out

    yield before(unet.input_blocks[0].layers[0].module, coloring)
    yield after(unet.out, making_up)


def added_to(latent: Tensor, taken: Tensor, put: Tensor, signs: Sequence[int]) -> Tensor:
    """What colours add to the colour channels (B, 3, H, W) of latents.

    Args:
        taken: (H, W), the share of the latent that goes.
        put: (3, H, W), what comes in its place in means of a channel's size, for a conditional row.
        signs: (B,) 1 for the prompt's rows and -1 for the negative prompt's.
    """
    means = latent.abs().mean((-2, -1), keepdim=True)
    return _column(tuple(signs), latent.device) * put * means - taken * latent


def signs(run: Run, batch: int) -> Sequence[int]:
    """For each row of a call, 1 for the prompt's and -1 for the negative prompt's; 1 where it is not known."""
    left = run.left_out.get()
    if left is not None:
        return [1] * batch  # those of the negative prompt
    told = run.rows(batch)
    if told.conditional is None:
        run.note(f"Color map is weaker here: {told.reason or UNTOLD}")
        return [1] * batch
    return [1 if conditional else -1 for conditional in told.conditional]


@table
def _column(numbers: tuple[int, ...], device: torch.device) -> Tensor:
    return sent(torch.tensor(numbers), device).view(-1, 1, 1, 1)


@table
def _fields(
    areas: tuple[tuple[Region, Vector], ...], strength: float, size: Size, device: torch.device
) -> tuple[Tensor, Tensor]:
    """What regions take (H, W) and put (3, H, W); a cell on an edge gets its part of each."""
    taken, put = torch.zeros(size), torch.zeros(3, *size)
    for region, away in areas:
        share = min(strength * _SHARE * sum(map(abs, away)) / 10, 1.0)
        covered = share * region.share(size, taken)
        taken += covered
        put -= _UNIT * covered * torch.tensor(away).view(3, 1, 1)
    return sent(taken, device), sent(put, device)
