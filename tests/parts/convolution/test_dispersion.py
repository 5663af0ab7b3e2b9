"""The map that disperses kernels against its definition and the published one; its file; weights as hosts see them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lib_unetmod.parts.convolution import dispersion_file
from lib_unetmod.parts.convolution.dispersion import dispersed, dispersed_weight
from lib_unetmod.parts.convolution.dispersion_file import dispersion_matrix
from lib_unetmod.parts.convolution.dispersion_matrix import least_squares, rounded
from lib_unetmod.parts.convolution.effective_weight import effective_weight

#: Columns for the corner and the upper middle tap of the authors' R20to1_new.mat (5x5, scale 2), to five places.
PUBLISHED = {
    0: [
        [0.64879, 0.27579, -0.10722, 0.06166, -0.02628],
        [0.27579, 0.13280, -0.05489, 0.03235, -0.01389],
        [-0.10722, -0.05489, 0.02297, -0.01349, 0.00576],
        [0.06166, 0.03235, -0.01349, 0.00785, -0.00333],
        [-0.02628, -0.01389, 0.00576, -0.00333, 0.00141],
    ],
    1: [
        [-0.00286, 0.00607, 0.79576, 0.00607, -0.00286],
        [0.00365, -0.00776, 0.36048, -0.00776, 0.00365],
        [-0.00175, 0.00375, -0.14331, 0.00375, -0.00175],
        [0.00086, -0.00186, 0.08268, -0.00186, 0.00086],
        [-0.00030, 0.00066, -0.03517, 0.00066, -0.00030],
    ],
}
MAPS = [(5, 2.0, 2.0), (5, 1.5, 1.5), (5, 1.0, 2.0), (7, 3.0, 3.0), (7, 2.25, 1.0), (7, 1.75, 2.5)]

maps = pytest.mark.parametrize("kernel, down, across", MAPS)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def seeded(*shape, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64).to(dtype)


def loss(spread, kernel, scales, side=(7, 7), weight=0.05):
    """The two wishes, said with torch's own enlarging and convolving: for each single 1 in x and in k."""
    x = torch.eye(side[0] * side[1], dtype=torch.float64).view(-1, 1, *side)
    small = torch.eye(9, dtype=torch.float64).view(9, 1, 3, 3)
    large = spread.T.view(9, 1, kernel, kernel)
    size = [round(scale * (cells - 1)) + 1 for scale, cells in zip(scales, side, strict=True)]

    def up(z):
        return F.interpolate(z, size, mode="bilinear", align_corners=True)

    plain, spread_out = F.conv2d(x, small, padding=1), F.conv2d(x, large, padding=kernel // 2)
    structure = F.conv2d(up(x), large, padding=kernel // 2) - up(plain)
    return structure.square().sum() + (weight * (spread_out - plain)).square().sum()


def side_for(scale):
    return next(side for side in range(7, 12) if (scale * (side - 1)).is_integer())


@maps
def test_it_is_the_least_squares_answer(kernel, down, across):
    """The loss is convex; it is least where its gradient is zero."""
    spread = torch.from_numpy(least_squares(kernel, down, across)).requires_grad_()
    side = side_for(down), side_for(across)
    if side[0] == side[1] == 7:  # the pixels are those of one map
        with torch.enable_grad():
            value = loss(spread, kernel, (down, across), side)
            (slope,) = torch.autograd.grad(value, spread)
        assert slope.abs().max() < 1e-9
        gaps = torch.zeros(kernel, kernel, 9, dtype=torch.float64)
        for tap in range(9):
            y, x = tap // 3 - 1, tap % 3 - 1
            gaps[kernel // 2 + round(y * down), kernel // 2 + round(x * across), tap] = 1
        assert value.detach() < 0.9 * loss(gaps.flatten(0, 1), kernel, (down, across), side) or down == across == 1
    else:
        assert spread.isfinite().all()


def test_the_published_map():
    """The authors look at maps of 3x3, scale 2, and weigh pixels by 0.05."""
    spread = least_squares(5, 2.0, 2.0, side=3)
    for column, numbers in PUBLISHED.items():
        np.testing.assert_allclose(spread[:, column].reshape(5, 5), numbers, atol=1e-5)
    np.testing.assert_allclose(spread[:, 4], np.eye(25)[12], atol=1e-9)
    np.testing.assert_allclose(spread.sum(0), [1.127, 1.061, 1.127, 1.061, 1, 1.061, 1.127, 1.061, 1.127], atol=1e-3)


@pytest.mark.parametrize("kernel", (5, 7))
@pytest.mark.parametrize("scale", (1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0))
def test_columns_sum_to_about_one(kernel, scale):
    if scale <= kernel // 2:
        sums = least_squares(kernel, scale, scale).sum(0)
        assert sums.min() > 0.95 and sums.max() < 1.12 and sums[4] == pytest.approx(1, abs=1e-9)


@maps
def test_it_has_the_kernels_symmetries(kernel, down, across):
    spread = least_squares(kernel, down, across).reshape(kernel, kernel, 3, 3)
    np.testing.assert_allclose(spread, spread[::-1, :, ::-1], atol=1e-9)
    np.testing.assert_allclose(spread, spread[:, ::-1, :, ::-1], atol=1e-9)
    turned = least_squares(kernel, across, down).reshape(kernel, kernel, 3, 3)
    np.testing.assert_allclose(spread, turned.transpose(1, 0, 3, 2), atol=1e-9)


@pytest.mark.parametrize("kernel", (5, 7))
def test_scale_one_is_the_kernel_itself(kernel):
    weight = seeded(4, 3, 3, 3, dtype=torch.float64)
    around = kernel // 2 - 1
    expected = F.pad(weight, (around,) * 4)
    torch.testing.assert_close(dispersed_weight(weight, kernel, (1.0, 1.0)), expected, rtol=1e-9, atol=1e-9)


def test_what_it_is_for():
    """A kernel's answer on a map, enlarged, is nearly the dispersed kernel's on the enlarged map."""
    x, weight = seeded(1, 4, 12, 12, dtype=torch.float64), seeded(4, 4, 3, 3, dtype=torch.float64)
    up = {"size": (23, 23), "mode": "bilinear", "align_corners": True}
    expected = F.interpolate(F.conv2d(x, weight, padding=1), **up)[..., 4:-4, 4:-4]
    enlarged = F.interpolate(x, **up)
    wide = F.conv2d(enlarged, dispersed_weight(weight, 5, (2.0, 2.0)), padding=2)[..., 4:-4, 4:-4]
    plain = F.conv2d(enlarged, weight, padding=1)[..., 4:-4, 4:-4]
    assert (wide - expected).norm() < 0.35 * (plain - expected).norm()


# The file.


def test_a_map_is_kept_and_read(tmp_path, monkeypatch):
    computed = dispersion_matrix(5, 2.0, 1.5)
    (file,) = (tmp_path / "unetmod").iterdir()
    assert file.suffix == ".npy" and np.array_equal(np.load(file, allow_pickle=False), computed)
    monkeypatch.setattr(dispersion_file, "least_squares", None)
    assert np.array_equal(dispersion_matrix(5, 2.0, 1.5), computed)


@pytest.mark.parametrize("fault", ("garbage", "empty", "cut", "pickle", "shape", "type", "nan", "other", "archive"))
def test_a_spoilt_file_is_computed_anew(tmp_path, fault):
    computed = dispersion_matrix(5, 2.0, 2.0)
    (file,) = (tmp_path / "unetmod").iterdir()
    whole = file.read_bytes()
    if fault in ("garbage", "empty", "cut"):
        file.write_bytes({"garbage": b"\x00\x01not a map", "empty": b"", "cut": whole[: len(whole) // 2]}[fault])
    elif fault == "archive":
        with file.open("wb") as opened:
            np.savez(opened, computed)
    else:
        spoilt = {
            "pickle": np.array([{"a": 1}], dtype=object),
            "shape": computed[:9],
            "type": computed.astype(np.float32),
            "nan": np.full_like(computed, np.nan),
            "other": np.zeros_like(computed),
        }[fault]
        np.save(file, spoilt, allow_pickle=True)
    assert np.array_equal(dispersion_matrix(5, 2.0, 2.0), computed)
    assert file.read_bytes() == whole


def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    np.testing.assert_array_equal(dispersion_matrix(5, 2.0, 2.0), least_squares(5, 2.0, 2.0))


# Weights as hosts see them.


def plain_convolution(stride=1, mode="zeros", channels=(6, 4)):
    module = nn.utils.skip_init(nn.Conv2d, *channels, 3, padding=1, stride=stride, padding_mode=mode)
    module.weight.data, module.bias.data = seeded(*module.weight.shape), seeded(*module.bias.shape)
    return module.requires_grad_(False)


def direct(weight, bias, x, kernel, factors, stride=1):
    """Every output by the definition: taps of the spread kernel times what lies under them, zeros outside."""
    dilation = [-(-factor // (kernel // 2)) for factor in factors]
    scales = [factor / d for factor, d in zip(factors, dilation, strict=True)]
    spread = torch.from_numpy(least_squares(kernel, *scales)).float()
    out = torch.zeros(x.shape[0], weight.shape[0], *x.shape[-2:]) + bias[:, None, None]
    for tap in range(kernel * kernel):
        y, z = (int(d) * (at - kernel // 2) for d, at in zip(dilation, divmod(tap, kernel), strict=True))
        moved = torch.zeros_like(x)
        height, width = x.shape[-2:]
        for i in range(max(0, -y), min(height, height - y)):
            for j in range(max(0, -z), min(width, width - z)):
                moved[:, :, i, j] = x[:, :, i + y, j + z]
        taps = (weight.flatten(2) * spread[tap]).sum(2)
        out += torch.einsum("oi,bihw->bohw", taps, moved)
    return out[..., ::stride, ::stride]


@pytest.mark.parametrize(
    "kernel, factors", [(5, (2.0, 2.0)), (5, (4.0, 1.5)), (7, (3.0, 3.0)), (7, (4.0, 2.0)), (5, (1.0, 2.0))]
)
@pytest.mark.parametrize("stride", (1, 2))
def test_a_dispersed_convolution_is_its_definition(kernel, factors, stride):
    module, x = plain_convolution(stride), seeded(2, 6, 7, 10)
    seen = effective_weight(module, module, x)
    assert not seen.costly and torch.equal(seen.weight, module.weight)
    out = dispersed(x, seen, kernel, factors, module.stride)
    torch.testing.assert_close(out, direct(module.weight, module.bias, x, kernel, factors, stride), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", [(8, 12), (3, 2), (9, 7)])
def test_a_torus_stays_one(size):
    module, x = plain_convolution(mode="circular"), seeded(1, 6, *size)
    seen = effective_weight(module, module, x)
    out = dispersed(x, seen, 5, (4.0, 2.0), circular=True)
    rolled = dispersed(x.roll((1, 1), (2, 3)), seen, 5, (4.0, 2.0), circular=True)
    torch.testing.assert_close(rolled, out.roll((1, 1), (2, 3)), rtol=1e-4, atol=1e-4)
    x = x.repeat(1, 1, 5, 5)
    middle = dispersed(x, seen, 5, (4.0, 2.0))[..., 2 * size[0] : 3 * size[0], 2 * size[1] : 3 * size[1]]
    if min(size) > 4:
        torch.testing.assert_close(out, middle, rtol=1e-4, atol=1e-4)


def test_lora_that_a_host_writes_into_the_weight_on_the_way():
    """AUTOMATIC1111's way: the weight is as without the LoRA until the first call."""
    module, lora, x = plain_convolution(), 0.1 * seeded(4, 6, 3, 3), seeded(1, 6, 5, 5)
    expected = module.weight + lora
    applied = []

    def host(maps):
        if not applied:
            module.weight.copy_(module.weight + lora)
            applied.append(True)
        return module(maps)

    seen = effective_weight(host, module, x)
    assert torch.equal(seen.weight, expected) and not seen.costly


@pytest.mark.parametrize("strength", (1.0, 0.05))
def test_lora_beside_the_weight(strength):
    module, lora, x = plain_convolution(), plain_convolution(channels=(6, 4)), seeded(1, 6, 5, 5)
    lora.weight.data = strength * lora.weight.flip(0)
    seen = effective_weight(lambda maps: module(maps) + lora(maps), module, x)
    assert seen.costly
    torch.testing.assert_close(seen.weight, module.weight + lora.weight, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(seen.bias, module.bias + lora.bias)


@pytest.mark.parametrize("mode", ("zeros", "circular"))
def test_packed_weights_are_read_off(mode):
    module, x = plain_convolution(mode=mode), seeded(1, 6, 5, 5)
    host = plain_convolution(mode=mode)
    module.weight = nn.Parameter(torch.zeros(3, 7, dtype=torch.uint8), requires_grad=False)
    seen = effective_weight(host, module, x)
    assert seen.costly
    torch.testing.assert_close(seen.weight, host.weight, rtol=1e-5, atol=1e-5)
    strided = plain_convolution(stride=2)
    strided.weight = module.weight
    assert effective_weight(plain_convolution(stride=2), strided, x) is None


@pytest.mark.skipif(not hasattr(torch, "float8_e4m3fn"), reason="8-bit floats are younger than torch 2.0")
@pytest.mark.parametrize("inner", [torch.float32, torch.bfloat16])
def test_fp8_that_a_host_casts_for_the_call(inner):
    """AUTOMATIC1111's manual cast: the module is of the inner type during the call alone."""
    kept = torch.float8_e4m3fn
    module, x = plain_convolution(), seeded(1, 6, 5, 5, dtype=inner)
    module.to(kept)

    def host(maps):
        module.to(inner)
        out = module(maps)
        module.to(kept)
        return out

    seen = effective_weight(host, module, x)
    assert not seen.costly and seen.weight.dtype == inner and torch.equal(seen.weight, module.weight.to(inner))
    assert module.weight.dtype == kept
    assert dispersed(x, seen, 5, (2.0, 2.0)).dtype == inner


def test_autocast():
    module, x = plain_convolution(), seeded(1, 6, 9, 9)
    single = dispersed(x, effective_weight(module, module, x), 5, (2.0, 2.0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        seen = effective_weight(module, module, x)
        half = dispersed(x, seen, 5, (2.0, 2.0))
    assert half.dtype == torch.bfloat16 and not seen.costly
    assert (half.float() - single).abs().mean() < 0.02 * single.abs().mean()


def test_scales_are_rounded_to_quarters():
    assert [rounded(scale) for scale in (1.0, 1.3, 1.9, 2.0)] == [1, 1.25, 2, 2]
