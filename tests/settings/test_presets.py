"""Presets: kept, renamed, deleted and shared as files; whatever a file or a name holds, one sentence and nothing changed."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import unets

from lib_unetmod import METHODS, inspect_unet, modified
from lib_unetmod.core.config import knobs
from lib_unetmod.core.target import Target
from lib_unetmod.settings.presets import BUILT_IN, LONGEST_NAME, MOST_BYTES, PresetError, Presets, read_file
from lib_unetmod.settings.selection import configs_of, selection_of

SKIP = {"skip_blocks": {"middle": True, "blocks": ["in.4"], "start": 0.25}}


@pytest.fixture
def presets(tmp_path: Path) -> Presets:
    return Presets(tmp_path / "config" / "presets")


def everything(presets: Presets) -> dict[str, bytes]:
    """What lies in the folder, byte for byte."""
    return {path.name: path.read_bytes() for path in presets.folder.glob("*")} if presets.folder.exists() else {}


def test_a_preset_is_one_file_that_reads_back(presets: Presets) -> None:
    assert presets.save("  My  preset ", SKIP) == "My preset"
    assert json.loads((presets.folder / "My preset.json").read_text()) == {"name": "My preset", "methods": SKIP}
    assert list(everything(presets)) == ["My preset.json"]
    assert presets.names() == [*BUILT_IN, "My preset"]
    assert presets.load("My preset").selection == SKIP
    assert presets.load("My preset").text == (presets.folder / "My preset.json").read_text()
    presets.save("My preset", {"skip_blocks": {"levels": 1}})
    assert presets.load("My preset").selection == {"skip_blocks": {"levels": 1}}


def test_a_preset_may_hold_a_speed_beside_methods_or_alone(presets: Presets) -> None:
    for selection in ({"speed": "2x", **SKIP}, {"speed": "1.5x"}):
        presets.save("Fast", selection)
        assert presets.load("Fast").selection == selection
    presets.save("Slow", {"speed": 1, **SKIP})
    assert presets.load("Slow").selection == SKIP
    with pytest.raises(PresetError, match=r"refused\. speed is 9; it takes off or 1\.3x"):
        presets.save("Faster than that", {"speed": 9, **SKIP})


def test_rename_and_delete(presets: Presets) -> None:
    presets.save("a", SKIP)
    assert presets.rename("a", "アニメ, 二次元") == "アニメ, 二次元"
    assert list(everything(presets)) == ["アニメ, 二次元.json"]
    assert read_file(presets.folder / "アニメ, 二次元.json").name == "アニメ, 二次元"
    presets.rename("アニメ, 二次元", "anime")
    presets.rename("anime", "Anime")
    assert list(everything(presets)) == ["Anime.json"] and presets.load("Anime").selection == SKIP
    presets.delete("Anime")
    assert everything(presets) == {} and presets.names() == [*BUILT_IN]


def test_a_shared_file_is_kept_under_the_name_it_carries(presets: Presets, tmp_path: Path) -> None:
    theirs = Presets(tmp_path / "theirs")
    theirs.save("Theirs (2)", SKIP)
    mailed = (theirs.folder / "Theirs (2).json").rename(tmp_path / "download 7.json")
    assert presets.add(mailed) == "Theirs (2)"
    assert presets.load("Theirs (2)").selection == SKIP and mailed.exists()
    before = everything(presets)
    with pytest.raises(PresetError, match=r"There is a preset Theirs \(2\) already"):
        presets.add(mailed)
    assert everything(presets) == before


@pytest.mark.parametrize(
    "name, words",
    [
        ("", "a name"),
        ("   ", "a name"),
        (None, "is text"),
        (7, "is text"),
        (["a"], "is text"),
        ("x" * (LONGEST_NAME + 1), "at most"),
        ("x" * 100_000, "is text"),
        ("../a", "'/'"),
        ("a/b", "'/'"),
        ("a\\b", "takes no"),
        ("c:", "':'"),
        ("a\0b", "takes no"),
        ("a\u202eb", "invisible"),
        ("\ud800", "takes no"),
        (".hidden", "dot"),
        ("..", "dot"),
        ("end.", "dot"),
        ("CON", "Windows"),
        ("com1.fast", "Windows"),
        ("nul", "Windows"),
        ("Faster", "already"),
        ("fASTER", "already"),
        ("MINE", "already"),
    ],
)
def test_names_that_no_file_may_have_are_refused(presets: Presets, name: Any, words: str) -> None:
    presets.save("mine", SKIP)
    presets.save("other", SKIP)
    before = everything(presets)
    for act in (lambda: presets.save(name, SKIP), lambda: presets.rename("other", name)):
        with pytest.raises(PresetError) as refusal:
            act()
        assert words in str(refusal.value) and str(refusal.value).endswith(".") and "\n" not in str(refusal.value)
    assert everything(presets) == before
    assert not list(presets.folder.parent.parent.rglob("*.part"))


def test_the_longest_name_fits_a_file_system(presets: Presets) -> None:
    name = "𠮷" * LONGEST_NAME  # four bytes each
    assert presets.load(presets.save(name, SKIP)).name == name


def test_built_in_ones_are_read_only(presets: Presets) -> None:
    for act in (presets.delete, lambda name: presets.rename(name, "a"), lambda name: presets.save(name, SKIP)):
        with pytest.raises(PresetError, match="Larger"):
            act("Larger")
    presets.folder.mkdir(parents=True)
    (presets.folder / "larger.json").write_text(json.dumps({"name": "larger", "methods": SKIP}))
    assert presets.names() == [*BUILT_IN]
    assert presets.load("Larger").selection == selection_of(BUILT_IN["Larger"])


@pytest.mark.parametrize("name", ["nothing", "../secret", "/etc/passwd", None, [], {}, 3, "x" * 9999])
def test_what_is_not_there_costs_a_sentence(presets: Presets, name: Any) -> None:
    for act in (presets.load, presets.delete, lambda name: presets.rename(name, "a")):
        with pytest.raises(PresetError):
            act(name)
    assert not presets.folder.exists()


def preset_of(methods: Any, **more: Any) -> bytes:
    return json.dumps({"name": "Shared", "methods": methods, **more}).encode()


HOSTILE = {
    "empty": b"",
    "no JSON": b"{'name': 1}",
    "cut off": b'{"name": "a", "methods": {"skip_bl',
    "binary": bytes(range(256)),
    "UTF-16": json.dumps({"name": "a", "methods": SKIP}).encode("utf-16"),
    "a list": b"[]",
    "a number": b"1e999",
    "deep": b"[" * 60_000,
    "deep object": b'{"a":' * 12_000,
    "too large": b" " * (MOST_BYTES + 1),
    "deep value": preset_of({}).replace(b"{}", b'{"skip_blocks": {"levels": ' + b"[" * 5000 + b"]" * 5000 + b"}}"),
    "value as deep as JSON may be": preset_of({}).replace(
        b"{}", b'{"skip_blocks": {"levels": ' + b"[" * 900 + b"]" * 900 + b"}}"
    ),
    "number of 10,000 digits": preset_of({}).replace(b"{}", b'{"skip_blocks": {"levels": ' + b"9" * 10_000 + b"}}"),
    "number of 10,000 digits as text": preset_of({"skip_blocks": {"levels": "9" * 10_000}}),
    "number of 4,000 digits": preset_of({}).replace(b"{}", b'{"skip_blocks": {"levels": ' + b"9" * 4000 + b"}}"),
    "lone surrogate in a value": preset_of({"skip_blocks": {"blocks": ["in.\ud800"]}}),
    "lone surrogate in the name": json.dumps({"name": "a\ud800", "methods": SKIP}).encode(),
    "lone surrogate as a method": preset_of({"\ud800": {}}),
    "lone surrogate as a knob": preset_of({"skip_blocks": {"\ud800": 1}}),
    "long number": b'{"name": "a", "methods": {"skip_blocks": {"levels": ' + b"9" * 60_000 + b"}}}",
    "no name": b'{"methods": {"skip_blocks": {}}}',
    "no methods": b'{"name": "a"}',
    "more keys": preset_of(SKIP, run="rm"),
    "name with path": json.dumps({"name": "../../a", "methods": SKIP}).encode(),
    "name of another type": json.dumps({"name": {}, "methods": SKIP}).encode(),
    "name of a built-in one": json.dumps({"name": "larger", "methods": SKIP}).encode(),
    "methods of another type": preset_of([1]),
    "no method at all": preset_of({}),
    "unknown method": preset_of({"skip_blokcs": {}}),
    "unknown knob": preset_of({"skip_blocks": {"midle": True}}),
    "wrong value": preset_of({"skip_blocks": {"levels": 99}}),
    "not a number": b'{"name": "a", "methods": {"skip_blocks": {"start": NaN}}}',
    "knobs of another type": preset_of({"skip_blocks": 3}),
    "wrong beside right": preset_of({**SKIP, "deep_cache": {"interval": -1}}),
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE)
def test_a_broken_or_hostile_file_is_refused_with_a_sentence_and_changes_nothing(
    presets: Presets, tmp_path: Path, data: bytes
) -> None:
    presets.save("mine", SKIP)
    before = everything(presets)
    file = tmp_path / "shared.json"
    file.write_bytes(data)
    with pytest.raises(PresetError) as refusal:
        presets.add(file)
    sentence = str(refusal.value)
    assert len(sentence) < 400 and "\n" not in sentence and sentence.endswith(".")
    assert everything(presets) == before


def test_the_sentence_names_file_knob_and_value(presets: Presets, tmp_path: Path) -> None:
    file = tmp_path / "shared.json"
    file.write_bytes(preset_of({"skip_blocks": {"levels": 99}}))
    sentence = "The file 'shared.json' is refused. SkipBlocks: levels is 99; it takes a whole number from 0 to 3."
    with pytest.raises(PresetError) as refusal:
        presets.add(file)
    assert str(refusal.value) == sentence


def test_a_broken_file_in_the_folder_costs_only_itself(presets: Presets) -> None:
    presets.save("mine", SKIP)
    (presets.folder / "broken.json").write_bytes(b"{")
    (presets.folder / "folder.json").mkdir()
    (presets.folder / ".hidden.json").write_bytes(preset_of(SKIP))
    (presets.folder / "a\nb.json").write_bytes(preset_of(SKIP))
    (presets.folder / "notes.txt").write_bytes(preset_of(SKIP))
    assert presets.names() == [*BUILT_IN, "broken", "mine"]
    with pytest.raises(PresetError, match=r"'broken\.json' is no preset"):
        presets.load("broken")
    with pytest.raises(PresetError, match="no preset"):
        presets.rename("broken", "mended")
    presets.delete("broken")
    assert presets.load("mine").selection == SKIP


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value", [["in.\ud800"], nested(5000), nested(900), 10**10_000], ids=["surrogate", "5000", "900", "digits"]
)
def test_values_that_no_file_can_hold_are_refused_on_saving_and_nothing_is_lost(presets: Presets, value: Any) -> None:
    presets.save("mine", SKIP)
    before = everything(presets)
    for knob in ("blocks", "levels"):
        with pytest.raises(PresetError) as refusal:
            presets.save("mine", {"skip_blocks": {knob: value}})
        sentence = str(refusal.value)
        assert len(sentence) < 400 and "\n" not in sentence and sentence.encode("utf-8")
    assert everything(presets) == before


def test_a_file_whose_name_is_no_text_is_passed_over(presets: Presets) -> None:
    presets.save("mine", SKIP)
    try:
        (presets.folder / os.fsdecode(b"half\xff.json")).write_bytes(preset_of(SKIP))
    except OSError:
        pytest.skip("this file system takes names of text alone")
    assert presets.names() == [*BUILT_IN, "mine"]
    with pytest.raises(PresetError) as refusal:
        presets.load(os.fsdecode(b"half\xff"))
    assert str(refusal.value).encode("utf-8")


@pytest.fixture
def unreadable() -> Iterator[Path]:
    """A folder of presets with a link into a folder that may not be read; root is nobody meanwhile."""
    if os.name == "nt":
        pytest.skip("Windows has other rights")
    top = Path(tempfile.mkdtemp())
    top.chmod(0o755)
    folder, secret = top / "presets", top / "secret"
    folder.mkdir()
    secret.mkdir()
    (secret / "theirs.json").write_bytes(preset_of(SKIP))
    (folder / "link.json").symlink_to(secret / "theirs.json")
    (folder / "mine.json").write_bytes(json.dumps({"name": "mine", "methods": SKIP}).encode())
    secret.chmod(0)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    yield folder
    if root:
        os.seteuid(0)
    secret.chmod(0o700)
    shutil.rmtree(top)


def test_a_link_to_where_nobody_may_look_costs_only_itself(unreadable: Path) -> None:
    presets = Presets(unreadable)
    assert presets.names() == [*BUILT_IN, "mine"]
    assert presets.load("mine").selection == SKIP
    for act in (presets.load, presets.delete, lambda name: presets.rename(name, "a")):
        with pytest.raises(PresetError, match="'link'"):
            act("link")
    with pytest.raises(PresetError, match="'link.json' cannot be read"):
        presets.add(unreadable / "link.json")


def test_an_empty_or_wrong_selection_is_not_kept(presets: Presets) -> None:
    for selection in ({}, {"skip_blocks": {"levels": 9}}, None, {"nothing": {}}):
        with pytest.raises(PresetError):
            presets.save("a", selection)
    assert not presets.folder.exists()


def test_a_file_is_written_as_a_whole_or_not_at_all(presets: Presets, monkeypatch: pytest.MonkeyPatch) -> None:
    presets.save("mine", SKIP)
    before = everything(presets)

    def fail(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    for act in (lambda: presets.save("mine", {"skip_blocks": {}}), lambda: presets.rename("mine", "new")):
        with pytest.raises(PresetError, match="No space left on device"):
            act()
    assert everything(presets) == before


def test_a_folder_that_cannot_be_made_costs_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    presets = Presets(tmp_path / "file" / "presets")
    assert presets.names() == [*BUILT_IN]
    with pytest.raises(PresetError, match="cannot be written"):
        presets.save("a", SKIP)


@pytest.mark.parametrize("name", BUILT_IN)
def test_built_in_ones_read_back_and_can_be_put_on_at_any_size(name: str, presets: Presets) -> None:
    configs = list(BUILT_IN[name])
    assert configs_of(json.loads(presets.load(name).text)["methods"]) == (configs, [])
    assert not any(config.neutral for config in configs)
    for unet in (unets.sd1(), unets.sdxl()):
        seen = inspect_unet(unet)
        for side in (512, 1024, 2048):
            target = Target(512, side, side)
            [config.resolved(seen, target) for config in configs]
        with modified(unet, configs):
            pass


def test_few_steps_have_no_caches() -> None:
    """A cache has nothing near enough to reuse there."""
    for name in BUILT_IN:
        cached = {type(config).__name__ for config in BUILT_IN[name]} & {"DeepCache", "EncoderReuse"}
        assert not (cached and ("few steps" in name or "Turbo" in name))


def test_larger_ones_leave_pictures_of_the_trained_size_alone_and_act_beyond() -> None:
    for name, trained in (("Larger", 512), ("Large, fast (few steps)", 512), ("Large (SDXL Turbo)", 512)):
        side = 1024 if "Turbo" in name else 512  # as the U-Net tells it: SDXL Turbo has SDXL's
        for config in BUILT_IN[name]:
            if hasattr(config, "above"):
                assert config.held_back(Target(side, trained, trained))
                assert not config.held_back(Target(side, 2 * trained, 2 * trained))


def test_every_method_and_knob_survives_a_file(presets: Presets) -> None:
    everything_ticked = {name: {knob.name: method.config().values()[knob.name] for knob in knobs(method.config)}
                         for name, method in METHODS.items()}  # fmt: skip
    presets.save("all", everything_ticked)
    assert configs_of(presets.load("all").selection)[0] == [method.config() for method in METHODS.values()]
    assert (presets.folder / "all.json").stat().st_size < MOST_BYTES / 4


def test_the_webui_keeps_them_in_its_data_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from webui_stubs import shared

    from lib_unetmod.webui import host

    monkeypatch.setattr(shared, "data_path", str(tmp_path), raising=False)
    assert host.presets_folder() == tmp_path / "unetmod" / "presets"
    monkeypatch.delattr(shared, "data_path")
    assert host.presets_folder().parents[1] == Path(__file__).parents[2]


def test_the_playground_keeps_them_among_the_users_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from lib_unetmod.playground import page

    monkeypatch.setenv("APPDATA" if os.name == "nt" else "XDG_CONFIG_HOME", str(tmp_path))
    assert page.presets_folder() == tmp_path / "unetmod" / "presets"
