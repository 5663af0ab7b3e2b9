"""The only file that touches modules: edits, one chain per place, undo, and what is on a U-Net now.

An edit wraps the instance's `forward`; the class, the weights and the module tree stay as they are. All edits of one
module stand in one chain, so that removing them in any order leaves the others in force and, with the last one, the module
as it was found. A foreign wrapper may be put on before or after ours: one that was there is called and put back; one that
came later is left alone. The chain under it is a plain pass-through then, and should the foreign wrapper put it back on
leaving, takes itself away at the next call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from types import MethodType
from typing import Any

from torch import Tensor, nn

from .depth import Depth

Wrapper = Callable[..., Tensor]


@dataclass(frozen=True, eq=False)
class Edit:
    """Run `wrapper(call, *args, **kwargs)` in place of `module.forward(*args, **kwargs)`.

    `call` is what stands under the edit: the next edit of the chain or the module's own forward. Pass on whatever arguments
    come, and return a tensor of your own: hosts add to it in place. `at` is its depth among the module's edits, where it is
    not its method's.
    """

    module: nn.Module
    wrapper: Wrapper
    at: Depth | None = None


@dataclass(frozen=True, eq=False)
class _Link:
    edit: Edit
    owner: str
    at: Depth


class _Chain:
    """What stands as `forward` on an edited module: its edits around what was there before, the lowest depth outermost."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.links: list[_Link] = []
        self._put_on()

    def _put_on(self) -> None:
        self.previous = vars(self.module).get("forward")
        self.module.forward = self
        self._rebuild()

    def _take_off(self) -> None:
        if vars(self.module).get("forward") is not self:
            return
        if self.previous is None:
            del self.module.forward
        else:
            self.module.forward = self.previous

    def __call__(self, *args: Any, **kwargs: Any) -> Tensor:
        return (self._call or self._dead)(*args, **kwargs)

    def _original(self, *args: Any, **kwargs: Any) -> Tensor:
        if self.previous is not None:
            return self.previous(*args, **kwargs)
        # Looked up at each call: hosts swap a module's class (token merging) while a run is on.
        return type(self.module).forward(self.module, *args, **kwargs)

    def _dead(self, *args: Any, **kwargs: Any) -> Tensor:
        self._take_off()
        return self._original(*args, **kwargs)

    def _rebuild(self) -> None:
        # Without links nothing refers back to the chain, so that it goes with its module and not with a collection.
        self._call: Callable[..., Tensor] | None = self._original if self.links else None
        for link in reversed(self.outermost_first()):
            self._call = partial(link.edit.wrapper, self._call)

    def outermost_first(self) -> list[_Link]:
        return sorted(self.links, key=lambda link: link.at)

    def add(self, link: _Link) -> None:
        self.links.append(link)
        self._rebuild()

    def remove(self, link: _Link) -> None:
        self.links.remove(link)
        self._rebuild()
        if not self.links:
            self._take_off()

    def put_back_if_lost(self) -> None:
        """Take our place again where a foreign wrapper under us, on leaving, wrote the class's own forward over us."""
        current = vars(self.module).get("forward")
        if current is None or getattr(current, "__func__", None) is type(self.module).forward:
            self._put_on()

    def __deepcopy__(self, memo: dict[int, Any]) -> Callable[..., Tensor]:
        # A copied module is a module of its own: it must neither run our edits nor the original's weights.
        copied = memo[id(self.module)]
        return MethodType(type(copied).forward, copied)


class Installed:
    """Edits that stand on their modules; `remove` takes exactly these away, in any order with other sets."""

    def __init__(self) -> None:
        self._links: list[tuple[_Chain, _Link]] = []

    def add(self, edits: Iterable[Edit], owner: str, at: Depth) -> None:
        """Put `edits` on, at `at` where they name no depth of their own. Of equal depth the first stands outside."""
        for edit in edits:
            current = vars(edit.module).get("forward")
            chain = current if isinstance(current, _Chain) else _Chain(edit.module)
            link = _Link(edit, owner, at if edit.at is None else edit.at)
            chain.add(link)
            self._links.append((chain, link))

    def remove(self) -> None:
        while self._links:
            chain, link = self._links.pop()
            chain.remove(link)

    def put_back_lost(self) -> None:
        for chain, _ in self._links:
            chain.put_back_if_lost()


def under_ours(module: nn.Module) -> Callable[..., Tensor] | None:
    """What our edits of `module` stand around in place of its class's own forward; None without edits, or without such."""
    current = vars(module).get("forward")
    if not isinstance(current, _Chain):
        return None
    while isinstance(current, _Chain):
        current = current.previous
    return current


def watch_calls(unet: nn.Module, seen: Callable[[tuple, dict], None]) -> Callable[[], None]:
    """Call `seen(args, kwargs)` before each call of `unet`; returns the function that ends it."""

    def hook(_module: nn.Module, args: tuple, kwargs: dict) -> None:
        seen(args, kwargs)

    return unet.register_forward_pre_hook(hook, with_kwargs=True).remove


def what_is_on(unet: nn.Module) -> dict[str, list[str]]:
    """Which edits stand on `unet` now: module path -> owners, outermost first. Empty when it is untouched."""
    found = {}
    for path, module in unet.named_modules():
        chain = vars(module).get("forward")
        if isinstance(chain, _Chain) and chain.links:
            found[path] = [link.owner for link in chain.outermost_first()]
    return found
