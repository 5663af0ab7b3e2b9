"""Skip whole U-Net runs on a measured plan: half of the time at about the look of all steps, also with DPM++ 2M and Euler a.

Of the sampler's steps some run no layer. In these the answer is made of what the U-Net answered before: the clean latent
that it meant is kept (x0 reuse), by default with a part of the one before where the path turns back (secant), or the noise
is continued as a polynomial over the noise level. What decides besides is in which steps that is done: plans were searched
on the final picture for each sampler and schedule, as BudCache (ICML 2026, arXiv 2606.13496) does for transformers, and are
kept in `parts/caching/step_plans.json`.

Costs: four latents for each row, one with x0, up to five with the polynomials; a few small operations in a step that is not
run. Saves: the whole of each such step. Changes: fine detail; compared with a picture of as few steps, composition and
detail stay.

The first step always runs, and so does one in which something else changed: the prompt, the rows, the size, what another
method does, a LoRA's weight, whether a ControlNet takes part, and a step back to more noise.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from ...core.config import Config
from ...core.depth import Depth
from ...core.edits import Change, before, instead
from ...core.expected import zeros_of
from ...core.knobs import ConfigError, knob
from ...core.noise import sigma_at
from ...core.patching import Edit
from ...core.registry import method
from ...core.run import Run
from ...core.state import PerPass, PerTraversal
from ...core.unet_call import UNetCall
from ...core.unet_map import Block, UNetMap
from ...core.upcoming_picture import Idle, UpcomingPass
from ...parts.blocks.skipped_span import replaced
from ...parts.caching.plan import FULL, PREDICTED, StepPlan, even
from ...parts.caching.plan_knobs import BY_PASS, last_full_knob, last_full_of, note_on, plan_knob, planned_by_pass
from ...parts.caching.spared_networks import SparedNetworks
from ...parts.caching.step_plans import shipped_plan
from ...parts.caching.step_predictors import STEP_PREDICTORS, StepPredictor


@dataclass(frozen=True, kw_only=True)
class StepForecast(Config):
    """Which steps are not run, and what answers in them."""

    short = "Step forecast"

    speed: float = knob(
        2.0,
        "Speed-up",
        "How many times fewer steps run: 2 = half of the time. Higher is faster and less exact.",
        low=1,
        high=4,
        step=0.1,
        when="not plan",
    )
    interval: int = knob(
        0,
        "Interval",
        "Runs every this many steps, evenly spread; 0 = those that were measured best for Speed-up.",
        low=0,
        high=10,
        step=1,
        when="not plan",
        rarely=True,
    )
    last_full: int = last_full_knob()
    predictor: str = knob(
        "secant",
        "Prediction",
        "x0 = to the image last meant, secant = also back where it overshot, "
        "linear = the noise goes on straight, quadratic = curved, blend = mixed.",
        choices=tuple(STEP_PREDICTORS),
        rarely=True,
    )
    plan: str = plan_knob(
        "One letter a step, F = full run, P = skipped, as FPFPFFPP, and after / for Hires. fix", "by Speed-up"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        plans = planned_by_pass(self.plan, PREDICTED, type(self).__name__)
        object.__setattr__(self, "plan", BY_PASS.join(plan.letters for plan in plans))

    def changes_nothing(self) -> bool:
        if self.plan:
            return PREDICTED not in self.plan
        return self.interval == 1 or (self.interval == 0 and self.speed == 1)

    def details(self) -> str:
        if self.plan:
            plans = self.plan.split(BY_PASS)
            return f"{' and '.join(f'{plan.count(FULL)} of {len(plan)}' for plan in plans)} steps"
        return f"every {self.interval}" if self.interval else f"{self.speed:g}x"

    def idle_at(self, reached: tuple[float, ...] | None, one: UpcomingPass, unet: UNetMap | None) -> Idle | None:
        if one.evaluations is None or PREDICTED in self.plan_of(one).letters:
            return None
        steps = f"{one.steps} step{'s' * (one.steps != 1)}"
        return Idle(f"at {steps}", f"{self.short} skips none of {steps}. Use more sampling steps.")

    def plan_of(self, one: UpcomingPass) -> StepPlan:
        """The plan of a pass that comes, as long as it has evaluations where that is known."""
        evaluations = None if one.evaluations is None else len(one.evaluations)
        return self.plan_for(one.name, one.sampler, one.schedule, evaluations)

    def plan_for(self, pass_name: str, sampler: str, schedule: str, evaluations: int | None) -> StepPlan:
        """The plan of a pass, as long as it has evaluations where that is known; names are those of `HostCall`."""
        if own := self.own_plan(pass_name):
            return own if evaluations is None else own.stretched(evaluations)
        last = last_full_of(self.last_full, schedule)
        if self.interval:
            return even(evaluations or 10 * self.interval, 1 / self.interval).with_last_full(last)
        return shipped_plan(sampler, schedule, evaluations, self.speed).with_fulls_moved_last(last)

    def own_plan(self, pass_name: str) -> StepPlan | None:
        """What `plan` says of a pass: all there is, or its second part for hires fix. None where it is empty."""
        plans = planned_by_pass(self.plan, PREDICTED, type(self).__name__)
        return plans[-1 if pass_name == "hires" else 0] if plans else None

    def repeated(self, plans: Mapping[str, str]) -> StepForecast:
        """With the plans that were followed by `speed`: another version may ship others."""
        return self if self.plan or self.interval else replace(self, plan=BY_PASS.join(dict.fromkeys(plans.values())))


@dataclass(eq=False)
class _Memory:
    """What one stream keeps of the evaluations that ran.

    Attributes:
        predictor: with their answers.
        ready: whether the last one that was to run did so to its end.
        progress: of the last evaluation.
        last_full: progress of the last one that ran.
        context: (B, L, D), the prompts' embeddings of that one.
        dtype: of its answer.
        channels: of its answer.
    """

    predictor: StepPredictor
    ready: bool = False
    progress: float = 0.0
    last_full: float = 0.0
    context: Tensor | None = None
    dtype: torch.dtype = torch.float32
    channels: int = 4

    def goes_on(self, call: UNetCall, progress: float) -> bool:
        """Whether nothing else has changed since the last evaluation than the latent, on its way to less noise."""
        return self.ready and progress >= self.progress and _equal(call.context, self.context)

    def runs(self, call: UNetCall, progress: float) -> None:
        """Nothing can be predicted until `keep` has the answer."""
        context = call.context
        self.last_full = progress
        self.ready = False
        self.context = context.clone() if isinstance(context, Tensor) else None

    def keep(self, x: Tensor, answer: Tensor, sigma: float, prediction: str) -> None:
        self.ready, self.dtype, self.channels = True, answer.dtype, answer.shape[1]
        self.predictor.keep(self._latent(x), answer.float(), sigma, prediction)

    def predict(self, x: Tensor, sigma: float, prediction: str) -> Tensor:
        return self.predictor.predict(self._latent(x), sigma, prediction).to(self.dtype)

    def _latent(self, x: Tensor) -> Tensor:
        """The latent alone: behind it inpainting models are given a mask and a picture."""
        return x[:, : self.channels].float()

    def tensors(self) -> Iterator[Tensor]:
        yield from self.predictor.tensors()
        if self.context is not None:
            yield self.context


def _equal(a: Tensor | None, b: Tensor | None) -> bool:
    return a is b or (isinstance(a, Tensor) and isinstance(b, Tensor) and torch.equal(a, b))


@dataclass(frozen=True, eq=False)
class _Decision:
    """Whether a traversal is predicted, or kept for those that are; `x` is what the host calls the U-Net with."""

    memory: _Memory
    x: Tensor
    predicts: bool


@method(StepForecast, title="Step forecast", benefit="Half the time, small changes", at=Depth.FORECAST, keeps_maps=False)
def step_forecast(config: StepForecast, unet: UNetMap, run: Run) -> Iterator[Edit]:
    """Every block answers zeros at once in a step that is not run, and the last layers what is predicted."""
    if unet.out is None:
        raise ConfigError("Step forecast is not for this U-Net, which does not end in layers of its own; switch it off.")
    memories = run.per_stream(lambda: _Memory(STEP_PREDICTORS[config.predictor]()), _Memory.tensors)
    decided: PerTraversal[_Decision | None] = run.per_traversal(lambda: None)
    plan: PerPass[StepPlan] = run.per_pass(lambda: _plan_of(config, run))

    def is_planned(memory: _Memory | None) -> bool:
        """Whether the current traversal is one to predict."""
        call, progress = run.called_with, run.clock.progress
        if memory is None or call.x is None or not memory.goes_on(call, progress):
            return False
        return plan.get().at(run.clock, memory.last_full) == PREDICTED

    networks = SparedNetworks(run, lambda: is_planned(memories.get()))

    def decide(x: Tensor) -> Tensor:
        memory, call = memories.get(), run.called_with
        if memory is not None and call.x is not None:
            predicts, progress = is_planned(memory), run.clock.progress
            memory.progress = progress
            if not predicts:
                if networks.spared:
                    raise RuntimeError("a ControlNet was spared in a step that runs")
                memory.runs(call, progress)
            decided.set(_Decision(memory, call.x, predicts))
        return x

    def predicts() -> bool:
        decision = decided.get()
        return decision is not None and decision.predicts

    def answer(layers: Change, h: Tensor) -> Tensor:
        decision = decided.take()
        if decision is None:
            return layers(h)
        memory, x, sigma = decision.memory, decision.x, sigma_at(run.clock.progress)
        if decision.predicts:
            run.predicted.add(run.clock.evaluation)
            return memory.predict(x, sigma, run.prediction)
        out = layers(h)
        memory.keep(x, out, sigma, run.prediction)
        memories.count()
        return out

    yield from networks.edits()
    yield before(unet.input_blocks[0].layers[0].module, decide)
    for block in unet.blocks:
        yield from replaced(block, partial(_zeros, block, run), when=predicts)
    yield instead(unet.out, answer)


def _plan_of(config: StepForecast, run: Run) -> StepPlan:
    evaluations, call = run.clock.evaluations, run.call
    plan = config.plan_for(run.pass_name, call.sampler, call.schedule, evaluations)
    if note := note_on(config.own_plan(run.pass_name) or plan, StepForecast.title, evaluations):
        run.note(note)
    run.plans[run.pass_name] = plan.letters
    return plan


def _zeros(block: Block, run: Run, x: Tensor) -> Tensor:
    return zeros_of(block, x, run.traversal.latent_size)
