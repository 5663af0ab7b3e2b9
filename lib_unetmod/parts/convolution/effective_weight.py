"""The weight with which a convolution really convolves, whatever its host does to it in the call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...core.tables import sent, table

#: Numbers that differ by less of their length are the same in half precision; a LoRA's share is larger.
_ROUNDING = 0.004


@dataclass(frozen=True)
class EffectiveWeight:
    """Weight (O, I, 3, 3) and bias (O,) of a convolution as its host applies them, in the dtype of what it returns.

    `costly` says that they were read off the convolution's answers.
    """

    weight: Tensor
    bias: Tensor
    costly: bool = False


def effective_weight(
    call: Callable[[Tensor], Tensor], module: nn.Conv2d, like: Tensor, costly: bool | None = None
) -> EffectiveWeight | None:
    """The weight with which `call`, the module's own call as it stands, convolves maps of the dtype of `like`.

    The call itself, on one 5x5 map and one of zeros, makes a host do to the weight what it does on the way: put LoRAs into
    it, for one. Where the weight that then stands on the module gives the same answer, it is the one. Where it does not
    (LoRA beside the weight, packed or quantised weights), the weight is read off the answers to maps with a single 1, one
    for each input channel; None where a stride leaves that too little to see.

    Args:
        costly: which of the two it was when it was last looked at. Looking waits for the device.
    """
    asked = _probe(module.in_channels, like.device, like.dtype)
    centre = 2 // module.stride[0], 2 // module.stride[1]
    answer, bias = call(torch.cat([asked, torch.zeros_like(asked)]))[..., centre[0], centre[1]]
    weight = module.weight
    if not costly and weight.shape == (module.out_channels, module.in_channels, 3, 3) and weight.is_floating_point():
        weight = weight.detach().to(answer.device, answer.dtype)
        if costly is False or _answers(weight, asked, answer, bias):
            return EffectiveWeight(weight, bias.to(weight.dtype))
    return None if module.stride != (1, 1) else EffectiveWeight(_read_off(call, module, like, bias), bias, costly=True)


def _answers(weight: Tensor, asked: Tensor, answer: Tensor, bias: Tensor) -> bool:
    own = F.conv2d(asked[..., 1:4, 1:4].to(answer.dtype), weight)[0, :, 0, 0]
    return bool((own + bias - answer).float().norm() <= _ROUNDING * (answer - bias).float().norm())


@table
def _probe(channels: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """(1, C, 5, 5): 1 and -1 without a pattern, the same every time. At its centre a convolution sees no padding."""
    drawn = torch.randint(2, (1, channels, 5, 5), generator=torch.Generator().manual_seed(0))
    return sent((2 * drawn - 1).to(dtype), device)


def _read_off(call: Callable[[Tensor], Tensor], module: nn.Conv2d, like: Tensor, bias: Tensor) -> Tensor:
    """On a 3x3 map with a 1 in the middle, the answer is the kernel turned by half a turn."""
    ones = torch.eye(module.in_channels, device=like.device, dtype=like.dtype)
    maps = F.pad(ones[:, :, None, None], (1, 1, 1, 1))
    return (call(maps) - bias[:, None, None]).flip((2, 3)).transpose(0, 1).contiguous()
