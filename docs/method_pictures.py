"""Draws one pair of pictures for each method with the small checkpoint: `python docs/method_pictures.py [method ...]`.

Same prompt, seed and settings, without the method on the left and with it on the right; the README shows them.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from lib_unetmod import (  # noqa: E402
    METHODS,
    CDTuner,
    ColorMap,
    Config,
    DeepCache,
    DeepShrink,
    EncoderReuse,
    FreeU,
    GuidanceInterval,
    HiDiffusion,
    HyperTile,
    ScaleCrafter,
    SkipBlocks,
    TokenDownsampling,
    TokenMerging,
)
from lib_unetmod.core.registry import method_of  # noqa: E402
from lib_unetmod.playground.comparing import compare  # noqa: E402
from lib_unetmod.playground.model import load  # noqa: E402
from lib_unetmod.playground.settings import Settings  # noqa: E402

FOLDER = ROOT / "docs" / "pictures" / "methods"
SMALL = Settings(prompt="smiling cat", seed=2)
LARGE = replace(SMALL, width=256, height=256)

#: At strengths at which the change can be seen.
SHOWN: tuple[tuple[Config, Settings], ...] = (
    (GuidanceInterval(guide_to=0.5), SMALL),
    (DeepCache(interval=5), SMALL),
    (EncoderReuse(interval=5), SMALL),
    (SkipBlocks(middle=True, levels=2, start=0.3), SMALL),
    (HyperTile(tile=64, depth=1), SMALL),
    (TokenDownsampling(factor=2, factor_2=2), SMALL),
    (TokenMerging(ratio=0.75), SMALL),
    (DeepShrink(), LARGE),
    (HiDiffusion(), LARGE),
    (ScaleCrafter(), LARGE),
    (FreeU(), SMALL),
    (CDTuner(detail1=5, color1=5), SMALL),
    (ColorMap(end=0.6), SMALL),
)
SIDE, GAP, LINE = 192, 12, 24


def main() -> None:
    model, font = load(), ImageFont.load_default(14)
    FOLDER.mkdir(exist_ok=True)
    for config, settings in SHOWN:
        name = method_of(config).name
        if sys.argv[1:] and name not in sys.argv[1:]:
            continue
        pair = compare(model, settings, [config])
        page = Image.new("RGB", (3 * GAP + 2 * SIDE, 2 * GAP + LINE + SIDE), "white")
        canvas = ImageDraw.Draw(page)
        for column, (words, picture) in enumerate((("without", pair.plain), (config.summary(), pair.modified))):
            left = GAP + (SIDE + GAP) * column
            canvas.text((left, GAP), words, "#334155", font)
            page.paste(picture.image.resize((SIDE, SIDE), Image.Resampling.LANCZOS), (left, GAP + LINE))
        page.save(FOLDER / f"{name}.png", optimize=True)
        print(name, *pair.notes)
    missing = METHODS.keys() - {method_of(config).name for config, _ in SHOWN}
    if missing:
        sys.exit(f"No picture is drawn for {', '.join(sorted(missing))}.")


if __name__ == "__main__":
    main()
