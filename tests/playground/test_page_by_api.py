"""The page by its endpoint for programs: what it draws, and what it says of settings that it cannot draw with."""

from __future__ import annotations

import shlex

import pytest
from PIL import Image
from small_model import served, settings

from lib_unetmod import SkipBlocks, what_is_on
from lib_unetmod.playground import cli
from lib_unetmod.playground import options as options_of
from lib_unetmod.playground.sampling import draw


@pytest.fixture(scope="module")
def page(model, tmp_path_factory):
    """A client of the launched page, with a folder of its own, and the values of the panel's controls at first."""
    pytest.importorskip("gradio", minversion="5")
    client = pytest.importorskip("gradio_client")
    from lib_unetmod.webui.panel import Panel

    vars(model)["name"] = "small [0123456789]"  # as if it came from a file
    with served(model, presets=tmp_path_factory.mktemp("presets")) as address:
        yield client.Client(address, verbose=False), Panel
    del vars(model)["name"]


def from_page(page, on=False, selection=None, **changes):
    client, panel = page
    values = {"prompt": "owl", "negative": "", "sampler": "euler", "steps": 1, "width": 64, "height": 64, "cfg": 1,
              "seed": 0, "image": None, "strength": 0.5, **changes}  # fmt: skip
    return client.predict(*values.values(), *panel.values(on, selection or {}), api_name="/generate")


def test_the_page_draws_both(page, model):
    plain, modified, results, used = from_page(page, on=True, selection={"skip_blocks": {"levels": 2}})
    expected = draw(model, settings(prompt="owl", steps=1), [SkipBlocks(levels=2)])
    assert Image.open(modified).convert("RGB").tobytes() == expected.image.tobytes()
    assert Image.open(plain).convert("RGB").tobytes() != expected.image.tobytes()
    assert "PSNR" in results and "Modified" in results and "--set skip_blocks.levels=2" in used
    assert what_is_on(model.unet) == {}


def test_the_page_draws_the_plain_one_whatever_is_wrong_with_the_methods(page):
    off = from_page(page, on=False, selection={"skip_blocks": {"levels": 2}})
    assert off[0] and off[1] is None and "UNet Mod is off" in off[2]
    no_such_block = from_page(page, on=True, selection={"skip_blocks": {"blocks": ["in.99"]}})
    assert no_such_block[0] and no_such_block[1] is None and "in.99" in no_such_block[2]
    too_late = from_page(page, on=True, selection={"skip_blocks": {"middle": True, "start": 0.9, "end": 0.1}})
    assert too_late[0] and too_late[1] is None and "start" in too_late[2]


def test_the_page_says_what_is_wrong_with_the_settings(page):
    with pytest.raises(Exception, match="Seed is empty"):
        from_page(page, seed=None)
    with pytest.raises(Exception, match="Sampling steps is 2.5; it takes a whole number"):
        from_page(page, steps=2.5)
    with pytest.raises(Exception, match="Width is 5000; it takes a whole number from 64 to 512"):
        from_page(page, width=5000)
    with pytest.raises(Exception, match="Seed is -2; it takes a whole number from -1"):
        from_page(page, seed=-2)
    with pytest.raises(Exception, match="Sampling method is 'plms'"):
        from_page(page, sampler="plms")


@pytest.mark.parametrize("damage", ["no picture", "cut off"])
def test_the_page_names_the_field_of_a_damaged_picture_and_no_path(page, damage, tmp_path):
    handle_file = pytest.importorskip("gradio_client").handle_file
    path = tmp_path / "start.png"
    Image.effect_noise((64, 64), 50).save(path)
    path.write_bytes(path.read_bytes()[:1000] if damage == "cut off" else b"not a picture")
    with pytest.raises(Exception) as refusal:
        from_page(page, image=handle_file(str(path)))
    assert "Start picture: the file cannot be read as a picture." in str(refusal.value)
    assert "start.png" not in str(refusal.value) and "/" not in str(refusal.value)


def test_the_page_repeats_what_it_drew_with(page, model):
    _, modified, _, used = from_page(page, on=True, selection={"skip_blocks": {"levels": 2}}, seed=-1, negative="red")
    options = cli._parser().parse_args(shlex.split(used)[3:])
    again = draw(model, options_of.settings_of(options, options.prompt), options_of.configs_of(options.set))
    assert options.negative == "red" and options.prompt == "owl" and options.seed >= 0
    assert Image.open(modified).convert("RGB").tobytes() == again.image.tobytes()


def test_the_page_draws_at_a_speed_and_its_command_has_what_that_chose(page, model):
    _, modified, results, used = from_page(page, on=True, selection={"speed": "2x"}, steps=8)
    options = cli._parser().parse_args(shlex.split(used)[3:])
    (forecast,) = options_of.configs_of(options.set)
    assert forecast.plan == "FPFPFPPF" and "4 of 8 run" in results
    again = draw(model, options_of.settings_of(options, options.prompt), [forecast])
    assert Image.open(modified).convert("RGB").tobytes() == again.image.tobytes()
    assert "cannot be reached with 1 step" in from_page(page, on=True, selection={"speed": "2x"})[2]


def test_the_page_tunes_once_and_goes_by_it(page):
    asked = {"speed": "2x", "tune": "quick"}
    first, again = (from_page(page, on=True, selection=asked, steps=8) for _ in range(2))
    assert "Speed 2x: " in first[2] and "Tuning took the time of" in first[2] and "Tuning" not in again[2]
    assert Image.open(first[1]).tobytes() == Image.open(again[1]).tobytes()
    assert first[3] == again[3] and "step_forecast.plan=F" in first[3]
    near = from_page(page, on=True, selection={"speed": "2x"}, steps=10)
    assert "Speed 2x goes by what was tuned for 8 steps, CFG 1, 64x64." in near[2]


def parts(page, faster=1, **changes):
    values = {"prompt": "owl", "negative": "", "sampler": "euler", "steps": 2, "width": 64, "height": 64, "cfg": 1,
              "seed": 0, "image": None, "strength": 0.5, **changes}  # fmt: skip
    return page[0].predict(*values.values(), faster, api_name="/parts")


def test_the_page_measures_the_parts_and_finds_what_to_leave_out(page, model):
    picture, names, table = parts(page)
    assert Image.open(picture).width > 1000 and names == "" and table.count("<tr>") == 87 and "in.10.res" in table
    _, names, table = parts(page, faster=1.1)
    assert names and "Speed 1.1x: parts left out" in table and what_is_on(model.unet) == {}
    drawn = from_page(page, on=True, selection={"skip_blocks": {"blocks": names}}, steps=2)
    assert Image.open(drawn[1]).tobytes() != Image.open(drawn[0]).tobytes() and "skip_blocks.blocks=" in drawn[3]
    with pytest.raises(Exception, match="Sampling steps is 2.5"):
        parts(page, steps=2.5)


def test_the_page_says_where_the_known_words_are_and_the_command_line_its_command(page, run, tmp_path):
    assert "Open the list under “The 3 words it knows”." in from_page(page, prompt="zeppelin")[2]
    _, out, _ = run("generate", "zeppelin", "-o", tmp_path / "x.png", "--steps", 1, "--width", 64, "--height", 64)
    assert "zeppelin. `info` lists the words it knows." in out
