"""Tuning on the playground's model: the pictures of a few prompts, drawn as the command line and the page draw them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from ..core.config import Config
from ..core.registry import method_of
from ..core.upcoming_picture import UpcomingPicture
from ..settings.profiles import Profiles
from ..settings.selection import Selection, configs_of
from ..settings.speed_target import OFF, taken_apart, tuning_of
from ..tuning.drawer import Drawn, Stopped
from ..tuning.result import keep, sentences
from ..tuning.search import tune
from ..tuning.trials import EFFORTS, Told
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
        except (stopping.Stopped, KeyboardInterrupt):
            raise Stopped from None
        return Drawn(picture.latent, picture.timings.unet)

    def stopped(self) -> bool:
        try:
            self._look()
        except (stopping.Stopped, KeyboardInterrupt):
            return True
        return False


def tuned_first(
    model: SmallModel, settings: Settings, selection: Selection, profiles: Profiles, look: Callable[[], None], told: Told
) -> list[str]:
    """Tune for a picture's own prompt where its choice of methods asks for that and it is not done yet.

    Args:
        look, told: as `PlaygroundDrawer` and `tune` take them.

    Returns:
        What was found, in sentences.
    """
    word, way = tuning_of(selection)
    if way == OFF or profiles.holds(word, upcoming(model, settings), EFFORTS[way].one):
        return []
    own = [config for config in configs_of(taken_apart(selection)[1])[0] if not config.neutral]
    drawer = PlaygroundDrawer(model, settings, [settings.prompt], own, look)
    found = tune(drawer, [word], EFFORTS[way], told)
    return [*sentences(found, drawer.upcoming), *keep(found, drawer.upcoming, EFFORTS[way], profiles)]
