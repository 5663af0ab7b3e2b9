from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import detail_pictures, speed_report
from benchmarks.paired import paired
from lib_unetmod import METHODS, DeepCache
from lib_unetmod.playground.samplers import SAMPLERS
from lib_unetmod.settings.measured import Change, Size, Speed, measured, verdict

ROOT = Path(__file__).resolve().parents[2]


def one(setting: str, time: float, distance: float, *pays_with: str) -> Speed:
    return Speed(setting, time, distance, fewer_steps=0.02, pays_with=pays_with, cells=6)


def test_the_setting_that_beats_fewer_steps_with_most_samplers_is_told():
    words, page = verdict(
        [one("interval=2", 0.6, 0.01, "Euler a"), one("interval=3", 0.4, 0.012, "Euler", "Euler a"), one("x=1", 0.3, 1)]
    )
    assert words == (
        "Test model, 128 px: 2.5x as fast, at 60 % of the distance to the full image that fewer steps in the same time have "
        "(LPIPS), with Euler and Euler a."
    )
    assert verdict([one("speed=2", 0.5, 0.01, "Euler", "Euler a", "UniPC")])[0].endswith(" (LPIPS), with 3 samplers.")
    assert page == "speed.md"


def test_a_method_that_does_not_beat_fewer_steps_says_so():
    words, page = verdict([one("levels=1", 0.9, 0.03), one("levels=2", 0.5, 0.05)])
    assert words == (
        "Test model, 128 px: up to 2.0x as fast, but fewer steps in the same time come closer to the full image (LPIPS)."
    )
    assert page == "speed.md"
    assert "up to 1.03x as fast, but" in verdict([one("levels=1", 0.975, 0.03)])[0]


def test_a_method_for_larger_images_is_not_judged_at_the_native_size():
    assert verdict([one("ratio=0.5", 1.02, 0.03), one("ratio=0.75", 0.99, 0.05)])[0] == (
        "Test model, 128 px: no faster; only larger images gain."
    )


def test_nothing_is_said_where_nothing_was_measured():
    assert verdict([]) == ("", "")


def test_says_how_often_the_subject_is_recognised_at_twice_the_native_side():
    found = [Size("192x192", 0.98, 0.66, 0.94), Size("256x256", 0.9, 0.18, 0.8)]
    assert verdict(found) == (
        "Test model (native 128 px) at 256x256: subject recognized in 90 % of images, without it in 18 %.",
        "resolution.md",
    )
    assert "at 192x192" in verdict(found[:1]).sentence


@pytest.mark.parametrize(("distance", "amount"), [(0.0465, "1.5x as much as"), (0.0062, "by 20 % of what")])
def test_says_how_far_pictures_move_beside_another_seed(distance, amount):
    found = [Change("version=2", distance, other_seed=0.031, fine=1.2, colour=0.98), Change("x", 1.0, 0.031, 1.0, 1.0)]
    assert verdict(found) == (
        f"Test model, 128 px: changes the image {amount} another seed does (LPIPS).",
        "detail.md",
    )


def test_every_method_has_one_sentence_and_a_page_that_is_there():
    for name, found in measured().items():
        words, page = verdict(found)
        assert words.startswith("Test model") and words.endswith(".") and len(words) <= 150, name
        assert (ROOT / "docs" / page).is_file()


def figures(kind):
    return [(name, one) for name, found in measured().items() for one in found if isinstance(one, kind)]


def results(name):
    return json.loads((ROOT / "docs" / name).read_text())


def test_every_method_has_figures_and_they_are_of_settings_that_it_takes():
    assert measured().keys() == METHODS.keys()
    for name, one in figures(Speed):
        METHODS[name].config.from_values(dict(word.split("=") for word in one.setting.split("; ")))
    for name, one in figures(Change):
        key = f"{METHODS[name].config.__name__}: {one.setting}"
        assert detail_pictures.settings()[key] is not None


