"""The page: settings and the WebUI's accordion on the left, the plain and the modified picture on the right."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from html import escape
from pathlib import Path
from typing import Any

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # read when gradio is imported

import gradio as gr
from PIL import Image
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..core.unet_map import inspect_unet
from ..core.upcoming_picture import UpcomingPicture
from ..settings.presets import Presets
from ..settings.selection import configs_of, summary
from ..webui.panel import Panel
from ..webui.upcoming_picture import PictureControls
from . import report
from .comparing import Comparison
from .model import SmallModel
from .samplers import SAMPLERS
from .sampling import Picture, draw, upcoming, warm_up
from .settings import CFG, SEEDS, STEPS, Settings, SettingsError

_HERE = Path(__file__).parent
_ROOT = _HERE.parent.parent
_STYLES = (_ROOT / "style.css", _HERE / "page.css")
# Plain names: gradio would fetch a font of its own choice from the network.
_FONTS = {"font": ["ui-sans-serif", "system-ui", "sans-serif"], "font_mono": ["ui-monospace", "monospace"]}
_EXAMPLES = ("red apple", "cat face", "snowman", "pizza", "rainbow", "owl", "tulip", "blue heart")
#: Pixels. Beyond this a few CPU cores take minutes; the command line allows more.
_LARGEST = 512


def build(model: SmallModel, presets: Path | None = None) -> gr.Blocks:
    """The page of a model, ready to launch. Its endpoint for programs is `/generate`.

    `presets` is the folder where the user's presets lie, `presets_folder()` by default.
    """
    panel = Panel(lambda name: f"unetmod_{name.replace('.', '_')}", presets=Presets(presets or presets_folder()))
    with gr.Blocks(
        theme=gr.themes.Default(primary_hue="indigo", neutral_hue="slate", **_FONTS),
        title="UNet Mod",
        css_paths=[path for path in _STYLES if path.is_file()],
        head="".join(f"<script>{script.read_text('utf-8')}</script>" for script in sorted(_ROOT.glob("javascript/*.js"))),
        analytics_enabled=False,
    ) as page:
        gr.HTML(_heading(model), elem_id="playground_heading", padding=False)
        with gr.Row(elem_id="playground"):
            with gr.Column(scale=5, min_width=320):
                inputs = _settings(model, panel)
            with gr.Column(scale=7, min_width=320, elem_id="playground_right"):
                button = gr.Button("Draw", variant="primary", elem_id="draw")
                outputs = _results()
        panel.wire(_picture(model, inputs[2:7] + inputs[8:]))
        gr.on(
            [button.click, inputs[0].submit],
            drawing(model),
            [*inputs, *panel.components],
            outputs,
            api_name="generate",
            concurrency_limit=1,  # the methods stand on the one U-Net while a picture is drawn
            show_progress_on=outputs[2],  # not on the pictures, which would be hidden by it
        )
    return page


def presets_folder() -> Path:
    """Where the page keeps presets: among the user's settings, as each system has them."""
    if os.name == "nt":
        settings = os.environ.get("APPDATA") or Path.home() / "AppData" / "Roaming"
    else:
        settings = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(settings) / "unetmod" / "presets"


def serve(model: SmallModel, host: str, port: int) -> None:
    """Show the page until it is interrupted, and print its address. Nothing beyond `host` is asked for anything.

    Raises:
        OSError: where the port is taken or the address is not this machine's.
    """
    page = build(model)
    launch(page, host, port)
    print(f"UNet Mod's playground: http://{host}:{port}  (Ctrl+C ends it)", flush=True)
    page.block_thread()


def launch(page: gr.Blocks, host: str, port: int) -> None:
    """Serve `page` in the background; `page.close()` ends it. Its answers forbid the browser to ask anyone else."""
    page.launch(
        server_name=host,
        server_port=port,
        share=False,
        quiet=True,
        show_error=True,
        prevent_thread_lock=True,
        app_kwargs={"middleware": [Middleware(_OwnOriginOnly)]},
    )


class _OwnOriginOnly:
    """gradio's page asks a public server for a script that only embedded pages need; this header keeps it from doing so."""

    policy = b"default-src 'self' data: blob: 'unsafe-inline' 'unsafe-eval'"

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"content-security-policy", self.policy)]
            await send(message)

        await self._app(scope, receive, send_with_policy)


