"""What each part of the U-Net is worth to a picture: what changes without it, and what time it takes.

While a picture is drawn, the U-Net's call is made again without each part in turn, at a noise level for each phase of the
way, and the change of the prediction is taken. What a changed prediction does to the picture hangs on the phase, and not
much on the part: a few cheap parts, left out in one phase alone, tell how far the picture moves for it. SnapFusion (Li et
al. 2023, section 3.1) values blocks by change over latency too, in order to train a smaller U-Net; the squares of small
changes add up as those of independent errors do.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from statistics import fmean
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..core.knobs import ConfigError
from ..core.pace import Mark, mark, seconds_between
from ..core.run import modified
from ..core.schedule import ProgressRange
from ..core.unet_call import UNetCall
from ..core.unet_map import UNetMap
from ..core.upcoming_picture import UpcomingPicture
from ..methods.speed.skip_blocks import SkipBlocks
from ..parts.blocks.named_parts import Branch, all_names, branches_of, share_branches, within
from .candidates import PLAIN, Candidate
from .drawer import Drawer, Stopped
from .trials import Effort, Told, Trials

#: A part's name, and the number of a phase.
Item = tuple[str, int]

#: Evaluations up to which each is a phase of its own; of more there are so many phases of equal length.
_OF_ITS_OWN, _PHASES = 4, 3
#: Share of an evaluation's time of the parts that are left out together to see what that does to the picture.
_PROBE = 0.1
#: Times the share of the time that is to be saved: that of the parts that are looked at in each picture.
_CONTENDERS = 2.5
#: Runs of a call in which the times of parts are taken, for each phase of each picture.
_TIMED = 2
#: Calls with one noise level that are looked at: a host may evaluate prompt and negative prompt apart.
_CALLS = 2
#: Digits of the bounds of phases.
_DIGITS = 4
_SAID = "What each part is worth"


@dataclass(frozen=True)
class Phase:
    """A stretch of a picture's evaluations.

    Attributes:
        window: its progress.
        looked_at: progress of the evaluation that stands for it.
        share: of all evaluations.
    """

    window: ProgressRange
    looked_at: float
    share: float


def phases_of(evaluations: Sequence[float]) -> tuple[Phase, ...]:
    """The phases of a pass that is evaluated at these progresses, of which there is at least one."""
    levels = sorted(set(evaluations))
    groups = np.array_split(levels, len(levels) if len(levels) <= _OF_ITS_OWN else _PHASES)
    between = [round(float(one[-1] + other[0]) / 2, _DIGITS) for one, other in pairwise(groups)]
    windows = [ProgressRange(*both) for both in pairwise([0.0, *between, 1.0])]
    if not all(all(map(window.holds, group)) for window, group in zip(windows, groups, strict=True)):
        windows, groups = [ProgressRange()], [np.array(levels)]  # too near each other to be told apart
    return tuple(
        Phase(window, float(group[len(group) // 2]), sum(one in group for one in evaluations) / len(evaluations))
        for window, group in zip(windows, groups, strict=True)
    )


@dataclass(frozen=True)
class PartValues:
    """What was found.

    Attributes:
        phases: of the way.
        times: by part, the share of an evaluation's time that is saved without it.
        changes: by part and for each phase, the mean square by which the prediction changes without it.
        sizes: for each phase, the mean square of the prediction.
        effects: for each phase, by how much the mean square of the final latent changes for that of the prediction.
        items: what was looked at in every picture.
    """

    phases: tuple[Phase, ...]
    times: Mapping[str, float]
    changes: Mapping[str, tuple[float, ...]]
    sizes: tuple[float, ...]
    effects: tuple[float, ...]
    items: frozenset[Item]

    def cost(self, name: str, phase: int) -> float:
        """About the mean square by which the final latent changes where a part is left out in a phase."""
        return self.effects[phase] * self.changes[name][phase]

    def saving(self, name: str, phase: int) -> float:
        """The share of a picture's time that this saves."""
        return self.times[name] * self.phases[phase].share

    @property
    def cheapest_first(self) -> list[Item]:
        """What can be left out, by what it costs for the time that it saves."""
        items = [item for item in self.items if self.saving(*item) > 0]
        return sorted(items, key=lambda item: self.cost(*item) / self.saving(*item))

    def cheapest(self, saved: float) -> list[Item]:
        """Of these the first ones, as long as they do not save so large a share of the time."""
        savings = accumulate((self.saving(*item) for item in self.cheapest_first), initial=0.0)
        return [item for item, so_far in zip(self.cheapest_first, savings, strict=False) if so_far < saved]

    def relative_change(self, name: str, phase: int) -> float:
        """By how much of its size the prediction changes: roots of the mean squares."""
        return math.sqrt(self.changes[name][phase] / max(self.sizes[phase], 1e-12))


