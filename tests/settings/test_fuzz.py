"""Five hundred generated settings, hostile ones among them, by every way in: a picture or one clear sentence, and never a
changed model."""

from __future__ import annotations

import json
import math
from functools import reduce
from pathlib import Path
from typing import Any

import pytest
import torch
import webui_stubs
from contract import snapshot
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from unets import fresh
from webui_stubs import P, generate, shared

from lib_unetmod import METHODS, ConfigError
from lib_unetmod.core.config import knobs
from lib_unetmod.core.knobs import Knob, shortened
from lib_unetmod.settings.presets import PresetError, Presets
from lib_unetmod.settings.selection import INFOTEXT_PREFIX, configs_of, from_infotext
from lib_unetmod.webui import controls, sampling
from lib_unetmod.webui import settings as webui_settings

pytestmark = pytest.mark.long

EXAMPLES = 20

fuzzed = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)

#: What Python itself stumbles over: text without a form in UTF-8, nesting deeper than its stack, ints that it does not write
#: out. Built when drawn, since not even a failure's report could show them.
UNWRITABLE = st.one_of(
    st.sampled_from(["\ud800", "in.4 \udfff", "mid\udc80; middle=true"]),
    st.sampled_from([990, 5000]).map(lambda levels: reduce(lambda inner, _: [inner], range(levels), "mid")),
    st.sampled_from([310, 5000, 10_000]).map(lambda digits: 10**digits),
)
HOSTILE = UNWRITABLE | st.sampled_from(
    [
        "__import__('os').system('true')",
        "!!python/object/apply:os.system ['true']",
        "../../etc/passwd",
        "<script>alert(1)</script>",
        "{{7*7}}",
        "nan",
        "inf",
        "-1e999",
        "1" * 400,
        "9" * 10_000,
        "\x00",
        "middle=true; middle=false; =",
        "in.4.attn out.99 mid.mid",
        "levels=2; " * 300,
    ]
)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | HOSTILE,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=6,
)


def of_knob(knob: Knob) -> st.SearchStrategy[Any]:
    """Values that the knob takes, mostly, and others."""
    if knob.type is bool:
        good = st.booleans()
    elif knob.choices:
        good = st.sampled_from(knob.choices)
    elif knob.low is not None:
        low, high = knob.low, knob.high
        good = st.integers(int(low), int(high)) if knob.type is int else st.floats(low, high)
    else:
        good = st.sampled_from(["", "mid", "in.1", "in.4.attn out.7.res", "out.0"])
    return st.one_of(good, good, good, ANYTHING)


@st.composite
def selections(draw: Any) -> dict[Any, Any]:
    """Methods with knobs, as a request's dict: mostly such as exist."""
    chosen: dict[Any, Any] = {}
    for name in draw(st.lists(st.sampled_from(list(METHODS)), max_size=4, unique=True)):
        declared = {knob.name: knob for knob in knobs(METHODS[name].config)}
        picked = draw(st.lists(st.sampled_from(list(declared)), max_size=5, unique=True))
        chosen[name] = {knob: draw(of_knob(declared[knob])) for knob in picked}
    if draw(st.integers(0, 5)) == 0:
        chosen[draw(st.text(max_size=10) | HOSTILE.filter(lambda one: isinstance(one, str)))] = draw(ANYTHING)
    return chosen


def entry(values: Any) -> Any:
    """A line of knobs; what Python writes no text of stands in it as the text of its kind."""
    if not isinstance(values, dict):
        return values
    return "; ".join(
        f"{name}={value if isinstance(value, (str, bool, float)) else shortened(value)}" for name, value in values.items()
    )


def as_json(held: Any) -> str:
    """What a file can hold of it: Python writes neither deep nesting nor long ints, but other programs do."""
    levels, inner = 0, held
    while isinstance(inner, list) and len(inner) == 1:
        levels, inner = levels + 1, inner[0]
    if levels:
        return "[" * levels + as_json(inner) + "]" * levels
    if isinstance(held, list):
        return "[" + ", ".join(map(as_json, held)) + "]"
    if isinstance(held, dict):
        return "{" + ", ".join(f"{json.dumps(name)}: {as_json(value)}" for name, value in held.items()) + "}"
    if isinstance(held, int) and held > 10**300:
        return f"1{'0' * round(math.log10(held))}"
    return json.dumps(held)


@pytest.fixture(scope="module")
def unet():
    return fresh("sd1")


@pytest.fixture(scope="module")
def plain(unet):
    webui_stubs.reset()
    return snapshot(unet), generate(P([unet], steps=1))[0]


@pytest.fixture(autouse=True)
def fresh_webui():
    webui_stubs.reset()
    yield
    webui_stubs.reset()
    assert sampling._current is None


