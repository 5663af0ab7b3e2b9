from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import detail_pictures, speed_pictures
from lib_unetmod import METHODS
from lib_unetmod.playground.samplers import SAMPLERS
from lib_unetmod.settings.measured import Change, Plan, Size, Speed, measured, verdict

ROOT = Path(__file__).resolve().parents[2]


def one(setting: str, time: float, distance: float, *pays_with: str) -> Speed:
    return Speed(setting, time, distance, fewer_steps=0.02, pays_with=pays_with, cells=6)


def test_the_fastest_setting_that_beats_fewer_steps_is_told():
    words, page = verdict(
        [one("interval=2", 0.6, 0.01, "Euler a"), one("interval=3", 0.4, 0.02, "Euler", "Euler a"), one("x=1", 0.3, 1)]
    )
    assert words == (
        "Test model, 128 px: 2.5x as fast, and closer to the full image (LPIPS) than fewer steps in the same time, with "
        "Euler and Euler a."
    )
    assert page == "speed.md"


def test_a_method_that_does_not_beat_fewer_steps_says_so():
    words, page = verdict([one("levels=1", 0.9, 0.03), one("levels=2", 0.5, 0.05)])
    assert words == (
        "Test model, 128 px: up to 2.0x as fast, but fewer steps in the same time come closer to the full image (LPIPS)."
    )
    assert page == "speed.md"


def test_a_method_for_larger_images_is_not_judged_at_the_native_size():
    assert verdict([one("ratio=0.5", 0.95, 0.03), one("ratio=0.75", 0.9, 0.05)])[0] == (
        "Test model, 128 px: only 1.1x as fast; larger images gain more."
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
    samplers = {SAMPLERS[cell.rsplit("-", 1)[0]].label for cell in cells}
    runs = [cell["settings"] for cell in cells.values()]
    for name, one in figures(Speed):
        if isinstance(one, Plan):
            continue
        key = f"{name}: {one.setting}"
        assert one.cells == len(runs) and samplers >= set(one.pays_with)
        assert one.time == pytest.approx(sum(run[key]["time"] for run in runs) / len(runs), abs=1e-3)
        assert one.distance == pytest.approx(sum(run[key]["distance"] for run in runs) / len(runs), abs=1e-4)


def test_the_figures_of_plans_are_those_of_the_runs():
    found = results("step_plans.json")
    assert figures(Plan)
    for _, one in figures(Plan):
        speed = one.setting.removeprefix("speed=")
        runs = {cell: run["speeds"][speed] for cell, run in found.items() if speed in run["speeds"]}
        assert one.cells == len(runs)
        assert one.time == pytest.approx(sum(run["time"] for run in runs.values()) / len(runs), abs=1e-3)
        assert one.distance == pytest.approx(sum(run["distance"] for run in runs.values()) / len(runs), abs=1e-4)
        lost = {SAMPLERS[cell.rsplit("-", 1)[0]].label for cell, run in runs.items() if run["gain"][0] <= 0}
        ran = {SAMPLERS[cell.rsplit("-", 1)[0]].label for cell in runs}
        assert set(one.pays_with) == ran - lost


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
