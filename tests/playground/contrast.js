// The texts in sight whose contrast with what lies behind them is below 4.5:1 (WCAG 2, "relative luminance"), as lines.
() => {
    const channels = (color) => {
        const canvas = document.createElement("canvas");
        canvas.width = canvas.height = 1;
        const context = canvas.getContext("2d", {willReadFrequently: true});
        context.fillStyle = color;
        context.fillRect(0, 0, 1, 1);
        const [r, g, b, a] = context.getImageData(0, 0, 1, 1).data;
        return [r, g, b, a / 255];
    };
    const over = ([r, g, b, a], under) => [r, g, b].map((one, i) => a * one + (1 - a) * under[i]);
    const light = (rgb) => {
        const [r, g, b] = rgb.map((one) => one / 255).map((one) => one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const behind = (element) => {
        const layers = [];
        for (let one = element; one; one = one.parentElement) layers.push(channels(getComputedStyle(one).backgroundColor));
        return layers.reverse().reduce((under, layer) => over(layer, under), [255, 255, 255]);
    };
    const opacity = (element) => element ? Number(getComputedStyle(element).opacity) * opacity(element.parentElement) : 1;
    const found = [];
    const look = (element, text, style) => {
        if (!text.trim() || !element.checkVisibility({visibilityProperty: true, opacityProperty: true})) return;
        const under = behind(element);
        const [r, g, b, a] = channels(style.color);
        const ink = over([r, g, b, a * opacity(element)], under);
        const [dark, bright] = [light(ink), light(under)].sort((one, other) => one - other);
        const ratio = (bright + 0.05) / (dark + 0.05);
        if (ratio < 4.5) found.push(`${ratio.toFixed(2)} ${text.trim().slice(0, 40)}`);
    };
    const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walk.nextNode()) {
        const element = walk.currentNode.parentElement;
        if (!element.closest("script, style, noscript, option")) look(element, walk.currentNode.data, getComputedStyle(element));
    }
    for (const field of document.querySelectorAll("input:not([type=checkbox], [type=radio], [type=range], [type=file]), textarea")) {
        look(field, field.value, getComputedStyle(field));
        if (!field.value) look(field, field.placeholder || "", getComputedStyle(field, "::placeholder"));
    }
    return found;
}
