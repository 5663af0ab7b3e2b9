"""Whether a method did anything to a picture, and why not where it did not: a method that is on is never silent.

An edit acts where it changes a layer's call: the layer gets something else than it was called with, something else is
answered than it gave, or it is not called. An edit that only looks, and one that stands aside, passes on the very objects
that it was given. So no method has to say when it acts, and none can forget to.

A run counts in how many traversals each method acted, and keeps what it has seen of the picture. At the end a method that
never acted gets one sentence, from the function that says beforehand that it will do nothing (`Config.idle_reason`).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from operator import is_
from typing import Any

from torch import Tensor

from .call import HostCall
from .clock import Clock
from .config import Config
from .knobs import ConfigError
from .patching import Wrapper
from .registry import Method
from .target import Target
from .unet_map import UNetMap
from .upcoming_picture import Idle, UpcomingPass, UpcomingPicture


@dataclass(eq=False)
class Applied:
    """One method in a run.

    Attributes:
        active: whether its edits run; decided when a traversal begins, so that no walk is half modified.
        acted: in how many traversals it changed something. What it does to the autoencoder belongs to the last one.
    """

    method: Method
    config: Config
    active: bool = False
    acted: int = 0
    _acted_now: bool = False

    def traversal_begins(self, active: bool) -> None:
        self.active, self._acted_now = active, False

    def guarded(self, wrapper: Wrapper, runs: Callable[[], bool]) -> Wrapper:
        """The wrapper of an edit where `runs` says so, the layer alone elsewhere; sees whether it acts."""

        def guarded(call: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
            if not runs():
                return call(*args, **kwargs)
            try:
                return self._seen_acting(wrapper, call, args, kwargs)
            except Exception as error:
                if not hasattr(error, "unetmod_method"):
                    error.unetmod_method = self.method.title
                raise

        return guarded

    def _seen_acting(self, wrapper: Wrapper, call: Callable[..., Tensor], args: tuple, kwargs: dict[str, Any]) -> Tensor:
        if self._acted_now:
            return wrapper(call, *args, **kwargs)
        layer = _Watched(call, args, kwargs)
        out = wrapper(layer, *args, **kwargs)
        if out is not layer.unchanged:
            self.acted += 1
            self._acted_now = True
        return out


#: What no layer answers.
_CHANGED = object()


class _Watched:
    """A layer as an edit calls it. `unchanged` is its answer, as long as it got what it was called with, and only once."""

    __slots__ = ("_args", "_call", "_called", "_kwargs", "unchanged")

    def __init__(self, call: Callable[..., Tensor], args: tuple, kwargs: dict[str, Any]) -> None:
        self._call, self._args, self._kwargs = call, args, kwargs
        self._called = False
        self.unchanged: object = _CHANGED

    def __call__(self, *args: Any, **kwargs: Any) -> Tensor:
        out = self._call(*args, **kwargs)
        same = not self._called and self._is_given(args, kwargs)
        self._called, self.unchanged = True, out if same else _CHANGED
        return out

    def _is_given(self, args: tuple, kwargs: dict[str, Any]) -> bool:
        if len(args) != len(self._args) or kwargs.keys() != self._kwargs.keys():
            return False
        return all(map(is_, args, self._args)) and all(one is self._kwargs[name] for name, one in kwargs.items())


@dataclass(eq=False)
class _SeenPass:
    """What was seen of a pass.

    Attributes:
        target: the largest picture of its traversals.
        timesteps: of each evaluation; a number where something has read it already, None where the host gave none.
        guided: whether there may have been unconditional rows in its calls.
    """

    name: str
    target: Target
    call: HostCall
    timesteps: list[Tensor | float | None] = field(default_factory=list)
    guided: bool = False

    def take_in(self, target: Target, call: HostCall, guided: bool) -> None:
        self.call = call
        self.guided = self.guided or guided
        if target.scale > self.target.scale:
            self.target = target

    def as_upcoming(self, clock: Clock) -> UpcomingPass:
        # Read only now: while the picture was drawn it would have waited for the device.
        evaluations = tuple(0.0 if one is None else clock.progress_at(float(one)) for one in self.timesteps)
        begins, guidance = evaluations[0], self.call.guidance
        return UpcomingPass(
            name=self.name,
            target=self.target,
            steps=len(evaluations),
            sampler=self.call.sampler,
            schedule=self.call.schedule,
            cfg=UpcomingPass.cfg if guidance is None else guidance.scale,
            denoising=1 - begins if self.call.denoising is None else self.call.denoising,
            begins=begins,
            evaluations=evaluations,
            guided=self.guided,
        )


class Seen:
    """The picture as a run has seen it: its passes in order, their sizes, and when the U-Net was evaluated."""

    def __init__(self) -> None:
        self._unet: UNetMap | None = None
        self._passes: list[_SeenPass] = []
        self._evaluation = -1

    def traversal(self, unet: UNetMap, target: Target, clock: Clock, call: HostCall, guided: bool) -> None:
        """Take in a traversal as it begins. `guided` says whether there may be unconditional rows in its call."""
        if not self._passes or self._passes[-1].name != call.pass_name:
            self._unet = unet  # of a refiner, which may follow, no method's settings were made for
            self._passes.append(_SeenPass(call.pass_name, target, call))
        now = self._passes[-1]
        now.take_in(target, call, guided)
        if clock.evaluation != self._evaluation or not now.timesteps:
            self._evaluation = clock.evaluation
            now.timesteps.append(_kept(clock.given))

    def as_upcoming(self, clock: Clock) -> UpcomingPicture | None:
        """The picture in the form in which methods are asked for reasons; None where the U-Net was not called."""
        passes = tuple(one.as_upcoming(clock) for one in self._passes)
        return UpcomingPicture(self._unet, passes) if passes else None


def _kept(timestep: Tensor | float | None) -> Tensor | float | None:
    """A timestep for later. A tensor is copied: hosts may write the next one into it."""
    return timestep.detach().flatten()[:1].clone() if isinstance(timestep, Tensor) else timestep


def why_nothing(applied: Applied, picture: UpcomingPicture | None) -> Idle:
    """Why a method never acted: as it was said before, or, where nothing explains it, that it did not."""
    config, idle = applied.config, None
    if picture is not None:
        # Another U-Net that came on the way may not take the settings.
        with suppress(ConfigError):
            idle = config.idle(picture)
    return idle or Idle("in this image", f"{config.short or config.title} did nothing in this image.")
