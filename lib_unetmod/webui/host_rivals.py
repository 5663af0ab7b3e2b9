"""What else does the work of one of our methods in the WebUI: its own settings, a fork's accordions, other extensions.

Two of a kind act one upon the other's result, so the user is told to turn one off, and where. Seen are the WebUI's settings,
the first argument of the scripts that are always shown (the checkbox by which they are on), and on Forge and its kin the
patches of the U-Net's patcher, which scripts add before each pass.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from modules import shared

from ..core.registry import METHODS, Method

_CACHES = frozenset({"deep_cache", "encoder_reuse"})
_OF_SELF_ATTENTION = frozenset({"hyper_tile", "token_downsampling", "token_merging"})
_AGAINST_DUPLICATES = frozenset({"deep_shrink", "hi_diffusion", "scale_crafter"})


@dataclass(frozen=True)
class _Kind:
    """Scripts that do the same, by what stands in their titles and in the names of the patches that they make."""

    ours: frozenset[str]
    name: str
    title: str
    patch: str

    def by(self, p: Any) -> str | None:
        """How that which acts is called; None where nothing does."""
        for title, on in _scripts(p):
            if on and re.match(self.title, title, re.IGNORECASE):
                return title
        if any(re.search(self.patch, name, re.IGNORECASE) for name in _patches()):
            return f"the WebUI's {self.name}"
        return None


_KINDS = (
    _Kind(frozenset({"free_u"}), "FreeU", r"FreeU\b", r"freeu"),
    _Kind(_AGAINST_DUPLICATES, "Kohya HRFix", r"Kohya ?HR|Kohya Hires", r"kohya|AddDownscale"),
    _Kind(_OF_SELF_ATTENTION, "HyperTile", r"HyperTile\b", r"hypertile"),
    _Kind(_CACHES, "Spectrum", r"Spectrum\b", r"spectrum"),
    _Kind(frozenset({"cd_tuner"}), "CD Tuner", r"CD[ -]?Tuner\b", r"cd_?tuner"),
)


def sentences(p: Any, methods: Collection[str]) -> list[str]:
    """A sentence for each thing beside one of these methods, given by their names, that does the same."""
    found = []
    for ours, its, where in _rivals(p):
        titles = [method.title for name, method in METHODS.items() if name in ours and name in methods]
        if titles:
            found.append(f"{' and '.join(titles)}: {its} is also on. Turn one off ({where}).")
    return found


def instead_of(p: Any, method: Method) -> str:
    """Why a method of ours is left out, as a sentence, where the WebUI's own leaves nothing for it to do.

    Token merging finds the tokens merged already, and could only stand aside in layer after layer.
    """
    if method.name != "token_merging" or not _own_token_merging(p, bool(getattr(p, "enable_hr", False))):
        return ""
    return (
        f"{method.title} is left out, because the WebUI's own is on. Set its Token merging ratios to 0 in Settings, "
        "Optimizations, to use this one."
    )


def _rivals(p: Any) -> Iterator[tuple[frozenset[str], str, str]]:
    """Which methods of ours another thing does the work of, how it is called, and where it is turned off."""
    hires = bool(getattr(p, "enable_hr", False))
    if _own_token_merging(p, hires):
        yield _OF_SELF_ATTENTION, "the WebUI's token merging", "Settings, Optimizations"
    if _setting("hypertile_enable_unet") or (hires and _setting("hypertile_enable_unet_secondpass")):
        yield _OF_SELF_ATTENTION, "the WebUI's Hypertile", "Settings, Hypertile"
    cached = _setting("deepcache_enable_pass", "disable")
    if cached == "both passes" or (hires and cached == "second pass"):
        yield _CACHES, "another extension's DeepCache", "Settings, DeepCache"
    for kind in _KINDS:
        its = kind.by(p)
        if its:
            yield kind.ours, its, "its accordion"


def _own_token_merging(p: Any, hires: bool) -> bool:
    ratio_of: Callable[..., Any] | None = getattr(p, "get_token_merging_ratio", None)
    if ratio_of is None:
        return False
    return bool(ratio_of() or (hires and ratio_of(for_hr=True)))


def _scripts(p: Any) -> Iterator[tuple[str, bool]]:
    """The titles of the scripts that are always shown, and whether the first argument of each says that it is on."""
    given = getattr(p, "script_args", None) or ()
    for script in getattr(getattr(p, "scripts", None), "alwayson_scripts", None) or ():
        first, last = getattr(script, "args_from", None), getattr(script, "args_to", None)
        if isinstance(first, int) and isinstance(last, int) and first < min(last, len(given)):
            yield str(script.title()), _says_on(given[first])


def _says_on(value: Any) -> bool:
    """What a script takes for "on": its checkbox, or from the API a dict of its values."""
    if isinstance(value, Mapping):
        return bool(value.get("enable", True))
    return isinstance(value, (bool, int)) and bool(value)


def _patches() -> Iterator[str]:
    """Names of the functions that Forge's patcher of the loaded U-Net holds, each with its module's."""
    forge = getattr(shared.sd_model, "forge_objects", None)
    options = getattr(getattr(forge, "unet", None), "model_options", None) or {}
    patches = (options.get("transformer_options") or {}).get("patches") or {}
    wrapper = options.get("model_function_wrapper")
    for patch in [*(one for of_kind in patches.values() for one in of_kind), *([wrapper] if wrapper else [])]:
        # A partial and an object that is called have no name of their own.
        named = patch if hasattr(patch, "__qualname__") else getattr(patch, "func", type(patch))
        yield f"{getattr(named, '__module__', '')}.{getattr(named, '__qualname__', '')}"


def _setting(name: str, default: Any = None) -> Any:
    return getattr(shared.opts, name, default)
