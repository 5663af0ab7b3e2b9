from __future__ import annotations

import json
from pathlib import Path

import pytest

from lib_unetmod import METHODS
from lib_unetmod.measured import Measured, measured, verdict

ROOT = Path(__file__).resolve().parents[1]


def one(setting: str, time: float, wins: int) -> Measured:
    return Measured(setting, time, distance=0.01, fewer_steps=0.02, wins=wins, cells=6)


def test_a_setting_pays_in_more_than_half_of_the_cells():
    assert [one("interval=3", 0.4, wins).pays for wins in (0, 3, 4, 6)] == [False, False, True, True]


def test_says_which_settings_fewer_steps_do_not_beat():
    words = verdict([one("interval=2", 0.6, 0), one("interval=3", 0.41, 5)])
    assert "interval=3 (0.41 of the time)" in words and "interval=2" not in words and "beat the other" in words
    assert "0.60 to 0.90 of the time" in verdict([one("ratio=0.5", 0.9, 0), one("ratio=0.75", 0.6, 0)])
    assert "other settings" not in verdict([one("interval=3", 0.41, 5)])
    assert verdict([]) == ""


def test_the_settings_are_ones_the_methods_take():
    for name, settings in measured().items():
        for setting in settings:
            METHODS[name].config.from_values(dict(word.split("=") for word in setting.setting.split("; ")))


def test_the_figures_are_those_of_the_runs():
    runs = [cell["settings"] for cell in json.loads((ROOT / "docs" / "speed.json").read_text()).values()]
    for name, settings in measured().items():
        for setting in settings:
            key = f"{name}: {setting.setting}"
            assert setting.cells == len(runs)
            assert setting.time == pytest.approx(sum(run[key]["time"] for run in runs) / len(runs), abs=1e-3)
            assert setting.distance == pytest.approx(sum(run[key]["distance"] for run in runs) / len(runs), abs=1e-4)
