"""What the page's controls say of the next picture before it is drawn, as AUTOMATIC1111 and its forks have them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from ..core.target import TRAINED, Target
from ..core.unet_map import UNetMap
from ..core.upcoming_picture import UpcomingPass, UpcomingPicture
from ..settings.profiles import Profiles
from .sampling_steps import apart, course

#: Of what any control may hold; more is no value.
_LARGEST = 65536
_MOST_STEPS = 1000

_IDS = {
    "width": "{tab}_width",
    "height": "{tab}_height",
    "steps": "{tab}_steps",
    "sampler": "{tab}_sampling",
    "schedule": "{tab}_scheduler",
    "cfg": "{tab}_cfg_scale",
    "denoising": "{tab}_denoising_strength",
}
_IDS_OF_HIRES = {
    "hires": "txt2img_hr-checkbox",
    "hires_steps": "txt2img_hires_steps",
    "hires_scale": "txt2img_hr_scale",
    "hires_width": "txt2img_hr_resize_x",
    "hires_height": "txt2img_hr_resize_y",
    "hires_sampler": "hr_sampler",
    "hires_schedule": "hr_scheduler",
    "hires_cfg": "txt2img_hr_cfg",
}


def ids_of(tab: str) -> dict[str, str]:
    """Ids of a tab's controls by what they hold; `tab` is txt2img or img2img. A WebUI may lack some of them."""
    own = {name: elem_id.format(tab=tab) for name, elem_id in _IDS.items()}
    return {**own, **_IDS_OF_HIRES} if tab == "txt2img" else own


@dataclass(frozen=True)
class PictureControls:
    """The page's own controls on which the next picture depends.

    Attributes:
        controls: of the page, not of the panel.
        read: from the values of `controls`, what is known of the picture; None where nothing is.
        profiles: what was tuned.
    """

    controls: Sequence[gr.components.Component]
    read: Callable[..., UpcomingPicture | None]
    profiles: Profiles | None = None


@dataclass(frozen=True)
class Loaded:
    """The host's part.

    Attributes:
        unet: None where no model is loaded.
        model: tells it from others, by its name and what its file holds; empty where that is not known.
        trained: side in pixels at which the model was trained, None for that of its family.
        guides_at_one: whether the host evaluates the negative prompt at CFG scale 1.
        exact_steps: whether img2img takes as many steps as its slider says.
    """

    unet: UNetMap | None = None
    trained: int | None = None
    guides_at_one: bool = True
    exact_steps: bool = False
    model: str = ""


def picture_of(tab: str, shown: Mapping[str, Any], loaded: Loaded) -> UpcomingPicture:
    """The picture that a tab's controls will draw, given by the names of `ids_of`; where there is none, A1111's default."""
    trained = loaded.trained or TRAINED[loaded.unet.family if loaded.unet else "other"]
    sampler, schedule = _word(shown.get("sampler")) or "Euler a", _word(shown.get("schedule"))
    steps, cfg = _steps(shown.get("steps")) or 20, _number(shown.get("cfg"), 7.0)
    width, height = (_number(shown.get(side), 512) for side in ("width", "height"))
    denoising = _number(shown.get("denoising"), 0.75)

    def one(name: str, size: tuple[float, float], **of_pass: Any) -> UpcomingPass:
        told = {"sampler": sampler, "schedule": schedule, "steps": steps, "cfg": cfg, **of_pass}
        way = course(
            told["sampler"],
            told["schedule"],
            told["steps"],
            None if name == "first" else denoising,
            exact=name == "hires" or loaded.exact_steps,
        )
        target = Target(trained, *(max(round(side), 1) for side in reversed(size)))
        guided = loaded.guides_at_one or told["cfg"] != 1
        begins_with = 1.0 if name == "first" else denoising
        named, _ = apart(told["sampler"])
        return UpcomingPass(
            name=name,
            target=target,
            steps=told["steps"],
            sampler=named,
            schedule=way.schedule,
            cfg=told["cfg"],
            denoising=begins_with,
            begins=way.begins,
            evaluations=way.evaluations,
            guided=guided,
        )

    if tab == "img2img":
        return UpcomingPicture(loaded.unet, (one("img2img", (width, height)),), loaded.model)
    first = one("first", (width, height))
    if not shown.get("hires"):
        return UpcomingPicture(loaded.unet, (first,), loaded.model)
    scale, *sides = (_number(shown.get(f"hires_{name}"), 0) for name in ("scale", "width", "height"))
    second = one(
        "hires",
        hires_size(width, height, scale or 2.0, *sides),
        steps=_steps(shown.get("hires_steps")) or steps,
        sampler=_other(shown.get("hires_sampler")) or sampler,
        schedule=_other(shown.get("hires_schedule")) or schedule,
        cfg=_number(shown.get("hires_cfg"), cfg),
    )
    return UpcomingPicture(loaded.unet, (first, second), loaded.model)


def hires_size(width: float, height: float, scale: float, to_width: float, to_height: float) -> tuple[int, int]:
    """Width and height of hires fix's second pass in pixels, from its controls as AUTOMATIC1111 has them.

    With neither side given it is `scale` times the first pass; with one, the other keeps the aspect ratio.
    """
    if not to_width and not to_height:
        return int(width * scale), int(height * scale)
    return int(to_width or to_height * width / height), int(to_height or to_width * height / width)


def _number(value: Any, default: float) -> float:
    """A number that a page's control holds; `default` for anything else."""
    return float(value) if type(value) in (int, float) and 0 <= value <= _LARGEST else default


def _steps(value: Any) -> int:
    return min(round(_number(value, 0)), _MOST_STEPS)


def _word(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _other(value: Any) -> str:
    """A sampler or schedule of hires fix's own; empty for "Use same ..."."""
    return "" if _word(value).startswith("Use same") else _word(value)
