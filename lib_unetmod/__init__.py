"""Training-free modifications of the Stable Diffusion U-Net: installed as edits of its layers, undone whatever happens.

core/        the mechanism: what a U-Net has, edits of its layers, when they act, what is kept: `modified(unet, configs)`
parts/       what methods are built of, by what it acts on: blocks, caching, maps, attention, convolution, latents
methods/     one file a method, by what it is for: speed, resolution, detail
settings/    what a user chose, in plain values: selections, presets, what was measured
tuning/      the search for the steps that may be left out on a user's own model
webui/       the WebUI's side: panel, infotext, X/Y/Z axes, settings, API, host
playground/  a small real checkpoint, a local page and a command line

Each folder imports only what stands above it here; webui and playground stand side by side.
"""

from . import methods as _methods  # noqa: F401  (registers them)
from .core.call import Guidance, HostCall
from .core.config import Config
from .core.knobs import ConfigError
from .core.patching import what_is_on
from .core.registry import METHODS
from .core.run import Run, modified
from .core.unet_map import UNetMap, UnsupportedUNet, inspect_unet
from .methods.detail.cd_tuner import CDTuner
from .methods.detail.color_map import ColorMap
from .methods.detail.free_u import FreeU
from .methods.resolution.deep_shrink import DeepShrink
from .methods.resolution.hi_diffusion import HiDiffusion
from .methods.resolution.scale_crafter import ScaleCrafter
from .methods.speed.deep_cache import DeepCache
from .methods.speed.encoder_reuse import EncoderReuse
from .methods.speed.guidance_interval import GuidanceInterval
from .methods.speed.hyper_tile import HyperTile
from .methods.speed.skip_blocks import SkipBlocks
from .methods.speed.step_forecast import StepForecast
from .methods.speed.token_downsampling import TokenDownsampling
from .methods.speed.token_merging import TokenMerging

__all__ = [
    "METHODS",
    "CDTuner",
    "ColorMap",
    "Config",
    "ConfigError",
    "DeepCache",
    "DeepShrink",
    "EncoderReuse",
    "FreeU",
    "Guidance",
    "GuidanceInterval",
    "HiDiffusion",
    "HostCall",
    "HyperTile",
    "Run",
    "ScaleCrafter",
    "SkipBlocks",
    "StepForecast",
    "TokenDownsampling",
    "TokenMerging",
    "UNetMap",
    "UnsupportedUNet",
    "inspect_unet",
    "modified",
    "what_is_on",
]
