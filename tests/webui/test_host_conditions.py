"""LoRAs and ControlNets that change on the way: as the WebUI's own extension and sd-webui-controlnet keep them."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch import nn
from unets import fresh
from webui_stubs import P, generate

from lib_unetmod.webui.host_conditions import conditions_of, networks_of

#: Run once, kept afterwards: by all that keep anything.
ONCE = {"step_forecast": "FPPPPP", "deep_cache": "FDDDDD", "encoder_reuse": "FEEEEE"}
KEEPING = pytest.mark.parametrize("selection", [{name: {"plan": plan}} for name, plan in ONCE.items()], ids=ONCE)


class Drawing(P):
    """Notes in which steps a deep layer of the encoder runs; `changes` are made before a step, after the callbacks."""

    def __init__(self, changes=None):
        unet = fresh("sd1")
        super().__init__([unet], steps=6)
        self.ran, self.step = [], -1
        unet.input_blocks[4][0].in_layers[1].register_forward_hook(lambda *_: self.ran.append(self.step))
        unet.register_forward_pre_hook(lambda *_: self.next_step(changes or {}))

    def next_step(self, changes):
        self.step += 1
        if self.step in changes:
            changes[self.step]()


@pytest.fixture
def lora(monkeypatch):
    """One LoRA, as `networks` of extensions-builtin/Lora keeps it."""
    networks = ModuleType("networks")
    one = SimpleNamespace(name="style", te_multiplier=1.0, unet_multiplier=1.0, dyn_dim=None)
    networks.loaded_networks = [one]
    monkeypatch.setitem(sys.modules, "networks", networks)
    return one


def with_controlnet(p):
    """The one unit of sd-webui-controlnet that `p` has now."""
    unit = SimpleNamespace(guidance_stopped=False, weight=1.0)
    networks = (None, SimpleNamespace(control_params=[unit]))
    p.scripts = SimpleNamespace(alwayson_scripts=[SimpleNamespace(latest_network=network) for network in networks])
    return unit


@KEEPING
def test_nothing_is_continued_over_a_change_of_a_loras_weight(selection, lora):
    steady = Drawing()
    generate(steady, selection)
    assert steady.ran == [0]
    changed = Drawing({3: lambda: setattr(lora, "unet_multiplier", 0.5)})
    generate(changed, selection)
    assert changed.ran == [0, 3]


@KEEPING
def test_nothing_is_continued_where_a_controlnet_begins_or_ends(selection):
    p = Drawing({2: lambda: setattr(unit, "guidance_stopped", True), 4: lambda: setattr(unit, "guidance_stopped", False)})
    unit = with_controlnet(p)
    generate(p, selection)
    assert p.ran == [0, 2, 4]


def test_a_network_of_controlnet_is_spared_in_steps_that_are_not_run(lora):
    p = Drawing({3: lambda: setattr(lora, "unet_multiplier", 0.5)})
    unit, network = with_controlnet(p), nn.Identity()
    unit.control_model = SimpleNamespace(control_model=network)  # as its PlugableControlModel
    assert [*networks_of(p)] == [network]
    ran, answer = [], [torch.ones(1)]
    network.forward = lambda x: ran.append(p.step) or answer
    (unet,) = p.unets
    walk = unet.forward
    unet.forward = lambda x, **others: (network(x), walk(x, **others))[1]
    generate(p, {"step_forecast": {"plan": "FPPPPP"}})
    assert ran == p.ran == [0, 3]
    assert vars(network)["forward"](answer[0]) is answer


def test_a_host_without_them_says_nothing(monkeypatch):
    monkeypatch.delitem(sys.modules, "networks", raising=False)
    assert conditions_of(SimpleNamespace()) == conditions_of(P([])) == ((), ())
    assert [*networks_of(SimpleNamespace())] == [*networks_of(P([]))] == []
