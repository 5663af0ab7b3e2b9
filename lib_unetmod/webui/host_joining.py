"""Who joins what the U-Net made of prompt and negative prompt, in AUTOMATIC1111's denoiser: the WebUI, or an extension.

Dynamic Thresholding brings a denoiser of its own class, Incantations' S-CFG and PAG put a function on the WebUI's one, and
Neutral Prompt's stands there always and does nothing while it is off. Such a function may use the negative prompt at CFG 1
too, where the WebUI's gives the prompt's result alone.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from ..core.foreign import is_the_hosts, name_of


def other_than_the_webui(denoiser: Any) -> str:
    """What to call the extension that joins the rows; empty where the WebUI does."""
    function = vars(denoiser).get("combine_denoised") or getattr(type(denoiser), "combine_denoised", None)
    function = _that_acts(function)
    return "" if function is None or is_the_hosts(function) else name_of(function)


def _that_acts(function: Any) -> Any:
    """The function itself, or the one that it stands in for where it says that it is off, as Neutral Prompt's does."""
    while isinstance(function, partial) and "original_function" in function.keywords:
        state = getattr(function.func, "__globals__", {}).get("global_state")
        if getattr(state, "is_enabled", True):
            break
        function = function.keywords["original_function"]
    return function
