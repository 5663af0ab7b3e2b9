"""The panel as it is seen and handled: headless Chromium, in the gradio of each WebUI and of the playground.

The page is tests/host_page.py, served by the Python of each side environment.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import browser as browsers
import gradio as gr
import gradio_versions
import host_page
import pytest

from lib_unetmod.core.config import knobs
from lib_unetmod.core.registry import METHODS
from lib_unetmod.webui.panel import METHODS_TITLE, TITLE

pytestmark = pytest.mark.long

VERSIONS = [*gradio_versions.VERSIONS, gr.__version__]
#: Each version in one theme a day; in the other it is slow.
THEMED = [
    pytest.param(version, theme, marks=[pytest.mark.slow] if (place + number) % 2 else [])
    for number, version in enumerate(VERSIONS)
    for place, theme in enumerate(("light", "dark"))
]
WIDTHS = (1400, 412)
#: The panel, and what of it stands elsewhere.
OURS = ".unetmod, .unetmod-switch"
#: One of each group, as somebody would use them together.
THREE = ("deep_cache", "deep_shrink", "free_u")
SHEET = (host_page.ROOT / "style.css").read_text("utf-8")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with browsers.started() as browser:
        yield browser


@pytest.fixture(scope="module")
def addresses(browser: Any) -> Iterator[dict[str, str]]:
    """Where the page is served, by the version of gradio that serves it."""
    serving = {}
    for version in VERSIONS:
        python = Path(sys.executable) if version == gr.__version__ else gradio_versions.interpreter(version)
        assert python.exists(), f"gradio {version} is not there: run `python tests/gradio_versions.py`"
        command = [str(python), host_page.__file__]
        serving[version] = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield {version: _address(process) for version, process in serving.items()}
    finally:
        for process in serving.values():
            process.stdin.close()
            process.wait(60)


def _address(process: subprocess.Popen) -> str:
    for line in process.stdout:
        if line.startswith("http"):
            return line.strip()
    raise AssertionError(f"the page was not served: {process.args}")


class Page:
    """The page of one gradio in one theme."""

    def __init__(self, browser: Any, address: str, theme: str = "light") -> None:
        self.tab = browser.new_page(viewport={"width": WIDTHS[0], "height": 900})
        self.tab.set_default_timeout(60_000)
        self.wrong: list[str] = []
        self.tab.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.tab.goto(f"{address}?__theme={theme}")
        self.tab.wait_for_selector(self.id("accordion"))
        # What is measured is where things come to rest.
        self.tab.add_style_tag(content="* { transition: none !important }")
        # Drawn, and told what counts.
        self.tab.wait_for_function("() => document.querySelector('.unetmod [data-unetmod-auto]')")

    @staticmethod
    def id(name: str) -> str:
        """The selector of a control of the panel."""
        return f'[id="script_txt2img_unet_mod_{name}"]'

    def open(self) -> None:
        self.tab.click(f"{self.id('accordion')} > .label-wrap")
        self.tab.wait_for_selector(self.id("deep_cache"), state="visible")

    def tick(self, *names: str) -> None:
        for name in names:
            self.tab.check(f"{self.id(name)} input")
        self.until_chips(self.tab.locator(".unetmod-toggle input:checked").count())

    def until_chips(self, count: int) -> None:
        chips = (
            "count => document.querySelectorAll('.unetmod-summary .unetmod-chip span:not(.unetmod-off)').length === count"
        )
        self.tab.wait_for_function(chips, arg=count)

    def method(self, name: str) -> Any:
        return self.tab.locator(".unetmod-method", has=self.tab.locator(self.id(name)))

    def unfold(self, name: str, word: str) -> None:
        self.method(name).locator(".unetmod-more > .label-wrap", has_text=word).click()

    def wide(self, width: int) -> None:
        self.tab.set_viewport_size({"width": width, "height": 900})
        # Two frames: the summary is laid out anew after the first.
        self.tab.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def box(self, selector: str) -> dict[str, float]:
        return self.tab.locator(selector).bounding_box()

    def chips_out_of_place(self) -> list[str]:
        """Visible chips that do not lie between the header's words and its triangle."""
        header = self.box(f"{self.id('accordion')} > .label-wrap")
        words, sign = (self.box(f"{self.id('accordion')} > .label-wrap > span >> nth={place}") for place in (0, 1))
        found = []
        for chip in self.tab.locator(".unetmod-summary .unetmod-chip span:visible").all():
            box = chip.bounding_box()
            across = words["x"] + words["width"] <= box["x"] and box["x"] + box["width"] <= sign["x"]
            down = header["y"] <= box["y"] and box["y"] + box["height"] <= header["y"] + header["height"]
            if not (across and down):
                found.append(f"the chip {chip.inner_text()!r} at {box} is not in the header at {header}")
        return found

    def asked(self) -> list[str]:
        """To what the page puts questions from now on; what it listens to does not count."""
        urls: list[str] = []
        self.tab.on("request", lambda request: urls.append(request.url) if request.method == "POST" else None)
        return urls

    def close(self) -> None:
        self.tab.close()
        assert self.wrong == []


