"""What is run beside the plain U-Net: ours, and the published code of the same method."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial

from torch import Tensor, nn

from benchmarks.full_size.plan import Item, Setup
from benchmarks.published import HIDIFFUSION_STEPS, Evaluate, deep_cache_on, free_u_on, hidiffusion_on, tomesd_on
from benchmarks.twins import call_twin, diffusers_twin, sdxl_twin
from lib_unetmod import DeepCache, FreeU, HiDiffusion, TokenMerging, modified
from lib_unetmod.core.call import Guidance

#: The first evaluation's timestep, and how far the next one's lies below it: one of 50 steps.
FIRST_TIMESTEP, STEP = 900.0, 20.0


@dataclass
class Subject:
    """A U-Net with the inputs of one call. Its twin in diffusers' classes, with the same weights, is made when asked for."""

    unet: nn.Module
    setup: Setup
    inputs: dict[str, Tensor]
    _twin: list[nn.Module] = field(default_factory=list)

    @property
    def twin(self) -> nn.Module:
        if not self._twin:
            self._twin.append((diffusers_twin if self.setup.model.family == "sd1" else sdxl_twin)(self.unet))
        return self._twin[0]

    def steps(self, evaluations: int) -> list[dict[str, Tensor]]:
        """The inputs of so many evaluations in a row, at falling timesteps."""
        return [{**self.inputs, "timesteps": self.inputs["timesteps"] * 0 + timestep} for timestep in timesteps(evaluations)]


@dataclass(frozen=True)
class Way:
    """Something to time: what `entered` gives evaluates inputs; entering and leaving do not count."""

    subject: Subject
    entered: Callable[[], AbstractContextManager[Evaluate]]
    evaluations: int


@dataclass(frozen=True)
class Published:
    """Published code, and the plain way that it is to be set over: the U-Net's own, or that of its twin."""

    code: str
    way: Way
    plain: Way
    on_same_unet: bool = False


def timesteps(evaluations: int) -> list[float]:
    return [FIRST_TIMESTEP - STEP * number for number in range(evaluations)]


def plain_way(subject: Subject, evaluations: int) -> Way:
    return Way(subject, lambda: nullcontext(lambda step: subject.unet(**step)), evaluations)


def our_way(subject: Subject, item: Item, evaluations: int) -> Way:
    return Way(subject, partial(_modified, subject, item), evaluations)


def published_way(subject: Subject, item: Item, evaluations: int, plain_evaluations: int) -> Published | None:
    """The published code of the item's method, where there is one to run; beside so many plain evaluations."""
    (config, *others), family = item.configs, subject.setup.model.family
    if others:
        return None
    plain_twin = Way(subject, lambda: nullcontext(lambda step: call_twin(subject.twin, step)), plain_evaluations)
    if isinstance(config, TokenMerging):
        way = Way(subject, lambda: tomesd_on(subject.unet, config.ratio), evaluations)
        return Published("tomesd", way, plain_way(subject, plain_evaluations), on_same_unet=True)
    if isinstance(config, DeepCache) and config.branch == 0 and config == DeepCache(interval=config.interval):
        entered = lambda: deep_cache_on(subject.twin, timesteps(evaluations), config.interval)  # noqa: E731
        return Published("DeepCache's helper", Way(subject, entered, evaluations), plain_twin)
    if isinstance(config, FreeU):
        return Published("diffusers' FreeU", Way(subject, lambda: free_u_on(subject.twin, family), evaluations), plain_twin)
    if config == HiDiffusion():
        first = round(HIDIFFUSION_STEPS * (1 - FIRST_TIMESTEP / 1000))
        entered = lambda: hidiffusion_on(subject.twin, family, first)  # noqa: E731
        return Published("hidiffusion", Way(subject, entered, evaluations), plain_twin)
    return None


@contextmanager
def _modified(subject: Subject, item: Item) -> Iterator[Evaluate]:
    rows = len(subject.inputs["x"])
    with modified(subject.unet, item.configs, trained_size=subject.setup.trained) as run:
        run.guidance = Guidance(1.0, (*range(rows // 2), *range(rows // 2)))

        def evaluate(step: dict[str, Tensor]) -> Tensor:
            run.new_evaluation()
            return subject.unet(**step)

        yield evaluate
