"""Weights that others change: CD-Tuner and the WebUI's Lora."""

from __future__ import annotations

import functools
from collections.abc import Callable

from torch import Tensor, nn

from .base import Neighbour, neighbour


class Baked(Neighbour):
    """What another writes into weights on the way stands in them from the beginning."""

    def __init__(self, other: Neighbour) -> None:
        super().__init__()
        self.other = other

    def put_on(self, unet: nn.Module) -> None:
        self.other.bake(unet)
        self._undo.append(self.other.take_off)


@neighbour("cd_tuner")
class ForeignCDTuner(Neighbour):
    """The first convolution and the last layers get new parameters before the first evaluation, and old ones at the end.

    The extension's own last act is a copy of the old parameters; here they come back themselves.
    """

    comes_inside = True
    has_zero = False

    def twin(self) -> Neighbour:
        return Baked(self)

    def put_on(self, unet: nn.Module) -> None:
        self.done = False

    def begin_evaluation(self, unet: nn.Module) -> None:
        if not self.done:
            self.done = True
            self.bake(unet)

    def bake(self, unet: nn.Module) -> None:
        for module, bias in ((unet.input_blocks[0][0], 1.1), (unet.out[0], 1)):
            for name, factor in (("weight", 0.95), ("bias", bias)):
                old = getattr(module, name)
                self._undo.append(functools.partial(setattr, module, name, old))
                setattr(module, name, nn.Parameter(old.clone() * factor, requires_grad=False))


@neighbour("lora")
@neighbour("lora_functional", functional=True)
class Lora(Neighbour):
    """The forwards of torch's own classes are replaced. The first call of a layer writes the network into its weight, and
    the first one after the picture writes the old weight back; or nothing is written and each call adds the network's part.

    The classes stay replaced for as long as the WebUI runs; here the U-Net runs once more when its picture is done, and they
    are put back.
    """

    functional = False
    has_zero = False
    writes = ("network_current_names", "network_weights_backup")

    def twin(self) -> Neighbour:
        return Baked(self)

    def bake(self, unet: nn.Module) -> None:
        for module in unet.modules():
            if isinstance(module, (nn.Linear, nn.Conv2d)):
                self._undo.append(functools.partial(module.weight.copy_, module.weight.clone()))
                module.weight.mul_(self.factor)

    @property
    def factor(self) -> float:
        return 1 + 0.02 * self.strength

    def put_on(self, unet: nn.Module) -> None:
        self.loaded = ("network",)
        for name, module in unet.named_modules():
            if isinstance(module, (nn.Linear, nn.Conv2d)):
                module.network_layer_name = name.replace(".", "_")
        for cls in (nn.Linear, nn.Conv2d):
            original = cls.forward
            cls.forward = self.network_forward(original)
            self._undo.append(functools.partial(setattr, cls, "forward", original))
        self._undo.append(lambda: self._restore(unet))

    def network_forward(self, original: Callable) -> Callable:
        def forward(module: nn.Module, x: Tensor) -> Tensor:
            if self.functional:
                return original(module, x) + (self._part(module, original, x) if self._named(module) else 0)
            if self._named(module):
                self.apply_weights(module)
            return original(module, x)

        return forward

    @staticmethod
    def _named(module: nn.Module) -> bool:
        return "network_layer_name" in vars(module)

    def _part(self, module: nn.Module, original: Callable, x: Tensor) -> Tensor:
        out = original(module, x)
        return (self.factor - 1) * (out - (0 if module.bias is None else _as_map(module.bias, out)))

    def apply_weights(self, module: nn.Module) -> None:
        if getattr(module, "network_current_names", ()) == self.loaded:
            return
        if "network_weights_backup" not in vars(module):
            module.network_weights_backup = module.weight.clone()
        module.weight.copy_(module.network_weights_backup)
        for _ in self.loaded:
            module.weight.mul_(self.factor)
        module.network_current_names = self.loaded

    def _restore(self, unet: nn.Module) -> None:
        self.loaded = ()
        for module in unet.modules():
            if not self._named(module):
                continue
            if not self.functional:
                self.apply_weights(module)
            for name in ("network_layer_name", "network_current_names", "network_weights_backup"):
                if name in vars(module):
                    delattr(module, name)


def _as_map(bias: Tensor, out: Tensor) -> Tensor:
    return bias.view(1, -1, 1, 1) if out.ndim == 4 else bias
