"""What tuning shows: where the points of its plot stand, and the pictures beside each other."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageColor

from lib_unetmod.tuning.candidates import PLAIN
from lib_unetmod.tuning.found import Found, Tuned
from lib_unetmod.tuning.shown import figure, series
from lib_unetmod.tuning.trials import Trial


def trial(time, error):
    return Trial(PLAIN, (error,), time)


def centres(picture, color):
    """Centres (x, y) of the round marks of a colour, from left to right, without the legend's."""
    found = np.argwhere((np.asarray(picture) == ImageColor.getrgb(color)).all(-1))
    groups = []
    for y, x in found[np.argsort(found[:, 1])]:
        if groups and x - groups[-1][-1][0] <= 2:
            groups[-1].append((x, y))
        else:
            groups.append([(x, y)])
    return [tuple(np.mean(group, 0)) for group in groups][:-1]


def test_points_stand_at_their_time_and_at_equal_steps_for_equal_factors():
    found = Found((Tuned("2x", trial(0.5, 0.01), trial(0.5, 0.1), trial(0.5, 1.0)),))
    picture = figure(found, [])
    ((x, y),), ((_, shipped),), ((_, fewer),) = (centres(picture, one.color) for one in reversed(series(found)))
    assert fewer < shipped < y and shipped - fewer == pytest.approx(y - shipped, abs=1.5)
    early = figure(Found((Tuned("2x", trial(0.25, 0.01)),)), [])
    late = figure(Found((Tuned("2x", trial(0.75, 0.01)),)), [])
    xs = [centres(one, "#4f46e5")[0][0] for one in (early, late)]
    assert sum(xs) / 2 == pytest.approx(x, abs=1.5)


def test_what_there_is_not_is_left_out_and_what_has_no_number_too():
    found = Found((Tuned("1.3x", trial(0.7, float("inf")), None, trial(0.75, 0.2)),))
    assert [one.name for one in series(found)] == ["fewer steps"]
    assert figure(found, []).size == figure(Found(()), []).size


@pytest.mark.parametrize("size", [(64, 64), (512, 768), (1024, 256)])
def test_pictures_stand_beside_each_other(size):
    found = Found((Tuned("2x", trial(0.5, 0.01)),))
    red, green = (Image.new("RGB", size, color) for color in ("#ff0000", "#00ff00"))
    picture = figure(found, [(red, green), (red, green)])
    pixels = np.asarray(picture)
    areas = [(pixels == ImageColor.getrgb(color)).all(-1) for color in ("#ff0000", "#00ff00")]
    shown = 384 * 384 * min(size) / max(size)
    assert [area.sum() for area in areas] == pytest.approx([2 * shown] * 2, rel=0.02)
    assert np.argwhere(areas[0])[:, 1].max() < np.argwhere(areas[1])[:, 1].min()
