"""What the U-Net is trained on: latents of single emoji, encoded once, and of scenes, renewed as it goes."""

from __future__ import annotations

import random

import torch
from torch import Tensor

from lib_unetmod.playground.model import SmallModel
from training.fast import half_convolutions
from training.scenes import Scene, random_scene, render


class Latents:
    """Draws scaled latents with their scenes; about a half are single emoji on white.

    A scene is used about eight times before another takes its place, for encoding one costs as much as a step on it.
    """

    def __init__(
        self, model: SmallModel, cutouts: Tensor, pick: random.Random, room: int = 4096, first: int = 256, moved: int = 4
    ) -> None:
        self.model, self.cutouts, self.pick, self.room = model, cutouts, pick, room
        self.single = [Scene((i,), "one", "white") for i in range(len(cutouts))]
        always = random.Random(1)
        variants = [(0.0, 0.0), (0.0, 1.0), *[(0.4, 0.0)] * moved]
        self.bank = torch.stack(
            [self._encoded([render(cutouts, scene, always, *variant) for scene in self.single]) for variant in variants],
            1,
        )
        self.scenes: list[tuple[Scene, Tensor]] = []
        self._renew(first)

    @torch.no_grad()
    def _encoded(self, pictures: list[Tensor]) -> Tensor:
        with half_convolutions(self.model.device):
            parts = [
                self.model.encode_image(torch.stack(pictures[at : at + 16]).to(self.model.device)).float()
                for at in range(0, len(pictures), 16)
            ]
        return torch.cat(parts)

    def _renew(self, number: int) -> None:
        if not number:
            return
        scenes = [random_scene(len(self.cutouts), self.pick) for _ in range(number)]
        latents = self._encoded([render(self.cutouts, scene, self.pick, 0.3) for scene in scenes])
        for pair in zip(scenes, latents, strict=True):
            if len(self.scenes) < self.room:
                self.scenes.append(pair)
            else:
                self.scenes[self.pick.randrange(self.room)] = pair

    def _drawn(self) -> tuple[Scene, Tensor]:
        if self.pick.random() < 0.5:
            return self.pick.choice(self.scenes)
        # eight in ten as they are, one in ten mirrored, one in ten moved
        number, roll = self.pick.randrange(len(self.bank)), self.pick.random()
        variant = 0 if roll < 0.8 else 1 if roll < 0.9 else self.pick.randrange(2, self.bank.shape[1])
        return self.single[number], self.bank[number, variant]

    def draw(self, number: int) -> tuple[list[Scene], Tensor]:
        """So many scenes and their scaled latents (number, 4, H/8, W/8)."""
        self._renew(sum(self.pick.random() < 1 / 16 for _ in range(number)))
        pairs = [self._drawn() for _ in range(number)]
        return [scene for scene, _ in pairs], torch.stack([latent for _, latent in pairs])
