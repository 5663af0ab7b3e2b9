"""Which WebUI this is: where its U-Net is, what stands in its place, and how it tells its user something.

The files whose names begin with `host` are the only ones that differ from host to host. AUTOMATIC1111 keeps the U-Net in
`sd_model.model.diffusion_model`; Forge keeps it behind a patcher, of which no reference may be held, because its memory
management counts them. Tried in AUTOMATIC1111 1.10.1 and in
Forge dfdcbab.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import gradio as gr
import torch
from modules import devices, processing, shared
from PIL import Image
from torch import Tensor, nn

from ..core.call import HostCall
from ..core.unet_map import UnsupportedUNet, inspect_unet
from ..settings.profiles import Profiles
from .host_conditions import conditions_of, networks_of
from .host_frames import why_moving
from .host_guidance import guidance_of
from .sampling_steps import apart
from .upcoming_picture import Loaded

try:
    from modules import sd_models
except ImportError:
    sd_models = None
try:
    from modules import sd_unet
except ImportError:  # a fork without U-Net replacements
    sd_unet = None

PREFIX = "UNet Mod: "


def current_unet() -> nn.Module | None:
    """The U-Net that the host calls now; None when no model is loaded."""
    return _unet_of(shared.sd_model)


def _unet_of(model: Any) -> nn.Module | None:
    forge = getattr(model, "forge_objects", None)
    inner = forge.unet.model if forge is not None else getattr(model, "model", None)
    return getattr(inner, "diffusion_model", None)


def device_of(unet: nn.Module) -> torch.device:
    """Where the host calls the U-Net, wherever its weights lie meanwhile."""
    return getattr(devices, "device", None) or next((one.device for one in unet.parameters()), torch.device("cpu"))


def current_vae() -> nn.Module | None:
    """The autoencoder that the host decodes with now; None where there is none, or a smaller one (TAESD) in its place."""
    if _setting("sd_vae_decode_method", "Full") != "Full":
        return None
    model = shared.sd_model
    forge = getattr(model, "forge_objects", None)
    return getattr(model if forge is None else getattr(forge, "vae", None), "first_stage_model", None)


def prediction() -> str:
    """What the loaded U-Net predicts: "v", or "eps", the noise."""
    model = shared.sd_model
    forge = getattr(model, "forge_objects", None)
    inner = getattr(getattr(forge, "unet", None), "model", None)
    kinds = getattr(model, "parameterization", None), getattr(getattr(inner, "predictor", None), "prediction_type", None)
    return "v" if "v" in kinds or "v_prediction" in kinds else "eps"


def trained_size() -> int | None:
    """Side in pixels at which the loaded model was trained, where its U-Net alone does not tell; None elsewhere.

    SD2's base model (512) and its larger one (768) share a U-Net, and differ in what it predicts.
    """
    return _trained_size_of(shared.sd_model)


def _trained_size_of(model: Any) -> int | None:
    unet = _unet_of(model)
    of_sd2 = unet is not None and getattr(model, "parameterization", None) == "eps" and inspect_unet(unet).family == "sd2"
    return 512 if of_sd2 else None


def loaded() -> Loaded:
    """What is known before a picture is drawn, without loading anything."""
    # Asking `shared` for a model that is not loaded yet would load it, and the page would stand still meanwhile.
    model = getattr(getattr(sd_models, "model_data", None), "sd_model", None)
    known = {
        # Forge and its kin leave the negative prompt's rows out there themselves.
        "guides_at_one": not hasattr(model, "forge_objects"),
        "exact_steps": bool(_setting("img2img_fix_steps", False)),
    }
    try:
        return Loaded(inspect_unet(_unet_of(model)), _trained_size_of(model), model=_name_of(model), **known)
    except UnsupportedUNet:
        return Loaded(**known)


def _name_of(model: Any) -> str:
    """The checkpoint's name and the beginning of its SHA-256, as the WebUI shows them."""
    info = getattr(model, "sd_checkpoint_info", None)
    name, shown = getattr(info, "name_for_extra", None) or "", getattr(info, "shorthash", None)
    return f"{name} [{shown}]" if shown else name


def presets_folder() -> Path:
    """Where the user's presets lie: in the WebUI's data folder, which outlives the extension's own; else in that one."""
    return Path(getattr(shared, "data_path", Path(__file__).parents[2])) / "unetmod" / "presets"


def profiles() -> Profiles:
    """What was tuned."""
    return _profiles_in(presets_folder() / "tuned")


_profiles_in = cache(Profiles)


def docs_link(page: str) -> str | None:
    """The address, seen from the WebUI's page, of a page in our docs folder; None where the WebUI does not serve it.

    gradio serves files in allowed folders, of which the WebUI's data folder with its extensions is one by default. gradio 3
    serves nothing in a folder whose name begins with a dot.
    """
    path = Path(os.path.abspath(Path(__file__).parents[2] / "docs" / page))
    allowed = getattr(getattr(shared, "cmd_opts", None), "gradio_allowed_path", None) or []
    inside = any(path.is_relative_to(os.path.abspath(folder)) for folder in allowed)
    if not inside or any(part.startswith(".") for part in path.parts) or not path.is_file():
        return None
    # As the WebUI does with scripts and styles: seen from its own folder where that can be.
    shown = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    return f"file={quote(shown.as_posix(), safe='/:')}"


def timesteps() -> int:
    """The length of the training schedule to which the U-Net's timesteps belong."""
    count = getattr(shared.sd_model, "num_timesteps", None)
    return count if isinstance(count, int) and count > 1 else 1000