def drawing(model: SmallModel) -> Callable[..., Iterator[tuple[Any, ...]]]:
    """The page's event function: yields the plain picture as soon as it is there, then both and what sets them apart."""

    def generate(
        prompt: str,
        negative_prompt: str,
        sampler: str,
        steps: float,
        width: float,
        height: float,
        cfg: float,
        seed: float,
        image: Image.Image | None,
        strength: float,
        progress: gr.Progress = gr.Progress(),  # noqa: B008 (gradio finds it by its default)
        *controls: Any,
    ) -> Iterator[tuple[Any, ...]]:
        try:
            settings, notes = Settings(
                prompt=prompt,
                negative_prompt=negative_prompt,
                sampler=sampler,
                steps=steps,
                width=width,
                height=height,
                cfg=cfg,
                seed=seed,
                image=image,
                strength=strength,
            ).settled()
        except SettingsError as error:
            raise gr.Error(str(error), title="Nothing was drawn", print_exception=False) from None

        on, selection = Panel.selection(controls)
        configs, problems = configs_of(selection) if on else ([], [])
        used = report.settings_line(settings)
        acting = summary(configs)
        total = settings.evaluations * (2 if acting else 1)
        warm_up(model, settings)
        plain = draw(model, settings, (), lambda done, _: progress((done, total), desc="Plain", unit="evaluations"))
        notes += plain.notes
        if not acting:
            notes += [] if problems else [_why_nothing_acts(on, bool(selection))]
            yield plain.image, None, _report(plain, None, notes, problems), used
            return

        def show_second(done: int, each: int) -> None:
            progress((each + done, total), desc="Modified", unit="evaluations")

        yield plain.image, None, _report(plain, None, notes, problems), used
        try:
            modified = draw(model, settings, configs, show_second)
        except Exception as error:  # whatever went wrong must not cost the picture that is there
            problems.append(f"The modified picture was not drawn. {error}")
            yield plain.image, None, _report(plain, None, notes, problems), used
            return
        both = Comparison(plain, modified, tuple(dict.fromkeys((*notes, *modified.notes))))
        yield plain.image, modified.image, _report(plain, both, both.notes, problems), f"{used} · {acting}"

    return generate


def _picture(model: SmallModel, controls: list[gr.components.Component]) -> PictureControls:
    def read(
        sampler: str, steps: float, width: float, height: float, cfg: float, image: Image.Image | None, strength: float
    ) -> UpcomingPicture | None:
        given = {"sampler": sampler, "steps": steps, "width": width, "height": height, "cfg": cfg, "strength": strength}
        try:
            return upcoming(model, Settings(**given, image=image).settled()[0])
        except SettingsError:
            return None

    return PictureControls(controls, read)


def _heading(model: SmallModel) -> str:
    unet = inspect_unet(model.unet)
    millions = sum(parameter.numel() for parameter in model.unet.parameters()) / 1e6
    where = "a GPU" if model.device.type == "cuda" else "the CPU"
    facts = f"{unet.family.upper()} layout, {len(unet.blocks)} blocks on {unet.levels} levels, {millions:.1f} M parameters"
    return f"<h1>UNet Mod</h1><p>One picture from the plain and from the modified U-Net. {facts}, on {where}.</p>"


def _settings(model: SmallModel, panel: Panel) -> list[gr.components.Component]:
    """The left column, in the order of `generate`'s arguments."""
    prompt = gr.Textbox(_EXAMPLES[0], label="Prompt", lines=1, max_lines=3, elem_id="prompt")
    known = [example for example in _EXAMPLES if all(word in model.tokenizer.number for word in example.split())]
    if known:
        gr.Examples(known, prompt, label="It can draw", elem_id="examples")
    negative = gr.Textbox("", label="Negative prompt", lines=1, max_lines=3)
    with gr.Row():
        choices = [(sampler.label, name) for name, sampler in SAMPLERS.items()]
        sampler = gr.Dropdown(choices, value="euler", label="Sampler", min_width=200)
        steps = gr.Slider(*STEPS, value=20, step=1, label="Steps", min_width=200)
    with gr.Row():
        width, height = (gr.Slider(64, _LARGEST, 128, step=64, label=side, min_width=200) for side in ("Width", "Height"))
    cfg = gr.Slider(*CFG, value=4, step=0.5, label="CFG scale")
    with gr.Row(elem_id="seed_row"):
        seed = gr.Number(0, precision=0, minimum=SEEDS[0], maximum=SEEDS[1], label="Seed (-1 draws one)", min_width=120)
        panel.render_switch()
    panel.render_accordion()
    with gr.Accordion("img2img", open=False):
        image = gr.Image(label="Begin from this picture", type="pil", image_mode=None, sources=["upload", "clipboard"])
        strength = gr.Slider(0, 1, 0.5, step=0.01, label="Strength", info="The share of the steps that is taken")
    if model.tokenizer.words:
        with gr.Accordion(f"The {len(model.tokenizer.words)} words it knows", open=False):
            gr.HTML(f"<p class='unetmod-words'>{escape(' '.join(sorted(model.tokenizer.words)))}</p>")
    return [prompt, negative, sampler, steps, width, height, cfg, seed, image, strength]


def _results() -> list[gr.components.Component]:
    """The right column, in the order of what `generate` yields."""
    common = {"type": "pil", "format": "png", "interactive": False, "min_width": 150, "elem_classes": ["unetmod-picture"]}
    with gr.Row(elem_id="pictures"):
        plain, modified = (gr.Image(label=label, **common) for label in ("Plain", "Modified"))
    hint = "<p class='unetmod-hint'>Times and distance appear here.</p>"
    results = gr.HTML(hint, elem_id="results", padding=False)
    used = gr.Textbox(label="Drawn with", interactive=False, show_copy_button=True, lines=2, elem_id="used")
    return [plain, modified, results, used]


def _report(plain: Picture, both: Comparison | None, notes: Iterable[str], problems: Iterable[str]) -> str:
    figures = report.headline(both) if both else ""
    said = report.messages(problems, "unetmod-problem") + report.messages(notes)
    return figures + said + report.table(plain, both.modified if both else None)


def _why_nothing_acts(on: bool, ticked: bool) -> str:
    if not on:
        return "UNet Mod is off: tick it beside the seed, and a method under it, for the second picture."
    return "The ticked methods are at values that change nothing." if ticked else "No method is ticked under UNet Mod."
