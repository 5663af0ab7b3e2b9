"""The page: settings and the WebUI's accordion on the left, the original and the modified picture on the right."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from html import escape
from pathlib import Path
from typing import Any

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # read when gradio is imported

import gradio as gr
from PIL import Image, UnidentifiedImageError

from ..core.unet_map import inspect_unet
from ..core.upcoming_picture import UpcomingPicture
from ..settings.presets import Presets
from ..settings.profiles import Profiles
from ..settings.selection import Selection
from ..settings.speed_target import settled
from ..webui.panel import Panel
from ..webui.upcoming_picture import PictureControls
from . import parts_section, report
from .command import command_line
from .comparing import Comparison
from .folders import presets_folder
from .model import SmallModel
from .samplers import SAMPLERS
from .sampling import Picture, Progress, draw, upcoming, warm_up
from .settings import CFG, LABELS, STEPS, Settings, SettingsError, number
from .stopping import Drawings, Stopped
from .tuning import tuned_first

_HERE = Path(__file__).parent
_ROOT = _HERE.parent.parent
#: What was measured, with its pictures: what the panel tells of it leads here, as docs/ of the page's address.
DOCS = _ROOT / "docs"
_STYLES = (_ROOT / "style.css", _HERE / "page.css")
_SCRIPTS = (*sorted(_ROOT.glob("javascript/*.js")), _HERE / "page.js")
# Plain names: gradio would fetch a font of its own choice from the network.
_FONTS = {"font": ["ui-sans-serif", "system-ui", "sans-serif"], "font_mono": ["ui-monospace", "monospace"]}
#: Pixels. Beyond this a few CPU cores take minutes; the command line allows more.
_SIDES = (64, 512)
#: gradio applies page.css to what stands above its footer alone. On a phone the buttons lie over the end of the page.
_FOOTER = "<style>@media (max-width: 767px) { footer { margin-bottom: 4.5rem !important; } }</style>"
#: Prompts and seeds whose pictures show at sight what they are, at the settings that the page begins with.
EXAMPLES = (
    ("red apple", 1),
    ("robot", 1),
    ("sunflower", 1),
    ("taxi", 1),
    ("fox next to a penguin on pink", 1),
    ("cat above a rocket", 1),
    ("red apple left of an owl, blue background", 1),
    ("house next to a tree, light blue background", 1),
)
#: Of `Settings`, in the order of the page's controls.
_FIELDS = ("prompt", "negative_prompt", "sampler", "steps", "width", "height", "cfg", "seed", "image", "strength")
#: What is on at first, so that the first click shows what a method does.
FIRST: Selection = {"deep_cache": {}}


def build(model: SmallModel, presets: Path | None = None, first: Selection = FIRST) -> gr.Blocks:
    """The page of a model, ready to launch. Its endpoint for programs is `/generate`.

    `presets` is the folder where the user's presets lie, `presets_folder()` by default; `first` is what is on at first.
    """
    known = model.tokenizer.number
    examples = [[prompt, seed] for prompt, seed in EXAMPLES if all(word in known for word in model.tokenizer.split(prompt))]
    panel = Panel(
        lambda name: f"unetmod_{name.replace('.', '_')}",
        first,
        presets=Presets(presets or presets_folder()),
        docs_link=lambda page: f"docs/{page}" if (DOCS / page).is_file() else None,
    )
    panel.switch.value = bool(first)
    drawings, profiles = Drawings(), Profiles((presets or presets_folder()) / "tuned")
    with gr.Blocks(
        theme=_theme(),
        title="UNet Mod",
        css_paths=[path for path in _STYLES if path.is_file()],
        head=_FOOTER + "".join(f"<script>{script.read_text('utf-8')}</script>" for script in _SCRIPTS),
        analytics_enabled=False,
    ) as page:
        gr.HTML(_heading(model), elem_id="playground_heading", padding=False)
        # Three areas of a grid (page.css): the prompt comes first, then pictures, then settings where there is one column.
        with gr.Row(elem_id="playground"):
            with gr.Column(elem_id="playground_prompt"):
                prompt, negative, seed = _prompts(examples)
            with gr.Column(elem_id="playground_right"):
                with gr.Row(elem_id="playground_buttons"):
                    button = gr.Button("Generate", variant="primary", elem_id="draw", min_width=80, scale=4)
                    stop = gr.Button("Stop", elem_id="stop", min_width=80, scale=1)
                outputs = _results()
            with gr.Column(elem_id="playground_settings"):
                inputs = [prompt, negative, *_settings(model, panel, seed)]
        parts_section.render(model, drawings, _read, inputs)
        panel.wire(_picture(model, inputs[2:7] + inputs[8:], profiles))
        drawn = gr.on(
            [button.click, prompt.submit],
            drawing(model, drawings, profiles),
            [*inputs, *panel.components],
            outputs,
            api_name="generate",
            concurrency_id=parts_section.ON_THE_UNET,
            concurrency_limit=1,  # the methods stand on the one U-Net while a picture is drawn
            show_progress_on=outputs[2],  # not on the pictures, which would be hidden by it
        )

        # By the session, since gradio itself only stops listening to what runs. One that waits in line it takes out.
        def halt(request: gr.Request) -> Any:
            stopped = drawings.stop(request.session_hash or "")
            return report.messages([f"Stopped {stopped.at}."]) if stopped else gr.skip()

        def leave(request: gr.Request) -> None:
            drawings.stop(request.session_hash or "")

        stop.click(halt, None, outputs[2], cancels=[drawn], queue=False, show_api=False, show_progress="hidden")
        page.unload(leave)
    return page


def drawing(model: SmallModel, drawings: Drawings, profiles: Profiles) -> Callable[..., Iterator[tuple[Any, ...]]]:
    """The page's event function: yields the original as soon as it is there, then both and what sets them apart.

    What it draws stands in `drawings` meanwhile, where it can be stopped: then it ends without a further word. What is tuned
    goes into `profiles`.
    """

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
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),  # noqa: B008 (gradio finds it by its default)
        *controls: Any,
    ) -> Iterator[tuple[Any, ...]]:
        try:
            given = (prompt, negative_prompt, sampler, steps, width, height, cfg, seed, image, strength)
            settings, notes = _read(*given).settled()
        except SettingsError as error:
            raise _refusal(str(error)) from None

        on, selection = Panel.selection(controls)
        if on:
            with drawings.running(request.session_hash or "") as running:
                notes += tuned_first(
                    model,
                    settings,
                    selection,
                    profiles,
                    look=lambda: running.reached("while tuning; the best so far is kept"),
                    told=lambda words, share, _seconds: progress(share, desc=f"Tuning. {words}"),
                )
                if running.stopped:
                    return
        configs, problems = settled(selection, lambda: upcoming(model, settings), profiles) if on else ([], [])
        acting = any(not config.neutral for config in configs)
        total, unit = settings.evaluations * (2 if acting else 1), f"{report.call(settings)}s"
        with drawings.running(request.session_hash or "") as running, suppress(Stopped):

            def show(name: str, before: int) -> Progress:
                def step(done: int, each: int) -> None:
                    running.reached(f"after {done} of {each} {unit} of the {name} picture")
                    progress((before + done, total), desc=name.capitalize(), unit=unit)

                return step

            warm_up(model, settings)
            running.reached("at the beginning")
            original = draw(model, settings, (), show("original", 0))
            notes += original.notes
            if not acting:
                notes += [] if problems else [_why_nothing_acts(on, bool(selection))]
            used = command_line(model, settings)
            yield original.image, None, _report(model, original, None, notes, problems), used
            if not acting:
                return
            try:
                modified = draw(model, settings, configs, show("modified", settings.evaluations))
            except Stopped:
                raise
            except Exception as error:  # whatever went wrong must not cost the picture that is there
                problems.append(f"The modified picture was not drawn. {error}")
                yield original.image, None, _report(model, original, None, notes, problems), used
                return
            both = Comparison(original, modified, tuple(dict.fromkeys((*notes, *modified.notes))))
            used = command_line(model, settings, [config.repeated(modified.plans) for config in configs])
            yield original.image, modified.image, _report(model, original, both, both.notes, problems), used

    return generate


def _read(*values: Any) -> Settings:
    """What the page's controls say, in the order of `_FIELDS`.

    Raises:
        SettingsError: for what the page does not draw.
    """
    given = dict(zip(_FIELDS, values, strict=True))
    for name in ("width", "height"):
        number(name, given[name], *_SIDES, whole=True)
    return Settings(**given)


def _picture(model: SmallModel, controls: list[gr.components.Component], profiles: Profiles) -> PictureControls:
    def read(
        sampler: str, steps: float, width: float, height: float, cfg: float, image: Image.Image | None, strength: float
    ) -> UpcomingPicture | None:
        given = {"sampler": sampler, "steps": steps, "width": width, "height": height, "cfg": cfg, "strength": strength}
        try:
            return upcoming(model, Settings(**given, image=image).settled()[0])
        except SettingsError:
            return None

    return PictureControls(controls, read, profiles)


def _theme() -> gr.themes.Base:
    """gradio's default with text dark enough to be read: at least 4.5:1 on what lies behind it, in light and dark."""
    theme = gr.themes.Default(primary_hue="indigo", neutral_hue="slate", **_FONTS)
    quiet = {"body_text_color_subdued", "block_info_text_color", "block_label_text_color", "block_title_text_color"}
    quiet |= {"input_placeholder_color", "accordion_text_color"}
    shades = dict.fromkeys(quiet, "*neutral_600") | {f"{name}_dark": "*neutral_300" for name in quiet}
    return theme.set(
        **shades,
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        button_primary_background_fill_dark="*primary_600",
        button_primary_background_fill_hover_dark="*primary_700",
    )


