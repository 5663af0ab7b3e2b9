"""Who joins what the U-Net made of prompt and negative prompt, in AUTOMATIC1111's denoiser: the WebUI, or an extension.

Dynamic Thresholding brings a denoiser of its own class, Incantations' S-CFG and PAG put a function on the WebUI's one, and
Neutral Prompt's stands there always and does nothing while it is off. Such a function may use the negative prompt at CFG 1
too, where the WebUI's gives the prompt's result alone.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import PurePath
from typing import Any


def other_than_the_webui(denoiser: Any) -> str:
    """What to call the extension that joins the rows, as a sentence's subject; empty where the WebUI does."""
    function = vars(denoiser).get("combine_denoised") or getattr(type(denoiser), "combine_denoised", None)
    function = _that_acts(getattr(function, "__func__", function))
    if function is None or getattr(function, "__globals__", {}).get("__name__", "").startswith("modules."):
        return ""
    folder = _extension(function)
    return f"another extension ({folder})" if folder else "another extension"


def _that_acts(function: Any) -> Any:
    """The function itself, or the one that it stands in for where it says that it is off, as Neutral Prompt's does."""
    while isinstance(function, partial):
        state = getattr(function.func, "__globals__", {}).get("global_state")
        off = not getattr(state, "is_enabled", True) and "original_function" in function.keywords
        function = function.keywords["original_function"] if off else function.func
        function = getattr(function, "__func__", function)
    return function


def _extension(function: Callable[..., Any]) -> str:
    """The folder of the extension in whose files a function was written."""
    parts = PurePath(getattr(getattr(function, "__code__", None), "co_filename", "")).parts
    return next((name for above, name in pairwise(parts) if above.startswith("extensions")), "")
