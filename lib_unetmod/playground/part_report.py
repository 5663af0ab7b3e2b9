"""What each part of the U-Net is worth: as a table for a terminal and for the page, and the U-Net drawn with it."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from html import escape

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..core.unet_map import Block, UNetMap
from ..parts.blocks.named_parts import AT, share_branches, window_of
from ..tuning.part_values import PartValues

_INK, _SOFT, _FRAME, _PAPER, _NONE, _MARK = "#1e293b", "#64748b", "#cbd5e1", "#ffffff", "#f1f5f9", "#1d4ed8"
#: From what hardly matters for its time to what matters most.
_COLORS = ((254, 249, 195), (251, 191, 36), (220, 38, 38), (88, 10, 30))
#: Share of the parts at either end of the scale.
_ENDS = 0.04
_MARGIN, _CELL_WIDTH, _CELL_HEIGHT, _GAP = 20, 50, 20, 8
#: Cells of a block at most: two ResBlocks and a transformer's three.
_CELLS = 5


def phase_names(values: PartValues) -> list[str]:
    """Early, middle and late, where there are three; else their progress."""
    if len(values.phases) == 3:
        return ["early", "middle", "late"]
    if len(values.phases) == 1:
        return ["change"]
    return [f"{phase.window.start:.2g}-{phase.window.end:.2g}" for phase in values.phases]


def rows(values: PartValues) -> list[list[str]]:
    """The cheapest to leave out for the time that they take first; see `heads`."""
    found = []
    for name, time in values.times.items():
        phases = range(len(values.phases))
        moved = math.sqrt(sum(values.cost(name, phase) for phase in phases))
        changes = [f"{100 * values.relative_change(name, phase):.1f} %" for phase in phases]
        found.append((moved**2 / max(time, 1e-9), [name, f"{100 * time:.1f} %", *changes, f"{moved:.3f}"]))
    return [row for _, row in sorted(found, key=lambda one: one[0])]


def heads(values: PartValues) -> list[str]:
    """Name, share of the time, change of the prediction over its size in each phase, about how far the image moves."""
    return ["part", "time", *phase_names(values), "image"]


def text_table(values: PartValues) -> str:
    """Lines for a terminal."""
    lines = [heads(values), *rows(values)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]

    def padded(line: list[str]) -> Iterator[str]:
        for column, (cell, width) in enumerate(zip(line, widths, strict=True)):
            yield cell.rjust(width) if column else cell.ljust(width)

    return "\n".join("  ".join(padded(line)) for line in lines)


def html_table(values: PartValues) -> str:
    """The same for the page."""

    def row(name: str, *cells: str) -> str:
        return f"<tr><th scope='row'>{escape(name)}</th>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"

    head = "".join(f"<th scope='col'>{escape(cell)}</th>" for cell in heads(values))
    body = "".join(row(*one) for one in rows(values))
    return f"<table class='unetmod-times'><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def unet_picture(unet: UNetMap, values: PartValues, left_out: Collection[str] = ()) -> Image.Image:
    """The U-Net's blocks at their levels, each part coloured by what it is worth; `left_out` are marked."""
    small, text = ImageFont.load_default(11), ImageFont.load_default(13)
    step, row = _CELL_WIDTH + _GAP, 18 + _CELLS * _CELL_HEIGHT + _GAP
    top = 64
    page = Image.new("RGB", (2 * _MARGIN + step * len(unet.blocks) - _GAP, top + row * unet.levels + _MARGIN), _PAPER)
    canvas = ImageDraw.Draw(page)
    canvas.text((_MARGIN, 14), "What each part of the U-Net is worth", _INK, ImageFont.load_default(16))
    said = "Colour: how far the image moves without it, for the time that it takes. " + _side_by_side(values)
    canvas.text((_MARGIN, 38), said + (" A bar: left out." if left_out else ""), _SOFT, text)
    _legend(canvas, page.width, small)
    shade = _shades(values)
    for number, block in enumerate(unet.blocks):
        x, y = _MARGIN + step * number, top + row * (block.level - 1)
        canvas.text((x, y), block.name, _INK, small)
        names = [name for name in _cells_of(block) if name in values.times]
        for at, name in enumerate(names):
            box = (x, y + 16 + _CELL_HEIGHT * at, x + _CELL_WIDTH, y + 16 + _CELL_HEIGHT * (at + 1) - 2)
            marked = [_is_left_out(name, left_out, phase.looked_at) for phase in values.phases]
            _cell(canvas, box, name, [shade(name, phase) for phase in range(len(values.phases))], marked, small)
        if not names:
            box = (x, y + 16, x + _CELL_WIDTH, y + 14 + _CELL_HEIGHT)
            canvas.rectangle(box, _NONE, _FRAME)
            canvas.text((x + 5, y + 18), block.layers[0].kind, _SOFT, small)
    return page


def _cells_of(block: Block) -> Iterable[str]:
    """In the order in which they run: what stands beside a transformer, and what is in it."""
    several = len(block.of_kind("res")) > 1
    yield f"{block.name}.res.0" if several else f"{block.name}.res"
    yield from (f"{block.name}.{kind}" for kind in ("self", "cross", "ff"))
    if several:
        yield f"{block.name}.res.1"


def _side_by_side(values: PartValues) -> str:
    count = len(values.phases)
    return f"Each cell from left to right: {', '.join(phase_names(values))}." if count > 1 else ""


def _is_left_out(name: str, left_out: Collection[str], progress: float) -> bool:
    return any(
        (one.partition(AT)[0] == name or share_branches(one, name)) and window_of(one).holds(progress) for one in left_out
    )


def _shades(values: PartValues) -> Callable[[str, int], tuple[int, int, int]]:
    """By part and phase, a colour on a scale of powers of ten."""
    prices = {
        (name, phase): math.log10(max(values.cost(name, phase), 1e-12) / max(values.saving(name, phase), 1e-6))
        for name in values.times
        for phase in range(len(values.phases))
    }
    low, high = np.quantile([*prices.values()], [_ENDS, 1 - _ENDS])

    def shade(name: str, phase: int) -> tuple[int, int, int]:
        at = min(max((prices[name, phase] - low) / max(high - low, 1e-9), 0.0), 1.0)
        return _color(at)

    return shade


def _color(at: float) -> tuple[int, int, int]:
    places = np.linspace(0, 1, len(_COLORS))
    red, green, blue = (round(float(np.interp(at, places, channel))) for channel in zip(*_COLORS, strict=True))
    return red, green, blue


def _cell(
    canvas: ImageDraw.ImageDraw,
    box: tuple[int, int, int, int],
    name: str,
    colors: Sequence[tuple[int, int, int]],
    marked: Sequence[bool],
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
) -> None:
    left, top, right, bottom = box
    width = (right - left) / len(colors)
    for number, color in enumerate(colors):
        x = left + width * number
        canvas.rectangle((x, top, x + width, bottom), color)
        if marked[number]:
            canvas.rectangle((x, bottom - 3, x + width, bottom), _MARK)
    canvas.rectangle(box, None, _FRAME)
    kind = name.split(".", 2 if not name.startswith("mid") else 1)[-1]
    canvas.text((left + 4, top + 2), kind, _INK, font, stroke_width=2, stroke_fill=_PAPER)


def _legend(canvas: ImageDraw.ImageDraw, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> None:
    left = width - _MARGIN - 220
    for x in range(100):
        canvas.line((left + 55 + x, 16, left + 55 + x, 28), _color(x / 99))
    canvas.text((left, 15), "little", _SOFT, font)
    canvas.text((left + 162, 15), "much", _SOFT, font)
