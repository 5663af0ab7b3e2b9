"""What a search found, as a picture: with all steps and at the speed side by side, and how far images move over time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

from .found import Found
from .trials import Trial

_INK, _SOFT, _GRID, _PAPER = "#1e293b", "#64748b", "#e2e8f0", "#ffffff"
_MARGIN, _GAP, _LINE = 20, 12, 20
#: Pixels of a picture's longer side, and of the plot.
_SHOWN, _PLOT = 384, (560, 260)
#: Left, below, above and right of the plot's own area.
_BORDERS = (60, 44, 12, 150)


class Series(NamedTuple):
    """One way to be faster: `points` are time over all steps and distance from the image of them."""

    name: str
    color: str
    points: list[tuple[float, float]]


def figure(found: Found, pairs: Sequence[tuple[Image.Image, Image.Image]]) -> Image.Image:
    """A row for each pair of pictures, of which the first has all steps; the plot under them."""
    small = [tuple(_fitted(one) for one in pair) for pair in pairs]
    wide = max([_PLOT[0], *(plain.width + _GAP + tuned.width for plain, tuned in small)])
    high = sum(plain.height + _LINE + _GAP for plain, _ in small)
    page = Image.new("RGB", (wide + 2 * _MARGIN, high + _PLOT[1] + _LINE + 2 * _MARGIN), _PAPER)
    canvas, y = ImageDraw.Draw(page), _MARGIN
    word = found.tuned[-1].word if found.tuned else ""
    for plain, tuned in small:
        for x, name, picture in ((_MARGIN, "All steps", plain), (_MARGIN + plain.width + _GAP, f"{word}, tuned", tuned)):
            canvas.text((x, y), name, _INK, font(14))
            page.paste(picture, (x, y + _LINE))
        y += plain.height + _LINE + _GAP
    canvas.text((_MARGIN, y), "How far images move from those of all steps: lower is nearer", _INK, font(14))
    _draw_plot(canvas, (_MARGIN, y + _LINE), series(found))
    return page


def series(found: Found) -> list[Series]:
    """Fewer steps, the shipped plans and what was tuned, over the speeds that were searched; without what there is not."""

    def points(trials: Iterator[Trial | None]) -> list[tuple[float, float]]:
        return sorted((one.time, one.error) for one in trials if one is not None and math.isfinite(one.error))

    every = (
        Series("fewer steps", "#111827", points(one.fewer_steps for one in found.tuned)),
        Series("as shipped", "#d97706", points(one.shipped for one in found.tuned)),
        Series("tuned", "#4f46e5", points(one.best for one in found.tuned)),
    )
    return [one for one in every if one.points]


def font(size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    """Pillow's own; before 10.1 it has one size, and letters of Western languages alone."""
    try:
        return ImageFont.load_default(size)
    except TypeError:
        return ImageFont.load_default()


def _fitted(picture: Image.Image) -> Image.Image:
    scale = _SHOWN / max(picture.size)
    smooth = Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.NEAREST
    return picture.convert("RGB").resize((round(picture.width * scale), round(picture.height * scale)), smooth)


def _draw_plot(canvas: ImageDraw.ImageDraw, at: tuple[int, int], ways: Sequence[Series]) -> None:
    left, below, above, right = _BORDERS
    x0, y0, x1, y1 = at[0] + left, at[1] + above, at[0] + _PLOT[0] - right, at[1] + _PLOT[1] - below
    errors = [error for way in ways for _, error in way.points] or [1.0]
    low, high = math.floor(math.log10(min(errors))), math.ceil(math.log10(max(errors)) + 1e-9)
    high = max(high, low + 1)

    def place(time: float, error: float) -> tuple[float, float]:
        up = (math.log10(error) - low) / (high - low)
        return x0 + (x1 - x0) * min(max(time, 0.0), 1.0), y1 - (y1 - y0) * up

    small = font(12)
    for power in range(low, high + 1):
        _, y = place(0, 10.0**power)
        canvas.line((x0, y, x1, y), _GRID)
        label = f"{10.0**power:g}"
        canvas.text((x0 - 8 - canvas.textlength(label, small), y - 7), label, _SOFT, small)
    for quarter in (0, 25, 50, 75, 100):
        x, _ = place(quarter / 100, 10.0**low)
        canvas.line((x, y0, x, y1), _GRID)
        canvas.text((x - 12, y1 + 6), f"{quarter} %", _SOFT, small)
    canvas.text((x0, y1 + 24), "time, of that of all steps", _SOFT, small)
    for number, way in enumerate(ways):
        places = [place(*point) for point in way.points]
        if len(places) > 1:
            canvas.line(places, way.color, 2)
        for x, y in places:
            canvas.ellipse((x - 4, y - 4, x + 4, y + 4), way.color, _PAPER)
        y = y0 + 4 + _LINE * number
        canvas.ellipse((x1 + 18, y + 3, x1 + 26, y + 11), way.color)
        canvas.text((x1 + 34, y), way.name, _INK, small)
