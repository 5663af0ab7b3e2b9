"""Measures a checkpoint: is each drawn picture nearer to its own emoji than to the 49 others? And draws the sheet.

Of scenes of two emoji the square where each subject belongs is compared, enlarged to the size of a picture, with all 50
drawn by the font in that square on that ground. A scene counts where both squares are nearest to their own: the right
emoji in the wrong place are not found.

The distance is shift-tolerant LPIPS (Ghildyal & Liu 2022) on AlexNet, from the package stlpips-pytorch. It serves
here for measuring only and nothing of it is shipped.
"""

from __future__ import annotations

import json
import random
import sys
import time
import types
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from torch import Tensor

from lib_unetmod.playground import sampling
from lib_unetmod.playground.model import CHECKPOINT, SmallModel, load
from lib_unetmod.playground.settings import Settings
from training import train_vae
from training.data import SIZE, Item, load_cutouts, load_items, load_pictures
from training.scenes import GROUNDS, LAYOUTS, ON_GROUND, PHRASES, Scene, place, render
from training.selection import ALIASES, SELECTION

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results.json"
SHEET = ROOT / "docs" / "pictures" / "emoji-sheet.png"
NUMBER, STEPS, SCALE, SEEDS = 50, 20, 3.0, (1, 2)

#: (A, B) distances between pictures (A, 3, H, W) and (B, 3, H, W) in [-1, 1].
Distances = Callable[[Tensor, Tensor], Tensor]


