"""From settings and the methods' configs to a picture, with the times of its parts."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from ..core.call import Guidance, HostCall
from ..core.config import Config
from ..core.run import Run, modified
from ..core.target import TRAINED, Target
from ..core.unet_map import inspect_unet
from ..core.upcoming_picture import UpcomingPass, UpcomingPicture
from .model import SmallModel
from .samplers import SAMPLERS, Course
from .settings import Settings

#: Called with the number of evaluations done and their total; what it raises ends the drawing.
Progress = Callable[[int, int], None]

#: How the note about unknown words begins. Page and command line add where the known ones are listed.
UNKNOWN_WORDS = "The model does not know: "


@dataclass
class Timings:
    """Seconds: of the text encoder, of all U-Net evaluations, of the VAE both ways, and from start to end."""

    text_encoder: float = 0.0
    unet: float = 0.0
    vae: float = 0.0
    total: float = 0.0

    @property
    def rest(self) -> float:
        """Seconds that belong to none of the three: the sampler's arithmetic, installing the edits."""
        return max(self.total - self.text_encoder - self.unet - self.vae, 0.0)


@dataclass(frozen=True)
class Picture:
    """A drawn picture, the times it took, how many evaluations it made, notes for the user, its settings as used.

    `kept_bytes` are those of the tensors that methods kept between evaluations, at their most. In `predicted` of the
    evaluations no layer ran; `plans` is that of the run. `latent` (1, 4, h, w) is what was decoded, on the CPU.
    """

    image: Image.Image
    timings: Timings
    evaluations: int
    notes: tuple[str, ...]
    settings: Settings = field(repr=False)
    kept_bytes: int = 0
    predicted: int = 0
    plans: Mapping[str, str] = field(default_factory=dict)
    latent: Tensor | None = field(default=None, repr=False, compare=False)

    @property
    def evaluation_ms(self) -> float:
        """Milliseconds of the U-Net per evaluation, with prompt and negative prompt in one batch."""
        return 1000 * self.timings.unet / self.evaluations


