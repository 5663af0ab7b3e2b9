"""Draws one pair of pictures for each method with the small checkpoint: `python docs/method_pictures.py [method ...]`.

Same prompt, seed and settings, without the method on the left and with it on the right; docs/methods.md shows them.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
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
    StepForecast,
    TokenDownsampling,
    TokenMerging,
)
from lib_unetmod.core.registry import method_of  # noqa: E402
from lib_unetmod.playground.model import load  # noqa: E402
from lib_unetmod.playground.sampling import draw  # noqa: E402
from lib_unetmod.playground.settings import Settings  # noqa: E402

FOLDER = ROOT / "docs" / "pictures" / "methods"


def small(prompt: str, seed: int) -> Settings:
    """At the size that the model was trained at."""
    return Settings(prompt=prompt, seed=seed)


def webui(prompt: str, seed: int) -> Settings:
    """With the sampler and the noise levels that most use in the WebUI."""
    return Settings(prompt=prompt, seed=seed, sampler="dpm++2m", schedule="automatic")


def wide(prompt: str, seed: int) -> Settings:
    """At twice the trained width, where the original repeats its subject."""
    return Settings(prompt=prompt, seed=seed, width=256)


SHOWN: tuple[tuple[Config, Settings], ...] = (
    (GuidanceInterval(guide_to=0.5), small("earth", 1)),
    (DeepCache(predictor="linear"), small("red apple", 4)),
    (StepForecast(), webui("taxi", 2)),
    (EncoderReuse(), small("earth", 1)),
    (SkipBlocks(middle=True, levels=1), small("taxi", 2)),
    (HyperTile(tile=128), wide("evergreen tree", 1)),
    (TokenDownsampling(), small("lion", 2)),
    (TokenMerging(), small("fried egg", 2)),
    (DeepShrink(), wide("evergreen tree", 1)),
    (HiDiffusion(), wide("heart", 2)),
    (ScaleCrafter(), wide("heart", 2)),
    (FreeU(b1=1.1, b2=1.2, s1=0.9, s2=0.6), small("train", 1)),
    (CDTuner(detail1=0, saturation=5), small("house", 1)),
    (ColorMap(regions="1", colors="blue", end=0.5), small("car", 1)),
)
#: Pixels: the height of each picture on the page, and what lies around it.
HEIGHT, GAP, LINE = 256, 12, 24


def main() -> None:
    torch.set_num_threads(1)
    model, font = load(), ImageFont.load_default(14)
    FOLDER.mkdir(exist_ok=True)
    for config, settings in SHOWN:
        name = method_of(config).name
        if sys.argv[1:] and name not in sys.argv[1:]:
            continue
        original, modified = draw(model, settings), draw(model, settings, [config])
        width = HEIGHT * settings.width // settings.height
        page = Image.new("RGB", (3 * GAP + 2 * width, 2 * GAP + LINE + HEIGHT), "white")
        canvas = ImageDraw.Draw(page)
        for column, (words, picture) in enumerate((("original", original), (config.summary(), modified))):
            left = GAP + (width + GAP) * column
            canvas.text((left, GAP), words, "#334155", font)
            page.paste(picture.image.resize((width, HEIGHT), Image.Resampling.LANCZOS), (left, GAP + LINE))
        page.save(FOLDER / f"{name}.png", optimize=True)
        print(name, *modified.notes, flush=True)
    missing = METHODS.keys() - {method_of(config).name for config, _ in SHOWN}
    if missing:
        sys.exit(f"No picture is drawn for {', '.join(sorted(missing))}.")


if __name__ == "__main__":
    main()
