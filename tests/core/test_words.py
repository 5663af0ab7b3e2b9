"""What every knob's words, folding and conditions keep to, so that a method can be used without having read its paper."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pytest

from lib_unetmod import METHODS
from lib_unetmod.core.config import SHARED_KNOBS, Config, knobs
from lib_unetmod.core.knobs import Knob, knob, redeclared

each_method = pytest.mark.parametrize("name", METHODS)

MOST_VISIBLE = 3
#: One who makes pictures has other words for these: progress, step, native size, feature map, encoder and decoder.
NOT_FOR_USERS = re.compile(r"\b(progress|evaluations?|traversal|trained size|is told|walk(?! =)|way up|way down)\b", re.I)


def of(name: str) -> dict[str, Knob]:
    return {one.name: one for one in knobs(METHODS[name].config)}


def deciding(one: Knob) -> str:
    """The name of the knob on which another depends: of `auto`, `not auto`, `power!=1` and `predictor=linear`."""
    return re.fullmatch(r"(?:not )?(\w+)(?:!?=\S+)?", one.when)[1]


def counts(one: Knob, all_of: dict[str, Knob]) -> bool:
    """Whether a knob counts while all are at their defaults."""
    if not one.when:
        return True
    other = all_of[deciding(one)]
    if "=" in one.when:
        given = other.parse(one.when.partition("=")[2])
        return (other.default != given) if "!=" in one.when else (other.default == given)
    return (other.default not in (False, "", (), "off", 0)) is not one.when.startswith("not ")


@each_method
def test_titles_and_benefits_are_short_and_differ(name):
    method = METHODS[name]
    assert 0 < len(method.title) <= 40 and 0 < len(method.benefit) <= 40
    assert not method.benefit.endswith(".") and method.benefit[0].isupper()
    assert [one.title for one in METHODS.values()].count(method.title) == 1


@each_method
def test_the_idea_is_one_sentence_that_a_line_of_help_can_hold(name):
    idea = METHODS[name].idea
    assert idea.endswith(".") and len(idea) <= 220 and not NOT_FOR_USERS.search(idea)


@each_method
def test_each_help_is_one_or_two_short_sentences(name):
    for one in of(name).values():
        assert 0 < len(one.help) <= 140 and one.help.endswith("."), one.name
        sentences = re.split(r"(?<=\.)\s+(?=[A-Z])", one.help.replace("Max.", "Max").replace("Hires. fix", "Hires fix"))
        assert len(sentences) <= 2, one.name
        assert one.help[0].isupper() or one.help[0].isdigit() or one.help.startswith(one.choices or "\0"), one.name
        assert not NOT_FOR_USERS.search(one.help), one.name


@each_method
def test_labels_are_short_and_begin_with_a_capital_or_are_the_webuis_own(name):
    for one in of(name).values():
        assert 0 < len(one.label) <= 28 and not one.label.endswith("."), one.name
        assert one.label[0].isupper() or one.label in ("txt2img", "img2img"), one.name


@each_method
def test_at_most_three_knobs_are_in_sight_at_first(name):
    all_of = of(name)
    in_sight = [
        one.name for one in all_of.values() if one.name not in SHARED_KNOBS and not one.rarely and counts(one, all_of)
    ]
    assert 1 <= len(in_sight) <= MOST_VISIBLE, in_sight


@each_method
def test_what_decides_whether_a_knob_counts_is_another_knob_of_the_method(name):
    all_of = of(name)
    for one in all_of.values():
        if one.when:
            assert deciding(one) in all_of and deciding(one) != one.name
            assert not all_of[deciding(one)].when or all_of[deciding(one)].rarely, "a chain that the panel does not follow"
            if all_of[deciding(one)].rarely and not one.rarely:
                # The panel keeps it in sight, and empties the other when somebody sets it.
                assert one.when == f"not {deciding(one)}" and all_of[deciding(one)].default == ""


@each_method
def test_choices_are_explained_where_their_names_do_not_tell(name):
    told_elsewhere = {"preset", "dispersed", "axes", "method"}
    for one in of(name).values():
        if one.choices and one.name not in told_elsewhere:
            assert all(f"{choice} = " in one.help for choice in one.choices), one.name


def test_a_redeclared_knob_keeps_its_default_and_place_and_has_its_changes():
    @dataclass(frozen=True, kw_only=True)
    class Parent(Config):
        size: int = knob(3, "Size", "How large.", low=0, high=9, step=1)
        auto: bool = knob(True, "Auto", "Chooses.")

    @dataclass(frozen=True, kw_only=True)
    class Child(Parent):
        more: int = knob(1, "More", "More.", low=0, high=9, step=1)
        size: int = redeclared(Parent, "size", when="not auto")

    parent, child = ({one.name: one for one in knobs(config)} for config in (Parent, Child))
    assert [one for one in child if one not in SHARED_KNOBS] == ["size", "auto", "more"]
    assert (child["size"].default, child["size"].label, child["size"].high) == (3, "Size", 9)
    assert child["size"].when == "not auto" and parent["size"].when == ""
    assert Child().size == 3
