"""The projection against the Fourier transform that it stands for, and against waves whose share in it is known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from lib_unetmod.parts.maps.low_frequencies import fourier_filter, highest

SIZES = [(1, 1), (1, 7), (9, 1), (1, 2), (2, 2), (3, 2), (3, 5), (8, 8), (9, 40), (17, 24), (33, 4), (64, 64)]
CUTOFFS = (0.0, 0.05, 0.3, 0.5, 0.77, 1.0)


def by_fft(x: Tensor, low: float, high: float, cutoff: float) -> Tensor:
    """The filter as ljleb's extension has it, in double precision; at `high` 1 and `cutoff` 0 it is the published one."""
    spectrum = torch.fft.fftshift(torch.fft.fftn(x.double(), dim=(-2, -1)), dim=(-2, -1))
    factors = torch.full(x.shape, high, dtype=torch.float64)
    row, column = x.shape[-2] // 2, x.shape[-1] // 2
    rows, columns = (max(1, math.floor(centre * cutoff)) for centre in (row, column))
    factors[..., row - rows : row + rows, column - columns : column + columns] = low
    return torch.fft.ifftn(torch.fft.ifftshift(spectrum * factors, dim=(-2, -1)), dim=(-2, -1)).real


def noise(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("cutoff", CUTOFFS)
@pytest.mark.parametrize("low, high", [(0.2, 1.0), (-0.7, 1.3), (1.0, 0.0)])
def test_is_the_fourier_filter_to_rounding(size, cutoff, low, high):
    x = noise(2, 3, *size)
    torch.testing.assert_close(fourier_filter(x, low, high, cutoff), by_fft(x, low, high, cutoff), rtol=0, atol=1e-13)


def test_nothing_of_what_lies_in_new_memory_comes_out():
    """torch 2.0 takes memory that was not written times 0, which is NaN where there was one."""
    x = noise(2, 3, 9, 1)
    for _ in range(50):
        written = [torch.full((count,), math.nan, dtype=torch.float64) for count in (2, 6, 9, 12, 18, 27, 54, 108)]
        del written
        assert fourier_filter(x, 1.0, 0.0, 0.3).isfinite().all()


@pytest.mark.parametrize("cutoff", (0.0, 0.4))
@pytest.mark.parametrize("dtype, eps", [(torch.float32, 0), (torch.bfloat16, 2**-8), (torch.float16, 2**-11)])
def test_in_lower_precision_only_the_result_is_rounded(dtype, eps, cutoff):
    x = noise(2, 5, 40, 24, dtype=dtype) + 3
    out, exact = fourier_filter(x, 0.2, 1.1, cutoff), by_fft(x, 0.2, 1.1, cutoff)
    assert out.dtype == dtype
    assert ((out.double() - exact).abs() <= eps * exact.abs() + 1e-5).all()


def test_nothing_overflows_in_half_precision():
    x = torch.full((1, 2, 64, 64), 60000.0, dtype=torch.float16)
    torch.testing.assert_close(fourier_filter(x, 0.5), torch.full_like(x, 30000))


def test_autocast_takes_no_precision_away():
    x = noise(2, 5, 24, 24, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(fourier_filter(x, 0.2), fourier_filter(x, 0.2).float())
        out = fourier_filter(x, 0.2)
    torch.testing.assert_close(out, by_fft(x, 0.2, 1.0, 0.0).float(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("size", [(16, 16), (9, 15)], ids=str)
def test_waves_keep_the_share_that_the_box_has_of_them(size):
    """A real wave is made of two frequencies, u and -u, and of the pair -1 and 1 the box holds one."""
    down, across = (torch.arange(n, dtype=torch.float64) * 2 * math.pi / n for n in size)

    def wave(u: int, v: int, phase: float = 0.3) -> Tensor:
        return (u * down[:, None] + v * across + phase).cos()[None, None]

    for (u, v), share in {
        (0, 0): 1, (1, 0): 0.5, (0, 1): 0.5, (1, 1): 0.5, (1, -1): 0, (2, 0): 0, (0, 2): 0, (2, 1): 0
    }.items():  # fmt: skip
        inside = fourier_filter(wave(u, v), low=1, high=0)
        torch.testing.assert_close(inside, share * wave(u, v), rtol=0, atol=1e-13)


@pytest.mark.parametrize(
    "size, by_cutoff",
    [
        (64, {0: 1, 0.03: 1, 0.1: 3, 0.5: 16, 1: 32}),
        (8, {0: 1, 0.49: 1, 0.5: 2, 0.74: 2, 0.75: 3, 1: 4}),
        (7, {0: 1, 0.7: 2, 1: 3}),
        (3, {0: 1, 1: 1}),
        (2, {0: 1, 1: 1}),
        (1, {0: 0, 1: 0}),
    ],
)
def test_the_box_by_hand(size, by_cutoff):
    assert {cutoff: highest(size, cutoff) for cutoff in by_cutoff} == by_cutoff


@pytest.mark.parametrize("cutoff", (0.0, 0.6))
def test_moves_with_the_map_on_a_torus(cutoff):
    x = noise(1, 3, 12, 9)
    rolled = fourier_filter(x.roll((5, 2), (2, 3)), 0.2, 1.2, cutoff)
    torch.testing.assert_close(rolled, fourier_filter(x, 0.2, 1.2, cutoff).roll((5, 2), (2, 3)))


@pytest.mark.parametrize("layout", ("slice", "channels_last", "transposed"))
def test_any_layout_in_memory_and_never_in_place(layout):
    x = noise(3, 6, 12, 9)
    given = {
        "slice": torch.cat([x, x], 1)[:, 6:],
        "channels_last": x.to(memory_format=torch.channels_last),
        "transposed": x.transpose(2, 3).contiguous().transpose(2, 3),
    }[layout]
    out = fourier_filter(given, 0.2, 1.2, 0.3)
    torch.testing.assert_close(out, by_fft(x, 0.2, 1.2, 0.3))
    assert torch.equal(given, x) and out.data_ptr() != given.data_ptr()
    assert fourier_filter(given, 1.0).data_ptr() != given.data_ptr()


def test_what_was_cached_under_inference_mode_serves_gradients_too():
    x = noise(1, 2, 11, 13)
    with torch.inference_mode():
        expected = fourier_filter(x, 0.2)
    with torch.enable_grad():
        x.requires_grad_()
        out = fourier_filter(x, 0.2)
        out.sum().backward()
    # The sum is the lowest frequency alone.
    torch.testing.assert_close(x.grad, torch.full_like(x, 0.2))
    assert torch.equal(out.detach(), expected)
