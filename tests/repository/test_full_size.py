"""The full-size benchmark goes on where it was ended, writes down what fails, and its page holds what was measured."""

from __future__ import annotations

import argparse
from dataclasses import replace

import pytest
import torch

from benchmarks.full_size import __main__ as command
from benchmarks.full_size import bench, mechanism, models
from benchmarks.full_size.plan import Setup, items, work
from benchmarks.full_size.report import report
from benchmarks.full_size.results import Measured, Results, Row
from lib_unetmod import HiDiffusion

MACHINE, SETUP = "a GPU, float16, random weights", "SD1.5, 1024x1024 px, 2 rows"
PLAIN = {"milliseconds": 40.0, "issue": 12.0, "peak": 800.0}
ROW = Row(0.8012, 0.004, 32.05, 0.79, 1.02, 3, 9, code="tomesd", published=1.01, published_milliseconds=40.4)


@pytest.fixture
def results(tmp_path):
    return Results(tmp_path / "full_size.json")


def lines_of(page, begin):
    return [line for line in page.splitlines() if line.startswith(begin)]


def test_what_was_stored_is_there_again_without_an_end_of_the_run(results):
    results.machine(MACHINE).setups[SETUP] = Measured(PLAIN)
    results.machine(MACHINE).versions = {"diffusers": "0.42.1"}
    results.machine(MACHINE).mechanism = {"SD1.5": {"layers": 50}}
    results.store(MACHINE, SETUP, "token merging 0.5", ROW)
    assert Results(results.file).machines == results.machines


@pytest.mark.parametrize(
    ("row", "measured"),
    [(ROW, True), (Row(error="OutOfMemoryError: ..."), False), (replace(ROW, published_error="ImportError: ..."), False)],
)
def test_what_failed_is_tried_again_and_what_was_measured_is_not(results, row, measured):
    results.store(MACHINE, SETUP, "token merging 0.5", row)
    assert results.has(MACHINE, SETUP, "token merging 0.5") is measured
    assert not results.has("another GPU", SETUP, "token merging 0.5")
    assert not results.has(MACHINE, SETUP, "token merging 0.75")


def test_the_page_has_a_line_for_each_row_and_says_why_one_is_missing(results):
    results.machine(MACHINE).setups[SETUP] = Measured(PLAIN)
    results.store(MACHINE, SETUP, "token merging 0.5", ROW)
    results.store(MACHINE, SETUP, "FreeU", Row(error="OutOfMemoryError: too large"))
    results.store(
        MACHINE, SETUP, "color map", replace(ROW, code="", published=None, published_milliseconds=None, finite=False)
    )
    page = report(results.machines)
    assert lines_of(page, "| token merging 0.5 |") == [
        "| token merging 0.5 | 0.801 | 0.004 | 0.790 | 1.010 | 1.02 | 32.0 | 9 |"
    ]
    assert lines_of(page, "| FreeU |") == ["| FreeU |  |  |  |  |  |  |  |"]
    assert "- FreeU: not measured: OutOfMemoryError: too large" in page
    assert "- color map: the prediction has infinities or NaN." in page
    assert "Plain: 40.0 ms an evaluation, of which the program takes 12.0 ms" in page


def test_token_merging_is_held_against_its_bar_at_1024_pixels_alone(results):
    for setup in (SETUP, "SD1.5, 512x512 px, 2 rows"):
        results.store(MACHINE, setup, "token merging 0.5", ROW)
    results.store(MACHINE, SETUP, "token merging 0.75", replace(ROW, published_milliseconds=36.0))
    lines = [line for line in report(results.machines).splitlines() if line.startswith("| SD1.5,")]
    assert [line.split(" | ")[-2:] for line in lines] == [["1.26", "yes |"], ["1.12", "no |"], ["1.26", " |"]]


def test_an_empty_page_can_be_written():
    assert report({}).startswith("# Time and memory at full size")


def test_small_pictures_stand_for_large_ones_when_sides_are_divided():
    large = Setup(models.SD15, 1024)
    small = replace(large, shrink=8)
    assert (small.pixels, small.trained) == (128, 64)
    assert [item.name for item in items(small)] == [item.name for item in items(large)]
    assert any(item.configs == (HiDiffusion(),) for item in items(large))


def test_only_takes_rows_by_words_and_models_by_the_checkpoint():
    chosen = list(work((models.SDXL,), ("FreeU",), 1))
    assert {item.name for _, item in chosen} == {"FreeU"}
    assert {setup.model for setup, _ in chosen} == {models.SDXL}


def test_the_command_measures_once_and_writes_down_what_fails(tmp_path, monkeypatch, capsys):
    """From start to end on a tiny U-Net: the second run finds nothing to do but the row that failed."""
    options = {"minutes": 10, "checkpoint": None, "only": ["FreeU", "color map"], "seconds": 0.001, "out": tmp_path}
    options |= {"width": 32, "shrink": 8}
    monkeypatch.setattr(command, "_options", lambda: argparse.Namespace(**options))
    monkeypatch.setattr("benchmarks.full_size.plan.ORDER", ((Setup(models.SD15, 512), ()),))
    for where, rounds in ((mechanism, "ROUNDS"), (bench.measuring, "MOST_ROUNDS")):
        monkeypatch.setattr(where, rounds, 3)
    measured = bench.measuring.megabytes_and_finite

    def out_of_memory(way):
        if getattr(way.entered, "args", None) and way.entered.args[-1].name == "color map":
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.")
        return measured(way)

    with monkeypatch.context() as patch:
        patch.setattr(bench.measuring, "megabytes_and_finite", out_of_memory)
        command.main()
    assert "color map: OutOfMemoryError: CUDA out of memory." in capsys.readouterr().out
    page = (tmp_path / "full_size.md").read_text(encoding="utf-8")
    assert "- color map: not measured: OutOfMemoryError: CUDA out of memory." in page
    command.main()
    again = capsys.readouterr().out
    assert "color map: 1." in again or "color map: 0." in again
    assert "FreeU" not in again
