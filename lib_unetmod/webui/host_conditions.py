"""What acts on the prediction besides the prompt, and may change from step to step: LoRAs' weights, ControlNets."""

from __future__ import annotations

import sys
from collections.abc import Hashable, Iterator
from typing import Any

from torch import nn


def conditions_of(p: Any) -> Hashable:
    """A value that changes where one of them changes."""
    return tuple(_loras()), tuple(_control_nets(p))


def _loras() -> Iterator[Hashable]:
    """Those of the WebUI's own extension. Others change its weights within a picture (`<lora:name:0@0,1@0.5>`)."""
    for one in getattr(sys.modules.get("networks"), "loaded_networks", None) or ():
        yield getattr(one, "name", None), getattr(one, "unet_multiplier", None), getattr(one, "dyn_dim", None)


def _control_nets(p: Any) -> Iterator[Hashable]:
    """Whether each unit of sd-webui-controlnet is on in this step, by its control steps. The forks' come with the call."""
    for unit in _units(p):
        yield getattr(unit, "guidance_stopped", None), getattr(unit, "weight", None)


def networks_of(p: Any) -> Iterator[nn.Module]:
    """The networks of sd-webui-controlnet's units, which it runs in the U-Net's forward. The forks run theirs before it."""
    for unit in _units(p):
        network = getattr(getattr(unit, "control_model", None), "control_model", None)
        if isinstance(network, nn.Module):
            yield network


def _units(p: Any) -> Iterator[Any]:
    for script in getattr(getattr(p, "scripts", None), "alwayson_scripts", None) or ():
        yield from getattr(getattr(script, "latest_network", None), "control_params", None) or ()