@pytest.fixture
def page(browser: Any, addresses: dict[str, str], request: pytest.FixtureRequest) -> Iterator[Page]:
    shown = Page(browser, addresses[request.param])
    yield shown
    shown.close()


def in_gradio(turn: int, name: str = "page") -> pytest.MarkDecorator:
    """The page in every gradio, in that of one WebUI a day; the playground's has daily tests of its own."""
    daily = VERSIONS[turn % max(len(gradio_versions.VERSIONS), 1)]
    cases = [pytest.param(one, marks=[] if one == daily else pytest.mark.slow) for one in VERSIONS]
    return pytest.mark.parametrize(name, cases, indirect=name == "page")


@pytest.mark.parametrize("version, theme", THEMED)
def test_nothing_overlaps_is_cut_off_widens_the_page_or_is_hard_to_read(
    browser: Any, addresses: dict[str, str], version: str, theme: str
) -> None:
    page = Page(browser, addresses[version], theme)
    found: dict[str, list[str]] = {}

    def look(state: str) -> None:
        for width in WIDTHS:
            page.wide(width)
            seen = [*browsers.faults(page.tab, OURS), *page.chips_out_of_place()]
            if theme == "light":
                seen += browsers.beaten_rules(page.tab, SHEET)
            found.update({f"{state}, {width} px": seen} if seen else {})

    look("closed")
    page.open()
    look("open")
    page.tick(*THREE)
    look("three methods")
    page.wide(WIDTHS[0])
    page.tab.uncheck(f"{page.id('switch')} input")
    page.method("deep_cache").locator("summary").click()
    page.unfold("free_u", "More")
    page.unfold("deep_shrink", "When")
    look("off, with the help of one, the rest of another")
    page.close()
    assert found == {}


@in_gradio(0)
def test_three_methods_fit_a_laptop_and_every_benefit_is_one_line(page: Page) -> None:
    page.open()
    lines = "all => all.filter(one => one.getBoundingClientRect().height > 1.6 * parseFloat(getComputedStyle(one).fontSize))"
    benefits = ".unetmod-about summary span"
    assert page.tab.locator(benefits).count() == len(METHODS)
    assert page.tab.eval_on_selector_all(benefits, f"all => ({lines})(all).map(one => one.innerText)") == []
    # The longest that is allowed, in letters of usual width.
    longest = "(one) => { one.textContent = 'Larger images, sharper texture and edges' }"
    page.tab.eval_on_selector(f".unetmod-method:nth-of-type(3) {benefits}, {benefits}", longest)
    assert page.tab.eval_on_selector_all(benefits, f"all => ({lines})(all).map(one => one.innerText)") == []
    page.tick(*THREE)
    assert page.box(".unetmod")["height"] <= 900


