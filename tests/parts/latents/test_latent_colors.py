"""Colours in latents, by hand and by the decoders' known answer to a latent's channels."""

from __future__ import annotations

import pytest
import torch

from lib_unetmod.parts.latents.latent_colors import NAMED, Color, colors_of, parse_color

#: Red, green and blue for a number in each of channels 1 to 3, as ComfyUI's previews have it (another fit than ours).
PREVIEW = {
    "sd1": [[0.3250, 0.4974, 0.2350], [-0.2829, 0.1762, 0.2721], [-0.2120, -0.2616, -0.7177]],
    "sdxl": [[-0.2829, -0.0275, 0.0320], [0.1762, 0.1234, -0.0238], [-0.5216, -0.3500, -0.3077]],
}


def seen(family, away):
    """What subtracting `away` does to red, green and blue."""
    return -torch.tensor(away) @ torch.tensor(PREVIEW[family])


def test_axes_by_hand():
    # Brightness 3 and red 1 of SD1: 3 * (-1, 1/3, 2/3) + (1, 1, 0); all four of SDXL with 1, 2, 3, 4.
    assert colors_of("sd1").away((3, 1, 0, 0)) == pytest.approx((-2, 2, 2))
    assert colors_of("sd1").away((0, 0, 2, 5)) == pytest.approx((5, -2, 3))
    assert colors_of("sdxl").away((1, 2, 3, 4)) == pytest.approx((2 - 3 - 4, -3 + 4, 1))


@pytest.mark.parametrize(
    "family, like", [("sd1", "sd1"), ("sd2", "sd1"), ("other", "sd1"), ("sdxl", "sdxl"), ("refiner", "sdxl")]
)
def test_families_share_autoencoders(family, like):
    assert colors_of(family) is colors_of(like)
    assert colors_of("sd1").scale_factor == 0.18215 and colors_of("sdxl").scale_factor == 0.13025


@pytest.mark.parametrize("family", PREVIEW)
@pytest.mark.parametrize("axis, color", [(1, "red"), (2, "green"), (3, "blue")])
def test_subtracting_an_axis_brings_its_color_forward(family, axis, color):
    change = seen(family, colors_of(family).away([float(i == axis) for i in range(4)]))
    assert change.argmax() == ("red", "green", "blue").index(color)


@pytest.mark.parametrize("family", PREVIEW)
def test_subtracting_brightness_brightens(family):
    assert (seen(family, colors_of(family).away((1, 0, 0, 0))) > 0).all()


@pytest.mark.parametrize("family", PREVIEW)
@pytest.mark.parametrize(
    "text, rgb",
    [
        ("#ff0000", (1, -1, -1)),
        ("#0f0", (-1, 1, -1)),
        ("#0000FF", (-1, -1, 1)),
        ("#ffff00", (1, 1, -1)),
        ("#fff", (1, 1, 1)),
    ],
)
def test_a_hex_color_is_seen_as_that_color(family, text, rgb):
    away = parse_color(text).away(family)
    assert sum(map(abs, away)) == pytest.approx(10)
    change, wanted = seen(family, away), torch.tensor(rgb, dtype=torch.float32)
    assert torch.cosine_similarity(change, wanted, 0) > 0.8


def test_grey_is_no_push_and_half_a_color_half_of_one():
    assert sum(map(abs, parse_color("#808080").away("sd1"))) < 0.1
    full, half = (parse_color(text).away("sdxl") for text in ("#ff0000", "#bf4040"))
    assert half == pytest.approx([one / 2 for one in full], rel=0.02)


@pytest.mark.parametrize("text, values", [("red", (5, -5, -5)), ("Light Blue", (-5, -5, 5)), ("neon-blue", (0, 5, 5))])
def test_names_are_three_axes_with_their_mean_for_brightness(text, values):
    assert parse_color(text) == Color(axes=(sum(values) / 3, *values))


def test_there_are_23_names_and_none():
    assert len(NAMED) == 24 and parse_color("none").away("sd1") == (0, 0, 0)


@pytest.mark.parametrize(
    "text, axes", [("5 0 0", (5 / 3, 5, 0, 0)), ("5,-5, 2.5", (2.5 / 3, 5, -5, 2.5)), ("1 2 3 -4", (1, 2, 3, -4))]
)
def test_numbers_are_those_of_the_extension(text, axes):
    assert parse_color(text) == Color(axes=axes)


@pytest.mark.parametrize(
    "text", ["", "reddish", "#12", "#12345g", "1 2", "1 2 3 4 5", "1 2 x", "1e3 0 0", "nan 0 0", "21 0 0", "1,,2,3"]
)
def test_anything_else_is_refused_in_a_sentence(text):
    with pytest.raises(ValueError, match="a color is a name"):
        parse_color(text)
