"""`modules` of a WebUI, stubbed with the few names that are used, and a fake `p` that samples a real, tiny U-Net.

`p` does what the WebUI's does: it announces each pass, and has the denoiser's callback called before each call of the
U-Net, which may be another one each time. Import this before anything of lib_unetmod.webui that needs a WebUI.
"""

from __future__ import annotations

import json
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from torch import nn
from unets import inputs

from lib_unetmod import what_is_on

ENTRY = "UNet Mod skip blocks"
#: Whatever U-Net is loaded has this autoencoder beside it.
VAE = nn.Sequential(nn.Identity())
SKIP = {"skip_blocks": {"middle": True, "levels": 1}}


class Option:
    """As the WebUI's OptionInfo."""

    do_not_save = False

    def __init__(self, default: Any = None, label: str = "", component: Any = None, component_args: Any = None) -> None:
        self.default, self.label, self.component, self.component_args = default, label, component, component_args
        self.comment_after = ""


class OptionHTML(Option):
    do_not_save = True


class Opts:
    """As the WebUI's Options, with `frozen` for its --freeze-settings."""

    def __init__(self) -> None:
        vars(self).update(data={}, options={}, frozen=False)

    def add_option(self, key: str, option: Option) -> None:
        self.options[key] = option
        if not option.do_not_save:
            self.data.setdefault(key, option.default)

    def __setattr__(self, key: str, value: Any) -> None:
        if key in self.options:
            assert not self.frozen, "changing settings is disabled"
            self.data[key] = value
        else:
            vars(self)[key] = value

    def save(self, filename: str) -> None:
        assert not self.frozen, "saving settings is disabled"
        with open(filename, "w", encoding="utf8") as file:
            json.dump(self.data, file, indent=4, ensure_ascii=False)


def stub(name: str, **names: Any) -> ModuleType:
    module = ModuleType(name)
    vars(module).update(names)
    sys.modules[name] = module
    return module


shared = stub("modules.shared", opts=Opts(), OptionInfo=Option, OptionHTML=OptionHTML, sd_model=None, config_filename="")
scripts = stub("modules.scripts", scripts_current=object(), scripts_data=[], AlwaysVisible=object(), Script=object)
sd_unet = stub("modules.sd_unet", current_unet=None)
script_callbacks = stub("modules.script_callbacks", on_ui_tabs=lambda callback: None)
devices = stub("modules.devices", cpu=torch.device("cpu"), without_autocast=lambda: torch.autocast("cpu", enabled=False))


class DecodedSamples(list):
    already_decoded = True


def decode_latent_batch(model: Any, batch: torch.Tensor, target_device: Any = None, check_for_nans: bool = False) -> list:
    """As the WebUI's, one picture at a time; a latent of NaN raises where it is asked to look."""
    if check_for_nans and batch.isnan().all():
        raise ValueError("A tensor with all NaNs was produced in Unet.")
    one = torch.ones(1, 1)
    assert (one @ one).dtype == torch.float32, "autocast is on"
    return DecodedSamples(model.decode_first_stage(batch[i : i + 1])[0].to(target_device) for i in range(len(batch)))


processing = stub("modules.processing", DecodedSamples=DecodedSamples, decode_latent_batch=decode_latent_batch)
modules = stub(
    "modules",
    shared=shared,
    scripts=scripts,
    sd_unet=sd_unet,
    script_callbacks=script_callbacks,
    devices=devices,
    processing=processing,
    __path__=[],
)

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
        self.cfg_scale = 7.0

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
                sampling.on_cfg_denoiser(denoiser_params(scale=self.cfg_scale))
                run = sampling._current.run if sampling._current else None
                self.seen.append((run.pass_name if run else "", len(what_is_on(unet))))
                results.append(unet(**inputs(self.family)))
            if self.ends_with is not None:
                raise self.ends_with
        return results

    family = "sd1"


class WithSampler(P):
    """As `P`, but its sampler's function is what calls the U-Net."""

    def sample(self):
        results = []

        def sample_euler(model, x, sigmas):
            results.extend(P.sample(self))

        self.sampler = sampler_of(sample_euler)
        sampling.begin_pass(self)
        self.sampler.func(None, None, sigmas=sigmas(self.steps))
        return results


def sigmas(steps, last=0.0):
    return torch.tensor([*range(steps, 0, -1), last], dtype=torch.float32)


def sampler_of(function, name="Euler"):
    return SimpleNamespace(func=function, config=SimpleNamespace(name=name, options={}))


def once(begin_pass):
    """`P.sample` says once more that its pass begins, which the WebUI does not do inside a sampler."""
    begun = []
    return lambda p: None if begun else (begun.append(1), begin_pass(p))[1]


def loaded(unet: Any) -> SimpleNamespace:
    inner = SimpleNamespace(diffusion_model=unet)
    return SimpleNamespace(model=inner, num_timesteps=1000, first_stage_model=VAE)


def denoiser_params(
    pictures: int = 1,
    weights: tuple[float, ...] = (1.0,),
    scale: float = 7.0,
    tokens: tuple[int, int] = (77, 77),
    **changes: Any,
) -> SimpleNamespace:
    """What the denoiser's callback gets in AUTOMATIC1111: `weights` are those of each picture's parts, joined by AND.

    The rows are the parts of all pictures, then a negative one for each picture. `changes` go to the denoiser.
    """
    cond = SimpleNamespace(batch=[[SimpleNamespace(weight=weight) for weight in weights] for _ in range(pictures)])
    sampler = SimpleNamespace(sampler_extra_args={"cond": cond, "uncond": [], "cond_scale": scale})
    denoiser = {"sampler": sampler, "cond_scale_miltiplier": 1.0, "need_last_noise_uncond": False, **changes}
    rows = pictures * len(weights)
    return SimpleNamespace(
        x=torch.zeros(rows + pictures, 4, 8, 8),
        text_cond=torch.zeros(rows, tokens[0], 24),
        text_uncond=torch.zeros(pictures, tokens[1], 24),
        denoiser=SimpleNamespace(**denoiser),
    )


def generate(p: P, *args: Any, axes: dict[str, Any] | None = None) -> list[torch.Tensor]:
    """One generation as the WebUI goes through it."""
    shared.sd_model = loaded(p.unets[0])
    sampling.prepare(p, api.with_axes(api.read(args, settings.read()), axes or {}))
    sampling.arm(p)
    return p.sample()


def reset() -> None:
    """As after start-up: no settings, no stand-in for the U-Net."""
    shared.opts = Opts()
    sd_unet.current_unet = None
