"""Which methods go together, and in which order they apply."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from .config import Config
from .knobs import ConfigError
from .registry import method_of


def in_order(configs: Sequence[Config]) -> list[Config]:
    """The configs that are not neutral, in the one order in which they compose, the outermost first.

    Raises:
        ConfigError: for a method given twice, and for two that do not go together.
    """
    given = [type(config) for config in configs]
    for config in configs:
        if given.count(type(config)) > 1:
            raise ConfigError(f"{config.title} is given twice; give it once.")
    acting = sorted((config for config in configs if not config.neutral), key=_place)
    for one, other in combinations(acting, 2):
        reason = conflict(one, other)
        if reason:
            raise ConfigError(reason)
    return acting


def _place(config: Config) -> tuple[int, str]:
    method = method_of(config)
    return method.at, method.name


def conflict(one: Config, other: Config) -> str:
    """Why two methods with these settings do not go together, as a sentence; empty where they do."""
    a, b = method_of(one), method_of(other)
    reason = a.excludes.get(b.name) or b.excludes.get(a.name)
    if not reason or one.neutral or other.neutral or not one.overlaps(other):
        return ""
    return (
        f"{one.title} and {other.title} do not work together: {reason}. Use one, or give them ranges (Active from, Active "
        "until) or passes that do not overlap."
    )
