"""Draws the README's picture with the small checkpoint: `python docs/readme_picture.py`.

Above the original, below the same prompt, seed and settings with a method. Where a label names a time, it is measured: the
U-Net's with the method over the original's, drawn in turn, the median of all rounds.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import torch
from PIL import Image, ImageDraw, ImageFont

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from lib_unetmod import CDTuner, Config, DeepShrink, StepForecast  # noqa: E402
from lib_unetmod.playground.comparing import compare  # noqa: E402
from lib_unetmod.playground.model import SmallModel, load  # noqa: E402
from lib_unetmod.playground.settings import Settings  # noqa: E402


@dataclass(frozen=True)
class Group:
    """Pictures that show one benefit.

    Attributes:
        benefit: the line above all.
        label: the line above the modified pictures; `{time}` becomes the time over the original's.
        width: of each picture; the height is the trained 128 pixels.
        pictures: prompt and seed of each.
        settings: of the page, where they are not its own.
    """

    benefit: str
    label: str
    config: Config
    width: int
    pictures: Sequence[tuple[str, int]]
    settings: Mapping[str, Any] = field(default_factory=dict)


GROUPS = (
    Group(
        "Faster",
        "with Step forecast: {time} of the time",
        StepForecast(),
        128,
        (("lion", 1), ("house", 1)),
        {"sampler": "dpm++2m", "schedule": "automatic", "cfg": 7.0},
    ),
    Group(
        "Larger: twice the trained width",
        "with Deep Shrink: one subject",
        DeepShrink(),
        256,
        (("evergreen tree", 1), ("heart", 1)),
    ),
    Group(
        "More color and detail",
        "with CD-Tuner, saturation 5",
        CDTuner(detail1=0, saturation=5),
        128,
        (("owl", 1), ("butterfly", 1)),
    ),
)
ROUNDS = 5
SIDE, GAP, BETWEEN, LINE = 128, 8, 28, 24
INK, BENEFIT = "#334155", "#0f172a"


def main() -> None:
    torch.set_num_threads(1)
    model, small, large = load(), ImageFont.load_default(14), ImageFont.load_default(18)
    widths = [len(group.pictures) * (group.width + GAP) - GAP for group in GROUPS]
    page = Image.new("RGB", (sum(widths) + BETWEEN * (len(GROUPS) + 1), 4 * LINE + 2 * SIDE + 4 * GAP), "white")
    canvas = ImageDraw.Draw(page)
    left = BETWEEN
    for group, width in zip(GROUPS, widths, strict=True):
        pairs, time = _drawn(model, group)
        above = GAP + LINE + GAP
        below = above + LINE + SIDE + GAP
        canvas.text((left, GAP), group.benefit, BENEFIT, large)
        canvas.text((left, above), "original", INK, small)
        canvas.text((left, below), group.label.format(time=f"{time:.2f}"), INK, small)
        for column, (original, modified) in enumerate(pairs):
            page.paste(original, (left + column * (group.width + GAP), above + LINE))
            page.paste(modified, (left + column * (group.width + GAP), below + LINE))
        left += width + BETWEEN
        print(f"{group.benefit}: {time:.3f} of the original's time")
    page.save(ROOT / "docs" / "pictures" / "readme.png", optimize=True)


def _drawn(model: SmallModel, group: Group) -> tuple[list[tuple[Image.Image, Image.Image]], float]:
    """Each prompt's two pictures, and the median over rounds and prompts of the U-Net's time over the original's."""
    pairs, ratios = [], []
    for prompt, seed in group.pictures:
        settings = Settings(prompt=prompt, seed=seed, width=group.width, height=SIDE, **group.settings)
        rounds = [compare(model, settings, [group.config]) for _ in range(ROUNDS if "{time}" in group.label else 1)]
        pairs.append((rounds[0].plain.image, rounds[0].modified.image))
        ratios += [one.modified.timings.unet / one.plain.timings.unet for one in rounds]
    return pairs, median(ratios)


if __name__ == "__main__":
    main()
