// Says under a field when the page changed what was typed into it: gradio draws a number back into its range without a word.
(() => {
    const number = (target) => target instanceof HTMLInputElement && target.type === "number" && target.closest("#playground");
    const said = (input) => input.closest(".block").querySelector(".playground-changed");
    const typed = new WeakMap();

    document.addEventListener("input", ({target}) => {
        if (!number(target)) return;
        typed.set(target, target.value);
        said(target)?.remove();
    }, true);

    document.addEventListener("focusout", ({target}) => {
        if (!number(target)) return;
        const before = typed.get(target);
        typed.delete(target);
        setTimeout(() => {
            if (before === undefined || before === "" || Number(before) === Number(target.value)) return;
            const field = (target.closest(".block").querySelector("[data-testid='block-info']")?.innerText || "It").trim();
            const note = said(target) || document.createElement("div");
            note.className = "playground-changed";
            note.textContent = `${field} ${before} became ${target.value}: it takes ${target.min} to ${target.max}.`;
            target.closest(".block").append(note);
        }, 100);
    }, true);
})();
