"""Measures the checkpoint: is each drawn picture nearer to its own emoji than to the 49 others? And draws the sheet.

The distance is shift-tolerant LPIPS (Ghildyal & Liu 2022) on AlexNet, from the package stlpips-pytorch. It serves
here for measuring only and nothing of it is shipped.
"""

from __future__ import annotations

import json
import sys
import time
import types
from pathlib import Path

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from lib_unetmod.playground.model import CHECKPOINT, SmallModel, load
from training.data import SIZE, Item, load_items, load_pictures
from training.selection import ALIASES, SELECTION

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results.json"
SHEET = ROOT / "docs" / "pictures" / "emoji-sheet.png"
NUMBER, STEPS, SCALE, SEEDS = 50, 20, 3.0, (1, 2)


def evaluated(items: list[Item]) -> tuple[list[int], list[str]]:
    """50 items evenly from the first list, chosen before any picture was seen, and the plainest prompt of each."""
    numbers = [i * len(SELECTION) // NUMBER for i in range(NUMBER)]
    emoji = [item.emoji for item in items[: len(SELECTION)]]
    for wanted in "🍎😺":  # the two the project's aim names
        if (at := emoji.index(wanted)) not in numbers:
            numbers[min(range(NUMBER), key=lambda k: abs(numbers[k] - at))] = at
    return numbers, [ALIASES.get(emoji[i], items[i].label).split("|")[0] for i in numbers]


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


def write_sheet(path: Path, prompts: list[str], targets: Tensor, drawn: list[Tensor], right: Tensor) -> None:
    """A contact sheet: per prompt the emoji and what was drawn; a mark where another emoji was nearer."""
    columns, wide, high = 5, SIZE * (1 + len(drawn)) + 12, SIZE + 20
    rows = -(-len(prompts) // columns)
    sheet = Image.new("RGB", (columns * wide, rows * high), (225, 225, 225))
    pen = ImageDraw.Draw(sheet)
    for k, prompt in enumerate(prompts):
        x, y = k % columns * wide + 4, k // columns * high
        pen.text(
            (x, y + 4),
            prompt + "".join("" if right[s, k] else "  (nearer to another)" for s in range(len(drawn))),
            fill=(0, 0, 0),
        )
        for s, pictures in enumerate([targets, *drawn]):
            pixels = ((pictures[k].cpu() + 1) * 127.5).round().clamp(0, 255).byte().permute(1, 2, 0).numpy()
            sheet.paste(Image.fromarray(pixels), (x + s * SIZE, y + 18))
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.quantize(256).save(path, optimize=True)


def measure(
    checkpoint: Path = CHECKPOINT, results: Path | None = RESULTS, sheet: Path = SHEET, device: str = "cpu"
) -> dict[str, object]:
    """Draws 50 prompts twice, compares, writes the figures and the sheet."""
    distance = PerceptualDistance()
    model = load(checkpoint, device=device)
    items = load_items()
    numbers, prompts = evaluated(items)
    targets = load_pictures([items[i] for i in numbers])
    started = time.time()
    drawn = [
        torch.cat([draw(model, prompts[at : at + 25], 10 * seed + at).cpu() for at in range(0, NUMBER, 25)])
        for seed in SEEDS
    ]
    seconds = (time.time() - started) / (NUMBER * len(SEEDS))
    with torch.no_grad():
        through = torch.cat([model.decode(model.encode_image(x.to(device))).cpu() for x in targets.split(10)])
    table = torch.stack([distance(pictures, targets) for pictures in drawn])
    nearest = table.argmin(2)
    right = nearest == torch.arange(NUMBER)
    own = table.diagonal(dim1=1, dim2=2)
    figures: dict[str, object] = {
        "top1_percent": round(100 * right.float().mean().item(), 1),
        "draws": right.numel(),
        "prompts": NUMBER,
        "steps": STEPS,
        "guidance": SCALE,
        "sampler": "DDIM",
        "distance_to_own": round(own.mean().item(), 4),
        "distance_to_own_through_the_autoencoder_alone": round(distance(through, targets).diagonal().mean().item(), 4),
        "autoencoder_psnr_db": round((10 * torch.log10(4 / (through - targets).square().mean((1, 2, 3)))).mean().item(), 2),
        "checkpoint_bytes": checkpoint.stat().st_size,
        "seconds_per_picture": round(seconds, 2),
        "taken_for_another": [
            f"{prompts[k]} -> {prompts[int(nearest[s, k])]}"
            for s in range(len(SEEDS))
            for k in range(NUMBER)
            if not right[s, k]
        ],
    }
    if results:
        results.write_text(json.dumps(figures, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    write_sheet(sheet, prompts, targets, drawn, right)
    return figures
