"""How a method joins: `@method` registers its config and the function that yields its edits; nothing else lists them."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from .config import Config
from .depth import Depth
from .knobs import ConfigError
from .patching import Edit

#: `edits(config, unet_map, run)`, called when a run is entered; raises ConfigError for what the U-Net does not have.
Edits = Callable[..., Iterable[Edit]]


@dataclass(frozen=True)
class Method:
    """A registered method. `benefit` says in at most 40 characters what a user gets, `at` where its edits stand.

    `excludes` gives the reason, as the end of a sentence, for each other method with which it cannot act at one time.
    `keeps_maps` is False where it resizes maps between blocks or leaves blocks out, so that nobody else can count on finding
    the middle block's attention as it is.
    """

    name: str
    title: str
    benefit: str
    at: Depth
    config: type[Config]
    edits: Edits
    excludes: Mapping[str, str] = field(default_factory=dict)
    keeps_maps: bool = True

    @property
    def group(self) -> str:
        """ "speed", "resolution" or "detail": the folder in which the method lies."""
        return self.config.__module__.rpartition(".")[0].rpartition(".")[2]

    @property
    def names(self) -> frozenset[str]:
        """By which names sentences call it: its title, with or without what stands in brackets, and those of its config."""
        names = self.title, self.title.partition(" (")[0], self.config.short, self.config.__name__
        return frozenset(filter(None, names))

    @property
    def idea(self) -> str:
        """The first sentence of the method's file."""
        text = sys.modules[self.config.__module__].__doc__ or ""
        return re.split(r"(?<=\.)\s", text.strip(), maxsplit=1)[0].replace("\n", " ")


METHODS: dict[str, Method] = {}


def method(
    config: type[Config],
    *,
    title: str,
    benefit: str,
    at: Depth,
    excludes: Mapping[str, str] | None = None,
    keeps_maps: bool = True,
) -> Callable[[Edits], Edits]:
    """Register the decorated function, which yields the edits for a config, under the config's snake-case name."""

    def register(edits: Edits) -> Edits:
        name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", config.__name__).lower()
        config.title = title
        METHODS[name] = Method(name, title, benefit, at, config, edits, dict(excludes or {}), keeps_maps)
        return edits

    return register


def method_of(config: Config) -> Method:
    """The method a config belongs to."""
    for candidate in METHODS.values():
        if candidate.config is type(config):
            return candidate
    raise ConfigError(f"{type(config).__name__} is no config of a registered method.")
