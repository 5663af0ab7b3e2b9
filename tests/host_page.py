"""Serves the panel under whatever gradio there is, in a page that stands to it as a WebUI's does, and prints the address.

    python tests/host_page.py [style.css ...]

What of a WebUI matters to the panel is mimicked here: two columns, a form that holds the seed's row, classes named after
each component, extensions' scripts in the head and their styles at the end of the body. A WebUI's own style.css may be
given, to look at the panel in it. It serves until its input ends.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

import gradio as gr

from lib_unetmod.settings.presets import Presets
from lib_unetmod.webui.defaults_row import DefaultsRow
from lib_unetmod.webui.panel import Panel

ROOT = Path(__file__).resolve().parent.parent
#: Plain names: gradio would fetch a font of its own choice from the network.
FONTS = {"font": ["Source Sans Pro", "ui-sans-serif", "system-ui", "sans-serif"], "font_mono": ["ui-monospace", "monospace"]}

#: No WebUI has this gradio; the playground's page has, and leaves components as they are.
OF_PLAYGROUND = gr.__version__.startswith("5.")

#: What the WebUIs' own style does to components such as ours.
HOST_STYLE = """
:root, .dark { --checkbox-label-gap: 0.25em 0.1em; --block-background-fill: transparent; }
div.gradio-container { max-width: unset !important; overflow: visible !important; }
.block.padded:not(.gradio-accordion) { padding: 0 !important; }
div.form { border-width: 0; box-shadow: none; background: transparent; overflow: visible; gap: 0.5em; }
:is(.gradio-dropdown, .gradio-slider, .gradio-checkbox, .gradio-textbox, .gradio-number).block {
    border-width: 0 !important; box-shadow: none !important; }
:is(.gradio-dropdown, .gradio-textbox, .gradio-number) label span:not(.has-info) { margin-bottom: 0; }
.gradio-slider input[type="number"] { width: 6em; }
.gradio-dropdown div.wrap.wrap.wrap.wrap { box-shadow: 0 1px 2px 0 rgba(0, 0, 0, 0.05); }
.block.gradio-checkbox { margin: 0.75em 1.5em 0 0; }
.gradio-button.tool { max-width: 2.2em; min-width: 2.2em !important; height: 2.4em; align-self: end; line-height: 1em; }
div.block.gradio-accordion {
    border: 1px solid var(--block-border-color) !important; border-radius: 8px !important; margin: 2px 0; padding: 8px; }
[id$=_subseed_show] { min-width: auto !important; flex-grow: 0 !important; display: flex; }
[id$=_subseed_show] label { margin-bottom: 0.65em; align-self: end; }
"""


def in_form() -> type[gr.blocks.BlockContext]:
    """What a WebUI's small buttons and drop-downs answer when gradio asks where they belong."""
    return gr.components.Form


def tool(sign: str, elem_id: str) -> None:
    """A small button. AUTOMATIC1111 puts it into the form of the fields beside it, Forge between two forms."""
    button = gr.Button(sign, elem_id=elem_id, elem_classes=["tool"])
    if gr.__version__.startswith("3."):
        # No subclass of a component: gradio writes a file for each.
        button.get_expected_parent = in_form


def elem_id(name: str) -> str:
    """A control's id, as a WebUI makes it."""
    return f"script_txt2img_unet_mod_{name}"


def defaults_row() -> DefaultsRow:
    """The row, with nothing behind it."""
    return DefaultsRow(elem_id, lambda values: "Kept.", lambda: "Reset.", lambda: Panel.values(False, {}))


def build(folder: Path) -> gr.Blocks:
    """The page; presets are kept in `folder`."""
    if not OF_PLAYGROUND:
        # The WebUIs do this to every drop-down, so that it stands in a form.
        gr.Dropdown.get_expected_parent = lambda self: in_form()
    # gradio reads a style that is handed to it, and passes over what it does not know.
    own = {"css_paths": [ROOT / "style.css"], "head": scripts()} if OF_PLAYGROUND else {}
    with gr.Blocks(theme=gr.themes.Default(**FONTS), analytics_enabled=False, **own) as page:
        panel = Panel(elem_id, presets=Presets(folder), defaults_row=None if OF_PLAYGROUND else defaults_row())
        with gr.Tabs(), gr.Tab("txt2img"), gr.Row(equal_height=False, elem_id="txt2img_results_row"):
            with gr.Column(variant="compact", elem_id="txt2img_settings"):
                gr.Slider(64, 2048, 512, step=8, label="Width", elem_id="txt2img_width")
                with gr.Row(elem_id="txt2img_seed_row"):
                    gr.Number(-1, label="Seed", elem_id="txt2img_seed", min_width=100, precision=0)
                    if not OF_PLAYGROUND:
                        tool("\U0001f3b2", "txt2img_random_seed")
                        tool("\u267b\ufe0f", "txt2img_reuse_seed")
                        narrow: dict[str, Any] = {} if gr.__version__.startswith("3.") else {"scale": 0, "min_width": 60}
                        gr.Checkbox(False, label="Extra", elem_id="txt2img_subseed_show", **narrow)
                    panel.render_switch()
                panel.render_accordion()
                with gr.Accordion("Another extension", open=False):
                    gr.Checkbox(False, label="Enabled")
            with gr.Column(elem_id="txt2img_gallery_column"):
                gr.HTML("<p>The pictures.</p>")
        panel.wire()
    for block in () if OF_PLAYGROUND else page.blocks.values():
        block.elem_classes = [f"gradio-{block.get_block_name()}", *(getattr(block, "elem_classes", None) or [])]
    return page


def scripts() -> str:
    """The extension's scripts as a page's head holds them."""
    return "".join(f"<script>{path.read_text('utf-8')}</script>" for path in sorted(ROOT.glob("javascript/*.js")))


def add_to_page(styles: list[str]) -> None:
    """Have every page that is served from now on carry the extension's scripts and, after `styles`, its own style."""
    original = gr.routes.templates.TemplateResponse

    def respond(*args: Any, **kwargs: Any) -> Any:
        # Read anew for each page, so that a style can be worked on.
        sheets = "".join(f"<style>{sheet}</style>" for sheet in [*styles, (ROOT / "style.css").read_text("utf-8")])
        response = original(*args, **kwargs)
        response.body = response.body.replace(b"</head>", f"{scripts()}</head>".encode(), 1)
        response.body = response.body.replace(b"</body>", f"{sheets}</body>".encode(), 1)
        response.init_headers()
        return response

    gr.routes.templates.TemplateResponse = respond


if __name__ == "__main__":
    if not OF_PLAYGROUND:
        add_to_page([Path(name).read_text("utf-8") for name in sys.argv[1:]] or [HOST_STYLE])
    with TemporaryDirectory() as presets:
        served = build(Path(presets))
        served.launch(prevent_thread_lock=True, quiet=True, server_name="127.0.0.1")
        print(served.local_url, flush=True)
        sys.stdin.read()
