"""Tuning in the WebUI: before the picture that was asked for, pictures of other seeds are sampled as it will be.

What is sampled is what `p.sample` was called for, again and again: the model, LoRAs, ControlNets, hires fix and all else are
those of the picture. The WebUI's own bar shows how far it is, and its Interrupt ends it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from ..core.config import Config
from ..core.knobs import ConfigError
from ..core.registry import method_of
from ..core.upcoming_picture import UpcomingPicture
from ..settings.profiles import Profiles
from ..settings.selection import configs_of
from ..settings.speed_target import OFF, taken_apart, tuning_of
from ..tuning.drawer import Drawn, Stopped
from ..tuning.found import Found
from ..tuning.result import keep, sentences
from ..tuning.search import tune
from ..tuning.shown import figure
from ..tuning.trials import EFFORTS, Effort
from . import host

#: Samples what `p.sample` was called for with these methods.
Sample = Callable[[Sequence[Config]], Any]


@dataclass(frozen=True)
class TunedPicture:
    """What tuning has to say of a picture.

    Attributes:
        said: sentences for the user.
        plain: the picture's samples with no speed, where they were drawn, else None.
    """

    found: Found
    said: list[str]
    plain: Any

    def shown(self, p: Any, picture: Image.Image) -> Image.Image | None:
        """What was found beside `picture`, which was drawn with it; None where nothing was."""
        plain = None if self.plain is None or self.found.stopped else host.picture_of(p, self.plain)
        return figure(self.found, [(plain, picture)]) if plain and self.found.tuned else None


class HostTuning:
    """What is to be tuned before the picture of `p`, beside the methods that are on anyway.

    Attributes:
        own: these methods.
    """

    def __init__(self, word: str, effort: Effort, own: Sequence[Config]) -> None:
        self.own = tuple(own)
        self._word = word
        self._effort = effort

    @classmethod
    def asked(cls, selection: Any, upcoming: Callable[[], UpcomingPicture], profiles: Profiles) -> HostTuning | None:
        """What a choice of methods asks for; None where it asks for nothing, or that is tuned.

        Raises:
            ConfigError: for a way of tuning that there is not.
        """
        word, way = tuning_of(selection)
        if way == OFF:
            return None
        if profiles.holds(word, upcoming(), EFFORTS[way].one):
            return None
        return cls(word, EFFORTS[way], [one for one in configs_of(taken_apart(selection)[1])[0] if not one.neutral])

    def run(self, p: Any, sample: Sample, upcoming: UpcomingPicture, profiles: Profiles) -> TunedPicture:
        """Search, and keep what was found."""
        try:
            drawer = _HostDrawer(p, sample, self.own, upcoming)
        except ConfigError as error:
            return TunedPicture(Found(()), [str(error)], None)
        try:
            with host.working() as show:
                found = tune(drawer, [self._word], self._effort, show)
        finally:
            drawer.restore()
        said = [*sentences(found, upcoming), *keep(found, upcoming, self._effort, profiles)]
        return TunedPicture(found, said, drawer.own_picture)


class _HostDrawer:
    """`own_picture` are the samples of the picture that is asked for, once it was drawn with no speed."""

    def __init__(self, p: Any, sample: Sample, own: tuple[Config, ...], upcoming: UpcomingPicture) -> None:
        """
        Raises:
            ConfigError: where the WebUI is too old to give a picture another seed.
        """
        if getattr(p, "rng", None) is None:
            raise ConfigError("Tuning is left out: it takes a WebUI of version 1.6 or later.")
        self.upcoming = upcoming
        self.own = frozenset(method_of(config).name for config in own)
        self.own_picture: Any = None
        self._p, self._sample, self._own_configs = p, sample, own
        self._rng = p.rng

    def draw(self, number: int, configs: Sequence[Config], share: float = 1.0) -> Drawn:
        with _shorter(self._p, share):
            self._p.rng = self._noise(number)
            began = time.perf_counter()
            samples = self._sample([*self._own_configs, *configs])
            drawn = Drawn(_as_tensor(samples), time.perf_counter() - began)
        if host.interrupted():
            raise Stopped
        if number == 0 and not configs:
            self.own_picture = samples
        return drawn

    def stopped(self) -> bool:
        return host.interrupted()

    def restore(self) -> None:
        """The picture itself begins from its own noise."""
        self._p.rng = self._noise(0)

    def _noise(self, number: int) -> Any:
        """The noise of the batch's seeds, or of others."""
        seeds = [seed + number * len(self._rng.seeds) for seed in self._rng.seeds]
        names = ("subseeds", "subseed_strength", "seed_resize_from_h", "seed_resize_from_w")
        return type(self._rng)(self._rng.shape, seeds, **{name: getattr(self._rng, name) for name in names})


@contextmanager
def _shorter(p: Any, share: float) -> Iterator[None]:
    """Inside, `p` has so large a share of its steps."""
    names = [name for name in ("steps", "hr_second_pass_steps") if getattr(p, name, None)]
    before = {name: getattr(p, name) for name in names}
    try:
        for name in names if share < 1 else ():
            setattr(p, name, max(round(share * before[name]), 1))
        yield
    finally:
        for name, value in before.items():
            setattr(p, name, value)


def _as_tensor(samples: Any) -> Tensor:
    """Latents, or the pictures that hires fix decoded."""
    tensor = samples if isinstance(samples, Tensor) else torch.stack([*samples])
    return tensor.detach().float().cpu()
