"""Scenes show what their prompts say."""

from __future__ import annotations

import random
import re

import pytest
import torch

from lib_unetmod.playground.model import WordTokenizer
from training import scenes
from training.scenes import GROUNDS, LAYOUTS, PHRASES, Scene, describe, joined, place, random_scene, render

SIDE = 32
RED, GREEN, BLUE = range(3)


@pytest.fixture
def cutouts() -> torch.Tensor:
    """Three discs' stand-ins: full squares in the middle half, pure red, green and blue."""
    each = torch.zeros(3, 4, SIDE, SIDE, dtype=torch.uint8)
    for number in range(3):
        each[number, number, 8:24, 8:24] = 255
        each[number, 3, 8:24, 8:24] = 255
    return each


def pixel(picture: torch.Tensor, x: float, y: float) -> list[int]:
    """The colour of 255 at a place from -1 to 1."""
    at = ((picture + 1) * 127.5).round().int()
    return at[:, int((y + 1) / 2 * SIDE), int((x + 1) / 2 * SIDE)].tolist()


def painted(cutouts: torch.Tensor, scene: Scene) -> torch.Tensor:
    """The scene as its layout has it."""
    return render(cutouts, place([scene], random.Random(0), spread=0.0))[0]


def colour(number: int) -> list[int]:
    return [255 if channel == number else 0 for channel in range(3)]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_subject_stands_in_its_place_on_its_ground(cutouts, layout):
    places, _ = LAYOUTS[layout]
    subjects = (GREEN, BLUE, RED)[: len(places)]
    picture = painted(cutouts, Scene(subjects, layout, "yellow"))
    for subject, at in zip(subjects, places, strict=True):
        assert pixel(picture, *at) == colour(subject)
    assert pixel(picture, -0.999, -0.999) == list(GROUNDS["yellow"])


def test_a_half_covered_pixel_mixes_with_the_ground(cutouts):
    cutouts[RED, 0] = cutouts[RED, 3] = 51  # a fifth of cover, red times cover
    picture = painted(cutouts, Scene((RED,), "one", "white"))
    assert pixel(picture, 0, 0) == [255, 204, 204]


def test_what_is_drawn_alone_fills_the_picture(cutouts):
    cutouts[GREEN, 1] = torch.randint(256, (SIDE, SIDE), generator=torch.Generator().manual_seed(0))
    cutouts[GREEN, 3] = 255
    picture = painted(cutouts, Scene((GREEN,), "one", "white"))
    torch.testing.assert_close(picture[1], cutouts[GREEN, 1] / 127.5 - 1, atol=1e-5, rtol=0)


def test_variations_move_but_keep_the_order(cutouts):
    pick = random.Random(3)
    for _ in range(20):
        (picture,) = render(cutouts, place([Scene((RED, BLUE), "row", "white")], pick, spread=1.0))
        assert pixel(picture, -0.5, 0) == colour(RED)
        assert pixel(picture, 0.5, 0) == colour(BLUE)


def test_a_batch_shows_what_each_of_its_scenes_shows(cutouts):
    scenes = [random_scene(3, random.Random(seed)) for seed in range(12)]
    alone = [place([scene], random.Random(seed), 1.0, 0.5) for seed, scene in enumerate(scenes)]
    expected = torch.cat([render(cutouts, placed) for placed in alone])
    torch.testing.assert_close(render(cutouts, joined(alone)), expected, atol=1e-5, rtol=1e-5)


def test_prompts_say_what_stands_where():
    names = ["apple", "owl", "tree"]

    def said(scene: Scene) -> set[str]:
        pick = random.Random(0)
        return {re.sub(r"\b(an?|the) ", "", describe(scene, names.__getitem__, pick)) for _ in range(300)}

    row = said(Scene((0, 1), "row", "white"))
    assert {"apple left of owl", "owl right of apple", "apple and owl"} <= row
    assert not row & {"owl left of apple", "apple right of owl", "owl and apple"}
    column = said(Scene((0, 1), "column", "white"))
    assert {"apple above owl", "owl below apple", "owl under apple"} <= column
    assert "apple left of owl, blue background" in said(Scene((0, 1), "row", "blue"))
    assert "owl and tree below apple" in said(Scene((0, 1, 2), "one above two", "white"))
    assert all("blue" in text for text in said(Scene((0, 1), "row", "blue")))
    assert all(len(PHRASES[layout]) and len(places) for layout, (places, _) in LAYOUTS.items())


def test_articles_fit_the_name():
    pick = random.Random(0)
    texts = {describe(Scene((0,), "one", "white"), lambda _: "owl", pick) for _ in range(200)}
    assert "an owl" in texts and "a owl" not in texts


def test_every_word_of_a_prompt_is_in_the_wordings():
    known = {word for text in scenes.WORDINGS for word in WordTokenizer.split(re.sub(r"\{\d\}", "", text))}
    pick = random.Random(0)
    for _ in range(500):
        text = describe(random_scene(3, pick), lambda _: "apple", pick)
        assert set(WordTokenizer.split(text)) - {"apple"} <= known


def test_random_scenes_have_different_subjects_and_every_layout():
    pick = random.Random(0)
    drawn = [random_scene(5, pick) for _ in range(300)]
    assert {scene.layout for scene in drawn} == set(LAYOUTS)
    assert all(len(set(scene.subjects)) == len(LAYOUTS[scene.layout][0]) for scene in drawn)
    assert 0.3 < sum(scene.ground == "white" for scene in drawn) / 300 < 0.5
