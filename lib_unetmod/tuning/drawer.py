"""What a host draws with for tuning: the picture that is wanted and others like it, plain or with methods."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple, Protocol

from torch import Tensor

from ..core.config import Config
from ..core.upcoming_picture import UpcomingPicture


class Stopped(Exception):
    """The user has stopped: nothing more is to be drawn."""


class Drawn(NamedTuple):
    """A picture as its sampler left it.

    Attributes:
        latent: (B, C, h, w), on the CPU; a picture where the host has decoded it already.
        seconds: from its first evaluation to the end of its last pass.
    """

    latent: Tensor
    seconds: float


class Drawer(Protocol):
    """Draws pictures of one kind: a model, sampler, size, CFG scale and number of steps."""

    @property
    def upcoming(self) -> UpcomingPicture:
        """The kind."""

    @property
    def own(self) -> Collection[str]:
        """Names of the methods that are on anyway."""

    def draw(self, number: int, configs: Sequence[Config], share: float = 1.0) -> Drawn:
        """One picture.

        Args:
            number: which one: equal numbers have the same prompt and the same noise.
            configs: the methods that are on, beside those that the user has on anyway.
            share: of the sampling steps, in each pass.

        Raises:
            Stopped: where the user has stopped.
        """

    def stopped(self) -> bool:
        """Whether the user has stopped; asked while a picture is drawn."""
