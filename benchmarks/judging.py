"""What a picture is judged by: whether its subject is recognised, how far it is from another, how much fine detail it has.

The measure of a subject: the perceptual distance of the picture, shrunk to the trained size, to the plain pictures of its
own prompt at that size, and whether it is nearer to them than to those of the 49 other prompts (*recognised*). On plain
pictures of another seed 100 % are recognised at the trained size and 18 % at twice it. Counting subjects by connected
components was tried too: "exactly one" holds for 94 % and 84 % there, since repeated subjects touch each other, which tells
too little apart.

A picture that is not square may hold its subject stretched over it or in its middle, and the nearer of the two counts. It is
*repeated*, and not recognised, where the squares at both ends are nearer to the subject than either. `checks` says what that
gives for plain pictures of the trained size that are stretched to twice the width, set in the middle of a white picture of
twice the width, and set there twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.drawing import drawn
from benchmarks.prompts import PROMPTS
from lib_unetmod.playground.model import SmallModel

SAMPLER, STEPS, BATCH = "euler", 20, 10
#: Seeds of the plain pictures at the trained size that say what each prompt looks like, and of those that are judged.
REFERENCE_SEEDS, CONTROL_SEED = (11, 12, 13), 14


def ends_and_middle(pictures: Tensor, side: int) -> tuple[Tensor, Tensor, Tensor]:
    """(B, 3, H, W) shrunk until the shorter side is `side`: the squares at both ends of the longer one and in its middle."""
    height, width = pictures.shape[-2:]
    scale = side / min(height, width)
    small = F.interpolate(pictures, (round(height * scale), round(width * scale)), mode="area")
    axis = -1 if width > height else -2
    free = small.shape[axis] - side
    first, last, middle = (small.narrow(axis, start, side) for start in (0, free, free // 2))
    return first, last, middle


def fine_detail(pictures: Tensor, side: int) -> Tensor:
    """(B, 3, H, W) -> (B,): the share of the variance that a picture whose shorter side is `side` cannot hold."""
    size = pictures.shape[-2:]
    scale = side / min(size)
    coarse = F.interpolate(pictures, (round(size[0] * scale), round(size[1] * scale)), mode="area")
    lost = pictures - F.interpolate(coarse, size, mode="bicubic")
    return lost.square().mean((1, 2, 3)) / pictures.var((1, 2, 3)).clamp_min(1e-8)


@dataclass(frozen=True)
class Judge:
    """What each prompt looks like at the trained size, and how near a picture comes to it.

    Attributes:
        perceptual: distances (A, B) between pictures (A, 3, side, side) and (B, 3, side, side).
        references: pictures of every prompt at the trained size, (seeds, prompts, 3, side, side).
    """

    perceptual: Callable[[Tensor, Tensor], Tensor]
    references: Tensor

    @classmethod
    def of(cls, model: SmallModel) -> Judge:
        from training.measure import PerceptualDistance

        of_seeds = [draw_all(model, with_seed(seed))[0] for seed in REFERENCE_SEEDS]
        return cls(PerceptualDistance(), torch.stack(of_seeds))

    @property
    def trained(self) -> int:
        """The trained side in pixels."""
        return self.references.shape[-1]

    def __call__(self, pictures: Tensor) -> dict[str, list[float]]:
        """For one picture of each prompt: recognised (0 or 1), the distance to the nearest of its own prompt, fine detail,
        and of pictures that are not square also repeated (0 or 1)."""
        distance = self._to_each(F.interpolate(pictures, (self.trained, self.trained), mode="area"))
        said = {"fine": [round(value, 5) for value in fine_detail(pictures, self.trained).tolist()]}
        repeated = torch.zeros(len(pictures), dtype=torch.bool)
        if pictures.shape[-2] != pictures.shape[-1]:
            first, last, middle = map(self._to_each, ends_and_middle(pictures, self.trained))
            distance = torch.minimum(distance, middle)
            repeated = torch.maximum(first, last).diagonal() < distance.diagonal()
            said["repeated"] = repeated.float().tolist()
        recognised = (distance.argmin(1) == torch.arange(len(pictures))) & ~repeated
        return {
            "recognised": recognised.float().tolist(),
            "distance": [round(value, 5) for value in distance.diagonal().tolist()],
            **said,
        }

    def _to_each(self, pictures: Tensor) -> Tensor:
        """Distance of each picture (B, 3, side, side) to each prompt, the nearest of its seeds: (B, prompts)."""
        seeds, prompts = self.references.shape[:2]
        return self.perceptual(pictures, self.references.flatten(0, 1)).unflatten(1, (seeds, prompts)).amin(1)


def checks(judge: Judge, pictures: Tensor) -> dict[str, dict[str, list[float]]]:
    """The judgement of 50 pictures (50, 3, side, side) of the trained size in wide pictures of which the answer is known."""
    side = pictures.shape[-1]
    margin = torch.ones(*pictures.shape[:-1], side // 2)
    made = {
        "stretched": F.interpolate(pictures, (side, 2 * side), mode="bicubic"),
        "in the middle": torch.cat([margin, pictures, margin], 3),
        "twice": torch.cat([pictures, pictures], 3),
    }
    return {name: judge(one) for name, one in made.items()}


def with_seed(seed: int) -> Callable[..., tuple[Tensor, float]]:
    """The plain U-Net at the trained size."""
    return lambda model, prompts: drawn(model, prompts, SAMPLER, STEPS, seed=seed, decoded=True)


def draw_all(model: SmallModel, draw: Callable[..., tuple[Tensor, float]], *size: int) -> tuple[Tensor, float]:
    """All 50 pictures (50, 3, H, W) in [-1, 1], and the U-Net's seconds for one. `draw` gives those of a batch."""
    pictures, seconds = [], 0.0
    for at in range(0, len(PROMPTS), BATCH):
        some, spent = draw(model, PROMPTS[at : at + BATCH], *size)
        pictures.append(some)
        seconds += spent
    return torch.cat(pictures).clone(), seconds / len(PROMPTS)


def interval(values: Sequence[float], draws: int = 4000) -> tuple[float, float, float]:
    """Mean, and the 95 % bootstrap interval of it."""
    values = np.asarray(values, dtype=float)
    picked = np.random.default_rng(0).integers(0, len(values), (draws, len(values)))
    low, high = np.percentile(values[picked].mean(1), [2.5, 97.5])
    return float(values.mean()), float(low), float(high)
