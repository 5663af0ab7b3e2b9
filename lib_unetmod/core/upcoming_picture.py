"""What is known of the next picture before it is drawn: the U-Net, and the passes that will be made with it."""

from __future__ import annotations

from dataclasses import dataclass

from .size import Size
from .target import PIXELS, Target
from .unet_map import UNetMap

#: The passes as a user calls them.
PASS_NAMES = {"first": "txt2img", "hires": "Hires. fix", "img2img": "img2img"}


@dataclass(frozen=True)
class UpcomingPass:
    """One pass.

    Attributes:
        name: "first", "hires" or "img2img".
        target: size in pixels, beside the trained one.
        steps: sampling steps of the whole way from noise, of which a pass that begins later takes the last ones.
        sampler: name as the host shows it.
        schedule: how the noise levels are spaced, in lower case, as `HostCall` names it.
        cfg: scale of classifier-free guidance.
        denoising: denoising strength, 0 to 1; 1 for a pass that begins with noise.
        begins: progress of the first evaluation.
        evaluations: progress of each evaluation, in order; None where the sampler chooses them on the way.
        guided: whether the host evaluates the negative prompt's rows beside the prompt's.
    """

    name: str
    target: Target
    steps: int
    sampler: str = ""
    schedule: str = ""
    cfg: float = 7.0
    denoising: float = 1.0
    begins: float = 0.0
    evaluations: tuple[float, ...] | None = None
    guided: bool = True

    @property
    def size(self) -> str:
        """Width and height, as `512x768`."""
        return f"{self.target.width}x{self.target.height}"

    @property
    def title(self) -> str:
        """The pass as a user calls it."""
        return PASS_NAMES[self.name]

    def map_size(self, level: int) -> Size:
        """Height and width of the U-Net's maps at a level, 1 = the latent's own; each level halves, rounding up."""
        height, width = (-(-(side // PIXELS) // 2 ** (level - 1)) for side in (self.target.height, self.target.width))
        return height, width


@dataclass(frozen=True)
class UpcomingPicture:
    """The U-Net, None where no model is loaded yet, and at least one pass, in the order in which they are made.

    `model` tells it from others, by its name and what its file holds; empty where that is not known.
    """

    unet: UNetMap | None
    passes: tuple[UpcomingPass, ...]
    model: str = ""

    @property
    def last(self) -> UpcomingPass:
        """The pass whose result is the picture."""
        return self.passes[-1]


@dataclass(frozen=True)
class Idle:
    """Why a method will do nothing: `at`, the setting of the page that decides it (`at 512x512`), and `why`, a sentence.

    `needless` where the host does by itself what the method is for, so that nobody misses it afterwards.
    """

    at: str
    why: str
    needless: bool = False
