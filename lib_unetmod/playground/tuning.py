"""Tuning on the playground's model: the pictures of a few prompts, drawn as the command line and the page draw them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from ..core.config import Config
from ..core.registry import method_of
from ..core.upcoming_picture import UpcomingPicture
from ..tuning.drawer import Drawn, Stopped
from . import stopping
from .model import SmallModel
from .sampling import draw, upcoming, warm_up
from .settings import Settings


class PlaygroundDrawer:
    """Draws the prompts in turn, each time round from another seed.

    Args:
        prompts: what is drawn; all else is as `settings` say.
        configs: what is on anyway.
        look: called after each evaluation; raises `stopping.Stopped` where the user has stopped.
    """

    def __init__(
        self,
        model: SmallModel,
        settings: Settings,
        prompts: Sequence[str],
        configs: Sequence[Config] = (),
        look: Callable[[], None] = lambda: None,
    ) -> None:
        self._model = model
        self._settings = settings.settled()[0]
        self._prompts = prompts
        self._configs = configs
        self._look = look
        self.own = frozenset(method_of(config).name for config in configs)
        warm_up(model, self._settings)

    @property
    def upcoming(self) -> UpcomingPicture:
        return upcoming(self._model, self._settings)

    def draw(self, number: int, configs: Sequence[Config], share: float = 1.0) -> Drawn:
        prompt = self._prompts[number % len(self._prompts)]
        seed = (self._settings.seed + number // len(self._prompts)) % 2**32
        steps = max(round(share * self._settings.steps), 1)
        settings = replace(self._settings, prompt=prompt, seed=seed, steps=steps)
        try:
            picture = draw(self._model, settings, [*self._configs, *configs], lambda *_: self._look())
        except stopping.Stopped:
            raise Stopped from None
        return Drawn(picture.latent, picture.timings.unet)