def _heading(model: SmallModel) -> str:
    unet = inspect_unet(model.unet)
    millions = sum(parameter.numel() for parameter in model.unet.parameters()) / 1e6
    where = "a GPU" if model.device.type == "cuda" else "the CPU"
    facts = f"A small model of {unet.family.upper()}'s layout ({millions:.1f} M parameters), on {where}."
    said = "See what each method changes: the same prompt and seed, drawn by the original and by the modified U-Net."
    return f"<h1>UNet Mod playground</h1><p>{said}</p><p>{facts}</p>"


def _prompts(examples: list[list[Any]]) -> tuple[gr.components.Component, ...]:
    """Prompt, negative prompt and seed, which stands in another area; an example sets prompt and seed.

    The examples are buttons: beside the panel's events gradio 5's own list of examples draws itself anew for ever, at the
    price of a core.
    """
    first = examples[0] if examples else ["", 0]
    prompt = gr.Textbox(first[0], label=LABELS["prompt"], lines=1, max_lines=3, elem_id="prompt")
    seed = gr.Number(first[1], label=f"{LABELS['seed']} (-1 = random)", min_width=120, elem_id="seed", render=False)
    if examples:
        with gr.Row(elem_id="examples"):
            gr.HTML("Examples", padding=False)
            for example in examples:
                button = gr.Button(example[0], size="sm", min_width=0)
                button.click(None, None, [prompt, seed], js=f"() => {json.dumps(example)}", show_api=False)
    negative = gr.Textbox("", label=LABELS["negative_prompt"], lines=1, max_lines=3, elem_id="negative")
    return prompt, negative, seed


