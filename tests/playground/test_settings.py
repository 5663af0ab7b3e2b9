"""Wrong settings are refused by name."""

from __future__ import annotations

import pytest
from small_model import settings

from lib_unetmod.playground.settings import LABELS, SettingsError


@pytest.mark.parametrize(
    "wrong",
    [{"steps": 0}, {"steps": 2.5}, {"cfg": float("nan")}, {"width": 5000}, {"strength": 1.2}, {"sampler": "plms"},
     {"seed": None}, {"seed": 2**32}, {"seed": -2}, {"prompt": None}, {"sampler": []}, {"cfg": 10**400}],
)  # fmt: skip
def test_wrong_settings_are_refused_by_name(wrong):
    (name,) = wrong
    with pytest.raises(SettingsError, match=f"^{LABELS[name]} is .*; it takes .*\\.$"):
        settings(**wrong)
