"""The command that draws a picture again."""

from __future__ import annotations

import shlex

import pytest
from PIL import Image
from small_model import settings

from lib_unetmod import DeepCache, FreeU, SkipBlocks
from lib_unetmod.playground import cli
from lib_unetmod.playground import model as playground_model
from lib_unetmod.playground.command import IMAGE, OUTPUT, command_line
from lib_unetmod.playground.sampling import draw

QUOTED = {"prompt": "-red 'apple'; $HOME `owl`\nowl", "negative_prompt": '--owl "red"', "cfg": 3.7}
EXACT = {"prompt": "", "sampler": "heun", "cfg": 1 / 3 + 1, "seed": 2**32 - 1, "width": 128}
BEGUN = {"image": Image.effect_noise((64, 64), 80), "strength": 1 / 3 + 0.2, "steps": 5}
AGAIN = [
    ({}, []),
    (QUOTED, [SkipBlocks(middle=True)]),
    (EXACT, [SkipBlocks(blocks=("in.4", "out.7.res"))]),
    (BEGUN, [FreeU(b1=1.2345678901), DeepCache()]),
]


@pytest.mark.parametrize(("changes", "configs"), AGAIN, ids=["plain", "quoting", "exact", "img2img"])
def test_the_command_line_draws_the_same_pixels(changes, configs, checkpoint, tmp_path, monkeypatch):
    model = playground_model.load(checkpoint)
    drawn = draw(model, settings(**changes), configs)
    monkeypatch.chdir(tmp_path)
    if drawn.settings.image is not None:
        drawn.settings.image.save(IMAGE)
    said = shlex.split(command_line(model, drawn.settings, configs))
    assert said[:4] == ["python", "-m", "lib_unetmod.playground", "generate"]
    assert cli.main(said[3:]) == 0
    assert Image.open(OUTPUT).tobytes() == drawn.image.tobytes()


def test_the_command_line_is_short_where_nothing_is_special(model):
    said = command_line(model, settings(), [DeepCache(interval=4)])
    expected = "generate 'red apple' -o picture.png --seed 0 --steps 2 --sampler euler --cfg 1 --width 64 --height 64"
    assert said == f"python -m lib_unetmod.playground {expected} --set deep_cache.interval=4"
