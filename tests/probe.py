"""A throw-away method for tests of the mechanism: it scales the middle block's output, which a reader can do by hand."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from lib_unetmod.core.config import Config
from lib_unetmod.core.depth import Depth
from lib_unetmod.core.knobs import knob
from lib_unetmod.core.patching import Edit
from lib_unetmod.core.registry import METHODS, method


@dataclass(frozen=True, kw_only=True)
class Probe(Config):
    factor: float = knob(1.0, "Factor", "Multiplies the middle block's output.", low=0, high=4, step=0.1)

    def changes_nothing(self) -> bool:
        return self.factor == 1.0


def _edits(config, unet, run) -> Iterator[Edit]:
    yield Edit(unet.middle_block.layers[-1].module, lambda call, *args, **kwargs: config.factor * call(*args, **kwargs))


@contextmanager
def probe_registered() -> Iterator[type[Probe]]:
    method(Probe, title="Probe", benefit="", at=Depth.INNERMOST)(_edits)
    try:
        yield Probe
    finally:
        del METHODS["probe"]