@in_gradio(1)
def test_a_panel_in_a_tab_that_is_not_shown_is_watched_all_the_same(page: Page) -> None:
    """Its summary has no width then; an exception would leave its chips unwatched for good."""
    page.tab.evaluate("() => { document.querySelector('.unetmod').style.display = 'none'; }")
    page.wide(WIDTHS[1])
    assert page.wrong == []
    page.tab.evaluate("() => { document.querySelector('.unetmod').style.display = ''; }")
    page.wide(WIDTHS[0])
    page.open()
    page.tick(*THREE)
    assert page.chips_out_of_place() == []


@in_gradio(0)
def test_one_name_is_in_sight_and_the_switch_stays_in_the_seeds_row(page: Page) -> None:
    assert page.tab.inner_text(f"{page.id('switch')} label").strip() == TITLE
    assert page.tab.inner_text(f"{page.id('accordion')} > .label-wrap > span >> nth=0").strip() == METHODS_TITLE
    assert page.tab.locator(f"text='{TITLE}'").count() == 1
    for width in WIDTHS:
        page.wide(width)
        seed, switch = page.box("#txt2img_seed input"), page.box(f"{page.id('switch')} label")
        assert seed["y"] <= switch["y"] + switch["height"] / 2 <= seed["y"] + seed["height"]
        assert seed["x"] + seed["width"] <= switch["x"] and switch["x"] + switch["width"] <= width
        assert seed["width"] >= 50


@in_gradio(1)
def test_help_opens_under_a_finger_and_a_key_and_asks_nothing_of_python(page: Page) -> None:
    page.open()
    page.tick("deep_cache")
    method, knob = METHODS["deep_cache"], next(k for k in knobs(METHODS["deep_cache"].config) if k.name == "interval")
    idea = page.method("deep_cache").locator(".unetmod-about p")
    # gradio 3 draws no markup in a help, gradio 5 draws it: a few words of it are enough.
    text = page.tab.locator(page.id("deep_cache.interval")).get_by_text(knob.help[:20])
    assert not idea.is_visible() and not text.is_visible()
    asked = page.asked()
    page.method("deep_cache").locator("summary").click()
    assert idea.inner_text() == method.idea.rstrip(".:")
    assert idea.is_visible() and text.is_visible()
    page.method("deep_cache").locator("summary").focus()
    page.tab.keyboard.press("Enter")
    idea.wait_for(state="hidden")
    text.wait_for(state="hidden")
    assert asked == []


@in_gradio(0)
def test_knobs_that_do_not_count_are_hidden_without_a_request(page: Page) -> None:
    page.open()
    page.tick("deep_shrink")
    assert not page.tab.is_visible(page.id("deep_shrink.block"))
    # Every question is turned away: the page must not need an answer.
    page.tab.route("**/*", lambda route: route.abort())
    page.tab.uncheck(f"{page.id('deep_shrink.auto')} input")
    page.tab.wait_for_selector(page.id("deep_shrink.block"), state="visible")
    page.tab.check(f"{page.id('deep_shrink.auto')} input")
    page.tab.wait_for_selector(page.id("deep_shrink.block"), state="hidden")


@in_gradio(1)
def test_a_knob_in_sight_counts_once_it_is_set_though_a_folded_one_decided(page: Page) -> None:
    page.open()
    page.tick("step_forecast")
    page.unfold("step_forecast", "More")
    plan = page.tab.locator(f"{page.id('step_forecast.plan')} :is(input, textarea)")
    plan.fill("FPFP")
    plan.press("Tab")
    page.tab.wait_for_selector(page.id("step_forecast.interval"), state="hidden")
    speed = page.tab.locator(f"{page.id('step_forecast.speed')} input[type=number]")
    speed.fill("3")
    speed.press("Tab")
    page.tab.wait_for_selector(page.id("step_forecast.interval"), state="visible")
    assert plan.input_value() == "" and speed.input_value() == "3"


