"""What JSON, files and scripts can bring that Python itself stumbles over: each costs one short sentence."""

from __future__ import annotations

from typing import Any

import pytest

from lib_unetmod import ColorMap, ConfigError, SkipBlocks
from lib_unetmod.core.knobs import shortened


def nested(levels: int, inner: Any = 1) -> Any:
    """Lists and dicts in one another."""
    for level in range(levels):
        inner = [inner] if level % 2 else {"a": inner}
    return inner


class Unreadable:
    def __repr__(self) -> str:
        raise RuntimeError("no")


QUOTED: dict[str, tuple[Any, str]] = {
    "a number": (4, "4"),
    "a share": (0.25, "0.25"),
    "two lines": ("a\nb", r"'a\nb'"),
    "half a pair": ("\ud800", r"'\ud800'"),
    "the largest float": (1e308, "1e+308"),
    "40 digits": (10**39, "1" + "0" * 39),
    "100 digits": (10**99, "a number of 100 digits"),
    "5000 digits": (-(10**4999), "a number of 5000 digits"),
    "10,000 digits": (10**9999, "a number of 10000 digits"),
    "10,000 digits as text": ("9" * 10_000, "'" + "9" * 36 + "..."),
    "5000 levels": (nested(5000), "an unreadable list"),
    "an object": (Unreadable(), "an unreadable Unreadable"),
}


@pytest.mark.parametrize("case", QUOTED)
def test_a_quoted_value_is_short_and_can_be_written(case):
    value, quoted = QUOTED[case]
    assert shortened(value) == quoted
    assert len(quoted) <= 40 and quoted.encode("utf-8")


HOSTILE: dict[str, Any] = {
    "half a pair": "\ud800",
    "1e308": 1e308,
    "309 digits": 10**308,
    "5000 digits": 10**4999,
    "10,000 digits": 10**9999,
    "10,000 digits as text": "9" * 10_000,
    "50 levels": nested(50),
    "990 levels": nested(990),
    "5000 levels": nested(5000),
}


@pytest.mark.parametrize("knob", ["middle", "levels", "start", "fit", "blocks"])
@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_value_costs_one_sentence_that_names_the_knob(knob, case):
    value = HOSTILE[case] if (knob, case) != ("blocks", "10,000 digits as text") else ["9" * 10_000]
    with pytest.raises(ConfigError) as refusal:
        SkipBlocks.from_values({knob: value})
    said = str(refusal.value)
    assert said.startswith(f"SkipBlocks: {knob} is ") and said.endswith(".")
    assert len(said) < 150 and len(said.splitlines()) == 1 and said.encode("utf-8")


@pytest.mark.parametrize("case", ["half a pair", "5000 digits", "10,000 digits as text"])
def test_a_hostile_name_of_a_knob_costs_one_sentence(case):
    with pytest.raises(ConfigError, match="SkipBlocks has no knob ") as refusal:
        SkipBlocks.from_values({HOSTILE[case]: 1})
    assert len(str(refusal.value)) < 250 and str(refusal.value).encode("utf-8")


def test_text_that_no_file_can_hold_is_refused_before_it_gets_there():
    with pytest.raises(ConfigError, match=r"blocks is 'in.4 \\udc00'; it takes names separated by spaces"):
        SkipBlocks.from_values({"blocks": "in.4 \udc00"})
    with pytest.raises(ConfigError, match=r"blocks is \['in.4', 'mid\\ud800'\]"):
        SkipBlocks.from_values({"blocks": ["in.4", "mid\ud800"]})
    with pytest.raises(ConfigError, match=r"colors is 'blue\\ud800\|red'; it takes text"):
        ColorMap.from_values({"colors": "blue\ud800|red"})
