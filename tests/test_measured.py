from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import speed_pictures
from lib_unetmod import METHODS
from lib_unetmod.measured import Measured, measured, verdict
from lib_unetmod.playground.samplers import SAMPLERS

ROOT = Path(__file__).resolve().parents[1]


def one(setting: str, time: float, distance: float, *pays_with: str) -> Measured:
    return Measured(setting, time, distance, fewer_steps=0.02, pays_with=pays_with, cells=6)


def test_says_with_which_samplers_fewer_steps_do_not_beat_it():
    words = verdict(
        [one("interval=2", 0.6, 0.01, "Euler a"), one("interval=3", 0.41, 0.02, "Euler a", "Euler"), one("x=1", 0.3, 1)]
    )
    assert "0.30 to 0.60 of the time" in words and "6 pairs" in words
    assert "Euler a with 2 of 3 settings, nearest interval=2; Euler with 1 of 3 settings, nearest interval=3." in words
    words = verdict([one("ratio=0.5", 0.9, 0.03), one("ratio=0.75", 0.6, 0.05)])
    assert "0.60 to 0.90 of the time: the plain U-Net with fewer steps of the same time comes nearer" in words
    assert verdict([]) == ""


def test_the_settings_are_ones_the_methods_take():
    for name, settings in measured().items():
        for setting in settings:
            METHODS[name].config.from_values(dict(word.split("=") for word in setting.setting.split("; ")))


def test_the_figures_are_those_of_the_runs():
    cells = json.loads((ROOT / "docs" / "speed.json").read_text())
    samplers = {SAMPLERS[cell.rsplit("-", 1)[0]].label for cell in cells}
    runs = [cell["settings"] for cell in cells.values()]
    for name, settings in measured().items():
        for setting in settings:
            key = f"{name}: {setting.setting}"
            assert setting.cells == len(runs) and samplers >= set(setting.pays_with)
            assert setting.time == pytest.approx(sum(run[key]["time"] for run in runs) / len(runs), abs=1e-3)
            assert setting.distance == pytest.approx(sum(run[key]["distance"] for run in runs) / len(runs), abs=1e-4)


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
