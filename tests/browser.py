"""A headless Chromium for tests that look at a page, and what can be wrong with a page at sight.

Needs playwright, which requirements/test.txt brings, and a Chromium: playwright's own or the system's (Debian's package
chromium). Where either is missing the tests that need it are skipped, and say which.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@contextmanager
def started() -> Iterator[Any]:
    """A browser of playwright's, closed at the end."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: see requirements/test.txt")
    with playwright.sync_playwright() as browsers:
        own = browsers.chromium.executable_path
        found = own if Path(own).exists() else next(filter(None, map(shutil.which, _NAMES)), None)
        if found is None:
            pytest.skip("there is no Chromium: `playwright install chromium`, or the system's own")
        # Chromium refuses its sandbox to root, as whom containers run.
        root = hasattr(os, "geteuid") and os.geteuid() == 0
        browser = browsers.chromium.launch(executable_path=found, args=["--no-sandbox"] if root else [])
        yield browser
        browser.close()


def faults(tab: Any, inside: str = "body") -> list[str]:
    """What is wrong, in words, with what the page shows now inside the elements that `inside` selects.

    Looks for text that is cut off or has less contrast than 4.5:1 (WCAG 2.1, success criterion 1.4.3) with what lies behind
    it, for controls or words that cover each other, and for a page that is wider than its window.
    """
    return tab.evaluate(_FAULTS, inside)


def beaten_rules(tab: Any, sheet: str) -> list[str]:
    """Declarations of the style `sheet` that another style overrules on something that the page has now."""
    return tab.evaluate(_BEATEN, sheet)


_FAULTS = r"""
(inside) => {
    const found = [];
    const name = (e) => {
        const words = (e.value ?? e.textContent ?? "").trim().slice(0, 40);
        const within = e.closest("[id]");
        return `${e.tagName.toLowerCase()} "${words}" in #${within ? within.id : ""}`;
    };
    const shown = (e) => e.checkVisibility({visibilityProperty: true, opacityProperty: true});
    const ownText = (e) => [...e.childNodes].some((n) => n.nodeType === Node.TEXT_NODE && n.data.trim());
    const all = [...document.querySelectorAll(inside)].flatMap((e) => [e, ...e.querySelectorAll("*")])
        .filter((e) => shown(e) && !e.closest("svg, script, style"));
    const worded = all.filter((e) => ownText(e));
    const fields = all.filter((e) => e.matches("input, textarea"));

    // Wider than the window.
    const wide = document.documentElement.scrollWidth;
    if (wide > innerWidth) {
        found.push(`the page is ${wide} wide in a window of ${innerWidth}`);
    }
    for (const e of [...worded, ...fields]) {
        const box = e.getBoundingClientRect();
        if (box.width && (box.left < -0.5 || box.right > innerWidth + 0.5)) {
            found.push(`beyond the window: ${name(e)}`);
        }
    }

    // Cut off.
    const boxOf = (e) => {
        if (!ownText(e)) {
            return e.getBoundingClientRect();
        }
        const range = document.createRange();
        range.selectNodeContents(e);
        return range.getBoundingClientRect();
    };
    for (const e of [...worded, ...fields]) {
        const box = boxOf(e);
        if (e.matches("input:not([type]), input[type=number], input[type=text]") && e.scrollWidth > e.clientWidth + 1) {
            found.push(`cut off: ${name(e)}`);
        }
        for (let around = e; around; around = around.parentElement) {
            const style = getComputedStyle(around);
            const edge = around.getBoundingClientRect();
            const x = /hidden|clip/.test(style.overflowX) && (box.left < edge.left - 1 || box.right > edge.right + 1);
            const y = /hidden|clip/.test(style.overflowY) && (box.top < edge.top - 2 || box.bottom > edge.bottom + 2);
            if ((x || y) && box.width > 1 && !around.matches("html, body")) {
                found.push(`cut off by ${around.className}: ${name(e)}`);
                break;
            }
        }
    }

    // One over the other. A range is measured where it is drawn; a field's own button lies in it.
    const solid = [...worded, ...fields].filter((e) => getComputedStyle(e).position !== "fixed");
    const boxes = solid.map((e) => [e, boxOf(e)]).filter(([, box]) => box.width > 1 && box.height > 1);
    boxes.forEach(([a, one], place) => {
        for (const [b, two] of boxes.slice(place + 1)) {
            const width = Math.min(one.right, two.right) - Math.max(one.left, two.left);
            const height = Math.min(one.bottom, two.bottom) - Math.max(one.top, two.top);
            if (width > 1.5 && height > 1.5 && !a.contains(b) && !b.contains(a)) {
                found.push(`${name(a)} and ${name(b)} overlap by ${width.toFixed()}x${height.toFixed()}`);
            }
        }
    });

    // Contrast.
    const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
    const known = new Map();
    const rgba = (color) => {
        if (!known.has(color)) {
            canvas.clearRect(0, 0, 1, 1);
            canvas.fillStyle = color;
            canvas.fillRect(0, 0, 1, 1);
            const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
            known.set(color, [r, g, b, a / 255]);
        }
        return known.get(color);
    };
    const over = ([r, g, b, a], under) => [r, g, b].map((c, i) => c * a + under[i] * (1 - a));
    const grounds = (e) => {
        const layers = [];
        for (let around = e; around; around = around.parentElement) {
            const style = getComputedStyle(around);
            const image = style.backgroundImage;
            const stops = /gradient/.test(image) ? image.match(/(rgba?|color|oklab|oklch)\([^()]*\)/g) || [] : [];
            layers.unshift(stops.length ? stops.map(rgba) : [rgba(style.backgroundColor)]);
        }
        const dark = document.body.classList.contains("dark");
        let under = [dark ? [0, 0, 0] : [255, 255, 255]];
        for (const layer of layers) {
            under = under.flatMap((ground) => layer.map((color) => over(color, ground)));
        }
        return under;
    };
    const light = (color) => {
        const [r, g, b] = color.map((c) => (c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const judge = (e, color, what) => {
        let [r, g, b, a] = rgba(color);
        for (let around = e; around; around = around.parentElement) {
            a *= parseFloat(getComputedStyle(around).opacity);
        }
        const ratios = grounds(e).map((ground) => {
            const [one, two] = [light(over([r, g, b, a], ground)), light(ground)].sort((x, y) => y - x);
            return (one + 0.05) / (two + 0.05);
        });
        const least = Math.min(...ratios);
        if (least < 4.5) {
            found.push(`contrast ${least.toFixed(2)} of ${what}${name(e)}`);
        }
    };
    const written = fields.filter((e) => !e.matches("[type=range], [type=checkbox], [type=radio], [type=file]"));
    for (const e of [...worded, ...written]) {
        const style = getComputedStyle(e);
        const filled = style.webkitTextFillColor;
        if (rgba(filled)[3] > 0 && !e.disabled && (ownText(e) || e.value)) {
            judge(e, style.color, "");
        }
        if (e.placeholder && !e.value) {
            judge(e, getComputedStyle(e, "::placeholder").color, "the placeholder of ");
        }
    }
    for (const e of all) {
        for (const part of ["::before", "::after"]) {
            const style = getComputedStyle(e, part);
            if (/^"[^"]*\w[^"]*"|^"\?"/.test(style.content)) {
                judge(e, style.color, `${part} of `);
            }
        }
    }
    return [...new Set(found)];
}
"""

