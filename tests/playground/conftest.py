from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from small_model import tensors_of
from torch import nn

from lib_unetmod.playground import cli
from lib_unetmod.playground import model as playground_model


@pytest.fixture(scope="session")
def model() -> playground_model.SmallModel:
    """The checkpoint's modules with random weights; the projections that start at zero get some, to have an effect."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = playground_model.build(vocabulary=["red", "apple", "owl"]).eval().requires_grad_(False)
        for module in model.unet.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)) and not module.weight.any():
                nn.init.normal_(module.weight, std=0.7 * module.weight[0].numel() ** -0.5)
    return model


@pytest.fixture(scope="session")
def checkpoint(model: playground_model.SmallModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its file."""
    path = tmp_path_factory.mktemp("checkpoint") / "random.safetensors"
    save_file(tensors_of(model), path, {"architecture": json.dumps(model.architecture)})
    return path


@pytest.fixture
def run(
    checkpoint: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str, str]]:
    """The command line with that file, and no user's folder: its exit status, and what it prints to both."""
    monkeypatch.setattr("lib_unetmod.playground.cli.tuned_folder", lambda: tmp_path / "nothing tuned")

    def run(*arguments: Any) -> tuple[int, str, str]:
        code = cli.main([*map(str, arguments), "--checkpoint", str(checkpoint)])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run
