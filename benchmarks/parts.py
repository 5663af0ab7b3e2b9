"""Parts of the U-Net left out by what each is worth, beside the middle with level 4, random choices and fewer steps.

    python -m benchmarks.parts [--cells "euler 4 cfg4" "lcm 4 cfg1"] [--random 10]

Four steps, in which no step can be skipped well. Chosen on four prompts as the command line does it, then drawn on 50
others with another seed: the distance (LPIPS) to the image of all parts. Random choices are of the same parts and phases,
until they save as much time. Writes docs/parts.md; its picture is that of the last cell. Wants
`benchmarks/requirements.txt`.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import torch

from benchmarks.drawing import drawn
from benchmarks.paired import paired
from benchmarks.prompts import JUDGED
from benchmarks.speed_cells import DOCS
from benchmarks.speed_pictures import SEED
from benchmarks.timing import device
from benchmarks.tuned import TUNED_ON, TUNED_SEED
from lib_unetmod import Config, SkipBlocks, inspect_unet
from lib_unetmod.playground.model import SmallModel, load
from lib_unetmod.playground.part_report import unet_picture
from lib_unetmod.playground.samplers import SAMPLERS, schedule_type
from lib_unetmod.playground.settings import Settings
from lib_unetmod.playground.tuning import PlaygroundDrawer
from lib_unetmod.tuning.candidates import PLAIN
from lib_unetmod.tuning.part_search import PartSpace, leave_out, names_left_out
from lib_unetmod.tuning.part_values import PartValues
from lib_unetmod.tuning.trials import QUICK

PAGE, PICTURE = DOCS / "parts.md", DOCS / "pictures" / "parts.png"
BY_HAND = SkipBlocks(middle=True, levels=1)
FASTER = 1.2
HEAD = "| left out | time | distance | beside the middle and level 4 |"


@dataclass(frozen=True)
class Cell:
    sampler: str
    schedule: str
    cfg: float
    steps: int = 4

    @property
    def name(self) -> str:
        return f"{self.sampler} {self.steps} cfg{self.cfg:g}"

    @property
    def title(self) -> str:
        kind = schedule_type(self.sampler, self.schedule)
        return f"{SAMPLERS[self.sampler].label}{f' {kind}' if kind else ''}, {self.steps} steps, CFG {self.cfg:g}"


CELLS = {cell.name: cell for cell in (Cell("euler", "automatic", 4.0), Cell("lcm", "trailing", 1.0))}


class Judge:
    """Draws the 50 prompts in a way, beside the plain pictures."""

    def __init__(self, model: SmallModel, cell: Cell) -> None:
        from training.measure import PerceptualDistance

        self._model, self._cell, self._distance = model, cell, PerceptualDistance()
        self._plain = [self._picture(number, cell.steps, ())[0] for number in range(len(JUDGED))]

    def __call__(self, configs: Sequence[Config], steps: int | None = None) -> tuple[list[float], float]:
        """Each prompt's distance, and the time over that of the plain pictures, drawn in turn."""
        distances: list[float] = []
        seconds = plain_seconds = 0.0
        for number, plain in enumerate(self._plain):
            plain_seconds += self._picture(number, self._cell.steps, ())[1]
            picture, spent = self._picture(number, steps or self._cell.steps, configs)
            seconds += spent
            distances.append(self._distance(picture, plain).item())
        return distances, seconds / plain_seconds

    @torch.inference_mode()
    def _picture(self, number: int, steps: int, configs: Sequence[Config]) -> tuple[Any, float]:
        # One by one, as those on which parts are chosen: what a part takes of the time hangs on it.
        cell = self._cell
        how = {"seed": SEED + number, "schedule": cell.schedule, "cfg": cell.cfg}
        latents, seconds = drawn(self._model, JUDGED[number : number + 1], cell.sampler, steps, configs, **how)
        return self._model.decode(latents).clone(), seconds


def measured(model: SmallModel, cell: Cell, count: int, say: Callable[[str], None]) -> Iterator[str]:
    """The rows of a cell."""
    judge = Judge(model, cell)
    settings = Settings(
        prompt=TUNED_ON[0], seed=TUNED_SEED, steps=cell.steps, sampler=cell.sampler, schedule=cell.schedule, cfg=cell.cfg
    )
    drawer = PlaygroundDrawer(model, settings, (*TUNED_ON, "sun above a boat"))
    by_hand, hand_time = judge((BY_HAND,))
    yield _row("middle and level 4", hand_time, by_hand)
    values, tuned = leave_out(drawer, FASTER, QUICK, lambda *_: None)
    # Of equal time: a little more is left out until it is not slower than by hand.
    space = PartSpace(PLAIN, values, 1 - hand_time)
    while True:
        distances, time = judge(space.cheapest().configs)
        if time <= hand_time:
            break
        space.saved += 1.2 * (time - hand_time) + 0.002
    yield _row("chosen, in no more time", time, distances, by_hand)
    best = tuned.best.candidate
    chosen, chosen_time = judge(best.configs)
    say(f"{cell.name}: chosen for {FASTER:g}x")
    yield _row(f"chosen for {FASTER:g}x", chosen_time, chosen)
    fewer, fewer_time = judge((), cell.steps - 1)
    yield _row(f"{cell.steps - 1} steps", fewer_time, fewer)
    chance = random.Random(0)
    others = []
    for _ in range(count):
        distances, time = judge(_at_random(values, space.saving(best.items), chance))
        others.append((fmean(distances), time, distances))
    nearest = min(others)
    yield _row(f"the nearest of {count} random choices", nearest[1], nearest[2])
    yield _row(f"all {count} of them, on average", fmean(time for _, time, _ in others), [mean for mean, _, _ in others])
    unet_picture(inspect_unet(model.unet), values, names_left_out(tuned)).save(PICTURE, optimize=True)


def _at_random(values: PartValues, saved: float, chance: random.Random) -> tuple[Config, ...]:
    """Parts and phases as they come, until they save as much."""
    shuffled = [(name, phase) for name in values.times for phase in range(len(values.phases))]
    chance.shuffle(shuffled)
    return PartSpace(PLAIN, values, saved).filled(shuffled).configs


def _row(name: str, time: float, distances: Sequence[float], beside: Sequence[float] | None = None) -> str:
    wins = ""
    if beside is not None:
        found = paired(distances, beside)
        wins = f"{found.ratio:.2f} of it, nearer in {found.wins} of {len(beside)}"
    return f"| {name} | {time:.3f} | {fmean(distances):.4f} | {wins} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", nargs="+", choices=tuple(CELLS), default=tuple(CELLS))
    parser.add_argument("--random", type=int, default=10, metavar="COUNT")
    options = parser.parse_args()
    model = load()
    lines = [
        "# Parts left out by what each is worth",
        "",
        "Written by `python -m benchmarks.parts`. The small checkpoint at 128x128 pixels; chosen on four prompts, judged on",
        f"{len(JUDGED)} others: the distance (LPIPS) to the image of all parts, small is good. {device()}.",
        "",
        f"![What each part is worth, and what is left out for {FASTER:g}x](pictures/parts.png)",
    ]
    for name in options.cells:
        cell = CELLS[name]
        lines += [
            "",
            f"## {cell.title}",
            "",
            "| left out | time | distance | beside the middle and level 4 |",
            "|---|---|---|---|",
        ]
        lines += measured(model, cell, options.random, print)
        PAGE.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
