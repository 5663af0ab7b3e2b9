"""What is measured, in order of worth: which U-Net at which size, and which methods there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from benchmarks import cases as timed_cases
from benchmarks.cases import Case
from benchmarks.full_size.models import SD15, SDXL, Model
from lib_unetmod import Config, HiDiffusion
from lib_unetmod.core.target import PIXELS, TRAINED
from lib_unetmod.settings.presets import BUILT_IN

#: Evaluations in a row that a cache is timed over: whole cycles of intervals 2 and 3.
CYCLES = 6
#: Presets of several methods that make a picture faster; the others are methods that are measured by themselves.
PRESETS = ("Fast (few steps)", "Large, fast (few steps)")


@dataclass(frozen=True)
class Setup:
    """A U-Net and what it is called with: square pictures of `size` pixels and this many rows, two to a picture.

    To try things out, sides can be divided by `shrink`; methods are told then that the model was trained on smaller ones.
    """

    model: Model
    size: int
    rows: int = 2
    shrink: int = 1

    @property
    def pixels(self) -> int:
        return self.size // self.shrink

    @property
    def trained(self) -> int:
        return TRAINED[self.model.family] // self.shrink

    @property
    def side(self) -> int:
        """Of the latent."""
        return self.pixels // PIXELS

    @property
    def name(self) -> str:
        return f"{self.model.name}, {self.pixels}x{self.pixels} px, {self.rows} rows"


@dataclass(frozen=True)
class Item:
    """One row: these configs, over `evaluations` in a row or a multiple of them. `case` tells what to predict, if known."""

    name: str
    configs: tuple[Config, ...]
    evaluations: int = 1
    case: Case | None = None


#: Setups in order of worth; with words only what has one of them in its name.
ORDER: tuple[tuple[Setup, tuple[str, ...]], ...] = (
    (Setup(SD15, 512), ()),
    (Setup(SDXL, 1024), ()),
    (Setup(SD15, 1024), ("token merging",)),
    (Setup(SD15, 1024), ()),
    (Setup(SDXL, 2048), ("token", "HyperTile", "DeepCache 3", "Shrink", "HiDiffusion")),
    (Setup(SD15, 512, rows=8), ()),
    (Setup(SD15, 2048), ("token", "HyperTile", "DeepCache 3", "Shrink", "HiDiffusion")),
    (Setup(SDXL, 512), ()),
    (Setup(SDXL, 2048), ()),
    (Setup(SD15, 2048), ()),
    (Setup(SD15, 768), ()),
    (Setup(SDXL, 1536), ()),
)


def items(setup: Setup) -> list[Item]:
    """The rows of a setup: those of `benchmarks.speed` that act, HiDiffusion as it comes on large pictures, presets."""
    layout = {"levels": 4, "first": 1} if setup.model is SD15 else {"levels": 3, "first": 2}
    found = []
    for case in timed_cases.cases(setup.side, **layout):
        if "outside" not in case.name:
            case = replace(case, evaluations=min(case.evaluations, CYCLES))
            found.append(Item(case.name, (case.config,), case.evaluations, case))
    if setup.pixels >= 2 * setup.trained:
        found.append(Item("HiDiffusion", (HiDiffusion(),)))
    return found + [Item(f"preset {name}", BUILT_IN[name], CYCLES) for name in PRESETS]


def work(models: tuple[Model, ...], words: tuple[str, ...], shrink: int) -> Iterator[tuple[Setup, Item]]:
    """All rows in order of worth, those with one of `words` in their names; sides are divided by `shrink` to try it out."""
    for setup, chosen in ORDER:
        setup = replace(setup, shrink=shrink)
        for item in items(setup) if setup.model in models else ():
            if all(not some or any(word in item.name for word in some) for some in (chosen, words)):
                yield setup, item
