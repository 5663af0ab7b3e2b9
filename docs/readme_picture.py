"""Draws the README's picture with the small checkpoint: `python docs/readme_picture.py`.

A column for each prompt, a row for each way to run the U-Net; same seed, same settings.
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from lib_unetmod import SkipBlocks  # noqa: E402
from lib_unetmod.playground.model import load  # noqa: E402
from lib_unetmod.playground.sampling import draw  # noqa: E402
from lib_unetmod.playground.settings import Settings  # noqa: E402

PROMPTS = ("red apple", "smiling cat", "croissant", "mushroom", "taxi", "earth", "thumbs up")
ROWS = {
    "the U-Net as it is": [],
    "without the middle and level 4": [SkipBlocks(middle=True, levels=1)],
    "without the middle, levels 3 and 4, from 0.3 on": [SkipBlocks(middle=True, levels=2, start=0.3)],
}
SIDE, GAP, LINE = 128, 12, 26


def main() -> None:
    model, font = load(), ImageFont.load_default(15)
    size = (GAP + (SIDE + GAP) * len(PROMPTS), GAP + (LINE + SIDE + GAP) * len(ROWS))
    page = Image.new("RGB", size, "white")
    canvas = ImageDraw.Draw(page)
    for row, (name, configs) in enumerate(ROWS.items()):
        top = GAP + (LINE + SIDE + GAP) * row
        canvas.text((GAP, top), name, "#334155", font)
        for column, prompt in enumerate(PROMPTS):
            picture = draw(model, Settings(prompt=prompt, seed=2, sampler="dpm++2m", cfg=3.0), configs)
            page.paste(picture.image, (GAP + (SIDE + GAP) * column, top + LINE))
    page.save(ROOT / "docs" / "pictures" / "readme.png", optimize=True)


if __name__ == "__main__":
    main()