@in_gradio(1, "version")
def test_what_is_ticked_while_the_page_opens_keeps_its_chip(browser: Any, addresses: dict[str, str], version: str) -> None:
    """The answer to the page's opening, in which nothing was ticked, comes last."""
    held: list[Any] = []
    holds = True

    def new_page(**options: Any) -> Any:
        tab = browser.new_page(**options)
        tab.route("**/*predict*", lambda route: held.append(route) if holds else route.continue_())
        return tab

    page = Page(SimpleNamespace(new_page=new_page), addresses[version])
    page.open()
    holds = False
    page.tick(*THREE)
    assert held
    for one in held:
        with page.tab.expect_response(lambda answer, one=one: answer.request == one.request):
            one.continue_()
    page.tab.wait_for_timeout(500)
    page.until_chips(len(THREE))
    page.close()


@in_gradio(1)
def test_the_value_that_means_auto_is_shown_as_a_word(page: Page) -> None:
    page.open()
    page.tick("free_u")
    page.unfold("free_u", "More")
    number = page.tab.locator(f"{page.id('free_u.b1')} input[type=number]")
    word = f"() => getComputedStyle(document.querySelector('{page.id('free_u.b1')} .head'), '::after').content"
    ink = "one => getComputedStyle(one).webkitTextFillColor"
    assert page.tab.evaluate(word) == '"auto"' and number.evaluate(ink) == "rgba(0, 0, 0, 0)"
    assert number.get_attribute("aria-valuetext") == "auto"
    number.fill("1.3")
    page.tab.keyboard.press("Tab")
    page.tab.wait_for_selector(f"{page.id('free_u.b1')}:not([data-unetmod-auto])")
    assert page.tab.evaluate(word) == "none" and number.evaluate(ink) != "rgba(0, 0, 0, 0)"
    assert number.get_attribute("aria-valuetext") is None


@in_gradio(0)
def test_a_box_to_tick_stands_on_the_line_of_the_slider_beside_it(page: Page) -> None:
    page.open()
    page.tick("deep_shrink")
    for width in WIDTHS:
        page.wide(width)
        tick, slider = page.box(f"{page.id('deep_shrink.auto')} label"), page.box(f"{page.id('deep_shrink.above')} .head")
        assert tick["x"] + tick["width"] <= slider["x"]
        assert abs(tick["y"] + tick["height"] / 2 - slider["y"] - slider["height"] / 2) <= 2


def test_faults_are_found(browser: Any) -> None:
    """What the tests above go by finds each fault, and none on a page that has none."""
    tab = browser.new_page(viewport={"width": 400, "height": 300})
    style = "body { margin: 0; background: #fff; color: #333; font: 14px sans-serif }"
    planted = {
        "the page is 500 wide": "<div style='width: 500px; height: 9px'></div>",
        "cut off": "<p style='width: 50px; overflow: hidden; white-space: nowrap'>too many words for it</p>",
        "contrast 3.54": "<p style='color: #888'>words</p>",
        "contrast 2.85": "<p style='opacity: 0.5'>words</p>",
        "contrast 1.92 of the placeholder": "<style>::placeholder { color: #bbb }</style><input placeholder='words'>",
        "overlap": "<p>words</p><p style='margin-top: -25px'>others</p>",
    }
    for words, markup in planted.items():
        tab.set_content(f"<style>{style}</style>{markup}")
        found = browsers.faults(tab)
        assert len(found) == 1 and words in found[0], (markup, found)
    tab.set_content(f"<style>{style}</style><p>words</p><p style='background: #333; color: #eee'>others</p>")
    assert browsers.faults(tab) == []
    tab.set_content("<style>p.one.two { margin: 1px }</style><p class='one two'>words</p>")
    beaten = browsers.beaten_rules(tab, "p { margin: 2px; padding: 0 }")
    assert len(beaten) == 4 and all(": 2px of p is 1px" in one for one in beaten)
    tab.close()
