from __future__ import annotations

import pytest
from soak import soak


@pytest.mark.slow
def test_nothing_grows_and_nothing_is_left():
    """The short form of `tests/soak.py`; what is left on the U-Net, and plain pictures, it asserts itself."""
    samples, ended = soak(lambda pictures: pictures < 24)
    assert ended["drawn"] > 8 and ended["interrupted"] > 2
    # The first pictures fill caches of tables (waves, windows, dispersion's maps) that are bounded.
    warm, last = samples[2], samples[-1]
    assert last.tensors - warm.tensors < 40 and last.tensor_bytes - warm.tensor_bytes < 2**20
    assert last.objects - warm.objects < 2000
