"""How the parts' values are measured: while a picture is drawn, the U-Net's call is made again without each part in turn.

At a noise level for each phase the change of the prediction is taken. What a changed prediction does to the picture hangs on
the phase, and not much on the part: a few cheap parts, left out in one phase alone, tell how far the picture moves for it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from statistics import fmean
from typing import Any

import torch
from torch import Tensor, nn

from ..core.clock import Clock
from ..core.knobs import ConfigError
from ..core.pace import Mark, mark, seconds_between
from ..core.run import modified
from ..core.unet_call import UNetCall
from ..core.unet_map import UNetMap
from ..methods.speed.skip_blocks import SkipBlocks
from ..parts.blocks.named_parts import Branch, all_names, branches_of, share_branches, within
from .candidates import PLAIN, Candidate
from .drawer import Drawer, Stopped
from .part_values import Item, PartValues, phases_of, why_not
from .trials import Effort, Told, Trials

#: Times the share of the time that is to be saved: that of the parts that are looked at in each picture.
_CONTENDERS = 2.5
#: Share of an evaluation's time of the parts that are left out together to see what that does to the picture.
_PROBE = 0.1
#: Runs of a call in which the times of parts are taken, for each phase of each picture.
_TIMED = 2
#: Calls with one noise level that are looked at: a host may evaluate prompt and negative prompt apart.
_CALLS = 2
_SAID = "What each part is worth"
#: Progress by which a call may lie beside the evaluation that was expected.
_APART = 0.02
#: The change that stands for a prediction that is no number.
_BROKEN = 1e12


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
        ConfigError: where it cannot be measured.
    """
    look = _Look(drawer.upcoming.unet, drawer.upcoming.last.evaluations, trials, drawer)
    phases = look.phases
    moved: list[list[float]] = [[] for _ in phases]
    for number in trials.choosing:
        with look.at_calls():
            trials.draw(number, base)
        if look.stopped:
            raise Stopped
        if look.missed:
            raise ConfigError("What may be left out cannot be tuned: the steps are at other noise levels than was expected.")
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


class _Look:
    """What is seen at the calls of the U-Net while pictures are drawn.

    Attributes:
        stopped: whether the user has stopped meanwhile.
        probes: for each phase, the parts that are left out together.
        probed: for each phase, by how much that changed each call's prediction, as mean squares.
    """

    def __init__(self, unet: UNetMap, evaluations: Sequence[float], trials: Trials, drawer: Drawer) -> None:
        self.phases = phases_of(evaluations)
        self.stopped = False
        self.probes: list[list[str]] = [[] for _ in self.phases]
        self.probed: list[list[float]] = [[] for _ in self.phases]
        self._unet, self._evaluations, self._trials, self._drawer = unet, evaluations, trials, drawer
        self._branches = {name: branches_of(name, unet) for name in all_names(unet)}
        self._changes: dict[str, list[list[float]]] = {name: [[] for _ in self.phases] for name in self._branches}
        self._sizes: list[list[float]] = [[] for _ in self.phases]
        self._clock = Clock()
        self._seconds = _Seconds(self._branches, unet.unet)
        self._seen = [0] * len(self.phases)
        self._wanted = {(name, at) for name in self._branches for at in range(len(self.phases))}

    @property
    def missed(self) -> bool:
        """Whether in the last picture a phase had no call."""
        return not all(self._seen)

    def only(self, items: Iterable[Item]) -> None:
        """Look at no others from now on."""
        self._wanted = {*items}

    @contextmanager
    def at_calls(self) -> Iterator[None]:
        """Within it a picture is drawn."""
        self._seen = [0] * len(self.phases)
        handle = self._unet.unet.register_forward_hook(self._called, with_kwargs=True)
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
            self._trials.say(f"{_SAID}: {number + 1} of {len(names)}")
            if self._drawer.stopped():
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
        progress = self._clock.progress_at(float(call.timesteps.flatten()[0]))
        nearest = min(self._evaluations, key=lambda one: abs(one - progress))
        if abs(nearest - progress) > _APART:
            return None
        at = next((at for at, phase in enumerate(self.phases) if phase.looked_at == nearest), None)
        return None if at is None or self._seen[at] >= _CALLS else at

    def _change(self, call: UNetCall, plain: Tensor, names: Sequence[str]) -> float:
        with modified(self._unet.unet, [SkipBlocks(blocks=tuple(names))]):
            without = call.kept().made_again(self._unet.unet)
        change = (without.float() - plain).square().mean().item()
        return change if math.isfinite(change) else _BROKEN

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
