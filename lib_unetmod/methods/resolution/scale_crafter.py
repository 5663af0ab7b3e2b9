"""Widen deep convolutions while the composition forms: large images keep a sound layout, but take longer at some sizes and
get softer texture.

ScaleCrafter (He et al. 2023, "ScaleCrafter: Tuning-free Higher-Resolution Visual Generation with Diffusion Models"). A U-Net
repeats objects on large pictures because its convolutions see a smaller part of them than in training. Re-dilation (section
3.2) widens them as much as the picture is larger, in fractions too; dispersion (section 3.3) spreads their kernels without
gaps; noise-damped guidance (section 3.4) takes layout from the widened U-Net and removes noise with one less widened.

Costs: re-dilation by a whole factor only some copies of maps; by a fraction f the work of maps (ceil(f) / f)^2 as large,
1.8 times at 1.5 and 1.4 at 2.5, and resizing, in the convolutions concerned. Dispersion: 25/9 (5x5) or 49/9 (7x7) of the
products there. Noise-damped guidance: half of an evaluation more. Changes: composition, which becomes that of an image
of native size; texture gets softer the longer it acts.

Auto takes the published settings by ratio of side to trained side, in height and width apart, rounded to halves. Below 3,
everything from level 2 inward (SD1, SD2) or the output blocks of level 3 and the middle (SDXL) is widened by the ratio.
From 3 on the deepest level is, each level further out by one less but at least 2, in SDXL now in the input blocks of level
3 and all output blocks, and all of it comes back to 2 step by step. It ends at 0.6 of the way, for larger pictures at 0.7;
SD2 at 0.4, 0.6 and 0.74, later in models trained below 512 pixels (`large.at_trained_size`). A Downsample is widened like
the level that it leaves, an Upsample too. A map that another method has made smaller is widened by as much less; an
Upsample that HiDiffusion fits to another map is left to it.

Weights stay the host's. A dilated convolution is the module's own call on the phases of its input (`dilation.py`), whatever
stands behind it: AUTOMATIC1111's LoRA and fp8, the operations of Forge and its kin, circular padding. A dispersed kernel is
made of the weight that the call convolves with (`dispersion.py`): AUTOMATIC1111 writes LoRAs into the weight, and casts fp8
to the input's type, which is done here too. Where the weight on the module is not what acts (LoRA applied beside the weight,
packed weights), it is read off the module's answers to as many 3x3 maps as it has input channels.

Noise-damped guidance adds v_uncond + s * (d_cond - d_uncond), d the widened U-Net and v the less widened one, by the host's
own guidance, and v runs along for the unconditional rows alone (`extra_rows.py`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn

from ...core.depth import Depth
from ...core.edits import Change, instead
from ...core.knobs import ConfigError, knob
from ...core.patching import Edit
from ...core.registry import method
from ...core.run import Run
from ...core.size import Size, size_of
from ...core.state import PerPass
from ...core.target import Target
from ...core.unet_map import UNetMap
from ...parts.blocks.extra_rows import ExtraRows
from ...parts.convolution.dilation import Factors, convolved_size, is_dilatable, re_dilated
from ...parts.convolution.dispersion import dispersed
from ...parts.convolution.effective_weight import effective_weight
from .large import LargeConfig, at_trained_size

#: The ratio of sides from which the published settings taper and come back to 2 step by step.
_EXTREME = 3.0
_NOWHERE = 5
_KERNELS = {"off": 0, "5x5": 5, "7x7": 7}


@dataclass(frozen=True, kw_only=True)
class ScaleCrafter(LargeConfig):
    """Which convolutions look how much further."""

    short = "ScaleCrafter"

    dilation: float = knob(
        2.0,
        "Dilation",
        "Image side divided by native side: 2 for an image twice as large. Fractions are slower; 1 = off.",
        low=1,
        high=8,
        step=0.25,
        when="not auto",
    )
    dilation_height: float = knob(
        0.0,
        "Dilation, height",
        "Another dilation for the height of wide or tall images; 0 = the same as Dilation.",
        low=0,
        high=8,
        step=0.25,
        when="not auto",
        rarely=True,
    )
    progressive: bool = knob(
        False,
        "Fade out",
        "Crisper texture: lowers the dilation to 2 step by step on the way to Active until.",
        when="not auto",
        rarely=True,
    )
    taper: bool = knob(
        False,
        "Taper",
        "Milder: dilates each level further out by one less, but by at least 2.",
        when="not auto",
        rarely=True,
    )
    level: int = knob(
        2,
        "Output levels from",
        f"Dilates output blocks from this level (1 = full resolution) to the deepest; {_NOWHERE} = the middle block alone.",
        low=1,
        high=_NOWHERE,
        step=1,
        when="not auto",
        rarely=True,
    )
    input_level: int = knob(
        2,
        "Input levels from",
        f"Dilates input blocks from this level to the deepest; {_NOWHERE} = none, published for SDXL below 3x native side.",
        low=1,
        high=_NOWHERE,
        step=1,
        when="not auto",
        rarely=True,
    )
    noise_damped: bool = knob(
        False,
        "Noise-damped guidance",
        "Fewer artifacts from 4x the native side on; each step takes half as long again.",
        rarely=True,
    )
    dispersed: str = knob(
        "off",
        "Dispersed kernel",
        "Fewer artifacts at 4x the native side: spreads deep kernels over 5x5 or 7x7 without gaps; slower.",
        choices=tuple(_KERNELS),
        rarely=True,
    )
    dispersed_levels: int = knob(
        1,
        "Dispersed levels",
        "Number of the deepest levels with dispersed kernels, the middle block included.",
        low=1,
        high=4,
        step=1,
        when="dispersed",
        rarely=True,
    )

    def changes_nothing(self) -> bool:
        return not self.auto and self.dilation == 1 and self.dilation_height in (0, 1)

    def details(self) -> str:
        y, x = self.axes
        how = "auto" if self.auto else f"{x:g}" if y == x else f"{x:g}x{y:g}"
        extra = "" if self.dispersed == "off" else f" {self.dispersed}"
        return f"{how}{extra}{' damped' * self.noise_damped}"

    @property
    def axes(self) -> Factors:
        """Dilation in height and width."""
        return self.dilation_height or self.dilation, self.dilation

    def resolved(self, unet: UNetMap, target: Target) -> ScaleCrafter:
        if not self.auto:
            return self
        y, x = (max(round(2 * ratio) / 2, 1.0) for ratio in (target.ratio_y, target.ratio_x))
        ratio = min(max(y, x), 8.0)
        extreme = ratio >= _EXTREME
        if 1 in unet.attention_levels or unet.family == "other":
            level = input_level = 2
        else:
            level, input_level = (1, 3) if extreme else (3, _NOWHERE)
        return replace(
            self,
            auto=False,
            dilation=min(x, 8.0),
            dilation_height=min(y, 8.0),
            level=level,
            input_level=input_level,
            taper=extreme,
            progressive=extreme,
            end=max(self.start, min(self.end, at_trained_size(_published_end(unet.family, ratio), target))),
        )

    def factors(self, site: ConvSite, levels: int, progress: float) -> Factors:
        """How far the convolution at `site` looks, in height and width, at `progress`."""
        first = {"input": self.input_level, "middle": 1, "output": self.level}[site.side]
        if site.level < first:
            return 1.0, 1.0
        outward = (levels - site.level) * self.taper
        left = (self.end - progress) / (self.end - self.start) if self.progressive else 1.0

        def on_axis(factor: float) -> float:
            least = min(factor, 2.0)
            tapered = max(factor - outward, least)
            # d(i) = max(ceil(d * (tau - i) / tau), 2) of the published code, of which 2 is no floor for factors below it.
            return min(tapered, max(math.ceil(tapered * left), least)) if self.progressive else tapered

        y, x = self.axes
        return on_axis(y), on_axis(x)

    @property
    def damping(self) -> ScaleCrafter:
        """The less widened U-Net: one level further in on either side."""
        return replace(self, level=min(self.level + 1, _NOWHERE), input_level=min(self.input_level + 1, _NOWHERE))


def _published_end(family: str, ratio: float) -> float:
    """tau / 50 of the published settings for 2, 2.5 and 4 times the trained side."""
    ends = {"sd2": (0.4, 0.6, 0.74), "sdxl": (0.6, 0.6, 0.7), "refiner": (0.6, 0.6, 0.7)}.get(family, (0.6, 0.7, 0.7))
    return ends[0] if ratio < 2.25 else ends[1] if ratio < _EXTREME else ends[2]


@dataclass(frozen=True, eq=False)
class ConvSite:
    """A 3x3 convolution. `level` is the one whose dilation it gets, `map_level` that of the map that comes in."""

    module: nn.Conv2d
    side: str
    level: int
    map_level: int


def conv_sites(unet: UNetMap) -> Iterator[ConvSite]:
    """The 3x3 convolutions of ResBlocks, Downsamples and Upsamples."""
    for block in unet.blocks:
        for layer in block.layers:
            if layer.kind not in ("res", "down", "up"):
                continue
            level = block.level - (layer.kind == "down")
            map_level = block.out_level if layer.kind == "up" else level
            for module in layer.module.modules():
                if is_dilatable(module):
                    yield ConvSite(module, block.side, level, map_level)


# Outside the caches of steps and of what acts on attentions, which then see the companions as any other rows.
@method(ScaleCrafter, title="ScaleCrafter", benefit="Better layout in large images", at=Depth.EXTRA_ROWS)
def scale_crafter(config: ScaleCrafter, unet: UNetMap, run: Run) -> Iterator[Edit]:
    """An edit of each 3x3 convolution, and those of the rows that run along for noise-damped guidance."""
    if not config.auto and config.level > unet.levels and config.input_level > unet.levels and config.noise_damped:
        raise ConfigError(
            f"ScaleCrafter: level is {config.level} and input_level is {config.input_level}, with which only the middle is "
            "widened and noise_damped has nothing to leave out; lower level or switch noise_damped off."
        )
    extra = ExtraRows("ScaleCrafter: Noise-damped guidance", unet, run, lambda: run.resolved(config).damping)
    if config.noise_damped:
        yield from extra.edits()
    # Whether a convolution's weight had to be read off its answers, so that it is looked at once a pass.
    costly: PerPass[dict[ConvSite, bool]] = run.per_pass(dict)
    for site in conv_sites(unet):
        yield instead(site.module, partial(_convolved, site, config, extra, costly, run))


def _convolved(
    site: ConvSite,
    config: ScaleCrafter,
    extra: ExtraRows,
    costly: PerPass[dict[ConvSite, bool]],
    run: Run,
    plain: Change,
    x: Tensor,
) -> Tensor:
    """What the convolution at `site` answers to `x`, the companions' rows among it, in place of `plain(x)`."""
    widened = partial(_widened, site, costly.get(), run, plain)
    resolved, companions = run.resolved(config), extra.companions
    if companions is None:
        return widened(resolved, x)
    own = widened(resolved, x[: companions.batch])
    if len(own) == len(x):
        return own  # another method's answer, see `dilated`
    return torch.cat([own, widened(companions.damping, x[companions.batch :])])