def _settings(model: SmallModel, panel: Panel, seed: gr.components.Component) -> list[gr.components.Component]:
    """The settings under the prompts, in the order of `generate`'s arguments."""
    common = {"min_width": 200}
    with gr.Row():
        choices = [(sampler.label, name) for name, sampler in SAMPLERS.items()]
        sampler = gr.Dropdown(choices, value="euler", label=LABELS["sampler"], **common)
        steps = gr.Slider(*STEPS, value=20, step=1, label=LABELS["steps"], **common)
    with gr.Row():
        width, height = (gr.Slider(*_SIDES, 128, step=64, label=LABELS[side], **common) for side in ("width", "height"))
    cfg = gr.Slider(*CFG, value=4, step=0.5, label=LABELS["cfg"])
    with gr.Row(elem_id="seed_row"):
        seed.render()
        panel.render_switch()
    panel.render_accordion()
    with gr.Accordion("img2img", open=False):
        image = gr.Image(
            label=LABELS["image"], type="pil", image_mode=None, sources=["upload", "clipboard"], elem_id="image"
        )
        info = "How much of the start picture is redrawn: 0 almost nothing, 1 everything"
        strength = gr.Slider(0, 1, 0.5, step=0.01, label=LABELS["strength"], info=info)
    if model.tokenizer.words:
        with gr.Accordion(_list_of_words(model), open=False):
            gr.HTML(f"<p class='unetmod-words'>{escape(' '.join(sorted(model.tokenizer.words)))}</p>")
    for control in (sampler, steps, width, height, cfg, strength):
        control.preprocess = lambda value: value  # `Settings` checks it, in a sentence that names the field
    image.preprocess = _or_refusal(image.preprocess)
    return [sampler, steps, width, height, cfg, seed, image, strength]


