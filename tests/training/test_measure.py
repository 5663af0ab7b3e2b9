"""The bar of scenes: what stands in its place is found, what stands elsewhere is not."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch import Tensor

from training.measure import NUMBER, as_planned, found, plain_prompt, scenes_of_two, squares
from training.scenes import GROUNDS, LAYOUTS, Scene


@pytest.fixture
def cutouts() -> Tensor:
    """Five squares in the middle half, each of another colour."""
    each = torch.zeros(5, 4, 32, 32, dtype=torch.uint8)
    for number, colour in enumerate(((255, 0, 0), (0, 255, 0), (0, 0, 255), (0, 255, 255), (255, 0, 255))):
        each[number, :3, 8:24, 8:24] = torch.tensor(colour, dtype=torch.uint8).view(3, 1, 1)
        each[number, 3, 8:24, 8:24] = 255
    return each


def in_pixels(a: Tensor, b: Tensor) -> Tensor:
    return torch.cdist(a.flatten(1), b.flatten(1))


def test_the_hundred_scenes_show_each_emoji_once_in_each_place():
    scenes = scenes_of_two()
    assert len(set(scenes)) == 100
    assert all(scene.subjects[0] != scene.subjects[1] for scene in scenes)
    for layout in ("row", "column"):
        for number in range(2):
            there = Counter(scene.subjects[number] for scene in scenes if scene.layout == layout)
            assert there == dict.fromkeys(range(NUMBER), 1)
    assert sum(scene.ground == "white" for scene in scenes) == 50
    assert {scene.ground for scene in scenes} == set(GROUNDS)


def test_their_prompts_are_plain():
    names = ["owl", "red apple"]
    assert plain_prompt(Scene((1, 0), "row", "blue"), names) == "red apple left of owl, blue background"
    assert plain_prompt(Scene((0, 1), "column", "white"), names) == "owl above red apple"


@pytest.mark.parametrize("layout", [layout for layout in LAYOUTS if layout != "one"])
def test_a_square_holds_what_stands_there_as_if_alone(cutouts, layout):
    subjects = tuple(range(len(LAYOUTS[layout][0])))
    scene = squares(as_planned(cutouts, [Scene(subjects, layout, "yellow")]), layout)[0]
    for subject, square in zip(subjects, scene, strict=True):
        alone = as_planned(cutouts, [Scene((subject,), "one", "yellow")])[0]
        assert torch.allclose(square[:, 16, 16], alone[:, 16, 16], atol=1e-4)
        assert torch.allclose(square[:, 1, 1], alone[:, 1, 1], atol=0.05)


def test_both_are_found_where_they_were_asked_for(cutouts):
    scenes = [Scene((0, 1), "row", "white"), Scene((2, 3), "column", "blue"), Scene((4, 0), "row", "black")]
    assert found(as_planned(cutouts, scenes), scenes, cutouts, in_pixels).all()


def test_what_is_missing_or_in_the_others_place_is_not_found(cutouts):
    wanted = Scene((0, 1), "row", "white")
    drawn = [
        Scene((1, 0), "row", "white"),
        Scene((0, 3), "row", "white"),
        Scene((2, 1), "row", "white"),
        Scene((0, 1), "column", "white"),
    ]
    result = found(as_planned(cutouts, drawn), [wanted] * len(drawn), cutouts, in_pixels)
    assert result[:3].tolist() == [[False, False], [True, False], [False, True]]
    assert not result[3].all()
