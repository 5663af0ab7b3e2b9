"""The playground's page in headless Chromium: what a tick, a preset, a file and the button do, and how it fits a screen.

Needs playwright and a Chromium, its own or the system's; without them it is skipped.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import faults, started
from small_model import served

from lib_unetmod import METHODS
from lib_unetmod.core.config import knobs
from lib_unetmod.core.registry import method_of
from lib_unetmod.playground import model as playground_model
from lib_unetmod.settings.presets import BUILT_IN

pytest.importorskip("gradio", minversion="5")
pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]
WIDE, PHONE = {"width": 1366, "height": 768}, {"width": 412, "height": 900}
LARGER, DETAIL = ([method_of(config).title for config in BUILT_IN[name]] for name in ("Larger", "More detail"))
SKIP = METHODS["skip_blocks"].title


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with started() as chromium:
        yield chromium


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("config") / "presets"


@pytest.fixture(scope="module")
def address(browser: Any, model: playground_model.SmallModel, folder: Path) -> Iterator[str]:
    """The page with nothing on at first."""
    with served(model, folder, first={}) as address:
        yield address


@pytest.fixture(scope="module")
def as_users_have_it(browser: Any, model: playground_model.SmallModel, folder: Path) -> Iterator[str]:
    """The page as `python -m lib_unetmod.playground` serves it."""
    with served(model, folder) as address:
        yield address


class Page:
    """The page as its user sees it."""

    def __init__(self, browser: Any, address: str, size: dict[str, int], script: str = "") -> None:
        self.address = address
        self.tab = browser.new_page(viewport=size)
        self.tab.set_default_timeout(60_000)
        self.wrong: list[str] = []
        self.asked: list[str] = []
        self.tab.on("dialog", self._agree)
        self.tab.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.tab.on("request", lambda request: self._note(request.url, address))
        if script:
            self.tab.add_init_script(script)
        self.tab.goto(address)
        self.tab.wait_for_selector("#unetmod_accordion")

    def _note(self, url: str, address: str) -> None:
        # gradio itself asks for this script; the answer's header has the browser refuse it.
        if not url.startswith((address, "data:", "blob:")) and "iframe-resizer" not in url:
            self.wrong.append(url)

    def open(self) -> None:
        self.tab.click("#unetmod_accordion > .label-wrap")
        self.tab.wait_for_selector("#unetmod_skip_blocks", state="visible")

    def tick(self, name: str) -> None:
        self.tab.check(f"#unetmod_{name} input")

    def _agree(self, dialog: Any) -> None:
        self.asked.append(dialog.message)
        dialog.accept()

    def manage_presets(self) -> None:
        """Open the folded presets, and the line that saves and shares them."""
        self.tab.click(".unetmod-presets > .label-wrap")
        self.tab.check("#unetmod_preset_edit input")

    def set(self, **values: float) -> None:
        for label, value in values.items():
            self.tab.get_by_label(f"number input for {label}", exact=True).fill(str(value))
        self.tab.keyboard.press("Tab")

    def press(self, button: str) -> None:
        self.tab.click(f"#unetmod_quick_{button}")

    def speed(self, word: str) -> None:
        self.tab.check(f"#unetmod_speed input[value='{word}']")

    def choose(self, preset: str) -> None:
        if not self.tab.is_visible("#unetmod_preset input"):
            self.tab.click(".unetmod-presets > .label-wrap")
        self.tab.click("#unetmod_preset input")
        self.tab.get_by_role("option", name=preset, exact=True).click()

    def bring(self, path: Path) -> None:
        with self.tab.expect_file_chooser() as chooser:
            self.tab.click("#unetmod_preset_import")
        chooser.value.set_files(path)

    def name(self, text: str, button: str) -> None:
        self.tab.fill("#unetmod_preset_name :is(input, textarea)", text)
        self.tab.click(f"#unetmod_preset_{button}")

    def said(self, words: str) -> str:
        """What the row of presets says, once it has `words` in it."""
        self.until("words => document.querySelector('#unetmod_preset_said').innerText.includes(words)", words)
        return self.tab.inner_text("#unetmod_preset_said")

    @property
    def on(self) -> bool:
        return self.tab.is_checked("#unetmod_switch input")

    @property
    def ticked(self) -> list[str]:
        ticks = "ticks => ticks.filter(one => one.checked).map(one => one.closest('label').innerText.trim())"
        return self.tab.eval_on_selector_all(".unetmod-toggle input", ticks)

    @property
    def chips(self) -> list[str]:
        chips = ".unetmod-summary > .unetmod-chip span:not(.unetmod-off)"
        return self.tab.eval_on_selector_all(chips, "all => all.map(one => one.innerText)")

    def until(self, script: str, value: Any = None) -> None:
        self.tab.wait_for_function(script, arg=value)

    def until_ticked(self, titles: list[str]) -> None:
        ticked = "[...document.querySelectorAll('.unetmod-toggle input')].filter(one => one.checked)"
        self.until(f"count => {ticked}.length === count", len(titles))
        assert sorted(self.ticked) == sorted(titles)

    def until_chip(self, words: str) -> None:
        self.until("words => document.querySelector('.unetmod-summary').innerText.includes(words)", words)


@pytest.fixture
def page(browser: Any, address: str, folder: Path, request: pytest.FixtureRequest) -> Iterator[Page]:
    shutil.rmtree(folder, ignore_errors=True)
    shown = Page(browser, address, getattr(request, "param", WIDE))
    yield shown
    shown.tab.close()
    assert shown.wrong == []


def test_a_tick_shows_its_knobs_and_its_chip_and_turns_the_switch_on(page: Page) -> None:
    page.open()
    knob = "#unetmod_skip_blocks_middle"
    assert not page.on and page.chips == [] and not page.tab.is_visible(knob)
    page.tick("skip_blocks")
    page.until_chip("Skip blocks: changes nothing")
    assert page.on and page.tab.is_visible(knob)
    page.tab.check(f"{knob} input")
    page.until_chip("Skip blocks middle")
    page.tab.uncheck("#unetmod_switch input")
    page.until_chip("off")
    page.tab.uncheck("#unetmod_skip_blocks input")
    page.until("() => !document.querySelector('.unetmod-summary').innerText.includes('Skip')")
    assert not page.tab.is_visible(knob)


def test_labels_are_short_and_helps_appear_under_the_pointer(page: Page) -> None:
    page.open()
    page.tick("skip_blocks")
    label = page.tab.locator("#unetmod_skip_blocks_middle label")
    knob = next(knob for knob in knobs(METHODS["skip_blocks"].config) if knob.name == "middle")
    assert label.inner_text().strip() == knob.label
    text = page.tab.locator("#unetmod_skip_blocks_middle").get_by_text(knob.help)
    assert not text.is_visible()
    label.hover()
    text.wait_for(state="visible")


@pytest.mark.parametrize("page", [WIDE, PHONE], indirect=True, ids=["wide", "phone"])
def test_the_panel_is_one_line_closed_and_fits_a_laptop_open(page: Page) -> None:
    height = "panel => panel.getBoundingClientRect().height"
    assert page.tab.eval_on_selector("#unetmod_panel", height) < 50
    page.open()
    assert page.tab.eval_on_selector("#unetmod_panel", height) <= page.tab.viewport_size["height"]
    for name in METHODS:
        page.tick(name)
    page.until("count => document.querySelectorAll('.unetmod-summary > .unetmod-chip span').length === count", len(METHODS))
    assert page.tab.evaluate("document.documentElement.scrollWidth") == page.tab.viewport_size["width"]
    # In its middle, where a grey chip may lie: that hands the click on.
    page.tab.click("#unetmod_accordion > .label-wrap", force=True)
    page.until("() => document.querySelector('#unetmod_panel').getBoundingClientRect().height < 50")
    hidden = int(page.tab.get_attribute(".unetmod-summary", "data-more"))
    seen = page.tab.locator(".unetmod-summary > .unetmod-chip:visible").count()
    assert hidden > 0 and seen > 0 and hidden + seen == len(METHODS)
    room = page.tab.locator(".unetmod-summary").bounding_box()
    for chip in page.tab.locator(".unetmod-summary > .unetmod-chip:visible").all()[seen > 1 :]:
        box = chip.bounding_box()
        assert room["x"] <= box["x"] and box["x"] + box["width"] <= room["x"] + room["width"]


def test_what_was_measured_leads_to_all_of_it_in_a_new_tab(page: Page) -> None:
    page.open()
    page.tab.click(".unetmod-method:has(#unetmod_deep_cache) summary")
    with page.tab.context.expect_page() as opened:
        page.tab.click(".unetmod-method:has(#unetmod_deep_cache) .unetmod-measured a")
    opened.value.wait_for_load_state()
    assert opened.value.url.endswith("/docs/speed.md") and page.tab.is_visible("#draw")
    assert opened.value.inner_text("body").strip() == (ROOT / "docs/speed.md").read_text("utf-8").strip()
    # A page that is not there is no way to other files.
    for path in ("docs/none.md", "docs/../style.css", "docs/..%2fstyle.css"):
        assert page.tab.request.get(f"{page.address}{path}").status == 404
    opened.value.close()


def test_a_preset_loads_when_it_is_chosen(page: Page) -> None:
    page.open()
    page.tick("skip_blocks")
    page.until_chip("Skip blocks")
    page.tab.uncheck("#unetmod_switch input")
    page.choose("Larger")
    page.said("Nothing was set")  # at the model's own size
    assert page.ticked == [SKIP]
    page.set(Width=256, Height=256)
    page.choose("Larger")
    page.until_ticked(LARGER)
    page.until("() => document.querySelector('#unetmod_switch input').checked")
    page.until_chip("Deep Shrink")


def test_a_button_sets_what_fits_the_page_and_chips_follow_it(page: Page) -> None:
    page.open()
    page.press("larger")
    page.until("() => document.querySelector('#unetmod_quick_said').innerText.includes('native size')")
    assert page.ticked == [] and not page.on
    page.tick("step_forecast")
    page.until_chip("Step forecast 2x")
    page.press("larger")
    assert page.ticked == ["Step forecast"], "nothing was set, so nothing is cleared"
    page.set(**{"Sampling steps": 1})
    page.until_chip("Step forecast: nothing to do at 1 step")
    page.set(**{"Sampling steps": 20})
    page.until_chip("Step forecast 2x")
    page.press("clear")
    page.until_ticked([])
    page.until("() => !document.querySelector('#unetmod_switch input').checked")


def test_a_speed_turns_on_and_its_chip_follows_the_page(page: Page) -> None:
    page.open()
    page.set(**{"Sampling steps": 20})
    page.speed("2x")
    page.until_chip("2x: 10 of 20 steps run")
    assert page.on and page.ticked == []
    page.set(**{"Sampling steps": 4})
    page.until_chip("2x: too few steps")
    page.set(**{"Sampling steps": 20})
    page.until_chip("2x: 10 of 20 steps run")
    page.tick("step_forecast")
    page.until("() => !document.querySelector('.unetmod-summary').innerText.includes('10 of 20')")
    page.press("clear")
    page.until("() => document.querySelector('#unetmod_speed input[value=off]').checked")
    page.until("() => !document.querySelector('#unetmod_switch input').checked")


def test_a_preset_is_saved_renamed_shared_and_deleted(page: Page, folder: Path) -> None:
    page.open()
    page.tick("skip_blocks")
    page.tab.check("#unetmod_skip_blocks_middle input")
    page.manage_presets()
    page.name("Mine", "save")
    page.said("Saved: Mine")
    held = {"name": "Mine", "methods": {"skip_blocks": {"middle": True}}}
    assert json.loads((folder / "Mine.json").read_text("utf-8")) == held
    with page.tab.expect_download() as download:
        page.tab.click("#unetmod_preset_export")
    assert download.value.suggested_filename == "Mine.json"
    assert json.loads(Path(download.value.path()).read_text("utf-8")) == held
    page.name("Mine too", "rename")
    page.said("Renamed: Mine too")
    assert [path.name for path in folder.iterdir()] == ["Mine too.json"]
    page.tab.uncheck("#unetmod_skip_blocks input")
    page.choose("More detail")
    page.until_ticked(DETAIL)
    page.choose("Mine too")
    page.until_ticked([SKIP])
    assert page.asked == []
    page.tab.click("#unetmod_preset_delete")
    page.said("Deleted: Mine too")
    assert list(folder.iterdir()) == [] and page.asked == ["Delete the preset Mine too?"]


def test_a_wrong_file_is_refused_with_a_sentence_and_changes_nothing(page: Page, folder: Path, tmp_path: Path) -> None:
    page.open()
    page.tick("skip_blocks")
    page.tab.check("#unetmod_skip_blocks_middle input")
    page.until_chip("Skip blocks middle")
    page.tab.uncheck("#unetmod_switch input")
    page.manage_presets()
    (tmp_path / "wrong.json").write_text('{"name": "Wrong", "methods": {"skip_blocks": {"levels": 99}}}')
    page.bring(tmp_path / "wrong.json")
    assert "'wrong.json' is refused. SkipBlocks: levels is 99" in page.said("levels is 99")
    (tmp_path / "markup.json").write_text('{"name": "<img src=x onerror=alert(1)>", "methods": {"skip_blocks": {}}}')
    page.bring(tmp_path / "markup.json")
    page.said("'<'")
    assert page.tab.locator("#unetmod_preset_said img").count() == 0
    page.name("../mine", "save")
    page.said("'/'")
    assert not page.on and page.ticked == [SKIP] and "Skip blocks middle" in page.chips
    assert not folder.exists()
    (tmp_path / "right.json").write_text('{"name": "Right", "methods": {"hyper_tile": {"tile": 128}}}')
    page.bring(tmp_path / "right.json")
    page.said("Imported: Right")
    page.until_ticked(["HyperTile"])


def test_the_button_draws_two_pictures(page: Page) -> None:
    page.open()
    page.tick("skip_blocks")
    page.tab.check("#unetmod_skip_blocks_middle input")
    for label, value in (("Sampling steps", "1"), ("Width", "64"), ("Height", "64"), ("CFG scale", "1")):
        page.tab.get_by_label(f"number input for {label}").fill(value)
    page.tab.keyboard.press("Tab")
    page.tab.click("#draw")
    page.until("() => document.querySelectorAll('.unetmod-picture img').length === 2")
    sizes = "all => all.map(one => [one.naturalWidth, one.naturalHeight])"
    page.until("() => [...document.querySelectorAll('.unetmod-picture img')].every(one => one.complete)")
    assert page.tab.eval_on_selector_all(".unetmod-picture img", sizes) == [[64, 64], [64, 64]]
    plain, modified = page.tab.eval_on_selector_all(".unetmod-picture img", "all => all.map(one => one.src)")
    assert page.tab.request.get(plain).body() != page.tab.request.get(modified).body()
    assert "PSNR" in page.tab.inner_text("#results")
    assert "--set skip_blocks.middle=true" in page.tab.input_value("#used textarea")


def test_the_first_picture_shows_what_a_method_does(browser: Any, as_users_have_it: str) -> None:
    """With no setting touched: a method is on, both pictures come, and they differ."""
    page = Page(browser, as_users_have_it, WIDE)
    page.until_chip("DeepCache")
    assert page.on and page.ticked == ["DeepCache"]
    page.tab.click("#draw")
    page.until("() => document.querySelectorAll('.unetmod-picture img').length === 2")
    assert "PSNR" in page.tab.inner_text("#results") and "identical" not in page.tab.inner_text("#results")
    assert "--set deep_cache" in page.tab.input_value("#used textarea")
    page.tab.close()
    assert page.wrong == []


def test_an_example_sets_prompt_and_seed(browser: Any, as_users_have_it: str) -> None:
    from lib_unetmod.playground.page import EXAMPLES

    page = Page(browser, as_users_have_it, WIDE)
    page.tab.fill("#prompt textarea", "owl")
    page.tab.fill("#seed input", "77")
    page.tab.click("#examples button:has-text('red apple')")
    page.until("seed => document.querySelector('#seed input').value === seed", str(dict(EXAMPLES)["red apple"]))
    assert page.tab.input_value("#prompt textarea") == "red apple"
    page.tab.close()


def test_a_page_that_nobody_touches_is_at_rest(browser: Any, as_users_have_it: str) -> None:
    """Components of gradio that keep drawing each other anew take a whole core."""
    page = Page(browser, as_users_have_it, WIDE)
    page.until_chip("DeepCache")
    measuring = page.tab.context.new_cdp_session(page.tab)
    measuring.send("Performance.enable")

    def busy_seconds() -> float:
        metrics = measuring.send("Performance.getMetrics")["metrics"]
        return next(one["value"] for one in metrics if one["name"] == "TaskDuration")

    shares = []
    while len(shares) < 20 and (not shares or shares[-1] > 0.5):
        before = busy_seconds()
        page.tab.wait_for_timeout(1000)
        shares.append(busy_seconds() - before)
    assert shares[-1] <= 0.5, shares
    page.tab.close()


def test_the_trained_checkpoint_knows_all_examples() -> None:
    from lib_unetmod.playground.page import EXAMPLES

    tokenizer = playground_model.load().tokenizer
    assert len(EXAMPLES) == 8
    assert all(word in tokenizer.number for prompt, _ in EXAMPLES for word in tokenizer.split(prompt))


@pytest.fixture
def evaluations(model: playground_model.SmallModel) -> Iterator[list[int]]:
    """Grows by one with each call of the U-Net."""
    calls: list[int] = []
    hook = model.unet.register_forward_pre_hook(lambda *_: calls.append(1))
    yield calls
    hook.remove()


@pytest.mark.parametrize("how", ["stop", "close"])
def test_stop_and_a_closed_tab_end_a_drawing_within_two_evaluations(
    how: str, browser: Any, address: str, evaluations: list[int]
) -> None:
    first, second = Page(browser, address, WIDE), Page(browser, address, WIDE)
    for tab, steps, side in ((first, "60", "192"), (second, "1", "64")):
        for label, value in (("Sampling steps", steps), ("Width", side), ("Height", side)):
            tab.tab.get_by_label(f"number input for {label}").fill(value)
        tab.tab.keyboard.press("Tab")
    first.tab.click("#draw")
    while len(evaluations) < 5:
        first.tab.wait_for_timeout(20)
    if how == "stop":
        first.tab.click("#stop")
    else:
        first.tab.close()
    begun = len(evaluations)
    # One picture is drawn at a time: the second, of two evaluations with the one that warms up, waits for the first's end.
    second.tab.click("#draw")
    second.until("() => document.querySelectorAll('.unetmod-picture img').length === 1")
    assert begun < 60 and len(evaluations) - begun - 2 <= 2
    if how == "stop":
        first.until("() => document.querySelector('#results').innerText.includes('Stopped after')")
        assert "of 60 steps of the original picture." in first.tab.inner_text("#results")
        first.tab.close()
    second.tab.close()


def test_the_page_stands_in_the_middle_of_a_wide_screen(browser: Any, address: str) -> None:
    page = Page(browser, address, {"width": 1920, "height": 1000})
    left, right = (page.tab.locator(f"#playground_{side}").bounding_box() for side in ("prompt", "right"))
    assert abs(left["x"] - (1920 - right["x"] - right["width"])) <= 2 and left["x"] > 200
    page.tab.close()


def test_generate_and_pictures_are_within_reach_on_a_phone(browser: Any, address: str) -> None:
    page = Page(browser, address, PHONE)
    for down in (0, 600, 100_000):
        page.tab.evaluate("down => window.scrollTo(0, down)", down)
        box = page.tab.locator("#draw").bounding_box()
        assert box["y"] >= 0 and box["y"] + box["height"] <= PHONE["height"] and box["width"] > 150
    page.tab.evaluate("window.scrollTo(0, 0)")
    tops = [page.tab.locator(area).bounding_box()["y"] for area in ("#prompt", "#pictures", "#playground_settings")]
    assert tops == sorted(tops) and tops[1] < PHONE["height"]
    page.tab.evaluate("window.scrollTo(0, document.documentElement.scrollHeight)")
    footer, buttons = (page.tab.locator(one).bounding_box() for one in ("footer", "#playground_buttons"))
    assert footer["y"] + footer["height"] <= buttons["y"] + 1
    assert page.tab.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    page.tab.close()


@pytest.mark.parametrize("theme", ["light", pytest.param("dark", marks=pytest.mark.slow)])
def test_all_text_stands_out_and_nothing_is_cut_off_or_covered(theme: str, browser: Any, as_users_have_it: str) -> None:
    page = Page(browser, f"{as_users_have_it}?__theme={theme}", {**WIDE, "height": 2000})
    page.until_chip("DeepCache")
    page.tab.get_by_text("The 3 words it knows").click()
    page.until("() => document.querySelector('.unetmod-words').checkVisibility()")
    page.until("() => document.getAnimations().every((one) => one.playState !== 'running')")
    assert faults(page.tab) == []
    page.tab.close()


def test_a_value_that_the_page_changed_is_said(browser: Any, address: str) -> None:
    page = Page(browser, address, WIDE)
    steps = page.tab.get_by_label("number input for Sampling steps")
    steps.fill("1000")
    page.tab.keyboard.press("Tab")
    page.tab.get_by_text("Sampling steps 1000 became 60: it takes 1 to 60.").wait_for()
    steps.fill("30")
    page.tab.keyboard.press("Tab")
    page.until("() => document.querySelector('.playground-changed') === null")
    page.tab.close()


def test_a_seed_that_cannot_be_is_refused_by_its_name(browser: Any, address: str) -> None:
    page = Page(browser, address, WIDE)
    page.tab.fill("#seed input", "-2")
    page.tab.keyboard.press("Tab")
    page.tab.click("#draw")
    page.tab.get_by_text("Seed is -2; it takes a whole number from -1 to 4294967295.").wait_for()
    page.tab.close()


def test_labels_are_shortened_in_the_webuis_language_too(browser: Any, address: str) -> None:
    """The WebUI's script may translate a label before ours shortens it, or never see it whole."""
    entries = json.loads((ROOT / "localizations" / "ja_JP.json").read_text("utf-8"))
    japanese = Page(browser, address, WIDE, f"window.localization = {json.dumps(entries)}")
    japanese.open()
    japanese.tick("skip_blocks")
    label = japanese.tab.locator("#unetmod_skip_blocks_middle label")
    knob = next(knob for knob in knobs(METHODS["skip_blocks"].config) if knob.name == "middle")
    assert label.inner_text().strip() == entries[f"{SKIP}: {knob.label}"].split(": ")[1]
    japanese.tab.close()