def why_not(upcoming: UpcomingPicture, own: Collection[str]) -> str:
    """Why the parts of a picture, beside methods that are on, cannot be valued, as a sentence; empty where they can."""
    if len(upcoming.passes) > 1:
        return "What may be left out at few steps is tuned without Hires. fix: turn it off for that."
    if upcoming.unet is None:
        return "What may be left out at few steps is tuned once a model is loaded: generate an image first."
    if upcoming.last.evaluations is None:
        return "What may be left out at few steps cannot be tuned with a sampler that chooses its steps on the way."
    if "skip_blocks" in own:
        return "Skip blocks is on, and decides which parts are left out: untick it to have them tuned."
    return ""


def value_parts(drawer: Drawer, pictures: int, told: Told) -> PartValues:
    """What each part is worth in so many pictures.

    Raises:
        Stopped: where the user has stopped.
        ConfigError: where it cannot be measured.
    """
    if reason := why_not(drawer.upcoming, drawer.own):
        raise ConfigError(reason)
    parts, evaluations = len([*all_names(drawer.upcoming.unet)]), drawer.upcoming.last.evaluations
    phases = len(phases_of(evaluations))
    most = pictures * (2 + phases + phases * (parts + _TIMED) / len(evaluations))
    trials = Trials(drawer, Effort(pictures, 0, most, most), most, told)
    trials.draw_plain()
    return measured(trials, drawer, PLAIN)


def measured(trials: Trials, drawer: Drawer, base: Candidate, saved: float | None = None) -> PartValues:
    """Value the parts on the pictures that candidates are chosen on.

    Args:
        base: what is on beside.
        saved: about the share of the time that is to be saved: what is too dear for that is not looked at again after the
            first picture. None to look at all of it in each picture.

    Raises:
        Stopped: where the user has stopped.
    """
    phases = phases_of(drawer.upcoming.last.evaluations)
    look = _Look(drawer.upcoming.unet, phases, trials, drawer)
    moved: list[list[float]] = [[] for _ in phases]
    for number in trials.choosing:
        with look.at_calls():
            trials.draw(number, base)
        if look.stopped:
            raise Stopped
        for at, phase in enumerate(phases):
            trials.say(_SAID)
            probed = with_parts(base, "parts left out", [within(name, phase.window) for name in look.probes[at]])
            moved[at].append(trials.change(number, trials.draw(number, probed)))
        values = look.values([fmean(one) for one in moved])
        if saved is not None:
            look.only(values.cheapest(_CONTENDERS * saved))
    return values


def with_parts(base: Candidate, name: str, names: Sequence[str]) -> Candidate:
    """The candidate that leaves out these besides."""
    return Candidate(name, (*base.configs, SkipBlocks(blocks=tuple(names))))


