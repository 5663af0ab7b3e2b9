"""Reuse the deep U-Net blocks between sampling steps: about twice as fast from 20 steps on, while fine detail can change.

DeepCache (Ma et al. 2024, "DeepCache: Accelerating Diffusion Models for Free", sections 3.2 and 3.3). The blocks up to
`branch` and the output blocks paired with them always run; the deeper ones are skipped, and their last result is used. With
a threshold this is adaptive, as in the first-block caches of ParaAttention and WaveSpeed: the result is reused while what
the blocks that run add to the latent has changed by less than the threshold since the last full run.

Costs: one tensor of the size of an output block's result for each stream (cond and uncond in one batch are one); with a
threshold one or two more, and one wait for the device an evaluation. Saves: on SD1 with branch 0 all but about a tenth of
an evaluation that reuses. Changes: fine detail, and with long intervals the composition; the fewer steps, the more.

It holds with ControlNet: the residuals of the blocks that run are the current ones, those of the span as old as the rest
of it. ControlNet's reference pass is run in full and not cached.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from torch import Tensor

from ...core.depth import Depth
from ...core.edits import after
from ...core.knobs import ConfigError, knob, redeclared
from ...core.patching import Edit
from ...core.registry import method
from ...core.run import Run
from ...core.state import PerTraversal
from ...core.unet_map import UNetMap
from ...parts.caching.cadence import Cadence, CadenceConfig
from ...parts.caching.predictors import PREDICTORS
from ...parts.caching.reused_span import ReusedSpan


@dataclass(frozen=True, kw_only=True)
class DeepCache(CadenceConfig):
    """Which blocks are reused, and how long."""

    short = "DeepCache"

    # With a threshold `interval_at` asks for none of these.
    interval: int = redeclared(CadenceConfig, "interval", when="not threshold")
    last_interval: int = redeclared(CadenceConfig, "last_interval", when="not threshold")
    power: float = redeclared(CadenceConfig, "power", when="not threshold")
    threshold: float = knob(
        0.0,
        "Adaptive threshold",
        "Reuses while features change by less than this, instead of by Interval: 0.1 = careful, 0.3 = bold, 0 = off.",
        low=0,
        high=2,
        step=0.01,
    )
    most_hits: int = knob(
        3,
        "Max. reused runs",
        "At most this many reused runs in a row: higher is faster and less exact.",
        low=1,
        high=20,
        step=1,
        when="threshold",
    )
    branch: int = knob(
        0,
        "Cache start",
        "Last input block that always runs (SD1 up to 11, SDXL up to 8): 0 is fastest, higher reuses fewer blocks.",
        low=0,
        high=11,
        step=1,
        rarely=True,
    )

    def changes_nothing(self) -> bool:
        return self.threshold == 0 and super().changes_nothing()

    def details(self) -> str:
        return f"below {self.threshold:g}" if self.threshold else super().details()

    def interval_at(self, progress: float) -> float:
        return self.most_hits + 1.0 if self.threshold else super().interval_at(progress)


@method(
    DeepCache,
    title="DeepCache",
    benefit="Faster at 20+ steps",
    at=Depth.CACHES,
    keeps_maps=False,
    excludes={"encoder_reuse": "both decide which blocks a step runs"},
)
def deep_cache(config: DeepCache, unet: UNetMap, run: Run) -> Iterator[Edit]:
    """The span below the branch, run now and then; with a threshold also an eye on what the first blocks add."""
    last = len(unet.input_blocks) - 1
    if config.branch > last:
        raise ConfigError(f"DeepCache: branch is {config.branch}, but this U-Net has input blocks 0 to {last}.")
    span = [
        *unet.input_blocks[config.branch + 1 :],
        unet.middle_block,
        *unet.output_blocks[: last - config.branch],
    ]
    first: PerTraversal[Tensor | None] = run.per_traversal(lambda: None)

    def remember(out: Tensor) -> Tensor:
        first.set(out)
        return out

    def added_since(h: Tensor) -> Tensor:
        """What the blocks after the first convolution added on the way to `h`; `h` where that cannot be told."""
        begun = first.get()
        return h.clone() if config.branch == 0 or begun.shape != h.shape else h - begun

    yield from ReusedSpan(
        DeepCache.title,
        span,
        span[-1:],
        run,
        cadence=lambda: Cadence(config, run.call.schedule),
        predictor=PREDICTORS[config.predictor],
        veto=(lambda: _Change(config.threshold, added_since)) if config.threshold else None,
    ).edits()
    if config.threshold:
        yield after(unet.input_blocks[0].layers[-1].module, remember)


class _Change:
    """Allows reuse while the first blocks' residual is near what it was when the span last ran."""

    def __init__(self, threshold: float, residual_of: Callable[[Tensor], Tensor]) -> None:
        self._threshold = threshold
        self._residual_of = residual_of
        self._now: Tensor | None = None
        self._kept: Tensor | None = None

    def allows(self, h: Tensor) -> bool:
        self._now = self._residual_of(h)
        if self._kept is None or self._kept.shape != self._now.shape:
            return False
        return bool(relative_change(self._now, self._kept).max() < self._threshold)

    def ran_in_full(self) -> None:
        self._kept = self._now

    def tensors(self) -> Iterable[Tensor]:
        return () if self._kept is None else (self._kept,)


def relative_change(now: Tensor, before: Tensor) -> Tensor:
    """`mean |now - before| / mean |before|` of each row (B,), of tensors (B, C, H, W)."""
    return (now - before).abs().mean((1, 2, 3)) / before.abs().mean((1, 2, 3))
