"""Skip the negative prompt: at CFG scale 1 the same image in nearly half the time; outside a guidance interval of your
choice also faster, but colors can shift.

At scale 1 the guided result is that of the prompt alone, yet AUTOMATIC1111 computes the negative prompt too: LCM, Lightning
and Turbo models take twice the time they need. Guidance in a limited interval (Kynkaanniemi et al. 2024,
"Applying Guidance in a Limited Interval Improves Sample and Distribution Quality", section 3) keeps the scale inside the
interval and draws with the prompt alone outside of it: much noise is where guidance costs variety, little noise is where it
does nothing.

Costs: a copy of each layer's result. Saves: nearly half of each evaluation in which rows are left out. Changes: nothing at
CFG scale 1; outside the interval colors, which guidance makes stronger.

The host still gives, gets and joins whole batches: each layer computes the conditional rows alone, and hands out copies of
them in the places of the others. The guided result cond + (scale - 1) * (cond - uncond) is then cond at any scale. All other
methods stand inside and see the conditional rows only. Where extensions act inside layers, which could take rows by their
place in the batch, nothing is left out. A call of the negative prompt alone is answered at scale 1 without running a layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor

from ...core.call import UNTOLD, Guidance, Rows
from ...core.config import Config
from ...core.depth import Depth
from ...core.expected import zeros_of
from ...core.knobs import ConfigError, knob
from ...core.patching import Edit
from ...core.registry import method
from ...core.run import Run
from ...core.schedule import ProgressRange
from ...core.state import PerTraversal
from ...core.unet_map import Block, UNetMap
from ...core.upcoming_picture import Idle, UpcomingPass


@dataclass(frozen=True, kw_only=True)
class GuidanceInterval(Config):
    """Where the negative prompt counts."""

    short = "Skip negative prompt"

    scale_one: bool = knob(
        True,
        "Skip at CFG 1",
        "Nearly halves the time at CFG scale 1 (LCM, Lightning, Turbo), where the negative prompt has no effect.",
    )
    guide_from: float = knob(
        0.0,
        "Guidance from",
        "Saves time and adds variety: before this noise level (0 = pure noise) only the prompt counts.",
        low=0,
        high=1,
        step=0.01,
    )
    guide_to: float = knob(
        1.0,
        "Guidance until",
        "Saves time, but can shift colors: after this noise level (1 = finished image) only the prompt counts.",
        low=0,
        high=1,
        step=0.01,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.guide_from > self.guide_to:
            raise ConfigError(
                f"GuidanceInterval: guide_from is {self.guide_from:g} and guide_to is {self.guide_to:g}; guide_from must "
                "not be above guide_to."
            )

    @property
    def interval(self) -> ProgressRange:
        """The progress in which guidance acts."""
        return ProgressRange(self.guide_from, self.guide_to)

    def changes_nothing(self) -> bool:
        return not self.scale_one and self.interval.always

    def details(self) -> str:
        outside = f"outside {self.guide_from:g}-{self.guide_to:g}"
        return "" if self.neutral else "at CFG 1" if self.interval.always else outside

    def idle_at(self, reached: tuple[float, ...] | None, one: UpcomingPass, unet: UNetMap | None) -> Idle | None:
        at_cfg = f"at CFG {one.cfg:g}"
        if not one.guided:
            why = f"nothing to save, because the negative prompt is skipped at CFG {one.cfg:g} anyway."
            return Idle(at_cfg, f"{self.short}: {why}", needless=True)
        if self.interval.always:
            if self.leaves_out(one.cfg, 0.0):
                return None
            why = f"no speedup at CFG {one.cfg:g}. Use CFG 1, or narrow Guidance from and Guidance until."
            return Idle(at_cfg, f"{self.short}: {why}")
        if reached is None or any(self.leaves_out(one.cfg, progress) for progress in reached):
            return None
        why = "no speedup, because all sampling steps lie between Guidance from and Guidance until. Narrow that range."
        return Idle(f"at {one.steps} steps", f"{self.short}: {why}")

    def leaves_out(self, scale: float, progress: float) -> bool:
        """Whether unconditional rows do not count at this CFG scale and progress."""
        return (self.scale_one and abs(scale - 1) < 1e-6) or not self.interval.holds(progress)


@method(GuidanceInterval, title="Skip negative prompt", benefit="Nearly halves time at CFG 1", at=Depth.ROWS)
def guidance_interval(config: GuidanceInterval, unet: UNetMap, run: Run) -> Iterator[Edit]:
    """Every layer computes the conditional rows only; the first layer of a traversal settles which these are."""
    #: In traversals of unconditional rows alone, of which no layer runs.
    unrun: PerTraversal[bool] = run.per_traversal(lambda: False)

    def settle(batch: int) -> None:
        at_one = config.scale_one and _does_not_count(run.guidance)
        refused = (run.guidance.reason_at_one if run.guidance else UNTOLD) if config.scale_one else ""
        if not at_one and not refused and run.within(config.interval):
            return
        told = run.rows(batch)
        if told.all_conditional:
            return  # a host that leaves the others out itself, or calls them apart
        joined_by = run.guidance.joined_by() if run.guidance else ""
        if not at_one and run.within(config.interval):
            note(refused)
        elif joined_by:
            note(f"{joined_by} needs the negative prompt too.")
        elif (told.reason and not at_one) or (told.rows is None and not (at_one and told.all_unconditional)):
            note(told.reason)
        elif run.needs_all_rows:
            note(run.needs_all_rows)
        elif told.rows is None:
            unrun.set(True)
        else:
            leave_out(told.rows)

    def leave_out(rows: Rows) -> None:
        run.left_out.set(rows)
        # What others keep from evaluations of all rows is not for these, nor the other way round.
        run.traversal.split(rows.conditional)

    def note(reason: str) -> None:
        if reason:
            run.note(f"Skip negative prompt is off: {reason}")

    def compute(block: Block, call: Callable[..., Tensor], x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if unrun.get():
            return zeros_of(block, x, run.traversal.latent_size)
        rows = run.left_out.get()
        if rows is None:
            return call(x, *args, **kwargs)
        kept = {name: rows.take(value) for name, value in kwargs.items()}
        return rows.fill(call(rows.take(x), *(rows.take(value) for value in args), **kept))

    def settle_and_compute(block: Block, call: Callable[..., Tensor], x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        settle(len(x))
        return compute(block, call, x, *args, **kwargs)

    first = unet.input_blocks[0].layers[0]
    for block in unet.blocks:
        for layer in block.layers:
            yield Edit(layer.module, partial(settle_and_compute if layer is first else compute, block))


def _does_not_count(guidance: Guidance | None) -> bool:
    """Whether the unconditional rows change nothing."""
    return guidance is not None and not guidance.reason_at_one and abs(guidance.scale - 1) < 1e-6
