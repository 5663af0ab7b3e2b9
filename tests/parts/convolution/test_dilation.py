"""Convolutions by phases against torch's own dilated ones, and fractions against the published steps."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from unets import half_on_the_cpu

from lib_unetmod.parts.convolution.dilation import convolved_size, dilated, enlarged_size, is_dilatable, re_dilated
from lib_unetmod.parts.maps.resize import resize

SIZES = [(8, 8), (9, 12), (5, 3), (17, 24), (1, 1), (2, 7)]
DILATIONS = [(1, 1), (2, 2), (3, 2), (1, 4), (5, 5)]

sizes = pytest.mark.parametrize("size", SIZES, ids=str)
modes = pytest.mark.parametrize("mode", ("zeros", "circular"))
strides = pytest.mark.parametrize("stride", (1, 2))


def convolution(mode="zeros", stride=1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    module = nn.utils.skip_init(nn.Conv2d, 3, 4, 3, padding=1, stride=stride, padding_mode=mode, dtype=torch.float64)
    for parameter in module.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return module.requires_grad_(False)


def seeded(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def reference(module, x, dilation):
    """torch's dilated convolution; on a torus of the map with as much of its other edge around it."""
    if module.padding_mode == "zeros":
        return F.conv2d(x, module.weight, module.bias, module.stride, dilation, dilation)
    rows, columns = (torch.arange(-d, side + d) % side for d, side in zip(dilation, x.shape[-2:], strict=True))
    return F.conv2d(x[:, :, rows][..., columns], module.weight, module.bias, module.stride, 0, dilation)


@sizes
@modes
@strides
@pytest.mark.parametrize("dilation", DILATIONS, ids=str)
def test_phases_are_the_dilated_convolution(size, mode, stride, dilation):
    module, x = convolution(mode, stride), seeded(2, 3, *size)
    before = x.clone()
    out = dilated(module, x, dilation, (stride, stride), mode == "circular")
    torch.testing.assert_close(out, reference(module, x, dilation), rtol=1e-12, atol=1e-12)
    assert torch.equal(x, before) and out.is_contiguous()
    assert tuple(out.shape[-2:]) == convolved_size(size, (stride, stride)) == tuple(module(x).shape[-2:])


def test_one_call_of_the_module_as_it_stands():
    """What a host does around a convolution acts on a dilated one: here, a LoRA beside the weight and a cast."""
    module, lora, x = convolution(), convolution(seed=5), seeded(2, 3, 9, 12)
    calls = []

    def host(maps):
        calls.append(maps.shape)
        return (module(maps.double()) + 0.5 * lora(maps.double())).float()

    out = dilated(host, x.float(), (3, 2))
    expected = reference(module, x, (3, 2)) + 0.5 * reference(lora, x, (3, 2))
    torch.testing.assert_close(out, expected.float(), rtol=1e-4, atol=1e-4)
    assert calls == [(2 * 3 * 2, 3, 3, 6)]  # as many numbers as came in: as many products as undilated
    assert (module.dilation, module.padding, module.stride) == ((1, 1), (1, 1), (1, 1))


@sizes
@strides
@pytest.mark.parametrize("factors", [(2.5, 2.5), (1.5, 3.0), (1.0, 1.25), (2.0, 2.0)], ids=str)
def test_fractions_are_the_published_steps(size, stride, factors):
    """Enlarge by d / factor, convolve with d = ceil(factor), resize to what the convolution gives (bilinear, rounded)."""
    module, x = convolution(stride=stride), seeded(1, 3, *size)
    d = tuple(math.ceil(factor) for factor in factors)
    larger = tuple(round(side * math.ceil(f) / f) for side, f in zip(size, factors, strict=True))
    enlarged = F.interpolate(x, larger, mode="bilinear")
    expected = F.interpolate(reference(module, enlarged, d), tuple(module(x).shape[-2:]), mode="bilinear")
    torch.testing.assert_close(re_dilated(module, x, factors, (stride, stride)), expected)


@strides
@pytest.mark.parametrize("factor", (1.5, 2.0, 2.5, 3.0))
def test_a_torus_stays_one(stride, factor):
    module, x = convolution("circular", stride), seeded(1, 3, 8, 12)
    out = re_dilated(module, x, (factor, factor), (stride, stride), True)
    rolled = re_dilated(module, x.roll((4, 6), (2, 3)), (factor, factor), (stride, stride), True)
    torch.testing.assert_close(rolled, out.roll((4 // stride, 6 // stride), (2, 3)))


def test_enlarged_sizes():
    assert enlarged_size((16, 17), (1.5, 2.5)) == (21, 20)  # 16 * 4/3 = 21.33, 17 * 6/5 = 20.4
    assert enlarged_size((16, 17), (1.5, 2.5), circular=True) == (22, 20)
    assert enlarged_size((16, 20), (1.5, 2.5), (2, 2), circular=True) == (20, 24)
    assert enlarged_size((16, 17), (2.0, 1.0)) == (16, 17)


def test_a_wider_convolution_sees_a_larger_picture_as_the_plain_one_sees_the_small():
    """On a map enlarged without interpolation, cell by cell, dilation by the same factor gives the plain answer enlarged."""
    module, x = convolution(), seeded(1, 3, 6, 5)
    larger = resize(x, (18, 15), "nearest")
    torch.testing.assert_close(dilated(module, larger, (3, 3)), resize(module(x), (18, 15), "nearest"))


@pytest.mark.parametrize("dtype", (half_on_the_cpu(), torch.bfloat16))
def test_half_precision(dtype):
    module, x = convolution().to(dtype), seeded(1, 3, 9, 8).to(dtype)
    out = re_dilated(module, x, (1.5, 2.0), (1, 1))
    assert out.dtype == dtype and out.isfinite().all()


def test_which_modules_can_be_dilated():
    assert is_dilatable(convolution()) and is_dilatable(convolution(stride=2))
    assert not is_dilatable(nn.ReLU())
    for arguments in ({"kernel_size": 1}, {"kernel_size": 3}, {"kernel_size": 3, "padding": 2, "dilation": 2}):
        assert not is_dilatable(nn.utils.skip_init(nn.Conv2d, 3, 4, **arguments))
