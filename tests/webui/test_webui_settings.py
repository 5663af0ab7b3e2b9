"""What users, files and requests supply: knobs, configs and selections."""

from __future__ import annotations

import json
import math

import pytest

from lib_unetmod import METHODS, ConfigError, SkipBlocks
from lib_unetmod.core.config import knobs
from lib_unetmod.settings.selection import configs_of, from_infotext, selection_of, summary, to_infotext


@pytest.mark.parametrize(
    "given, expected",
    [
        (dict(middle="true"), dict(middle=True)),
        (dict(middle=1), dict(middle=True)),
        (dict(middle="off"), dict(middle=False)),
        (dict(levels="2"), dict(levels=2)),
        (dict(levels=2.0), dict(levels=2)),
        (dict(start="0.25", end=1), dict(start=0.25, end=1.0)),
        (dict(blocks="in.4, mid in.4"), dict(blocks=("in.4", "mid"))),
        (dict(blocks=["in.4"]), dict(blocks=("in.4",))),
        (dict(blocks=""), dict(blocks=())),
    ],
)
def test_values_are_read_from_what_pages_and_requests_supply(given, expected):
    assert SkipBlocks.from_values(given) == SkipBlocks(**expected)


@pytest.mark.parametrize(
    "given, sentence",
    [
        (dict(levels=4), "SkipBlocks: levels is 4; it takes a whole number from 0 to 3."),
        (dict(levels=1.5), "levels is 1.5"),
        (dict(levels=True), "levels is True"),
        (dict(levels=None), "levels is None"),
        (dict(start=math.nan), "start is nan"),
        (dict(start="inf"), "start is 'inf'"),
        (dict(end=1e400), "end is inf"),
        (dict(middle="perhaps"), "middle is 'perhaps'; it takes true or false."),
        (dict(middle=2), "middle is 2"),
        (dict(blocks=[1]), "blocks is [1]; it takes names separated by spaces."),
        (dict(blocks={"a": 1}), "blocks is {'a': 1}"),
        (dict(fit="stretch"), "it takes zeros or repeat or shortcut."),
        (dict(start=0.9, end=0.1), "start must not be above end"),
    ],
)
def test_wrong_values_get_one_sentence_that_names_the_knob(given, sentence):
    with pytest.raises(ConfigError) as refusal:
        SkipBlocks.from_values(given)
    assert sentence in str(refusal.value) and "\n" not in str(refusal.value)


def test_unknown_knobs_are_named_with_those_there_are():
    with pytest.raises(ConfigError, match="SkipBlocks has no knob 'midle'; it has middle, levels"):
        SkipBlocks.from_values({"midle": True})


@pytest.mark.parametrize("name", METHODS)
def test_every_knob_is_declared_for_people(name):
    method = METHODS[name]
    assert method.title and method.group in ("speed", "resolution", "detail") and method.idea.endswith(".")
    labels = [knob.label for knob in knobs(method.config)]
    assert len(set(labels)) == len(labels)
    for knob in knobs(method.config):
        assert knob.label and knob.help.endswith(".")
        assert knob.parse(knob.default) == knob.default
        assert knob.type not in (int, float) or None not in (knob.low, knob.high, knob.step)


CONFIG = SkipBlocks(middle=True, levels=1, blocks=("in.4.attn", "mid"), end=0.8, hires_pass=False)


def test_a_selection_reads_back_as_the_configs():
    selection = selection_of([CONFIG])
    assert selection["skip_blocks"]["levels"] == 1 and "start" not in selection["skip_blocks"]
    assert configs_of(json.loads(json.dumps(selection))) == ([CONFIG], [])


def test_infotext_is_readable_and_reads_back():
    entries = to_infotext([CONFIG])
    assert entries == {"UNet Mod skip blocks": "middle=true; levels=1; blocks=in.4.attn mid; end=0.8; hires_pass=false"}
    selection, notes = from_infotext({"Steps": "20", **entries})
    assert configs_of(selection) == ([CONFIG], []) and notes == []
    assert to_infotext([SkipBlocks()]) == {"UNet Mod skip blocks": "on"}
    assert from_infotext({"UNet Mod skip blocks": "on"}) == ({"skip_blocks": {}}, [])


@pytest.mark.parametrize(
    "entry",
    [
        {"UNet Mod skip blocks": "levels"},
        {"UNet Mod skip blocks": "levels=99"},
        {"UNet Mod skip blocks": "__class__=1"},
        {"UNet Mod skip blocks": 3},
        {"UNet Mod skip blocks": "x" * 100_000},
        {"UNet Mod unheard of": "on"},
        {"UNet Mod ": ""},
    ],
    ids=str,
)
def test_damaged_infotext_costs_one_note(entry):
    selection, notes = from_infotext({"UNet Mod other": "?", **entry})
    (note,) = notes
    assert selection == {} and note.startswith("Unknown settings in the image's text are ignored: UNet Mod")


@pytest.mark.parametrize(
    "selection", [None, 3, "skip_blocks", ["skip_blocks"], {"nothing": {}}, {"skip_blocks": 3}, {1: {2: 3}}]
)
def test_a_damaged_selection_costs_a_sentence(selection):
    configs, problems = configs_of(selection)
    assert configs == [] and len(problems) == 1


def test_one_bad_method_does_not_cost_the_others():
    configs, problems = configs_of({"nothing": {}, "skip_blocks": {"middle": True}})
    assert configs == [SkipBlocks(middle=True)] and "There is no method 'nothing'" in problems[0]


def test_an_unknown_knob_of_another_version_costs_neither_the_method_nor_its_other_knobs():
    configs, problems = configs_of({"skip_blocks": {"middle": True, "of_tomorrow": 3, 7: 8}})
    assert configs == [SkipBlocks(middle=True)]
    assert problems == [
        f"Skip U-Net blocks has no knob {one} in this version; it is left out." for one in ("'of_tomorrow'", "7")
    ]


def test_summary_names_what_is_on(probe):
    assert summary([SkipBlocks(middle=True), probe(factor=2.0, end=0.8)]) == "Skip blocks middle · Probe 0-0.8"
    assert summary([SkipBlocks()]) == ""
