from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import detail_pictures, speed_pictures
from lib_unetmod import METHODS
from lib_unetmod.playground.samplers import SAMPLERS
from lib_unetmod.settings.measured import Change, Size, Speed, measured, verdict

ROOT = Path(__file__).resolve().parents[2]


def one(setting: str, time: float, distance: float, *pays_with: str) -> Speed:
    return Speed(setting, time, distance, fewer_steps=0.02, pays_with=pays_with, cells=6)


def test_says_with_which_samplers_fewer_steps_do_not_beat_it():
    words = verdict(
        [one("interval=2", 0.6, 0.01, "Euler a"), one("interval=3", 0.41, 0.02, "Euler a", "Euler"), one("x=1", 0.3, 1)]
    )
    assert "0.30 to 0.60 of the time" in words and "6 pairs" in words
    assert "Euler a with 2 of 3 settings, nearest interval=2; Euler with 1 of 3 settings, nearest interval=3." in words
    words = verdict([one("ratio=0.5", 0.9, 0.03), one("ratio=0.75", 0.6, 0.05)])
    assert "0.60 to 0.90 of the time: the plain U-Net with fewer steps of the same time comes nearer" in words
    assert verdict([]) == ""


def test_says_how_often_the_subject_is_recognised():
    assert verdict([Size("256x256", 0.9, 0.18, 0.8), Size("192x192", 0.98, 0.66, 0.94)]).endswith(
        "recognised in 90 % at 256x256 (without it 18 %) in 0.80 of the time; 98 % at 192x192 (without it 66 %) in 0.94 of "
        "the time."
    )


def test_says_how_far_pictures_move():
    change = Change("version=1", 0.0512, other_seed=0.31, fine=1.204, colour=0.981)
    assert verdict([change]).endswith(
        "(another seed is 0.310 away): version=1: distance 0.051, fine detail 1.20, colour 0.98."
    )


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
    samplers = {SAMPLERS[cell.rsplit("-", 1)[0]].label for cell in cells}
    runs = [cell["settings"] for cell in cells.values()]
    for name, one in figures(Speed):
        key = f"{name}: {one.setting}"
        assert one.cells == len(runs) and samplers >= set(one.pays_with)
        assert one.time == pytest.approx(sum(run[key]["time"] for run in runs) / len(runs), abs=1e-3)
        assert one.distance == pytest.approx(sum(run[key]["distance"] for run in runs) / len(runs), abs=1e-4)


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


def test_a_setting_pays_with_a_sampler_where_it_beats_the_line_of_fewer_steps_at_every_count(monkeypatch):
    """Half of the steps are 0.1 away and all of them 0, so that three quarters of the time leave 0.05."""
    monkeypatch.setattr(speed_pictures, "configs", lambda: {"deep_cache: interval=2": None})

    def cell(distance: float) -> dict:
        plain = {"time": 0.5, "distance": 0.1}
        return {"settings": {"plain: 10 steps": plain, "deep_cache: interval=2": {"time": 0.75, "distance": distance}}}

    cells = {"euler-20": cell(0.04), "euler-28": cell(0.06), "euler-a-20": cell(0.04), "euler-a-28": cell(0.02)}
    [found] = speed_pictures.by_method(cells, list(cells))["deep_cache"]
    assert found["pays_with"] == ["Euler a"] and found["cells"] == 4
    assert (found["setting"], found["time"], found["distance"], found["fewer_steps"]) == ("interval=2", 0.75, 0.04, 0.05)
