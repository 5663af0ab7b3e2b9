"""Reuse the U-Net's encoder between sampling steps: saves less time than DeepCache, but runs the decoder in every step.

Faster Diffusion (Li et al. 2023, "Faster Diffusion: Rethinking the Role of the Encoder for Diffusion Model Inference",
section 3.2), which found that the encoder's features change little between neighbouring steps and the decoder's much.

Costs: the outputs of all input blocks and of the middle, kept for each stream (on SD1 at 512 pixels, two rows in half
precision, about 32 MB). Saves: the encoder, about two fifths of an evaluation that reuses. Changes: fine detail, about as
much as DeepCache at the same interval; between full runs the latent itself does not enter the U-Net.

It holds with ControlNet, whose residuals a host adds to what is reused as to what is run.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ...core.depth import Depth
from ...core.patching import Edit
from ...core.registry import method
from ...core.run import Run
from ...core.unet_map import UNetMap
from ...parts.caching.cadence import Cadence, CadenceConfig
from ...parts.caching.plan import ENCODER
from ...parts.caching.plan_knobs import plan_knob
from ...parts.caching.predictors import PREDICTORS
from ...parts.caching.reused_span import ReusedSpan


@dataclass(frozen=True, kw_only=True)
class EncoderReuse(CadenceConfig):
    """How long the encoder's outputs are reused."""

    short = "Encoder reuse"
    kept = ENCODER

    plan: str = plan_knob("One letter a step, F = full run, E = encoder reused, as FEFEEF")


@method(
    EncoderReuse,
    title="Faster Diffusion (encoder reuse)",
    benefit="A little faster at 20+ steps",
    at=Depth.CACHES,
    keeps_maps=False,
)
def encoder_reuse(config: EncoderReuse, unet: UNetMap, run: Run) -> Iterator[Edit]:
    """One span from the first convolution to the middle, all of whose blocks answer."""
    span = [*unet.input_blocks, unet.middle_block]
    yield from ReusedSpan(
        EncoderReuse.title,
        span,
        span,
        run,
        cadence=lambda: Cadence(config, run.call.schedule),
        predictor=PREDICTORS[config.predictor],
    ).edits()
