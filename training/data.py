"""The pictures and their captions: Noto Color Emoji with emojibase's names and tags.

Sources (fetched once into `training/runs/sources`, checked by SHA-256):
* Noto Color Emoji, (c) Google, SIL Open Font License 1.1 / Apache-2.0, as Debian packages it (2.042).
* emojibase-data 17.0.0, (c) Miles Johnson, MIT.
"""

from __future__ import annotations

import hashlib
import io
import json
import random
import tarfile
import urllib.request
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from lib_unetmod.playground.model import WordTokenizer
from training import scenes
from training.scenes import Scene
from training.selection import ALIASES, EMOJI

RUNS = Path(__file__).parent / "runs"
SIZE = 128
_FONT = (
    "https://deb.debian.org/debian/pool/main/f/fonts-noto-color-emoji/fonts-noto-color-emoji_2.042-0+deb12u1_all.deb",
    "a5ab0f69c7938423862320d9aca5dd187b3fd879d6a9a57dd52e17c3fa8d2751",
)
_NAMES = (
    "https://registry.npmjs.org/emojibase-data/-/emojibase-data-17.0.0.tgz",
    "d01d0e2ca4e22cb402679532155342c71e2e871f25c32223c013b8b166ebdf5a",
)


@dataclass(frozen=True)
class Item:
    """One emoji: its character, its name, further names, and the tags that help to tell it apart."""

    emoji: str
    label: str
    names: tuple[str, ...]
    tags: tuple[str, ...]


def _download(url: str, sha256: str) -> bytes:
    kept = RUNS / "sources" / url.rsplit("/", 1)[1]
    if not kept.is_file():
        kept.parent.mkdir(parents=True, exist_ok=True)
        with urllib.request.urlopen(url, timeout=60) as answer:
            content = answer.read()
        kept.write_bytes(content)
    content = kept.read_bytes()
    if hashlib.sha256(content).hexdigest() != sha256:
        kept.unlink()
        raise ValueError(f"{url} does not hold what it held when this was written.")
    return content


def _from_deb(content: bytes, ending: str) -> bytes:
    """One file of a Debian package: an `ar` archive whose member data.tar.xz holds the files."""
    at = 8
    while at < len(content):
        name, size = content[at : at + 16].decode().strip(), int(content[at + 48 : at + 58])
        if name.startswith("data.tar"):
            return _from_tar(content[at + 60 : at + 60 + size], ending)
        at += 60 + size + size % 2
    raise ValueError("this .deb holds no data.tar")


def _from_tar(content: bytes, ending: str) -> bytes:
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        member = next(m for m in tar.getmembers() if m.name.endswith(ending))
        return tar.extractfile(member).read()  # type: ignore[union-attr]


def load_items() -> list[Item]:
    """The selected emoji with names and tags."""
    rows = json.loads(_from_tar(_download(*_NAMES), "package/en/data.json"))
    known = {row["emoji"].replace("\ufe0f", ""): row for row in rows}
    items = []
    for emoji in EMOJI:
        row = known[emoji]
        names = [row["label"], *filter(None, ALIASES.get(emoji, "").split("|"))]
        tags = [tag.lower() for tag in row.get("tags", []) if WordTokenizer.split(tag)]
        items.append(Item(emoji, row["label"], tuple(names), tuple(tags)))
    return items


def _rendered(items: list[Item], ground: str) -> Tensor:
    """The bitmaps on a ground: (N, 3, 128, 128), uint8."""
    font = ImageFont.truetype(io.BytesIO(_from_deb(_download(*_FONT), "NotoColorEmoji.ttf")), 109)
    pictures = []
    for item in items:
        canvas = Image.new("RGB", (136, SIZE), ground)
        ImageDraw.Draw(canvas).text((0, 0), item.emoji, font=font, embedded_color=True, anchor="lt")
        pictures.append(
            torch.frombuffer(bytearray(canvas.crop((4, 0, 4 + SIZE, SIZE)).tobytes()), dtype=torch.uint8)
            .view(SIZE, SIZE, 3)
            .permute(2, 0, 1)
        )
    return torch.stack(pictures)


def load_pictures(items: list[Item]) -> Tensor:
    """The bitmaps on white: (N, 3, 128, 128), float in [-1, 1]."""
    return _rendered(items, "white").float() / 127.5 - 1


def load_cutouts(items: list[Item]) -> Tensor:
    """The bitmaps without a ground: (N, 4, 128, 128), uint8; colour times cover, and cover.

    On black one sees colour times cover; what white adds to that is what is not covered.
    """
    black, white = _rendered(items, "black"), _rendered(items, "white")
    return torch.cat([black, 255 - (white - black).amax(1, keepdim=True)], 1)


def vocabulary(items: list[Item]) -> list[str]:
    """Every word of every name and tag, and the few of the templates; sorted, so that it is reproducible."""
    texts = [text for item in items for text in (*item.names, *item.tags)] + list(_TEMPLATES)
    texts += scenes.WORDINGS
    return sorted({word for text in texts for word in WordTokenizer.split(text.replace("{}", ""))})


_TEMPLATES = ("a {}", "the {}", "an emoji of a {}", "a picture of a {}", "{} emoji", "{} on a white background")


class Captions:
    """Draws captions: mostly names, else names with tags or telling tags, so that natural prompts work."""

    def __init__(self, items: list[Item]) -> None:
        self.items = items
        shared = Counter(tag for item in items for tag in set(item.tags))
        self.telling = [[tag for tag in item.tags if shared[tag] == 1] for item in items]

    def draw(self, index: int, pick: random.Random) -> str:
        item, roll = self.items[index], pick.random()
        text = pick.choice(item.names)
        if roll < 0.20 and item.tags:
            text = f"{pick.choice(item.tags)} {text}"
        elif roll < 0.30 and item.tags:
            text = ", ".join([text, *pick.sample(item.tags, min(len(item.tags), pick.randint(1, 3)))])
        elif roll < 0.40 and self.telling[index]:
            text = pick.choice(self.telling[index])
        if pick.random() < 0.15:
            text = pick.choice(_TEMPLATES).format(text)
        return text

    def describe(self, scene: Scene, pick: random.Random) -> str:
        """A prompt that says what stands where, and on which ground."""
        return scenes.describe(scene, lambda index: pick.choice(self.items[index].names), pick)

    def prompt(self, scene: Scene, pick: random.Random) -> str:
        """`draw` for a single emoji on white, `describe` for the others."""
        alone = scene.layout == "one" and scene.ground == "white"
        return self.draw(scene.subjects[0], pick) if alone else self.describe(scene, pick)
