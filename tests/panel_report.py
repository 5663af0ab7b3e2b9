"""Builds the panel under whatever gradio there is, serves it, and prints as JSON what came out, for comparison.

python tests/panel_report.py
"""

from __future__ import annotations

import json
import os
import re
import sys
import urllib.request
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

import gradio as gr

from lib_unetmod.core.config import knobs
from lib_unetmod.core.registry import METHODS
from lib_unetmod.settings.presets import Presets
from lib_unetmod.webui.panel import Panel

SELECTION = {"skip_blocks": {"middle": True, "blocks": ["in.4", "out.7.res"], "start": 0.25}}


def build(folder: Path) -> tuple[gr.Blocks, Panel]:
    """A page as a WebUI makes it: the panel first, its two parts rendered later and in different places."""
    with gr.Blocks() as page:
        panel = Panel(lambda name: f"script_txt2img_unet_mod_{name}", presets=Presets(folder))
        with gr.Row(elem_id="seed_row"):
            gr.Number(-1, label="Seed")
            panel.render_switch()
        panel.render_accordion()
        panel.wire()
    return page, panel


def describe(panel: Panel) -> list[dict[str, Any]]:
    """Every control in plain values, none of which may depend on gradio's version."""
    return [
        {
            "name": name,
            "kind": type(control).__name__,
            "id": control.elem_id,
            "label": control.label,
            "info": getattr(control, "info", None),
            "range": [getattr(control, bound, None) for bound in ("minimum", "maximum", "step")],
            "choices": [choice if isinstance(choice, str) else choice[0] for choice in getattr(control, "choices", [])],
            "value": control.value,
        }
        for name, control in zip(panel.names, panel.components, strict=True)
    ]


def nesting(config: dict[str, Any], panel: Panel) -> dict[str, list[str]]:
    """For each control, the classes of the containers around it, the outermost first: what style.css goes by."""
    classes = {c["id"]: " ".join(c["props"].get("elem_classes") or []) for c in config["components"]}
    names = {control._id: name for name, control in zip(panel.names, panel.components, strict=True)}
    found = {}

    def walk(node: dict[str, Any], above: list[str]) -> None:
        if node["id"] in names:
            found[names[node["id"]]] = [name for name in above if name.startswith("unetmod")]
        for child in node.get("children") or []:
            walk(child, [*above, classes.get(node["id"], "")])

    walk(config["layout"], [])
    return found


def ask_summaries(url: str, config: dict[str, Any], panel: Panel) -> dict[str, list[str]]:
    """What the server answers, for each method, when its toggle was unticked, ticked, and ticked with changed knobs."""
    answers = {}
    for method in METHODS.values():
        names = [method.name, *(f"{method.name}.{knob.name}" for knob in knobs(method.config))]
        inputs = [panel.component(name)._id for name in names]
        number = _number_of_event(config, inputs)
        unticked = [panel.component(name).value for name in names]
        changed = dict(zip(panel.names, Panel.values(True, SELECTION), strict=True))
        cases = ([False, *unticked[1:]], [True, *unticked[1:]], [changed[name] for name in names])
        answers[method.name] = [_predict(url, config, number, case)[0] for case in cases]
    return answers


def ask_summary_at_load(url: str, config: dict[str, Any], panel: Panel) -> list[str]:
    """What the server answers to a page that opens with changed controls, as ui-config may change them."""
    number = _number_of_event(config, [control._id for control in panel.components])
    return _predict(url, config, number, Panel.values(True, SELECTION))


def choose_preset(url: str, config: dict[str, Any], panel: Panel, name: str) -> dict[str, Any]:
    """What the page is told to show when a preset is chosen: the controls by name, and the sentence, where they change."""
    shown = {c["props"].get("elem_id"): c["id"] for c in config["components"]}
    dropdown, said = (shown[f"script_txt2img_unet_mod_{part}"] for part in ("preset", "preset_said"))
    places = {control._id: name for name, control in zip(panel.names, panel.components, strict=True)} | {said: "said"}
    number, outputs = next(
        (event.get("id", place), event["outputs"])
        for place, event in enumerate(config["dependencies"])
        if event["inputs"] == [dropdown] and set(places) <= set(event["outputs"])
    )
    answers = dict(zip(outputs, _predict(url, config, number, [name]), strict=True))
    return {
        name: answers[place] for place, name in places.items() if answers[place] != {"__type__": "update"}
    }  # what is left as it is