@dataclass
class _Look:
    """What is seen at the calls of the U-Net while pictures are drawn.

    Attributes:
        stopped: whether the user has stopped meanwhile.
        probes: for each phase, the parts that are left out together.
        probed: for each phase, by how much that changed each call's prediction, as mean squares.
    """

    unet: UNetMap
    phases: tuple[Phase, ...]
    trials: Trials
    drawer: Drawer
    stopped: bool = False
    probes: list[list[str]] = field(default_factory=list)
    probed: list[list[float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        count = len(self.phases)
        self._branches = {name: branches_of(name, self.unet) for name in all_names(self.unet)}
        self._changes: dict[str, list[list[float]]] = {name: [[] for _ in range(count)] for name in self._branches}
        self._sizes: list[list[float]] = [[] for _ in range(count)]
        self._seconds = _Seconds(self._branches, self.unet.unet)
        self.probes = [[] for _ in range(count)]
        self.probed = [[] for _ in range(count)]
        self._seen = [0] * count
        self._wanted = {(name, at) for name in self._branches for at in range(count)}

    def only(self, items: Iterable[Item]) -> None:
        """Look at no others from now on."""
        self._wanted = {*items}

    @contextmanager
    def at_calls(self) -> Iterator[None]:
        """Within it a picture is drawn."""
        self._seen = [0] * len(self.phases)
        handle = self.unet.unet.register_forward_hook(self._called, with_kwargs=True)
        try:
            yield
        finally:
            handle.remove()

    def values(self, moved: Sequence[float]) -> PartValues:
        """What was seen so far. The mean square by which the probes `moved` the final latent is known for each phase."""
        times = self._seconds.shares()
        changes = {name: tuple(fmean(one or [0.0]) for one in by_phase) for name, by_phase in self._changes.items()}
        sizes = tuple(fmean(one or [1.0]) for one in self._sizes)
        effects = (far / max(fmean(probed or [0.0]), 1e-12) for far, probed in zip(moved, self.probed, strict=True))
        return PartValues(self.phases, times, changes, sizes, tuple(effects), frozenset(self._wanted))

    @torch.no_grad()
    def _called(self, unet: nn.Module, args: tuple, kwargs: dict[str, Any], out: Any) -> None:
        call = UNetCall(args, kwargs)
        at = self._phase(call)
        if at is None or self.stopped or not isinstance(out, Tensor):
            return
        self._seen[at] += 1
        for _ in range(_TIMED):
            with self._seconds.taken():
                call.kept().made_again(unet)
        plain = out.float().clone()
        self._sizes[at].append(plain.square().mean().item())
        names = [name for name in self._branches if (name, at) in self._wanted]
        for number, name in enumerate(names):
            self.trials.say(f"{_SAID}: {number + 1} of {len(names)}")
            if self.drawer.stopped():
                self.stopped = True
                return
            self._changes[name][at].append(self._change(call, plain, [name]))
        if not self.probes[at]:
            self.probes[at] = self._cheap(at)
        self.probed[at].append(self._change(call, plain, self.probes[at]))

    def _phase(self, call: UNetCall) -> int | None:
        """The phase that a call stands for, if any."""
        if call.timesteps is None:
            return None
        progress = min(max(1 - float(call.timesteps.flatten()[0]) / 999, 0.0), 1.0)
        near = [at for at, phase in enumerate(self.phases) if abs(phase.looked_at - progress) < 10**-_DIGITS]
        return near[0] if near and self._seen[near[0]] < _CALLS else None

    def _change(self, call: UNetCall, plain: Tensor, names: Sequence[str]) -> float:
        with modified(self.unet.unet, [SkipBlocks(blocks=tuple(names))]):
            without = call.kept().made_again(self.unet.unet)
        change = (without.float() - plain).square().mean().item()
        return change if math.isfinite(change) else math.inf

    def _cheap(self, at: int) -> list[str]:
        """Parts that change little for the time that they take."""
        times = self._seconds.shares()
        costs = {name: fmean(by_phase[at]) / max(times[name], 1e-9) for name, by_phase in self._changes.items()}
        chosen: list[str] = []
        for name in sorted(costs, key=costs.__getitem__):
            if not any(share_branches(name, one) for one in chosen):
                chosen.append(name)
            if sum(times[one] for one in chosen) >= _PROBE:
                break
        return chosen


class _Seconds:
    """How long each part's branches run in calls of the U-Net."""

    def __init__(self, branches: Mapping[str, Sequence[Branch]], unet: nn.Module) -> None:
        self._branches, self._unet = branches, unet
        every = [branch for of_part in branches.values() for branch in of_part]
        kept = [branch.kept for branch in every if branch.kept is not None]
        self._modules = [*dict.fromkeys([*(branch.module for branch in every), *kept])]
        self._spans: list[tuple[nn.Module, Mark, Mark]] = []
        self._whole: list[tuple[Mark, Mark]] = []

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Within it the U-Net is called once."""
        device = next(self._unet.parameters()).device
        began: dict[nn.Module, Mark] = {}
        handles = []

        def begins(module: nn.Module, args: tuple) -> None:
            began[module] = mark(device)

        def ends(module: nn.Module, args: tuple, out: Any) -> None:
            self._spans.append((module, began.pop(module), mark(device)))

        for module in self._modules:
            handles += [module.register_forward_pre_hook(begins), module.register_forward_hook(ends)]
        start = mark(device)
        try:
            yield
        finally:
            self._whole.append((start, mark(device)))
            for handle in handles:
                handle.remove()
            if device.type == "cuda":
                torch.cuda.synchronize(device)

    def shares(self) -> dict[str, float]:
        """By part, of a call's time what is saved without it."""
        spent: dict[nn.Module, float] = {}
        for module, begin, end in self._spans:
            spent[module] = spent.get(module, 0.0) + seconds_between(begin, end)
        whole = max(sum(seconds_between(begin, end) for begin, end in self._whole), 1e-9)

        def saved(branch: Branch) -> float:
            return spent.get(branch.module, 0.0) - (spent.get(branch.kept, 0.0) if branch.kept is not None else 0.0)

        return {name: max(sum(map(saved, of_part)), 0.0) / whole for name, of_part in self._branches.items()}