_BEATEN = r"""
(text) => {
    // The rules as the browser reads them, those in conditions that hold now among them.
    const sheet = new CSSStyleSheet();
    sheet.replaceSync(text);
    const holds = (rule) => rule instanceof CSSMediaRule && matchMedia(rule.conditionText).matches;
    const rules = (list) => [...list].flatMap((rule) =>
        rule instanceof CSSStyleRule ? [rule] : holds(rule) ? rules(rule.cssRules) : []);
    const wanted = new Map();
    for (const rule of rules(sheet.cssRules)) {
        if (/::|:hover|:focus/.test(rule.selectorText)) {
            continue;
        }
        for (const e of document.querySelectorAll(rule.selectorText)) {
            if (!e.checkVisibility() && rule.style.display !== "none") {
                continue;
            }
            for (const property of rule.style) {
                const value = rule.style.getPropertyValue(property);
                if (!property.startsWith("--") && value) {
                    const of_e = wanted.get(e) || wanted.set(e, new Map()).get(e);
                    of_e.set(property, [...(of_e.get(property) || []), [value, rule.selectorText]]);
                }
            }
        }
    }
    const found = new Set();
    for (const [e, properties] of wanted) {
        for (const [property, values] of properties) {
            const now = getComputedStyle(e)[property] ?? getComputedStyle(e).getPropertyValue(property);
            const held = [e.style.getPropertyValue(property), e.style.getPropertyPriority(property)];
            const reached = values.some(([value]) => {
                e.style.setProperty(property, value, "important");
                return getComputedStyle(e).getPropertyValue(property) === now;
            });
            e.style.setProperty(property, ...held);
            if (!reached) {
                found.add(`${property}: ${values.at(-1)[0]} of ${values.at(-1)[1]} is ${now}`);
            }
        }
    }
    return [...found];
}
"""
