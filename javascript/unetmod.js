// Two things that the page does for the panel: it shortens the labels, and it asks for a summary once, not at every pixel
// of a slider's way. Without it the panel works all the same.
(function () {
    // Labels carry their method's title, by which the WebUI tells them apart in ui-config.json; under that title only what
    // follows the colon is needed. Controls may be drawn late, so the panels are watched; nothing else of the page is.
    const LABELS = ".unetmod-knob [data-testid='block-info'], .unetmod-knob label > span";

    function shorten(panel) {
        for (const label of panel.querySelectorAll(LABELS)) {
            const text = Array.from(label.childNodes).find((node) => node.nodeType === Node.TEXT_NODE && node.data.trim());
            const colon = text ? text.data.indexOf(": ") : -1;
            if (colon >= 0) {
                text.data = text.data.slice(colon + 2);
            }
        }
    }

    function watch(panel) {
        shorten(panel);
        new MutationObserver(() => shorten(panel)).observe(panel, {childList: true, subtree: true});
    }

    // Of several quick changes under one key only the last is answered, with its own values; the others wait for ever.
    const changes = new Map();

    window.unetmodLatest = function (key, values) {
        clearTimeout(changes.get(key));
        return new Promise((resolve) => {
            changes.set(key, setTimeout(() => resolve(values), 120));
        });
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
