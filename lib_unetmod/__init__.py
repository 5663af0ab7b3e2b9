"""Training-free modifications of the Stable Diffusion U-Net: installed as edits of its layers, undone whatever happens.

unet_map        what a U-Net has: blocks, levels, pairing, channels, attentions, family
patching        the only file that touches modules: edits, chains, undo
schedule        windows of progress, and the clock of evaluations and traversals
registry        how a method declares its knobs and its edits
together        which methods go together, and in which order they apply
run             `modified(unet, configs)`: the state of one run
span            blocks that are entered, not run, and left with some tensor
reuse           spans that run now and then and are answered from memory in between
cadence         when they run
predictors      what they are answered with
streams         what is kept from one evaluation to the next, apart for each stream of walks
tokens          height and width of the map whose tokens an attention sees
tiling          rectangles of such a map: where to cut, cutting and joining
windows         the quarters of a rolled map, as pieces
moving_windows  self-attention within windows that lie elsewhere each time
local_attention self-attention within pieces of a map
target          the picture's size beside the trained one
large           what methods for large pictures share
resize          maps made smaller or larger
skips           sizes of skip connections, and Upsample layers that give them
hand_over       maps of another size than the host expects, handed over at the size that it does
shrunken        a region of a walk on a smaller map
companions      rows that run along in the batch, by which guidance is damped
dilation        3x3 convolutions that look further, by calls of the module as it stands
dispersion      3x3 kernels spread over 5x5 or 7x7: the map by least squares, its file, the weight as a host sees it
low_frequencies what a box of the spectrum holds of a map, without a Fourier transform
affine          layers with weight and bias multiplied, by their answers as they are
latent_colors   where colours lie in a latent
regions         parts of a picture by ratios
noise           the noise of a progress
measured        what was measured of settings, in words
selection       methods and knobs in plain values, as pages, requests, infotext and files supply them
presets         named selections, one JSON file each
methods/        one file a method
webui/          the WebUI's side: panel, infotext, X/Y/Z, settings, API, host
playground/     a small real checkpoint, a local page and a command line
"""

from . import methods as _methods  # noqa: F401  (registers them)
from .methods.cd_tuner import CDTuner
from .methods.color_map import ColorMap
from .methods.deep_cache import DeepCache
from .methods.deep_shrink import DeepShrink
from .methods.encoder_reuse import EncoderReuse
from .methods.free_u import FreeU
from .methods.guidance_interval import GuidanceInterval
from .methods.hi_diffusion import HiDiffusion
from .methods.hyper_tile import HyperTile
from .methods.scale_crafter import ScaleCrafter
from .methods.skip_blocks import SkipBlocks
from .methods.token_downsampling import TokenDownsampling
from .methods.token_merging import TokenMerging
from .patching import what_is_on
from .registry import METHODS, Config, ConfigError
from .run import Run, modified
from .unet_map import UNetMap, UnsupportedUNet, inspect_unet

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
    "GuidanceInterval",
    "HiDiffusion",
    "HyperTile",
    "Run",
    "ScaleCrafter",
    "SkipBlocks",
    "TokenDownsampling",
    "TokenMerging",
    "UNetMap",
    "UnsupportedUNet",
    "inspect_unet",
    "modified",
    "what_is_on",
]
