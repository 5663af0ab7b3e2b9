"""The page's section that measures what each part of the U-Net is worth, and finds what may be left out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from typing import Any

import gradio as gr
from PIL import Image

from ..core.knobs import ConfigError
from ..core.unet_map import inspect_unet
from ..tuning.drawer import Stopped
from ..tuning.part_measuring import value_parts
from ..tuning.part_search import leave_out, names_left_out
from ..tuning.result import sentence
from ..tuning.trials import QUICK
from .model import SmallModel
from .part_report import html_table, unet_picture
from .settings import Settings, SettingsError
from .stopping import Drawings
from .tuning import PlaygroundDrawer

#: Pictures in which all parts are measured; they differ in the seed.
_PICTURES = 2
#: Times as fast, in the slider; at 1 nothing is searched.
_FASTER = (1.0, 2.0)
#: By what gradio calls that one drawing is made at a time.
ON_THE_UNET = "unet"
_SAID = (
    "Which parts of the U-Net does your picture need? Each one is left out in turn, with the prompt and the settings above "
    "and no method. What changes little can go: paste its name into <i>Skip single parts</i> of <i>Skip U-Net blocks</i>."
)

#: Settings of what the page's controls say, in their order; raises `SettingsError`.
Read = Callable[..., Settings]


def render(model: SmallModel, drawings: Drawings, read: Read, inputs: Sequence[gr.components.Component]) -> None:
    """Draw the section, closed. `inputs` are the page's controls."""
    with gr.Accordion("What each part of the U-Net is worth", open=False, elem_id="parts"):
        gr.HTML(f"<p class='unetmod-read'>{_SAID}</p>", padding=False)
        with gr.Row():
            info = "How many times faster without what is left out; 1 measures only"
            faster = gr.Slider(*_FASTER, 1.0, step=0.05, label="Leave out parts", info=info, scale=3)
            button = gr.Button("Measure", scale=1, min_width=120, elem_id="measure")
        picture = gr.Image(show_label=False, type="pil", format="png", interactive=False, elem_id="unet_picture")
        names = gr.Textbox(label="Left out, for Skip single parts", interactive=False, show_copy_button=True, lines=2)
        table = gr.HTML("", padding=False, elem_id="parts_table")
    button.click(
        _measuring(model, drawings, read),
        [*inputs, faster],
        [picture, names, table],
        api_name="parts",
        concurrency_id=ON_THE_UNET,
        concurrency_limit=1,
        show_progress_on=table,
    )


def _measuring(model: SmallModel, drawings: Drawings, read: Read) -> Callable[..., Any]:
    def measure(
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),  # noqa: B008 (gradio finds it by its default)
        *values: Any,
    ) -> tuple[Image.Image, str, str]:
        *values, faster = values
        try:
            settings = read(*values)
            with drawings.running(request.session_hash or "") as running:
                drawer = PlaygroundDrawer(
                    model, settings, [settings.prompt], look=lambda: running.reached("while the parts were measured")
                )

                def told(words: str, share: float, seconds: float) -> None:
                    progress(share, desc=words)

                if faster > 1:
                    worth, tuned = leave_out(drawer, faster, QUICK, told)
                    names = names_left_out(tuned)
                    said = f"<p class='unetmod-read'>{escape(sentence(tuned, drawer.upcoming))}</p>"
                else:
                    worth, names, said = value_parts(drawer, _PICTURES, told), (), ""
        except (SettingsError, ConfigError) as error:
            raise gr.Error(str(error), title="Nothing was measured", print_exception=False) from None
        except Stopped:
            raise gr.Error("Stopped.", title="Nothing was measured", print_exception=False) from None
        return unet_picture(inspect_unet(model.unet), worth, names), " ".join(names), said + html_table(worth)

    return measure
