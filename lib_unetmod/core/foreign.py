"""What other extensions have put inside the layers of a U-Net, and what they are called.

A function that stands inside a layer sees the rows that the layer is given. IP-Adapter, SEG or ControlNet's reference take
the prompt's and the negative prompt's by their place in the batch, so that beside them no row may be missing. Nobody
tells which functions do: all count that stand there and are not the host's own. What stands outside a layer sees whole
batches, and does not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import PurePath
from typing import Any

from torch import nn

from .patching import under_ours
from .unet_map import UNetMap

#: The packages of the hosts and of what they are made of, whose own functions treat every row alike.
_HOSTS = ("modules", "modules_forge", "backend", "ldm", "ldm_patched", "sgm", "torch")
_OURS = "lib_unetmod"
_HOOKS = ("_forward_hooks", "_forward_pre_hooks")
#: Of the forks' options the functions that they call between layers, where batches are whole.
_BETWEEN_LAYERS = "block_patch"
#: Extensions that come with a host and stay inside layers once they were on, but treat every row alike.
_ROW_BY_ROW = ("hypertile",)


def inside_layers(unet: UNetMap, options: Mapping[str, Any] | None = None) -> list[str]:
    """Names of what acts inside layers, each once.

    Args:
        options: the forks' `transformer_options` of a call, in which extensions give functions to attentions.
    """
    found = [*_of_modules(unet), *_of_options(options or {})]
    return list(dict.fromkeys(name_of(function) for function in found if not is_the_hosts(function)))


def replaced_attentions(options: Mapping[str, Any] | None) -> dict[str, dict[tuple, str]]:
    """Attentions ("attn1", "attn2") that are not called because functions stand in for them: the names of these by place.

    A place begins with the side of the U-Net, "input", "middle" or "output".
    """
    replaced = (options or {}).get("patches_replace") or {}
    return {kind: {place: name_of(each) for place, each in places.items()} for kind, places in replaced.items() if places}


def empty_reference_banks(unet: UNetMap) -> None:
    """Take from transformer blocks what a pass of ControlNet's reference wrote there.

    A block empties its bank when it runs. One that a method left out would read it in the next picture.
    """
    for module, _ in unet.insides:
        for name in ("bank", "style_cfgs"):
            if isinstance(kept := vars(module).get(name), list):
                kept.clear()


def _of_modules(unet: UNetMap) -> Iterator[Callable]:
    for cls in {type(module) for module in unet.unet.modules()}:
        yield from _replaced_in(cls)
    controlled = "_original_forward" in vars(unet.unet)  # ControlNet stands in for the U-Net's own forward now
    for module, is_layer in unet.insides:
        own = vars(module)
        inner, of_controlnet = own.get("_forward"), "_original_inner_forward_cn_hijack" in own
        if inner is not None and (controlled or not of_controlnet or _aligns_styles(inner)):
            yield from _unless_its_own(module, "_forward", inner)
        if is_layer:
            # What stands around our edits, and hooks, sees the whole batch.
            yield from _unless_its_own(module, "forward", under_ours(module))
        elif own.get("ipadapter_hacks") != []:  # what IP-Adapter leaves behind it calls that
            yield from _unless_its_own(module, "forward", own.get("forward"))
            yield from _unless_its_own(module, "forward", under_ours(module))
            for hooks in _HOOKS:
                yield from own[hooks].values()


def _unless_its_own(module: nn.Module, name: str, function: Callable | None) -> Iterator[Callable]:
    """`function`, but not the class's own written on the instance, as some leave it behind."""
    if function is not None and getattr(function, "__func__", None) is not getattr(type(module), name, None):
        yield function


def _replaced_in(cls: type[nn.Module]) -> Iterator[Callable]:
    """The forward of a class, where it was written elsewhere than the class.

    Not of torch's classes: extensions replace theirs to add to weights (Lora), which is the same for every row.
    """
    owner = next(each for each in cls.__mro__ if "forward" in vars(each))
    function = vars(owner)["forward"]
    if not owner.__module__.startswith("torch.") and _module_of(function) != owner.__module__:
        yield function


def _aligns_styles(function: Callable) -> bool:
    """Whether this is ControlNet's StyleAlign, which what it leaves behind goes on with after its picture."""
    outer = [cell.cell_contents for cell in getattr(_code_of(function), "__closure__", None) or ()]
    machines = [getattr(each, "attention_auto_machine", None) for each in outer]
    return any(getattr(machine, "name", "") == "StyleAlign" for machine in machines)


def _of_options(options: Mapping[str, Any]) -> Iterator[Callable]:
    for kind, functions in (options.get("patches") or {}).items():
        if _BETWEEN_LAYERS not in kind:
            yield from functions
    for places in (options.get("patches_replace") or {}).values():
        yield from places.values()


def _code_of(function: Any) -> Any:
    """The plain function in which a method, a partial or an object that can be called has its code."""
    while isinstance(function, partial) or hasattr(function, "__func__"):
        function = function.func if isinstance(function, partial) else function.__func__
    return function if hasattr(function, "__globals__") else type(function).__call__


def _module_of(function: Any) -> str:
    # By where it was written: `functools.wraps` gives a function the name of the module of what it wraps.
    return getattr(_code_of(function), "__globals__", {}).get("__name__", "")


def _extension(function: Any) -> str | None:
    """The folder of the extension from whose files a function comes."""
    code = getattr(_code_of(function), "__code__", None)
    parts = PurePath(code.co_filename).parts if code is not None else ()
    places = [at for at, part in enumerate(parts[:-1]) if part in ("extensions", "extensions-builtin")]
    return parts[places[-1] + 1] if places else None


def is_the_hosts(function: Any) -> bool:
    """Whether a function is of a host, or of what hosts are made of, and treats every row alike."""
    package = _module_of(function).partition(".")[0]
    if package == _OURS:  # which lies in an extension's folder too
        return True
    extension = _extension(function)
    return extension in _ROW_BY_ROW or (extension is None and package in _HOSTS)


def name_of(function: Any) -> str:
    """What a user calls where a function comes from: the extension's folder, else its file."""
    return _extension(function) or _module_of(function).rpartition(".")[2].removesuffix(".py") or "another extension"