def test_the_figures_of_speed_are_those_of_the_runs():
    cells = results("speed.json")
    for name, one in figures(Speed):
        key = f"{name}: {one.setting}"
        runs = {cell: run["settings"][key] for cell, run in cells.items() if key in run["settings"]}
        samplers = {SAMPLERS[cell.split()[0]].label for cell in runs}
        assert one.cells == len(runs) and samplers >= set(one.pays_with)
        usual = [cell for cell in runs if cell.split()[1] == "20"]
        assert one.time == pytest.approx(np.mean([runs[cell]["time"] for cell in usual]), abs=1e-3)
        assert one.distance == pytest.approx(np.mean([np.mean(runs[cell]["distances"]) for cell in usual]), abs=1e-4)
        fewer = {cell: of_fewer_steps(cells[cell]["settings"], run["time"]) for cell, run in runs.items()}
        assert one.fewer_steps == pytest.approx(np.mean([fewer[cell] for cell in usual]), abs=1e-4)
        for cell, run in runs.items():
            if SAMPLERS[cell.split()[0]].label in one.pays_with:
                assert np.mean(run["distances"]) < fewer[cell]


def of_fewer_steps(settings, time):
    """The mean distance on the line through the plain U-Net's means."""
    line = sorted((run["time"], np.mean(run["distances"])) for name, run in settings.items() if name.startswith("plain: "))
    return np.interp(time, *zip(*line, strict=True))


def test_the_figures_of_size_are_those_of_the_runs():
    found = results("resolution.json")
    assert figures(Size)
    for name, one in figures(Size):
        own, plain = found[one.size][METHODS[name].config.__name__], found[one.size]["plain"]
        assert one.recognised == pytest.approx(sum(own["recognised"]) / 50)
        assert one.plain == pytest.approx(sum(plain["recognised"]) / 50)
        assert one.time == pytest.approx(own["seconds"] / plain["seconds"], abs=1e-3)


def test_the_figures_of_detail_are_those_of_the_runs():
    found = results("detail.json")
    for name, one in figures(Change):
        run = found[f"{METHODS[name].config.__name__}: {one.setting}"]
        assert (one.distance, one.fine, one.colour) == (run["distance"], run["fine"], run["colour"])
        assert one.other_seed == found[detail_pictures.OTHER_SEED]["distance"]


def test_a_setting_pays_with_a_sampler_where_it_beats_the_line_of_fewer_steps_in_every_cell(monkeypatch):
    """Half of the steps are 0.1 away and all of them 0, so that three quarters of the time leave 0.05, prompt by prompt."""
    monkeypatch.setattr(speed_report, "settings", lambda: {"deep_cache: interval=2": (DeepCache(interval=2),)})

    def cell(distance: float) -> dict:
        plain = {
            "plain: 10 steps": {"time": 0.5, "distances": [0.08, 0.1, 0.12]},
            "plain: 20 steps": {"time": 1.0, "distances": [0.0] * 3},
        }
        own = {"time": 0.75, "distances": [distance - 0.002, distance, distance + 0.002]}
        return {"settings": {**plain, "deep_cache: interval=2": own}}

    names = ("euler 20 cfg7", "euler 20 cfg4", "euler-a 20 cfg7", "euler-a 20 cfg4")
    cells = {name: cell(distance) for name, distance in zip(names, (0.03, 0.07, 0.04, 0.02), strict=True)}
    [found] = speed_report.by_method(cells, [speed_report.CELLS[name] for name in names])["deep_cache"]
    assert found["pays_with"] == ["Euler a"] and found["cells"] == 4
    assert (found["setting"], found["time"], found["distance"], found["fewer_steps"]) == ("interval=2", 0.75, 0.04, 0.05)


def test_two_ways_are_compared_picture_by_picture():
    """Nearer by 1 with pictures that are 1 to 4 away: all of 3, and by a third of their mean whichever are drawn."""
    found = paired([1.0, 2.0, 3.0], [2.0, 3.0, 4.0])
    assert (found.distance, found.median, found.other, found.wins, found.is_nearer) == (2.0, 2.0, 3.0, 3, True)
    assert found.ratio == pytest.approx(2 / 3) and found.gain == pytest.approx((1 / 3, 1 / 3))
    evenly = paired([1.0, 3.0], [3.0, 1.0])
    assert evenly.gain == pytest.approx((-1, 1)) and not evenly.is_nearer and evenly.wins == 1
