"""Run the deep blocks in some evaluations only and reuse what they returned in the others, where it has hardly changed.

DeepCache (Ma et al. 2024, "DeepCache: Accelerating Diffusion Models for Free", sections 3.2 and 3.3). The blocks up to
`branch` and the output blocks paired with them always run; the span below them answers from memory. With a threshold it
decides by itself, as the first-block caches of ParaAttention and WaveSpeed do: it reuses while what the blocks above the
span add to the latent has changed by less than the threshold since they last ran in full.

Costs: one tensor of the size of an output block's result for each stream (cond and uncond in one batch are one); with a
threshold one or two more, and one wait for the device an evaluation. Saves: on SD1 with branch 0 all but about a tenth of
an evaluation that reuses. Changes: fine structure, and with long intervals composition; the fewer steps, the more.

It holds with ControlNet: the residuals of the blocks that run are the current ones, those of the span as old as the rest
of it. ControlNet's reference pass is run in full and kept out of the memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ...core.depth import Depth
from ...core.knobs import ConfigError, knob
from ...core.patching import Edit
from ...core.registry import method
from ...core.run import Run
from ...core.unet_map import UNetMap
from ...parts.caching.cadence import Cadence, CadenceConfig
from ...parts.caching.predictors import PREDICTORS
from ...parts.caching.reused_span import ReusedSpan


@dataclass(frozen=True, kw_only=True)
class DeepCache(CadenceConfig):
    """Which blocks are reused, and how long."""

    short = "DeepCache"

    branch: int = knob(
        0,
        "Branch",
        "The last input block that always runs; everything deeper is reused. 0 saves most. SD1 has 0 to 11, SDXL 0 to 8.",
        low=0,
        high=11,
        step=1,
    )
    threshold: float = knob(
        0.0,
        "Threshold",
        "Above 0 it decides by itself, in place of the interval: it reuses while what the first blocks add has changed by "
        "less than this share. 0.1 is careful, 0.3 bold.",
        low=0,
        high=2,
        step=0.01,
    )
    most_hits: int = knob(
        3, "Most in a row", "With a threshold: how many evaluations in a row may reuse.", low=1, high=20, step=1
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
    excludes={"encoder_reuse": "both decide which blocks an evaluation runs"},
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
    first = _FirstConvolution(run, config.branch)
    yield from ReusedSpan(
        DeepCache.title,
        span,
        span[-1:],
        run,
        cadence=lambda: Cadence(config),
        predictor=PREDICTORS[config.predictor],
        doubt=(lambda: _Change(config.threshold, first)) if config.threshold else None,
    ).edits()
    if config.threshold:
        yield Edit(unet.input_blocks[0].layers[-1].module, first.note)


class _FirstConvolution:
    """What the first convolution made of the latent in this walk."""

    def __init__(self, run: Run, branch: int) -> None:
        self._run = run
        self._branch = branch

    def note(self, call: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        out = call(*args, **kwargs)
        self._run.traversal.memory[self] = out
        return out

    def added_since(self, h: Tensor) -> Tensor:
        """What the blocks after it added on the way to `h`; `h` itself where there are none, or it has another shape."""
        first = self._run.traversal.memory[self]
        return h.clone() if self._branch == 0 or first.shape != h.shape else h - first


class _Change:
    """Allows reuse while the first blocks' residual is near what it was when the span last ran."""

    def __init__(self, threshold: float, first: _FirstConvolution) -> None:
        self._threshold = threshold
        self._first = first
        self._now: Tensor | None = None
        self._kept: Tensor | None = None

    def allows(self, h: Tensor) -> bool:
        self._now = self._first.added_since(h)
        if self._kept is None or self._kept.shape != self._now.shape:
            return False
        return bool(relative_change(self._now, self._kept).max() < self._threshold)

    def ran_in_full(self) -> None:
        self._kept = self._now

    @property
    def nbytes(self) -> int:
        return 0 if self._kept is None else self._kept.nbytes


def relative_change(now: Tensor, before: Tensor) -> Tensor:
    """`mean |now - before| / mean |before|` of each row (B,), of tensors (B, C, H, W)."""
    return (now - before).abs().mean((1, 2, 3)) / before.abs().mean((1, 2, 3))