def evaluated(items: list[Item]) -> tuple[list[int], list[str]]:
    """50 items evenly from the first list, chosen before any picture was seen, and the plainest prompt of each."""
    numbers = [i * len(SELECTION) // NUMBER for i in range(NUMBER)]
    emoji = [item.emoji for item in items[: len(SELECTION)]]
    for wanted in "🍎😺":  # the two the project's aim names
        if (at := emoji.index(wanted)) not in numbers:
            numbers[min(range(NUMBER), key=lambda k: abs(numbers[k] - at))] = at
    return numbers, [ALIASES.get(emoji[i], items[i].label).split("|")[0] for i in numbers]


def scenes_of_two() -> list[Scene]:
    """100 scenes of the 50, chosen before any was seen: each stands once left, right, above and below; half on colours."""
    colours = [name for name in GROUNDS if name != "white"]
    return [
        Scene((k, (k + step) % NUMBER), layout, "white" if k % 2 else colours[k // 2 % len(colours)])
        for layout, step in (("row", 13), ("column", 29))
        for k in range(NUMBER)
    ]


def plain_prompt(scene: Scene, names: Sequence[str]) -> str:
    """Its plainest prompt: 'smiling face left of bee, green background'."""
    text = PHRASES[scene.layout][0].format(*(names[k] for k in scene.subjects))
    return text if scene.ground == "white" else ON_GROUND[0].format(text=text, ground=scene.ground)


def as_planned(cutouts: Tensor, scenes: Sequence[Scene]) -> Tensor:
    """The scenes (B, 3, H, W) in [-1, 1], each subject straight and as large as its place."""
    return render(cutouts, place(scenes, random.Random(0), spread=0.0))


def squares(pictures: Tensor, layout: str) -> Tensor:
    """The layout's places, cut out of pictures (B, 3, H, W) and enlarged to their size: (B, places, 3, H, W)."""
    side = pictures.shape[-1]
    places, share = LAYOUTS[layout]
    size = round(share * side)
    corners = [[round((at + 1) / 2 * side - size / 2) for at in xy] for xy in places]
    cut = [pictures[:, :, y : y + size, x : x + size] for x, y in corners]
    return torch.stack([F.interpolate(each, (side, side), mode="bicubic").clamp(-1, 1) for each in cut], 1)


def found(pictures: Tensor, scenes: Sequence[Scene], cutouts: Tensor, distance: Distances) -> Tensor:
    """Whether each subject of scenes of two stands in its place, (B, 2): nearest to its own of all the cutouts there."""
    result = torch.zeros(len(scenes), 2, dtype=torch.bool)
    for ground in dict.fromkeys(scene.ground for scene in scenes):
        alike = [Scene((k, k), "row", ground) for k in range(len(cutouts))]
        references = squares(as_planned(cutouts, alike), "row")[:, 0]  # of whatever place: they are equal
        rows = [row for row, scene in enumerate(scenes) if scene.ground == ground]
        theirs = torch.cat([squares(pictures[row : row + 1], scenes[row].layout)[0] for row in rows])
        own = torch.tensor([subject for row in rows for subject in scenes[row].subjects])
        result[rows] = (distance(theirs, references).argmin(1) == own).view(-1, 2)
    return result


def distance_of_half_the_steps(model: SmallModel, prompts: Sequence[str], distance: Distances) -> float:
    """Mean distance between 10 and 20 steps of Euler at CFG 7: how severely the model judges what saves steps."""

    def drawn(prompt: str, steps: int) -> Tensor:
        picture = sampling.draw(model, Settings(prompt=prompt, seed=1, steps=steps, sampler="euler", cfg=7.0)).image
        return torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float() / 127.5 - 1

    return sum(distance(drawn(prompt, 10), drawn(prompt, 20)).item() for prompt in prompts) / len(prompts)


@torch.no_grad()
def draw(model: SmallModel, prompts: list[str], seed: int, steps: int = STEPS, scale: float = SCALE) -> Tensor:
    """Pictures (B, 3, 128, 128) in [-1, 1] by DDIM with classifier-free guidance."""
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        prediction_type=model.prediction_type,
        timestep_spacing="trailing",
    )
    scheduler.set_timesteps(steps)
    side = model.architecture["trained_size"] // 8
    x = torch.stack(
        [torch.randn(4, side, side, generator=torch.Generator().manual_seed(1000 * seed + i)) for i in range(len(prompts))]
    ).to(model.device)
    context = torch.cat([model.encode_prompt([""] * len(prompts)), model.encode_prompt(prompts)])
    for t in scheduler.timesteps:
        without, withal = model.unet(torch.cat([x, x]), t.to(x.device).expand(2 * len(x)), context=context).chunk(2)
        x = scheduler.step(without + scale * (withal - without), t, x).prev_sample
    return model.decode(x)


class PerceptualDistance:
    """All distances between two sets of pictures at once: LPIPS is a squared distance of weighted features."""

    def __init__(self) -> None:
        # imported there, but not for what we use; taken away again, for transformers looks whether torchvision is there
        stubs = {
            name: types.ModuleType(name) for name in ("torchvision", "IPython", "torchsummary") if name not in sys.modules
        }
        for name, wanted in (("torchvision", "models"), ("IPython", "embed"), ("torchsummary", "summary")):
            if name in stubs:
                setattr(stubs[name], wanted, types.ModuleType(wanted))
        sys.modules.update(stubs)
        try:
            from stlpips_pytorch import stlpips
        except ImportError:
            raise SystemExit("Measuring wants a perceptual net: pip install --no-deps stlpips-pytorch==0.0.2") from None
        finally:
            for name in stubs:
                del sys.modules[name]
        self.net = stlpips.LPIPS(net="alex", variant="shift_tolerant", verbose=False)

    @torch.no_grad()
    def features(self, pictures: Tensor) -> Tensor:
        """(B, features), so scaled that squared Euclidean distance is LPIPS."""
        parts = []
        for layer, maps in zip(self.net.lins, self.net.net(self.net.scaling_layer(pictures)), strict=True):
            weight = layer.model[-1].weight.view(1, -1, 1, 1) / maps[0, 0].numel()
            unit = maps / (maps.square().sum(1, keepdim=True).sqrt() + 1e-10)
            parts.append((unit * weight.sqrt()).flatten(1))
        return torch.cat(parts, 1)

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        """(A, B) distances between pictures (A, 3, H, W) and (B, 3, H, W) in [-1, 1]."""
        return torch.cdist(self.features(a), self.features(b)).square()


def write_sheet(path: Path, rows: Sequence[tuple[str, Tensor]]) -> None:
    """A contact sheet: captions, and below each its pictures (n, 3, H, W) in [-1, 1]."""
    columns, wide, high = 5, SIZE * max(len(pictures) for _, pictures in rows) + 12, SIZE + 20
    sheet = Image.new("RGB", (columns * wide, -(-len(rows) // columns) * high), (225, 225, 225))
    pen = ImageDraw.Draw(sheet)
    for k, (caption, pictures) in enumerate(rows):
        x, y = k % columns * wide + 4, k // columns * high
        pen.text((x, y + 4), caption, fill=(0, 0, 0))
        for number, picture in enumerate(pictures):
            pixels = ((picture.cpu() + 1) * 127.5).round().clamp(0, 255).byte().permute(1, 2, 0).numpy()
            sheet.paste(Image.fromarray(pixels), (x + number * SIZE, y + 18))
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.quantize(256).save(path, optimize=True)


def _captioned(prompt: str, right: Tensor) -> str:
    """A mark for each picture where another emoji was nearer."""
    return prompt + "".join("" if each else "  (nearer to another)" for each in right)


@torch.no_grad()
def measure(
    checkpoint: Path = CHECKPOINT, results: Path | None = RESULTS, sheet: Path = SHEET, device: str = "cpu"
) -> dict[str, object]:
    """Draws 50 prompts twice and 100 scenes of two, compares, writes the figures and the sheet."""
    distance = PerceptualDistance()
    model = load(checkpoint, device=device)
    items = load_items()
    numbers, names = evaluated(items)
    chosen = [items[i] for i in numbers]
    figures: dict[str, object] = {}
    rows: list[tuple[str, Tensor]] = []
    for part in (
        partial(_measured_alone, model, load_pictures(chosen), names, distance),
        partial(_measured_scenes, model, load_cutouts(chosen), names, distance),
    ):
        theirs, pictures = part()
        figures |= theirs
        rows += pictures
        print(theirs, file=sys.stderr, flush=True)
    figures["distance_of_10_to_20_steps_euler_cfg_7"] = round(distance_of_half_the_steps(model, names, distance), 4)
    figures["autoencoder_psnr_db_of_sets"] = train_vae.measure(model.vae, train_vae.held(load_cutouts(items).to(device)))
    figures["checkpoint_bytes"] = checkpoint.stat().st_size
    if results:
        results.write_text(json.dumps(figures, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    write_sheet(sheet, rows)
    return figures


def _drawn(model: SmallModel, prompts: Sequence[str], seed: int) -> Tensor:
    return torch.cat([draw(model, list(prompts[at : at + 25]), seed + at).cpu() for at in range(0, len(prompts), 25)])


def _there_and_back(model: SmallModel, pictures: Tensor) -> Tensor:
    """The pictures (B, 3, H, W) as the autoencoder alone gives them back."""
    return torch.cat([model.decode(model.encode_image(x.to(model.device))).cpu() for x in pictures.split(10)])


def _measured_alone(
    model: SmallModel, targets: Tensor, names: Sequence[str], distance: Distances
) -> tuple[dict[str, object], list[tuple[str, Tensor]]]:
    """The figures of single emoji, and the sheet's rows."""
    started = time.time()
    drawn = [_drawn(model, names, 10 * seed) for seed in SEEDS]
    seconds = (time.time() - started) / (len(names) * len(SEEDS))
    through = _there_and_back(model, targets)
    each, own_number = torch.cat([*drawn, through]), torch.arange(len(names))
    table = distance(each, targets).view(len(SEEDS) + 1, len(names), -1)
    own, nearest = table.diagonal(dim1=1, dim2=2), table.argmin(2)[:-1]
    right = nearest == own_number
    figures: dict[str, object] = {
        "top1_percent": round(100 * right.float().mean().item(), 1),
        "draws": right.numel(),
        "prompts": len(names),
        "steps": STEPS,
        "guidance": SCALE,
        "sampler": "DDIM",
        "distance_to_own": round(own[:-1].mean().item(), 4),
        "distance_to_own_through_the_autoencoder_alone": round(own[-1].mean().item(), 4),
        "autoencoder_psnr_db": round((10 * torch.log10(4 / (through - targets).square().mean((1, 2, 3)))).mean().item(), 2),
        "seconds_per_picture": round(seconds, 2),
        "taken_for_another": [
            f"{names[k]} -> {names[int(nearest[s, k])]}"
            for s in range(len(SEEDS))
            for k in range(len(names))
            if not right[s, k]
        ],
    }
    return figures, [
        (_captioned(name, right[:, k]), torch.stack([targets[k], *(pictures[k] for pictures in drawn)]))
        for k, name in enumerate(names)
    ]


def _measured_scenes(
    model: SmallModel, cutouts: Tensor, names: Sequence[str], distance: Distances
) -> tuple[dict[str, object], list[tuple[str, Tensor]]]:
    """The figures of scenes of two, and the sheet's rows."""
    scenes = scenes_of_two()
    planned, prompts = as_planned(cutouts, scenes), [plain_prompt(scene, names) for scene in scenes]
    drawn = _drawn(model, prompts, 1000)
    in_place = found(torch.cat([drawn, _there_and_back(model, planned)]), scenes * 2, cutouts, distance)
    both, through = in_place.all(1).split(len(scenes))
    figures: dict[str, object] = {
        "scenes_of_two": len(scenes),
        "scenes_with_both_found": int(both.sum()),
        "scenes_with_one_found": int((in_place[: len(scenes)].sum(1) == 1).sum()),
        "scenes_with_both_found_through_the_autoencoder_alone": int(through.sum()),
    }
    return figures, [
        (_captioned(prompt, both[k : k + 1]), torch.stack([planned[k], drawn[k]])) for k, prompt in enumerate(prompts)
    ]
