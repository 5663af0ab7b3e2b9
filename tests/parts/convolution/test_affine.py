"""A layer's answer with its weight and bias multiplied, against a copy of it whose weight and bias are."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from lib_unetmod.parts.convolution.affine import rescaled


def layers():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return [
            nn.Conv2d(8, 6, 3, padding=1),
            nn.Conv2d(8, 6, 3, padding=1, padding_mode="circular"),
            nn.Conv2d(8, 6, 1),
            nn.Conv2d(8, 6, 3, stride=2, padding=1),
            nn.Conv2d(8, 6, 3, padding=1, bias=False),
            nn.GroupNorm(4, 8),
            nn.GroupNorm(8, 8),
        ]


def drawn(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("layer", layers(), ids=str)
@pytest.mark.parametrize("weight, bias", [(0.9, 1.2), (1.1, 0.8), (-0.5, 1.0), (1.0, 1.0)])
@pytest.mark.parametrize("size", [(8, 8), (5, 3)], ids=str)
def test_equals_an_edited_copy(layer, weight, bias, size):
    layer = copy.deepcopy(layer).double()
    if isinstance(layer, nn.GroupNorm):
        layer.weight.copy_(drawn(8, seed=2))
        layer.bias.copy_(drawn(8, seed=3))
    edited = copy.deepcopy(layer)
    edited.weight.mul_(weight)
    if edited.bias is not None:
        edited.bias.mul_(bias)
    x = 3 + drawn(2, 8, *size)
    before = x.clone()
    out = rescaled(layer, x, weight, bias)
    torch.testing.assert_close(out, edited(x), rtol=1e-12, atol=1e-12)
    assert torch.equal(x, before)


def test_what_a_host_adds_to_the_weight_in_the_call_is_multiplied_too():
    """A LoRA beside the weight, which another would have merged into it."""
    layer = copy.deepcopy(layers()[0]).double()
    down, up = drawn(2, 8, 3, 3, seed=4), drawn(6, 2, 1, 1, seed=5)

    def call(x):
        return layer(x) + nn.functional.conv2d(nn.functional.conv2d(x, down, padding=1), up)

    merged = copy.deepcopy(layer)
    merged.weight.add_((up[:, :, 0, 0] @ down.flatten(1)).view_as(merged.weight)).mul_(0.9)
    merged.bias.mul_(1.2)
    x = drawn(2, 8, 6, 6)
    torch.testing.assert_close(rescaled(call, x, 0.9, 1.2), merged(x), rtol=1e-12, atol=1e-12)


def test_half_precision_in_and_out():
    layer = layers()[0].bfloat16()
    x = drawn(2, 8, 6, 6).bfloat16()
    out = rescaled(layer, x, 0.9, 1.2)
    assert out.dtype == torch.bfloat16
    edited = copy.deepcopy(layer).float()
    edited.weight.mul_(0.9)
    edited.bias.mul_(1.2)
    # torch 2.0 adds up in bfloat16 too.
    torch.testing.assert_close(out.float(), edited(x.float()), rtol=0.05, atol=0.05)
