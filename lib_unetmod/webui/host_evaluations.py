"""How many evaluations a pass makes: known when the sampler's function is called, for it is given the noise levels.

The WebUI's own totals count steps, and are wrong for samplers of second order, DDIM, PLMS and UniPC. The rules below gave
the right number for all of AUTOMATIC1111 1.10.1's and Forge's samplers but for Restart from 20 steps on, which makes levels
of its own, and DPM adaptive, which decides on the way.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from .sampling_steps import apart

_TWICE_A_STEP = ("Heun", "DPM2", "DPM2 a", "DPM++ 2S a", "DPM++ SDE", "Restart")
_BY_TIMESTEPS = ("PLMS", "UniPC")
_RESTARTS_FROM = 20


def evaluations_of(sampler: str, given: Mapping[str, Any]) -> int | None:
    """Evaluations of a pass; None where it cannot be known.

    Args:
        sampler: its name, without a schedule type.
        given: what its function is called with, by name.
    """
    if sampler == "DPM adaptive":
        return None
    timesteps, sigmas, n = given.get("timesteps"), given.get("sigmas"), given.get("n")
    if timesteps is not None:
        return len(timesteps) - (sampler not in _BY_TIMESTEPS)
    if sigmas is None:
        return n if isinstance(n, int) else None
    steps = len(sigmas) - 1
    if sampler == "HeunPP2":
        return 3 * steps - 3
    if sampler == "Restart" and steps >= _RESTARTS_FROM:
        return None
    return 2 * steps - bool(sigmas[-1] == 0) if sampler in _TWICE_A_STEP else steps


def announce(sampler: Any, tell: Callable[[int | None], None]) -> None:
    """Have `tell` called with the number when `sampler`, the WebUI's object, begins its next pass.

    Its `func` is shadowed for that one call. The WebUI reads the signature of what stands there.
    """
    function = getattr(sampler, "func", None)
    if not callable(function) or getattr(function, "of_unetmod", False):
        return
    name = getattr(getattr(sampler, "config", None), "name", "")

    @functools.wraps(function)
    def begun(*args: Any, **kwargs: Any) -> Any:
        if vars(sampler).get("func") is begun:
            sampler.func = function
        tell(evaluations_of(apart(name)[0], _by_name(function, args, kwargs)))
        return function(*args, **kwargs)

    begun.of_unetmod = True
    sampler.func = begun


def _by_name(function: Callable[..., Any], args: tuple, kwargs: dict[str, Any]) -> Mapping[str, Any]:
    try:
        return inspect.signature(function).bind_partial(*args, **kwargs).arguments | kwargs
    except (TypeError, ValueError):  # a function that does not take this: the WebUI's own call will say so
        return kwargs
