"""What a host says of the rows of its next calls, in its denoiser's callback: `Guidance`, in AUTOMATIC1111 and its forks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from modules import shared
from torch import Tensor

from ..core.call import Guidance, Prompts
from ..core.foreign import name_of
from .host_joining import other_than_the_webui

_CFG_PP = "this sampler (CFG++) needs the negative prompt."
_AND = "the prompt has several parts (AND)."
_AND_AT_ONE = "with AND, CFG 1 does so only where the parts weigh 1 in all, such as: a cat :0.5 AND a dog :0.5."

#: In the forks, lists or one of functions that get both predictions, the negative prompt's among them.
_ON_PREDICTIONS = ("sampler_pre_cfg_function", "sampler_cfg_function", "sampler_post_cfg_function")


def guidance_of(params: Any) -> Guidance | None:
    """How the rows of the U-Net's next calls belong together. None where nothing is known, not even the scale."""
    denoiser = getattr(params, "denoiser", None)
    given = getattr(getattr(denoiser, "sampler", None), "sampler_extra_args", None) or {}
    pictures: Sequence[Sequence[Any]] = getattr(given.get("cond"), "batch", None) or []
    if "cond_scale" not in given or not pictures:
        return None
    of_fork = _forks_unet_of(denoiser)
    if of_fork is not None:
        return _of_fork(denoiser, of_fork, given["cond_scale"])
    return _of_a1111(params, denoiser, pictures, given["cond_scale"])


def _of_a1111(params: Any, denoiser: Any, pictures: Sequence[Sequence[Any]], cfg: float) -> Guidance:
    """AUTOMATIC1111 puts the prompts' rows first, in the order of the pictures, and one negative row for each after them.

    Its denoiser decides only after the callback whether the negative rows come in the same call. Where they come apart the
    calls have other numbers of rows than are described here, and tell by their prompts which they hold.
    """
    needed = getattr(denoiser, "need_last_noise_uncond", False)
    if not needed:  # else no row is left out: the user's own scale is told
        cfg *= getattr(denoiser, "cond_scale_miltiplier", 1.0)  # the WebUI's spelling
    # "a cat :1.2" multiplies the scale of its picture, and the parts of a prompt add up: the negative prompt counts
    # 1 - scale times. The picture that is furthest from 1 decides.
    scale = max((cfg * sum(part.weight for part in parts) for parts in pictures), key=lambda one: abs(one - 1))
    at_one = abs(cfg - 1) < 1e-6
    parts = [picture for picture, of_picture in enumerate(pictures) for _ in of_picture]
    several = len(parts) > len(pictures)
    if len(params.x) != len(parts) + len(pictures):
        reason = "this model or WebUI runs prompt and negative prompt in another way."
    else:
        reason = _CFG_PP if needed else ""
    if reason:
        return Guidance(scale, reason=reason, reason_at_one=reason if at_one else "")
    apart = _why_apart(params)
    firsts = [parts.index(picture) for picture in range(len(pictures))]
    return Guidance(
        scale,
        () if apart else (*range(len(parts)), *firsts),
        _AND if several else apart,
        _AND_AT_ONE if several and at_one and abs(scale - 1) > 1e-6 else "",
        _prompts(params) if apart else None,
        partial(other_than_the_webui, denoiser),
    )


def _why_apart(params: Any) -> str:
    """Why rows come in several calls, as the end of a sentence that says what is off; empty where they come together."""
    padded = _setting("pad_cond_uncond") or _setting("pad_cond_uncond_v0")
    if not _setting("batch_cond_uncond", True):
        return "turn on Batch cond/uncond in Settings, Optimizations."
    if params.text_cond.shape[1] != params.text_uncond.shape[1] and not padded:
        return "turn on Pad prompt/negative prompt in Settings, Optimizations, for prompts of different length."
    return ""


def _prompts(params: Any) -> Prompts | None:
    # SDXL's come with a vector beside them.
    both = [each["crossattn"] if isinstance(each, dict) else each for each in (params.text_cond, params.text_uncond)]
    return Prompts(*both) if all(isinstance(each, Tensor) for each in both) else None


def _forks_unet_of(denoiser: Any) -> Any:
    """What Forge and its kin keep the U-Net in; None in AUTOMATIC1111."""
    model = getattr(getattr(denoiser, "inner_model", None), "inner_model", None)
    return getattr(getattr(model, "forge_objects", None), "unet", None)


def _of_fork(denoiser: Any, unet: Any, cfg: float) -> Guidance:
    """The forks say with each call which rows it holds, and leave out the negative ones themselves where they do not count.

    Where they are there at CFG 1, somebody has asked for them.
    """
    p = getattr(denoiser, "p", None)
    cfg = getattr(p, "hr_cfg", cfg) if getattr(p, "is_hr_pass", False) else cfg
    reason = _CFG_PP if getattr(denoiser, "need_last_noise_uncond", False) else _who_needs_predictions(unet)
    asked = reason or "another extension needs the negative prompt at CFG 1 too."
    return Guidance(cfg, reason=reason, reason_at_one=asked if abs(cfg - 1) < 1e-6 else "")


def _who_needs_predictions(unet: Any) -> str:
    options = getattr(unet, "model_options", None) or {}
    found: list[Callable] = []
    for kind in _ON_PREDICTIONS:
        functions = options.get(kind) or []
        found += functions if isinstance(functions, list) else [functions]
    names = dict.fromkeys(name_of(function) for function in found)
    return f"{' and '.join(names)} needs the negative prompt too." if names else ""


def _setting(name: str, default: Any = None) -> Any:
    return getattr(shared.opts, name, default)
