"""`modules` of a WebUI, stubbed with the few names that are used, and a fake `p` that samples a real, tiny U-Net.

`p` does what the WebUI's does: it announces each pass, and has the denoiser's callback called before each call of the
U-Net, which may be another one each time. Import this before anything of lib_unetmod.webui that needs a WebUI.
"""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from unets import inputs

from lib_unetmod import what_is_on

ENTRY = "UNet Mod skip blocks"
SKIP = {"skip_blocks": {"middle": True, "levels": 1}}


class Option:
    def __init__(self, default: Any = None, label: str = "", onchange: Any = None) -> None:
        self.default, self.label, self.onchange = default, label, onchange

    def info(self, _text: str) -> Option:
        return self


class Opts(SimpleNamespace):
    def add_option(self, key: str, option: Option) -> None:
        self.options[key] = option
        self.data.setdefault(key, option.default)


def stub(name: str, **names: Any) -> ModuleType:
    module = ModuleType(name)
    vars(module).update(names)
    sys.modules[name] = module
    return module


shared = stub("modules.shared", opts=Opts(data={}, options={}), OptionInfo=Option, OptionHTML=Option, sd_model=None)
scripts = stub("modules.scripts", scripts_current=object(), scripts_data=[], AlwaysVisible=object(), Script=object)
sd_unet = stub("modules.sd_unet", current_unet=None)
script_callbacks = stub("modules.script_callbacks")
modules = stub("modules", shared=shared, scripts=scripts, sd_unet=sd_unet, script_callbacks=script_callbacks, __path__=[])

from lib_unetmod.webui import api, sampling, settings  # noqa: E402


class P:
    """What the WebUI calls `p`: its `sample` calls the U-Net `steps` times."""

    def __init__(
        self, unets: list[Any], steps: int = 2, ends_with: BaseException | None = None, hires: bool = False
    ) -> None:
        self.unets, self.steps, self.ends_with, self.hires = unets, steps, ends_with, hires
        self.extra_generation_params: dict[str, Any] = {"Size": "64x64"}
        self.comments: dict[str, int] = {}
        self.is_hr_pass = False
        self.seen: list[tuple[str, int]] = []

    def comment(self, text: str) -> None:
        self.comments[text] = 1

    def sample(self) -> list[torch.Tensor]:
        results = []
        for is_hr_pass in (False, True) if self.hires else (False,):
            self.is_hr_pass = is_hr_pass
            sampling.begin_pass(self)
            for step in range(self.steps):
                unet = self.unets[min(step, len(self.unets) - 1)]
                shared.sd_model = loaded(unet)
                sampling.on_cfg_denoiser(None)
                run = sampling._current.run if sampling._current else None
                self.seen.append((run.pass_name if run else "", len(what_is_on(unet))))
                results.append(unet(**inputs(self.family)))
            if self.ends_with is not None:
                raise self.ends_with
        return results

    family = "sd1"


def loaded(unet: Any) -> SimpleNamespace:
    return SimpleNamespace(model=SimpleNamespace(diffusion_model=unet), num_timesteps=1000)


def generate(p: P, *args: Any, axes: dict[str, Any] | None = None) -> list[torch.Tensor]:
    """One generation as the WebUI goes through it."""
    shared.sd_model = loaded(p.unets[0])
    sampling.prepare(p, api.with_axes(api.read(args, settings.read()), axes or {}))
    sampling.arm(p)
    return p.sample()


def reset() -> None:
    """As after start-up: no settings, no stand-in for the U-Net."""
    shared.opts.data.clear()
    sd_unet.current_unet = None
