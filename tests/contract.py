"""What the contract test is run over: every registered method with the configs its own test file names in `CONTRACT`.

Each test file names in `NEUTRAL` the config of its method that changes nothing. A method that acts on nothing but what a
host says (the contract has no host that speaks) says so in `CONTRACT_REASON`, and tests the contract's items itself.
`RESIZES = True` says that the method changes the size of skip connections, for which hosts fit control's residuals each in
their own way.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

import pytest
from torch import nn

from lib_unetmod import METHODS, Config
from lib_unetmod.core.registry import method_of


def contract_configs(others_slow: bool = False) -> list:
    """One pytest parameter for each config; a method without any fails here, so that none escapes the contract.

    With `others_slow` all but the first of each method are marked slow: for what hangs on where edits lie, not on knobs.
    """
    params = []
    for name in METHODS:
        tests = tests_of(name)
        if getattr(tests, "CONTRACT_REASON", ""):
            continue
        configs = tests.CONTRACT
        assert configs, f"test_{name}.py names no CONTRACT configs"
        for i, config in enumerate(configs):
            marks = [pytest.mark.slow] if others_slow and i else []
            params.append(pytest.param(config, id=f"{name}-{i}", marks=marks))
    return params


def contract_cases(others_slow: bool = False) -> list:
    """A parameter for each config and family: a method's first config in both, its others in turn; the rest is slow."""
    params = []
    for config in contract_configs(others_slow):
        number = int(config.id.rpartition("-")[2])
        for place, family in enumerate(("sd1", "sdxl")):
            out_of_turn = number and (number + place) % 2 == 0
            marks = [*config.marks, *([pytest.mark.slow] if out_of_turn else [])]
            params.append(pytest.param(*config.values, family, id=f"{config.id}-{family}", marks=marks))
    return params


def tests_of(name: str) -> ModuleType:
    """The test file of a method, which lies as the method's own file does."""
    return import_module(f"tests.methods.{METHODS[name].group}.test_{name}")


def resizes(config: Config) -> bool:
    """Whether the method changes the size of skip connections."""
    return getattr(tests_of(method_of(config).name), "RESIZES", False)


def neutral(config: Config) -> Config:
    """The same method with its own knobs at values that change nothing."""
    return tests_of(method_of(config).name).NEUTRAL


def snapshot(unet: nn.Module) -> dict[str, tuple]:
    """The identity of everything a run may touch: each module's attributes, hook dicts, parameters and buffers."""
    return {
        path: (type(module), _identities(vars(module)), *(_identities(vars(module)[name]) for name in _DICTS))
        for path, module in unet.named_modules()
    }


_DICTS = (
    "_parameters",
    "_buffers",
    "_modules",
    "_forward_hooks",
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
    "_forward_hooks_with_kwargs",
)


def _identities(attributes: dict) -> tuple:
    # A bound method read from an instance is the same object only when it is stored there, as a foreign wrapper does.
    return tuple((name, id(value)) for name, value in attributes.items() if not isinstance(value, (bool, int, float)))
