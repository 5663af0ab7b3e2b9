"""Where colours lie in a latent: the published axes of each family, pictures' colours by a linear map, and names of colours.

A latent has four channels. The first holds mostly light and dark; the other three hold colour, and the axes are directions
in them (hako-mikan 2023, sd-webui-cd-tuner). They were found by eye, and they point away: a picture gets more of a colour
where the axis is subtracted. SD1 and SD2 share an autoencoder, SDXL and its refiner another. Colours and their names are
those of the same extension's colour map; 5 on an axis is a full one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Vector = tuple[float, float, float]


@dataclass(frozen=True)
class LatentColors:
    """Colours in the latents of one autoencoder.

    Attributes:
        scale_factor: latents are the autoencoder's own numbers times this.
        axes: away from brightness, red (to cyan), green (to magenta) and blue (to yellow), in channels 1 to 3.
        rgb: how much red, green and blue a number in each of channels 1 to 3 brings, as fast previews have it.
    """

    scale_factor: float
    axes: tuple[Vector, Vector, Vector, Vector]
    rgb: tuple[Vector, Vector, Vector]

    def away(self, values: Sequence[float]) -> Vector:
        """The sum of the axes, each times its value, in channels 1 to 3; what is subtracted for brightness, red, ..."""
        return _vector(np.array(values) @ np.array(self.axes))

    def away_from_rgb(self, color: Sequence[float]) -> Vector:
        """The direction away from a colour given as red, green and blue from -1 to 1, 0 being grey.

        Its numbers have the colour's largest for sum, so that a full colour is 1 whatever it is.
        """
        direction = -np.array(color) @ np.linalg.inv(np.array(self.rgb))
        length = np.abs(direction).sum()
        return _vector(direction * (np.abs(color).max() / length if length else 0.0))


def _vector(numbers: np.ndarray) -> Vector:
    red, green, blue = (float(number) for number in numbers)
    return red, green, blue


_SD1 = LatentColors(
    scale_factor=0.18215,
    axes=((-1, 1 / 3, 2 / 3), (1, 1, 0), (0, -1, -1), (1, 0, 1)),
    rgb=((0.187, 0.286, 0.173), (-0.158, 0.189, 0.264), (-0.184, -0.271, -0.473)),
)
_SDXL = LatentColors(
    scale_factor=0.13025,
    axes=((0, 0, 1), (1, 0, 0), (-1, -1, 0), (-1, 1, 0)),
    rgb=((-0.1953, -0.0290, 0.0250), (0.1074, 0.0886, -0.0163), (-0.3730, -0.2499, -0.2088)),
)


def colors_of(family: str) -> LatentColors:
    """Those of a U-Net's family (`UNetMap.family`); one that is not known is taken for SD1."""
    return _SDXL if family in ("sdxl", "refiner") else _SD1


#: By the sides of the three colour axes: cyan - red, magenta - green, yellow - blue.
NAMED: dict[str, Vector] = {
    "cyan": (-5, 0, 0),
    "magenta": (0, -5, 0),
    "yellow": (0, 0, -5),
    "red": (5, -5, -5),
    "green": (0, 5, 0),
    "blue": (0, 0, 5),
    "verylightblue": (-5, -5, 0),
    "yellowgreen": (-5, 0, -5),
    "orange": (0, -5, -5),
    "malachite": (-5, 5, 0),
    "brightcyan": (-5, 0, 5),
    "violetpink": (0, -5, 5),
    "deeppink": (5, -5, 0),
    "guardsmanred": (5, 0, -5),
    "deepgreen": (0, 5, -5),
    "black": (5, 5, 0),
    "brightneonpink": (5, 0, 5),
    "neonblue": (0, 5, 5),
    "greenyellow": (-5, -5, -5),
    "lightblue": (-5, -5, 5),
    "limegreen": (-5, 5, -5),
    "deepbrown": (5, 5, -5),
    "violetblue": (5, 5, 5),
    "none": (0, 0, 0),
}
LARGEST = 20

_NUMBER = re.compile(r"[+-]?[0-9]{1,3}(\.[0-9]{1,6})?")
_HEX = re.compile(r"#([0-9a-f]{3}|[0-9a-f]{6})")
_FULL = 10  # the sum of a full colour's numbers in the channels, about as the names have it


@dataclass(frozen=True)
class Color:
    """A colour by its values on the four axes, brightness first, or by red, green and blue from -1 to 1."""

    axes: tuple[float, float, float, float] | None = None
    rgb: Vector | None = None

    def away(self, family: str) -> Vector:
        """What to subtract from channels 1 to 3 of a family's latents for it, not yet in latents' units."""
        colors = colors_of(family)
        if self.axes is not None:
            return colors.away(self.axes)
        red, green, blue = colors.away_from_rgb(self.rgb or (0, 0, 0))
        return _FULL * red, _FULL * green, _FULL * blue


def parse_color(text: str) -> Color:
    """A colour from a name, `#ff8000`, or three or four numbers on the axes; three have their mean for brightness.

    Raises:
        ValueError: for anything else, with a sentence's end that says what may stand there.
    """
    word = text.strip().lower()
    if _HEX.fullmatch(word):
        digits = word[1:] if len(word) == 7 else "".join(2 * digit for digit in word[1:])
        red, green, blue = (int(digits[i : i + 2], 16) / 127.5 - 1 for i in (0, 2, 4))
        return Color(rgb=(red, green, blue))
    name = re.sub(r"[\s_-]", "", word)
    parts = re.split(r"\s*,\s*|\s+", word)
    if name in NAMED:
        values: list[float] = list(NAMED[name])
    elif len(parts) in (3, 4) and all(_NUMBER.fullmatch(part) and abs(float(part)) <= LARGEST for part in parts):
        values = [float(part) for part in parts]
    else:
        raise ValueError(
            f"a color is a name (red, light blue, none), #rrggbb, or three or four numbers from -{LARGEST} to {LARGEST}, "
            f"and {word[:30]!r} is none"
        )
    brightness, red, green, blue = values if len(values) == 4 else (sum(values) / 3, *values)
    return Color(axes=(brightness, red, green, blue))
