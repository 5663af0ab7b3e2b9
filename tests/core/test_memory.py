"""How much memory is free: of the machine, of a GPU, and where nothing tells."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from lib_unetmod.core import memory

CPU, CUDA, OTHER = (torch.device(name) for name in ("cpu", "cuda", "privateuseone"))
PAGES = {"SC_AVPHYS_PAGES": 1000, "SC_PAGE_SIZE": 4096}


def test_the_machines_own_is_told_and_a_quarter_of_it_kept():
    free = memory.free_bytes(CPU)
    assert free > 2**26
    assert memory.kept_by_itself(CPU) == pytest.approx(free / 4, rel=0.5)  # others take and give memory meanwhile


def test_without_psutil_the_system_tells(monkeypatch):
    monkeypatch.setattr(memory, "psutil", None)
    monkeypatch.setattr(memory.os, "sysconf", PAGES.__getitem__, raising=False)
    assert memory.free_bytes(CPU) == memory.free_bytes(torch.device("mps")) == 4_096_000
    assert memory.kept_by_itself(CPU) == 1_024_000


@pytest.mark.parametrize("error", (AttributeError, ValueError, OSError))
def test_a_system_that_does_not_tell(monkeypatch, error):
    def refuse(name):
        raise error

    monkeypatch.setattr(memory, "psutil", None)
    monkeypatch.setattr(memory.os, "sysconf", refuse, raising=False)
    assert memory.free_bytes(CPU) is None and memory.kept_by_itself(CPU) == 2**29


def backend(free=6000, reserved=3000, allocated=1000):
    return SimpleNamespace(
        mem_get_info=lambda device: (free, 9000),
        memory_reserved=lambda device: reserved,
        memory_allocated=lambda device: allocated,
    )


def test_on_a_gpu_what_torch_has_taken_and_does_not_use_is_free_too(monkeypatch):
    monkeypatch.setattr(torch, "cuda", backend())
    assert memory.free_bytes(CUDA) == 8000 and memory.kept_by_itself(CUDA) == 2000


@pytest.mark.parametrize("error", (AssertionError, RuntimeError, NotImplementedError))
def test_a_gpu_that_does_not_tell(monkeypatch, error):
    def refuse(device):
        raise error

    monkeypatch.setattr(torch, "cuda", SimpleNamespace(mem_get_info=refuse))
    assert memory.free_bytes(CUDA) is None and memory.kept_by_itself(CUDA) == 2**29


def test_a_device_of_which_torch_knows_nothing():
    assert memory.free_bytes(OTHER) is None and memory.kept_by_itself(OTHER) == 2**29


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_real_gpu():
    before = memory.free_bytes(CUDA)
    held = torch.empty(2**28, dtype=torch.uint8, device=CUDA)
    assert before - memory.free_bytes(CUDA) == pytest.approx(len(held), rel=0.1)