def _widened(
    site: ConvSite, costly: dict[ConvSite, bool], run: Run, plain: Change, config: ScaleCrafter, x: Tensor
) -> Tensor:
    module, levels, size = site.module, run.map.levels, size_of(x)
    progress = run.clock.progress if config.progressive else 0.0
    factors = config.factors(site, levels, progress)
    factors = _as_seen(factors, size, run.traversal.latent_size, site.map_level)
    if factors == (1.0, 1.0):
        return plain(x)
    kernel = _KERNELS[config.dispersed]
    if kernel and site.level > levels - config.dispersed_levels:
        own = effective_weight(plain, module, x, costly.get(site))
        costly[site] = own is None or own.costly
        if own is not None:
            if own.costly:
                run.note(
                    "ScaleCrafter: Dispersed kernel is slow with LoRA or packed weights here. Set it to off to save that "
                    "time."
                )
            return dispersed(x, own, kernel, factors, module.stride, run.circular)
    return re_dilated(plain, x, factors, module.stride, run.circular)


def _as_seen(factors: Factors, size: Size, latent: Size, level: int) -> Factors:
    """Dilation on a map of `size` where the level's own is larger, because another method shrinks it."""

    def on_axis(factor: float, side: int, whole: int) -> float:
        own = convolved_size((whole, whole), (2 ** (level - 1), 2 ** (level - 1)))[0]
        if side == 1:
            return 1.0  # a single cell has no neighbours to look at
        # Sides are rounded on the way down, so that a cell more or less tells nothing.
        return factor if side + 1 >= 0.8 * own else max(round(2 * factor * side / own) / 2, 1.0)

    return on_axis(factors[0], size[0], latent[0]), on_axis(factors[1], size[1], latent[1])