@torch.no_grad()
def draw(model: SmallModel, settings: Settings, configs: Iterable[Config] = (), progress: Progress | None = None) -> Picture:
    """Draw one picture. The same settings and configs give the same picture; torch's global random state is untouched.

    Raises:
        ConfigError: for configs that cannot be used on this U-Net, which is untouched then.
    """
    settings, notes = settings.settled()
    notes += _unknown_words(model, settings)
    watch = _Watch(model.device)
    # On the CPU, so that a seed gives the same picture on every device.
    generator = torch.Generator("cpu").manual_seed(settings.seed)
    evaluations = 0

    with watch.measure("total"):
        course = _course(model, settings, model.device)
        with watch.measure("text_encoder"):
            context = _context(model, settings)
        trained = model.architecture.get("trained_size")
        call = _host_call(model, settings, context, course)
        with modified(model.unet, configs, call=call, vae=model.vae, trained_size=trained) as run:
            clean = None
            if settings.image is not None:
                with watch.measure("vae"):
                    clean = model.encode_image(_to_tensor(settings).to(model.device, model.dtype))
            shape = (1, 4, settings.height // 8, settings.width // 8)
            noise = torch.randn(shape, generator=generator).to(model.device, model.dtype)

            def denoise(x: Tensor, timestep: Tensor) -> Tensor:
                nonlocal evaluations
                with watch.measure("unet"):
                    prediction = _evaluate(model, x, timestep, context, settings.cfg, run)
                evaluations += 1
                if progress is not None:
                    progress(evaluations, len(course.timesteps))
                return prediction

            latent = course.run(course.begin(noise, clean), denoise, generator)
            run.end_pass()

            if not latent.isfinite().all():
                run.note("Part of the picture came out as no number (NaN or infinite); it is drawn grey.")
                latent = latent.nan_to_num(0.0, 0.0, 0.0)
            with watch.measure("vae"):
                decoded = model.decode(latent.to(model.dtype))
    return Picture(
        image=_to_image(decoded),
        timings=watch.timings,
        evaluations=evaluations,
        notes=(*notes, *run.notes),
        settings=settings,
        kept_bytes=run.kept_bytes,
        predicted=len(run.predicted),
        plans=run.plans,
        latent=latent.float().cpu(),
    )


def upcoming(model: SmallModel, settings: Settings) -> UpcomingPicture:
    """What is known of the picture that settings, as they are used, will draw."""
    unet, trained = inspect_unet(model.unet), model.architecture.get("trained_size")
    course = _course(model, settings)
    evaluations = tuple((1 - course.timesteps.double() / 999).clamp(0, 1).tolist())
    one = UpcomingPass(
        name="first" if settings.image is None else "img2img",
        target=Target(trained or TRAINED[unet.family], settings.height, settings.width),
        steps=settings.steps,
        sampler=SAMPLERS[settings.sampler].label,
        schedule=course.schedule,
        cfg=settings.cfg,
        denoising=_denoising(settings),
        begins=evaluations[0],
        evaluations=evaluations,
        guided=settings.cfg != 1,
    )
    return UpcomingPicture(unet, (one,), model.name)


def warm_up(model: SmallModel, settings: Settings) -> None:
    """Draw in one step and forget it, so that the times that follow hold no first-time costs of torch."""
    draw(model, Settings(prompt=settings.prompt, steps=1, cfg=settings.cfg, width=settings.width, height=settings.height))


class _Watch:
    """Adds up seconds by part; waits for CUDA at both ends, which works behind the caller's back."""

    def __init__(self, device: torch.device) -> None:
        self.timings = Timings()
        self._wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None

    @contextmanager
    def measure(self, part: str) -> Iterator[None]:
        self._wait()
        begun = time.perf_counter()
        yield
        self._wait()
        setattr(self.timings, part, getattr(self.timings, part) + time.perf_counter() - begun)


def _evaluate(model: SmallModel, x: Tensor, timestep: Tensor, context: Tensor, cfg: float, run: Run) -> Tensor:
    """The prediction (1, 4, h, w), guided where the context holds two rows: without the prompt, then with it."""
    run.new_evaluation()
    rows = len(context)
    x = x.to(model.dtype).expand(rows, -1, -1, -1)
    prediction = model.unet(x, timesteps=timestep.to(x.device).expand(rows), context=context)
    if rows == 1:
        return prediction
    without, with_prompt = prediction.chunk(2)
    return without + cfg * (with_prompt - without)


def _course(model: SmallModel, settings: Settings, device: torch.device | str = "cpu") -> Course:
    kind = model.prediction_type
    return Course(settings.sampler, settings.steps, settings.steps_taken, kind, device, settings.schedule)


def _host_call(model: SmallModel, settings: Settings, context: Tensor, course: Course) -> HostCall:
    # The context's rows: without the prompt, then with it. A single row, at CFG 1, is the conditional one.
    rows = (len(context) - 1,) * len(context)
    return HostCall(
        Guidance(settings.cfg, rows),
        prediction="v" if model.prediction_type == "v_prediction" else "eps",
        pass_name="first" if settings.image is None else "img2img",
        seed=settings.seed,
        denoising=_denoising(settings),
        evaluations=len(course.timesteps),
        sampler=SAMPLERS[settings.sampler].label,
        schedule=course.schedule,
    )


def _denoising(settings: Settings) -> float:
    return 1.0 if settings.image is None else settings.strength


def _context(model: SmallModel, settings: Settings) -> Tensor:
    prompts = [settings.prompt] if settings.cfg == 1 else [settings.negative_prompt, settings.prompt]
    return model.encode_prompt(prompts)


def _unknown_words(model: SmallModel, settings: Settings) -> list[str]:
    tokenizer = model.tokenizer
    words = dict.fromkeys(tokenizer.split(f"{settings.prompt} {settings.negative_prompt}"))
    unknown = [word for word in words if word not in tokenizer.number]
    if not unknown:
        return []
    more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
    return [f"{UNKNOWN_WORDS}{', '.join(unknown[:5])}{more}."]


def _to_tensor(settings: Settings) -> Tensor:
    """The picture to begin from as (1, 3, H, W) in [-1, 1]: transparent parts white, cut to the size asked for."""
    picture = settings.image.convert("RGBA")
    picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
    fitted = ImageOps.fit(picture, (settings.width, settings.height), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(fitted)).permute(2, 0, 1)[None].float() / 127.5 - 1


def _to_image(decoded: Tensor) -> Image.Image:
    """(1, 3, H, W) in [-1, 1] as a picture."""
    pixels = ((decoded[0].float() + 1) * 127.5).round().clamp(0, 255).to("cpu", torch.uint8)
    return Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())
