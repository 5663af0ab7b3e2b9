"""Distances of pictures, against numbers by hand."""

from __future__ import annotations

import pytest
from PIL import Image

from lib_unetmod.playground.distance import distance


def test_psnr_and_ssim_against_numbers_by_hand():
    black, grey = (Image.new("RGB", (16, 16), (v, v, v)) for v in (0, 51))
    # an error of 51 = 255/5 everywhere: 10 log10(25) = 13.979 dB
    assert distance(black, grey).psnr == pytest.approx(13.9794, abs=1e-4)
    # flat pictures: SSIM is c1 / (51^2 + c1) with c1 = (0.01 * 255)^2 = 6.5025
    assert distance(black, grey).ssim == pytest.approx(6.5025 / (51**2 + 6.5025), rel=1e-6)
    assert str(distance(grey, grey.copy())) == "identical" and distance(grey, grey).ssim == pytest.approx(1)
    with pytest.raises(ValueError, match="sizes"):
        distance(grey, Image.new("RGB", (16, 17)))