def check(unet: Any, plain: Any, *args: Any, axes: dict[str, Any] | None = None) -> None:
    """A picture is made, what is wrong is said in sentences, and the model is as before."""
    before, answer = plain
    p = P([unet], steps=1)
    picture = generate(p, *args, axes=axes)[0]
    assert picture.shape == answer.shape and picture.isfinite().all()
    for sentence in p.comments:
        assert sentence.startswith("UNet Mod") and sentence.rstrip().endswith(".") and len(sentence) < 500
        assert len(sentence.splitlines()) == 1 and sentence.encode("utf-8")
    assert all(str(text).encode("utf-8") for entry in p.extra_generation_params.items() for text in entry)
    assert snapshot(unet) == before
    if not p.extra_generation_params.keys() - {"Size", "UNet Mod note"}:
        assert torch.equal(picture, answer)


@fuzzed
@given(asked=selections() | ANYTHING)
def test_a_request(unet, plain, asked):
    check(unet, plain, asked)


@fuzzed
@given(values=st.data())
def test_the_pages_values(unet, plain, values):
    drawn: list[Any] = [values.draw(st.sampled_from([True, True, True, False, None]))]
    for _, _, knob in controls.arguments():
        of_toggle = st.sampled_from([True, False, False, None])
        drawn.append(values.draw(of_toggle) if knob is None else knob.default if values.draw(st.booleans()) else None)
    for _ in range(values.draw(st.integers(0, 6))):
        place = values.draw(st.integers(1, len(drawn) - 1))
        knob = list(controls.arguments())[place - 1][2]
        drawn[place] = values.draw(ANYTHING if knob is None else of_knob(knob))
    check(unet, plain, *drawn[: values.draw(st.integers(1, len(drawn)))])


@fuzzed
@given(asked=selections(), others=st.dictionaries(st.text(max_size=12), ANYTHING, max_size=3))
def test_an_infotext(unet, plain, asked, others):
    text = {INFOTEXT_PREFIX + str(name).replace("_", " "): entry(values) for name, values in asked.items()}
    restored, notes = from_infotext({**others, **text})
    assert len(notes) <= 1 and all(note.encode("utf-8") for note in notes)
    configs, problems = configs_of(restored)
    assert not problems and len(configs) == len(restored)
    check(unet, plain, json.loads(json.dumps(restored)))


@fuzzed
@given(held=selections(), ticked=st.booleans(), old=st.sampled_from([None, "", "on; ", "off; "]))
def test_what_settings_hold(unet, plain, tmp_path_factory, held, ticked, old):
    """As options, or as the lines of 0.1.0; with both, what config.json holds afterwards can be written and read."""
    webui_stubs.reset()
    shared.config_filename = str(tmp_path_factory.getbasetemp() / "config.json")
    for name, values in held.items():
        if old is not None:
            line = entry(values)
            shared.opts.data[f"unetmod_{name}"] = old + line if isinstance(line, str) else line
        elif isinstance(values, dict):
            shared.opts.data |= {f"unetmod_{name}": ticked, **{f"unetmod_{name}_{knob}": values[knob] for knob in values}}
    for problem in webui_settings.read().problems:
        assert problem.startswith("Settings") and problem.endswith(".") and len(problem.encode("utf-8")) < 400
    webui_settings.add_options()
    # What is left are values that do not go together, each of which its knob takes.
    assert all("starts with its own defaults" in problem for problem in webui_settings.read().problems)
    check(unet, plain, True)
    if old is not None:
        Path(shared.config_filename).unlink(missing_ok=True)


@fuzzed
@given(axes=st.data(), asked=selections())
def test_axes_of_the_plot(unet, plain, axes, asked):
    cell = {}
    for name, _, knob in axes.draw(st.lists(st.sampled_from(list(controls.arguments())), max_size=4)):
        value = axes.draw(st.sampled_from(["true", "false"]) if knob is None else of_knob(knob))
        try:
            cell[name] = value if knob is None else knob.parse(value)
        except ConfigError as error:  # which the plot shows before it begins
            assert str(error).endswith(".") and len(str(error).splitlines()) == 1 and len(str(error)) < 300
    check(unet, plain, asked, axes=cell)


HELD = st.fixed_dictionaries({"name": st.text(max_size=70) | HOSTILE | ANYTHING, "methods": selections() | ANYTHING})


@fuzzed
@given(held=HELD | ANYTHING, damage=st.sampled_from(["", "", "", "cut", "twice", "no text"]))
def test_a_presets_file(unet, plain, tmp_path_factory, held, damage):
    folder = tmp_path_factory.mktemp("presets", numbered=True)
    data = as_json(held).encode()
    data = {"cut": data[:-2], "twice": data * 2, "no text": b"\xff\x00" + data}.get(damage, data)
    file = folder / "shared.json"
    file.write_bytes(data)
    presets = Presets(folder / "kept")
    try:
        name = presets.add(file)
    except PresetError as error:
        assert str(error).endswith(".") and len(str(error).splitlines()) == 1 and len(str(error)) < 500
        assert not presets.folder.exists() or list(presets.folder.iterdir()) == []
        return
    assert [path.parent for path in folder.rglob("*.json") if path != file] == [presets.folder]
    check(unet, plain, presets.load(name).selection)
