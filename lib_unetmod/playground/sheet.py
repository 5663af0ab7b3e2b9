"""Comparisons on one PNG: a row for each prompt, original left of modified picture, with what sets them apart."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence

from PIL import Image, ImageDraw, ImageFont

from ..core.config import Config
from ..settings.selection import summary
from .comparing import Comparison
from .report import settings_line
from .sampling import Picture

MARGIN = 24
GAP = 16
#: Pixels that a small picture is drawn up to at least, by a whole factor, so that its own pixels stay visible.
SHOWN = 256
_INK, _SOFT, _FRAME, _PAPER = "#1e293b", "#64748b", "#e2e8f0", "#ffffff"


def sheet(comparisons: Sequence[Comparison], configs: Iterable[Config]) -> Image.Image:
    """One picture of all comparisons, which share all settings but the prompt."""
    first = comparisons[0].plain
    factor = max(1, -(-SHOWN // first.image.width))
    width, height = (side * factor for side in first.image.size)
    title, text = ImageFont.load_default(18), ImageFont.load_default(13)
    columns = (MARGIN, MARGIN + width + GAP)
    across = columns[1] + width + MARGIN
    letters = int((across - 2 * MARGIN) / text.getlength("0123456789") * 10)
    head = textwrap.wrap(settings_line(first.settings), letters)
    head += textwrap.wrap(f"Modified: {summary(configs) or 'nothing'}", letters)
    top = MARGIN + 30 + 18 * len(head) + GAP
    row = 26 + height + 20 + 18 + GAP

    page = Image.new("RGB", (across, top + row * len(comparisons) + MARGIN - GAP), _PAPER)
    canvas = ImageDraw.Draw(page)
    canvas.text((MARGIN, MARGIN - 4), "UNet Mod", _INK, title)
    for number, line in enumerate(head):
        canvas.text((MARGIN, MARGIN + 26 + 18 * number), line, _SOFT, text)
    for number, comparison in enumerate(comparisons):
        y = top + row * number
        prompt = comparison.plain.settings.prompt or "(no prompt)"
        canvas.text((MARGIN, y), textwrap.shorten(prompt, int(letters * 0.7), placeholder=" ..."), _INK, title)
        for x, name, picture in zip(columns, ("original", "modified"), (comparison.plain, comparison.modified), strict=True):
            page.paste(picture.image.resize((width, height), Image.Resampling.NEAREST), (x, y + 28))
            canvas.rectangle((x - 1, y + 27, x + width, y + 28 + height), outline=_FRAME)
            canvas.text((x, y + 28 + height + 5), _caption(name, picture), _SOFT, text)
        canvas.text((MARGIN, y + 28 + height + 23), _difference(comparison), _INK, text)
    return page


def _caption(name: str, picture: Picture) -> str:
    return f"{name}: {picture.evaluations} x {picture.evaluation_ms:.1f} ms, {1000 * picture.timings.total:.0f} ms in all"


def _difference(comparison: Comparison) -> str:
    return f"{comparison.distance}, {comparison.speedup:.2f} times as fast"
