"""Scenes: one to three emoji side by side or above one another, on a coloured ground, and prompts that say so."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

# Red, green, blue of 255.
GROUNDS = {
    "white": (255, 255, 255),
    "black": (20, 20, 20),
    "gray": (140, 140, 140),
    "red": (214, 48, 49),
    "orange": (243, 150, 30),
    "yellow": (252, 222, 80),
    "green": (60, 165, 80),
    "blue": (55, 115, 215),
    "purple": (135, 80, 185),
    "pink": (250, 165, 195),
    "brown": (130, 86, 52),
    "light blue": (165, 212, 245),
    "dark blue": (25, 40, 105),
    "light green": (175, 225, 160),
}
# Where the subjects of a layout stand (x, y from -1 to 1, y downwards), and their size of the picture's side.
LAYOUTS: dict[str, tuple[tuple[tuple[float, float], ...], float]] = {
    "one": (((0.0, 0.0),), 1.0),
    "row": (((-0.5, 0.0), (0.5, 0.0)), 0.5),
    "column": (((0.0, -0.5), (0.0, 0.5)), 0.5),
    "row of three": (((-2 / 3, 0.0), (0.0, 0.0), (2 / 3, 0.0)), 1 / 3),
    "column of three": (((0.0, -2 / 3), (0.0, 0.0), (0.0, 2 / 3)), 1 / 3),
    "one above two": (((0.0, -0.5), (-0.5, 0.5), (0.5, 0.5)), 0.5),
}
PLACES = max(len(places) for places, _ in LAYOUTS.values())
PHRASES = {
    "one": ("{0}",),
    "row": (
        "{0} left of {1}",
        "{1} right of {0}",
        "{0} to the left of {1}",
        "{1} to the right of {0}",
        "{0} and {1}",
        "{0} and {1} side by side",
        "{0} next to {1}",
        "{0} beside {1}",
    ),
    "column": ("{0} above {1}", "{1} below {0}", "{0} on top of {1}", "{1} under {0}", "{0} over {1}"),
    "row of three": ("{0}, {1} and {2}", "{0}, {1} and {2} side by side", "{1} between {0} and {2}"),
    "column of three": ("{0} above {1} above {2}", "{0}, {1} and {2} above one another"),
    "one above two": ("{0} above {1} and {2}", "{1} and {2} below {0}", "{1} and {2} under {0}"),
}
ON_GROUND = ("{text}, {ground} background", "{text} on a {ground} background", "{text} on {ground}")
WORDINGS = [
    *(phrase for phrases in PHRASES.values() for phrase in phrases),
    *GROUNDS,
    "a an the",
    "on a background",
    "grey",
]
FREQUENCY = {"row": 0.38, "column": 0.3, "row of three": 0.1, "column of three": 0.1, "one above two": 0.12}


@dataclass(frozen=True)
class Scene:
    """Which emoji (numbers of items) stand in which layout on which ground."""

    subjects: tuple[int, ...]
    layout: str
    ground: str


def random_scene(number: int, pick: random.Random, alone: float = 0.25, on_white: float = 0.4) -> Scene:
    """A scene of some of so many items: with one subject in a share `alone`, on white in a share `on_white`."""
    layout = "one" if pick.random() < alone else pick.choices(list(FREQUENCY), list(FREQUENCY.values()))[0]
    ground = "white" if pick.random() < on_white else pick.choice([name for name in GROUNDS if name != "white"])
    return Scene(tuple(pick.sample(range(number), len(LAYOUTS[layout][0]))), layout, ground)


class Placed(NamedTuple):
    """A batch of scenes in numbers: their grounds, and what stands in each of up to three places, and how."""

    ground: Tensor  # (B, 3), red, green, blue of 255
    subject: Tensor  # (B, 3), numbers of cutouts; -1 for an empty place
    turn: Tensor  # (B, 3, 2, 3), from the picture's coordinates to the cutout's
    halvings: Tensor  # (B, 3), of the cutout before it is turned, else shrinking would skip pixels


def place(scenes: Sequence[Scene], pick: random.Random, spread: float = 0.5, mirrored: float = 0.0) -> Placed:
    """Draws how the scenes' subjects stand.

    `spread` from 0 (each as large as its place, and straight) to 1 says how much size, place, angle and the ground's
    shade vary; `mirrored` is the share of subjects that are.
    """
    rows = []
    for scene in scenes:
        shades = [pick.uniform(-24, 24) * spread if scene.ground != "white" else 0.0 for _ in range(3)]
        ground = [min(255.0, max(0.0, value + shade)) for value, shade in zip(GROUNDS[scene.ground], shades, strict=True)]
        places, size = LAYOUTS[scene.layout]
        subjects, turns, halvings = [-1] * PLACES, [[0.0] * 6] * PLACES, [0] * PLACES
        for number, (subject, (x, y)) in enumerate(zip(scene.subjects, places, strict=True)):
            zoom = (1 + spread * pick.uniform(-0.15, 0.35)) / size
            angle = spread * pick.uniform(-0.25, 0.25)
            x, y = (at + spread * size * pick.uniform(-0.12, 0.12) for at in (x, y))
            mirror = -1.0 if pick.random() < mirrored else 1.0
            cos, sin = zoom * math.cos(angle), zoom * math.sin(angle)
            across, down = (mirror * cos, -mirror * sin), (sin, cos)
            subjects[number], halvings[number] = subject, int(math.log2(zoom) + 0.4)
            turns[number] = [*across, -across[0] * x - across[1] * y, *down, -down[0] * x - down[1] * y]
        rows.append((ground, subjects, turns, halvings))
    ground, subject, turn, halved = (torch.tensor(column) for column in zip(*rows, strict=True))
    return Placed(ground, subject, turn.view(-1, PLACES, 2, 3), halved)


def joined(parts: Iterable[Placed]) -> Placed:
    return Placed(*(torch.cat(column) for column in zip(*parts, strict=True)))


def render(cutouts: Tensor, placed: Placed) -> Tensor:
    """The scenes as pictures (B, 3, H, W) in [-1, 1], of cutouts (N, 4, H, W) in uint8, on the cutouts' device.

    `placed` stays on the CPU, for what is to be done hangs on it: so the device is never waited for.
    """
    device, side = cutouts.device, cutouts.shape[-1]
    pictures = placed.ground.to(device)[:, :, None, None].repeat(1, 1, side, side)
    for number, halvings in itertools.product(range(PLACES), range(3)):
        (rows,) = torch.where((placed.subject[:, number] >= 0) & (placed.halvings[:, number] == halvings))
        if not len(rows):
            continue
        cutout = F.avg_pool2d(cutouts[placed.subject[rows, number].to(device)].float(), 2**halvings)
        turn = placed.turn[rows, number].to(device)
        grid = F.affine_grid(turn, [len(rows), 4, side, side], align_corners=False)
        drawn, rows = F.grid_sample(cutout, grid, align_corners=False), rows.to(device)
        pictures[rows] = drawn[:, :3] + pictures[rows] * (1 - drawn[:, 3:] / 255)
    return pictures / 127.5 - 1


def _with_article(name: str, pick: random.Random) -> str:
    roll = pick.random()
    if roll < 0.5:
        return name
    return f"the {name}" if roll < 0.6 else f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"


def describe(scene: Scene, name: Callable[[int], str], pick: random.Random) -> str:
    """A prompt: 'red apple left of an owl, blue background'. White goes mostly without saying."""
    names = [_with_article(name(subject), pick) for subject in scene.subjects]
    text = pick.choice(PHRASES[scene.layout]).format(*names)
    if scene.ground == "white" and pick.random() < 0.85:
        return text
    ground = "grey" if scene.ground == "gray" and pick.random() < 0.5 else scene.ground
    return pick.choice(ON_GROUND).format(text=text, ground=ground)
