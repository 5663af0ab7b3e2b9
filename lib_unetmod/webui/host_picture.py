"""The picture that a request of AUTOMATIC1111's or a fork's is about to draw, from its processing object."""

from __future__ import annotations

from typing import Any

from ..core.upcoming_picture import UpcomingPicture
from . import host
from .upcoming_picture import picture_of

#: What the object calls what the page's controls hold, by the names of `upcoming_picture.ids_of`.
_ATTRIBUTES = {
    "width": "width",
    "height": "height",
    "steps": "steps",
    "sampler": "sampler_name",
    "schedule": "scheduler",
    "cfg": "cfg_scale",
    "denoising": "denoising_strength",
    "hires": "enable_hr",
    "hires_steps": "hr_second_pass_steps",
    "hires_scale": "hr_scale",
    "hires_width": "hr_resize_x",
    "hires_height": "hr_resize_y",
    "hires_sampler": "hr_sampler_name",
    "hires_schedule": "hr_scheduler",
    "hires_cfg": "hr_cfg",
}


def upcoming(p: Any) -> UpcomingPicture:
    """What is known of the picture of `p` before its sampler is made."""
    tab = "img2img" if host.pass_of(p) == "img2img" else "txt2img"
    held = {name: getattr(p, attribute, None) for name, attribute in _ATTRIBUTES.items()}
    return picture_of(tab, held, host.loaded())