def _or_refusal(read: Callable[[Any], Image.Image | None]) -> Callable[[Any], Image.Image | None]:
    """`read`, which opens the uploaded file, with one sentence for a file that is no picture or a damaged one."""

    def opened(payload: Any) -> Image.Image | None:
        try:
            picture = read(payload)
            if picture is not None:
                picture.load()
            return picture
        except (OSError, SyntaxError, ValueError, UnidentifiedImageError, Image.DecompressionBombError, gr.Error):
            # What they say holds the server's paths. Pillow's readers raise all of these for damaged files.
            raise _refusal(f"{LABELS['image']}: the file cannot be read as a picture.") from None

    return opened


def _refusal(sentence: str) -> gr.Error:
    return gr.Error(sentence, title="Nothing was drawn", print_exception=False)


def _results() -> list[gr.components.Component]:
    """The right column, in the order of what `generate` yields."""
    common = {"type": "pil", "format": "png", "interactive": False, "min_width": 150, "elem_classes": ["unetmod-picture"]}
    with gr.Row(elem_id="pictures"):
        original, modified = (gr.Image(label=label, **common) for label in ("Original", "Modified"))
    hint = "<p class='unetmod-hint'>Generate draws both pictures; times and differences appear here.</p>"
    results = gr.HTML(hint, elem_id="results", padding=False)
    used = gr.Textbox(
        label="Drawn with (this command draws it again)", interactive=False, show_copy_button=True, lines=2, elem_id="used"
    )
    return [original, modified, results, used]


def _list_of_words(model: SmallModel) -> str:
    return f"The {len(model.tokenizer.words)} words it knows"


def _report(
    model: SmallModel, original: Picture, both: Comparison | None, notes: Iterable[str], problems: Iterable[str]
) -> str:
    figures = report.headline(both) if both else ""
    notes = report.with_list(notes, f"Open the list under “{_list_of_words(model)}”.")
    said = report.messages(problems, "unetmod-problem") + report.messages(notes)
    return figures + said + report.table(original, both.modified if both else None)


def _why_nothing_acts(on: bool, ticked: bool) -> str:
    if not on:
        return "UNet Mod is off: tick it beside the seed, and a method under it, for the second picture."
    return "The ticked methods change nothing at these values." if ticked else "No method is ticked under UNet Mod."
