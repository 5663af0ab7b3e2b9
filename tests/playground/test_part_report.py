"""What parts are worth as a table and as a picture, of values that can be summed by hand."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import ImageColor
from unets import fresh

from lib_unetmod import inspect_unet
from lib_unetmod.parts.blocks.named_parts import all_names
from lib_unetmod.playground.part_report import html_table, text_table, unet_picture
from lib_unetmod.tuning.part_values import PartValues, phases_of

EVALUATIONS = (0.0, 0.25, 0.5, 0.75)
MARK = ImageColor.getrgb("#1d4ed8")


def values(changes, times=None, effects=(1.0, 2.0, 0.0, 1.0)):
    items = frozenset((name, phase) for name in changes for phase in range(4))
    times = times or dict.fromkeys(changes, 0.1)
    return PartValues(phases_of(EVALUATIONS), times, changes, (4.0,) * 4, effects, items)


def test_the_table_has_the_cheapest_for_its_time_first():
    found = values({"in.1.ff": (1.0,) * 4, "mid.attn": (0.04, 0.0, 9.0, 0.16), "out.3.res": (1.0,) * 4},
                   {"in.1.ff": 0.1, "mid.attn": 0.008, "out.3.res": 0.2})  # fmt: skip
    head, *rows = (line.split() for line in text_table(found).splitlines())
    assert head == ["part", "time", "0-0.12", "0.12-0.38", "0.38-0.62", "0.62-1", "image"]
    assert [row[0] for row in rows] == ["out.3.res", "mid.attn", "in.1.ff"]
    # Roots of the squares over those of the prediction; .04 + .16 and four times 1 with the phases' effects.
    assert " ".join(rows[1]) == "mid.attn 0.8 % 10.0 % 0.0 % 150.0 % 20.0 % 0.447"
    assert rows[0][-1] == "2.000" and html_table(found).count("<tr>") == 4


@pytest.mark.parametrize("name, share", [("in.4.ff", 1), ("in.4.ff@0-0.375", 1 / 2), ("in.4.attn", 3), ("mid.res.1", 1)])
def test_what_is_left_out_is_marked_in_its_phases(name, share):
    unet = inspect_unet(fresh("sd1"))
    found = values(dict.fromkeys(all_names(unet), (1.0, 2.0, 3.0, 4.0)))
    marked = (np.asarray(unet_picture(unet, found, [name])) == MARK).all(-1).sum()
    assert marked == pytest.approx(share * 49 * 3, rel=0.05)
    assert not (np.asarray(unet_picture(unet, found)) == MARK).all(-1).any()


def test_what_matters_most_is_darkest():
    unet = inspect_unet(fresh("sd1"))
    changes = dict.fromkeys(all_names(unet), (1.0,) * 4)
    changes |= {f"in.1.{kind}": (1e6,) * 4 for kind in ("res", "self", "cross", "ff")}
    picture = np.asarray(unet_picture(unet, values(changes, effects=(1.0,) * 4)).convert("L"))
    dear, cheap = (picture[80:158, 20 + 58 * column : 70 + 58 * column].mean() for column in (1, 2))
    assert dear < 0.75 * cheap
