"""What the U-Net is trained on: latents of single emoji, encoded once, and of scenes, renewed as it goes."""

from __future__ import annotations

import random
from functools import partial

import torch
from torch import Tensor

from lib_unetmod.playground.model import SmallModel, WordTokenizer
from training.ahead import ahead
from training.data import Captions
from training.fast import half_convolutions
from training.scenes import Placed, Scene, place, random_scene, render

PROMPTS = 64, 4  # kept of a single emoji, of a scene
VARIANTS = (0,) * 16 + (1, 1, 2, 3)  # eight in ten as they are, one in ten mirrored, one in ten moved
SCENES = 2  # in three draws; a subject of a scene is smaller and is learned later
USES = 16  # of a scene before another takes its place, for encoding one costs nearly as much as a step on it


def single(number: int) -> Scene:
    return Scene((number,), "one", "white")


def prompted_scenes(captions: Captions, tokenizer: WordTokenizer, number: int, pick: random.Random) -> tuple[Placed, Tensor]:
    """So many scenes, and the tokens of some prompts of each: (number, prompts, 77), int16."""
    scenes = [random_scene(len(captions.items), pick) for _ in range(number)]
    tokens = tokenizer([captions.prompt(scene, pick) for scene in scenes for _ in range(PROMPTS[1])])
    return place(scenes, pick, 0.3), tokens.view(number, PROMPTS[1], -1).short()


class Latents:
    """Draws scaled latents with the tokens of their prompts, on the model's device; about a third are single emoji on white.

    `cutouts` are on that device too. Of scenes there are up to `room`, `chunk` of which come at a time, made by `workers`.
    """

    def __init__(
        self,
        model: SmallModel,
        cutouts: Tensor,
        captions: Captions,
        seed: int = 0,
        workers: int = 0,
        room: int = 32768,
        chunk: int = 256,
    ) -> None:
        self.model, self.cutouts, self.room = model, cutouts, room
        self.generator = torch.Generator(cutouts.device).manual_seed(seed)
        self.source = ahead(partial(prompted_scenes, captions, model.tokenizer, chunk), seed, workers)
        pick, number = random.Random(1), len(cutouts)
        alone = [single(i) for i in range(number)]
        variants = [(0.0, 0.0), (0.0, 1.0), (0.4, 0.0), (0.4, 0.0)]
        self.single = torch.stack([self._encoded(place(alone, pick, *variant)) for variant in variants], 1)
        self.single_tokens = (
            model.tokenizer([captions.prompt(scene, pick) for scene in alone for _ in range(PROMPTS[0])])
            .view(number, PROMPTS[0], -1)
            .to(cutouts.device, torch.int16)
        )
        self.variants = torch.tensor(VARIANTS, device=cutouts.device)
        self.scenes = self.single.new_empty(room, *self.single.shape[2:])
        self.tokens = self.single_tokens.new_empty(room, PROMPTS[1], self.single_tokens.shape[-1])
        self.renewed, self.used = 0, 0

    @torch.no_grad()
    def _encoded(self, placed: Placed) -> Tensor:
        parts = (Placed(*columns) for columns in zip(*(column.split(64) for column in placed), strict=True))
        with half_convolutions(self.cutouts.device):
            return torch.cat([self.model.encode_image(render(self.cutouts, part)).half() for part in parts])

    def _renew(self) -> None:
        placed, tokens = next(self.source)
        at = torch.arange(self.renewed, self.renewed + len(tokens), device=self.cutouts.device) % self.room
        self.scenes[at], self.tokens[at] = self._encoded(placed), tokens.to(self.cutouts.device)
        self.renewed += len(tokens)

    def draw(self, number: int) -> tuple[Tensor, Tensor]:
        """So many scaled latents (number, 4, H/8, W/8) and the tokens of a prompt of each (number, 77)."""
        self.used += number
        while self.renewed < self.used * SCENES / 3 / USES:
            self._renew()

        def dice(sides: int) -> Tensor:
            return torch.randint(sides, (number,), generator=self.generator, device=self.cutouts.device)

        alone = dice(3) >= SCENES
        which, scene = dice(len(self.single)), dice(min(self.renewed, self.room))
        latents = torch.where(
            alone.view(-1, 1, 1, 1), self.single[which, self.variants[dice(len(VARIANTS))]], self.scenes[scene]
        )
        tokens = torch.where(
            alone[:, None], self.single_tokens[which, dice(PROMPTS[0])], self.tokens[scene, dice(PROMPTS[1])]
        )
        return latents.float(), tokens.long()
