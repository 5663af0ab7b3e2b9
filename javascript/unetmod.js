// What the page does for the panel: it shortens the labels, says how many chips are hidden, and asks for a summary once, not
// at every pixel of a slider's way. Without it the panel works all the same.
(function () {
    // Labels carry their method's title, by which the WebUI tells them apart in ui-config.json; under that title only what
    // follows the colon is needed. Controls may be drawn late, so the panels are watched; nothing else of the page is. The
    // WebUI translates whole labels, before or after us.
    const LABELS = ".unetmod-knob [data-testid='block-info'], .unetmod-knob label > span";

    function shorten(panel) {
        for (const label of panel.querySelectorAll(LABELS)) {
            const text = Array.from(label.childNodes).find((node) => node.nodeType === Node.TEXT_NODE && node.data.trim());
            const whole = text && (window.localization?.[text.data.trim()] || text.data);
            const colon = text ? whole.indexOf(": ") : -1;
            if (colon >= 0) {
                text.data = whole.slice(colon + 2);
            }
        }
    }

    // The closed line shows the chips that fit and how many do not.
    function count(summary) {
        const title = summary.parentElement.querySelector(".unetmod-accordion > .label-wrap > span");
        if (title) {
            const left = title.getBoundingClientRect().right - summary.parentElement.getBoundingClientRect().left;
            summary.parentElement.style.setProperty("--unetmod-title", `calc(${Math.ceil(left)}px + 0.75em)`);
        }
        // Those that will do nothing come last, as style.css draws them.
        const idle = (chip) => Number(Boolean(chip.querySelector(".unetmod-idle")));
        const chips = Array.from(summary.children).filter((chip) => chip.querySelector("span"));
        chips.sort((one, other) => idle(one) - idle(other));
        chips.forEach((chip) => chip.classList.remove("unetmod-more", "unetmod-cut"));
        delete summary.dataset.more;
        const style = getComputedStyle(summary);
        const gap = parseFloat(style.columnGap) || 0;
        const room = summary.clientWidth - parseFloat(style.paddingRight);
        const widths = chips.map((chip) => chip.getBoundingClientRect().width + gap);
        // In a tab that is not shown there is no room at all.
        if (!chips.length || room <= 0 || widths.reduce((sum, width) => sum + width, -gap) <= room) {
            return;
        }
        let left = room - 2 * parseFloat(style.fontSize);
        const hidden = chips.filter((chip, place) => (left -= widths[place]) < -gap && place > 0);
        hidden.forEach((chip) => chip.classList.add("unetmod-more"));
        // One that is too long by itself is cut short.
        chips[0].classList.toggle("unetmod-cut", hidden.length === chips.length - 1);
        if (hidden.length) {
            summary.dataset.more = `+${hidden.length}`;
        }
    }

    // What a control's value does to others was declared in Python: whom it makes count, and whether it stands for auto. It
    // is kept by id, since a control may be drawn later than its value is known.
    const counts = new Map();
    const autos = new Map();

    function show() {
        for (const [id, yes] of counts) {
            document.getElementById(id)?.toggleAttribute("data-unetmod-idle", !yes);
        }
        for (const [id, yes] of autos) {
            const knob = document.getElementById(id);
            const word = window.localization?.auto || "auto";
            knob?.toggleAttribute("data-unetmod-auto", yes);
            knob?.style.setProperty("--unetmod-auto", JSON.stringify(word));
            for (const input of knob?.querySelectorAll("input") || []) {
                yes ? input.setAttribute("aria-valuetext", word) : input.removeAttribute("aria-valuetext");
            }
        }
    }

    window.unetmodEffects = function (ofEach, values) {
        ofEach.forEach((effects, place) => {
            for (const effect of effects) {
                if ("auto" in effect) {
                    autos.set(effect.id, Number(values[place]) === effect.auto);
                } else {
                    const among = effect.values.some((value) => String(value) === String(values[place]).trim());
                    counts.set(effect.id, among === effect.among);
                }
            }
        });
        show();
    };

    // gradio's list has no placeholder of its own; its label says what to do, in the page's language.
    function prompt(panel) {
        const list = panel.querySelector(".unetmod-preset input");
        if (list && !list.placeholder) {
            list.placeholder = panel.querySelector(".unetmod-preset [data-testid='block-info']")?.textContent.trim() ?? "";
        }
    }

    function watch(panel) {
        const summary = panel.querySelector(".unetmod-summary");
        const look = () => {
            shorten(panel);
            show();
            prompt(panel);
            if (summary) {
                count(summary);
            }
        };
        look();
        new MutationObserver(look).observe(panel, {childList: true, subtree: true});
        if (summary) {
            new ResizeObserver(() => count(summary)).observe(summary);
            // A grey chip is there for the pointer, to tell its reason; the line under it opens all the same.
            summary.addEventListener("click", () => panel.querySelector(".unetmod-accordion > .label-wrap").click());
        }
    }

    // Of several quick changes under one key only the last is answered, with its own values; the others wait for ever.
    const changes = new Map();
    // How many changes there have been, and how many of them the last question under a key knew of.
    let changed = 0;
    const known = new Map();

    function latest(key, values) {
        clearTimeout(changes.get(key));
        known.set(key, changed);
        return new Promise((resolve) => {
            changes.set(key, setTimeout(() => resolve(values), 120));
        });
    }

    window.unetmodLatest = function (key, values) {
        changed += 1;
        return latest(key, values);
    };

    // Once more with the values of now, if there was a change since; else it waits for ever.
    window.unetmodIfOvertaken = function (key, values) {
        return changed === (known.get(key) ?? 0) ? new Promise(() => {}) : latest(key, values);
    };

    const watched = new WeakSet();

    function findPanels() {
        for (const panel of document.querySelectorAll(".unetmod")) {
            if (!watched.has(panel)) {
                watched.add(panel);
                watch(panel);
            }
        }
    }

    if (typeof onUiLoaded === "function") {
        onUiLoaded(findPanels);
    } else {
        new MutationObserver(findPanels).observe(document.documentElement, {childList: true, subtree: true});
    }
})();