def call_of(p: Any, params: Any = None) -> HostCall:
    """What is known of the next calls of the U-Net for `p`, in the denoiser's callback with its `params`."""
    return HostCall(
        guidance=None if params is None else guidance_of(params),
        prediction=prediction(),
        pass_name=pass_of(p),
        last_pass=is_last_pass(p),
        seed=seed_of(p),
        denoising=denoising_of(p),
        sampler=_sampler_of(p),
        schedule=_schedule_of(p),
        moving="" if params is None else why_moving(getattr(params, "denoiser", None)),
        conditions=partial(conditions_of, p),
        networks=partial(networks_of, p),
    )


def _sampler_of(p: Any) -> str:
    """The sampler of the pass that `p` is in, by its name without a schedule type; empty where there is none yet."""
    name = getattr(getattr(getattr(p, "sampler", None), "config", None), "name", None) or getattr(p, "sampler_name", None)
    return apart(name)[0] if isinstance(name, str) else ""


def _schedule_of(p: Any) -> str:
    """The schedule type of that pass in lower case, "uniform" where the sampler has none of its own."""
    chosen = (pass_of(p) == "hires" and getattr(p, "hr_scheduler", None)) or getattr(p, "scheduler", None)
    if isinstance(chosen, str) and chosen not in ("", "Automatic", "Use same scheduler"):
        return chosen.lower()
    options = getattr(getattr(getattr(p, "sampler", None), "config", None), "options", None)
    automatic = options.get("scheduler") if isinstance(options, dict) else None
    return automatic.lower() if isinstance(automatic, str) else "uniform"


def pass_of(p: Any) -> str:
    """Which pass `p` is in: "first", "hires" or "img2img"."""
    if getattr(p, "is_hr_pass", False):
        return "hires"
    return "img2img" if getattr(p, "init_images", None) else "first"


def is_last_pass(p: Any) -> bool:
    """Whether what `p` draws now is the picture; hires fix draws on from what its first pass did."""
    return pass_of(p) != "first" or not getattr(p, "enable_hr", False)


def denoising_of(p: Any) -> float | None:
    """Denoising strength of the pass that `p` is in, 1 where it begins with noise; None where `p` has none."""
    if pass_of(p) == "first":
        return 1.0
    strength = getattr(p, "denoising_strength", None)
    return float(strength) if isinstance(strength, (int, float)) else None


def interrupted() -> bool:
    """Whether the user has stopped the picture that is drawn now."""
    state = getattr(shared, "state", None)
    return bool(getattr(state, "interrupted", False) or getattr(state, "skipped", False))


@contextmanager
def working() -> Iterator[Callable[[str, float, float], None]]:
    """Inside, the WebUI's bar shows what is said: words, the share that is done, and the seconds that are left."""
    state = getattr(shared, "state", None)
    before = {name: getattr(state, name, None) for name in ("job_no", "job_count", "textinfo")}

    def show(words: str, share: float, seconds: float) -> None:
        if state is not None:
            state.job_count, state.job_no = 100, int(100 * share)
            state.textinfo = f"{words}: {100 * share:.0f} %, about {seconds:.0f} s left"

    try:
        yield show
    finally:
        for name, value in before.items():
            if state is not None:
                setattr(state, name, value)


def seed_of(p: Any) -> int:
    """The seed of the first picture of the batch that `p` samples now; 0 where `p` has none yet."""
    seeds = getattr(p, "seeds", None) or getattr(p, "all_seeds", None) or [0]
    return seeds[0] if isinstance(seeds[0], int) else 0


def decoded(p: Any, samples: Any) -> Any:
    """The latents (B, 4, h, w) that `p.sample` returned, decoded as the WebUI does after it, so that it need not any more.

    Hires fix decodes inside `p.sample` too; what is decoded already comes back as it is.
    """
    if not isinstance(samples, Tensor) or getattr(samples, "already_decoded", False):
        return samples
    # The WebUI decodes after its sampling's autocast has ended.
    with devices.without_autocast():
        return processing.decode_latent_batch(p.sd_model, samples, target_device=devices.cpu, check_for_nans=True)


def picture_of(p: Any, samples: Any) -> Image.Image:
    """The first of the pictures whose samples `p.sample` returned."""
    (pixels, *_) = decoded(p, samples)
    values = ((pixels.detach().float().cpu() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return Image.fromarray(values.permute(1, 2, 0).contiguous().numpy())


def replacement() -> str | None:
    """A sentence when something else is called in the U-Net's place (TensorRT and its like), so that nothing can act."""
    unet = getattr(sd_unet, "current_unet", None)
    if unet is None:
        return None
    label = getattr(getattr(unet, "option", None), "label", None) or type(unet).__name__
    return (
        f"All methods are inactive, because the SD Unet {label} runs in place of the model's own. Set SD Unet to None in "
        "Settings."
    )


def tell(p: Any, sentence: str) -> None:
    """Show a sentence under the picture that `p` makes, and print it."""
    if hasattr(p, "comment"):
        p.comment(PREFIX + sentence)
    say(sentence)


def say(sentence: str) -> None:
    """Print a sentence to the console."""
    print(PREFIX + sentence)


def warn(sentence: str) -> None:
    """Show a sentence on the page, to whoever pressed the button that is being answered, and print it."""
    say(sentence)
    gr.Warning(PREFIX + sentence)


def _setting(name: str, default: Any = None) -> Any:
    return getattr(shared.opts, name, default)
