"""What a layer would answer with its weight and bias multiplied, from what it answers with them as they are.

A convolution or a normalisation answers y = W(x) + b, and W(0) = 0. With weight times w and bias times v it would answer
w W(x) + v b = w y + (v - w) b, where b is its answer to zeros. So nothing is edited, and whatever a host does in the call,
LoRA, casting from fp8, another class, is in both y and b.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor


def rescaled(call: Callable[[Tensor], Tensor], x: Tensor, weight: float, bias: float) -> Tensor:
    """The layer's answer to `x` (B, C, H, W) with its weight times `weight` and its bias times `bias`: a fresh tensor.

    Args:
        call: the layer's own call: a convolution, which may pad with zeros or circularly, or a group norm.
    """
    # Of two by two: a norm needs more than one number in a group.
    of_zeros = call(x.new_zeros(1, x.shape[1], 2, 2))
    return weight * call(x) + (bias - weight) * of_zeros[..., :1, :1]