def press_buttons(url: str, config: dict[str, Any], panel: Panel) -> list[dict[str, Any]]:
    """What the page is told to show when each button of the first row is pressed, in their order; as `choose_preset`."""
    said = next(c["id"] for c in config["components"] if str(c["props"].get("elem_id")).endswith("_quick_said"))
    places = {control._id: name for name, control in zip(panel.names, panel.components, strict=True)} | {said: "said"}
    shown = []
    for place, event in enumerate(config["dependencies"]):
        if event["inputs"] == [] and set(places) <= set(event["outputs"]):
            answers = dict(zip(event["outputs"], _predict(url, config, event.get("id", place), []), strict=True))
            shown.append({places[one]: answer for one, answer in answers.items() if answer != {"__type__": "update"}})
    return shown


def ask_before_losing(url: str, config: dict[str, Any], names: list[str]) -> list[list[str]]:
    """What a user is asked, in the order Save and Delete, with each of the names; empty where nothing would be lost."""
    question = next(c["id"] for c in config["components"] if str(c["props"].get("elem_id")).endswith("_preset_question"))
    numbers = [
        event.get("id", place) for place, event in enumerate(config["dependencies"]) if event["outputs"] == [question]
    ]
    return [[_predict(url, config, number, [name])[0] for name in names] for number in numbers]


def kept_out(page: gr.Blocks) -> bool:
    """Whether all of the buttons and the row of presets that the WebUI would keep in ui-config.json is marked not to be."""
    row = [block for block in page.blocks.values() if re.search("unet_mod_(preset|quick)", str(block.elem_id))]
    return len(row) > 10 and all(getattr(block, "do_not_save_to_config", False) for block in row)


def _number_of_event(config: dict[str, Any], inputs: list[int]) -> int:
    for place, event in enumerate(config["dependencies"]):
        if event["inputs"] == inputs and event["backend_fn"]:
            return event.get("id", place)
    raise LookupError(f"no event takes {inputs}")


def _predict(url: str, config: dict[str, Any], number: int, data: list[Any]) -> list[Any]:
    body = json.dumps({"fn_index": number, "data": data, "session_hash": "panel"}).encode()
    address = url.rstrip("/") + config.get("api_prefix", "") + "/run/predict"
    return json.loads(_read(urllib.request.Request(address, body, {"Content-Type": "application/json"})))["data"]


def _read(request: str | urllib.request.Request) -> bytes:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(request, timeout=60) as response:
        return response.read()


def report() -> dict[str, Any]:
    """Everything that must hold in each version and be the same in all."""
    with TemporaryDirectory() as folder:
        return _report(Path(folder))


def _report(folder: Path) -> dict[str, Any]:
    Presets(folder).save("Mine", SELECTION)
    (folder / "Broken.json").write_text('{"name": "Broken", "methods": {"skip_blocks": {"levels": 99}}}')
    page, panel = build(folder)
    page.launch(prevent_thread_lock=True, quiet=True, server_name="127.0.0.1")
    try:
        served = _read(page.local_url).decode()
        config = json.loads(_read(page.local_url.rstrip("/") + "/config"))
        return {
            "controls": describe(panel),
            "page": "gradio" in served,
            "ids": sorted(
                c["props"]["elem_id"] for c in config["components"] if "unet_mod" in str(c["props"].get("elem_id"))
            ),
            "nesting": nesting(config, panel),
            "summaries": ask_summaries(page.local_url, config, panel),
            "at_load": ask_summary_at_load(page.local_url, config, panel),
            "preset": choose_preset(page.local_url, config, panel, "Mine"),
            "preset refused": choose_preset(page.local_url, config, panel, "Broken"),
            "buttons": press_buttons(page.local_url, config, panel),
            "questions": ask_before_losing(page.local_url, config, ["Mine"]),
            "kept out of ui-config": kept_out(page),
            "round_trip": Panel.selection(Panel.values(True, SELECTION)) == (True, SELECTION),
        }
    finally:
        page.close()


if __name__ == "__main__":
    print(json.dumps({"gradio": gr.__version__, **report()}))
