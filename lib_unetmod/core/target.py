"""The picture that is drawn, beside the size that the U-Net was trained at: what the autos of large pictures go by."""

from __future__ import annotations

import math
from dataclasses import dataclass

#: Side in pixels at which each family was trained. SD2's is that of 2.0 and 2.1 with v-prediction; their base is at 512.
TRAINED = {"sd1": 512, "sd2": 768, "sdxl": 1024, "refiner": 1024, "other": 512}

#: Pixels for one number of the latent, in height and in width.
PIXELS = 8


@dataclass(frozen=True)
class Target:
    """Sizes in pixels. `trained` is a side: SDXL's other aspect ratios have the area of its square."""

    trained: int
    height: int
    width: int

    @property
    def scale(self) -> float:
        """How many times the side of the trained square the side of a square of the picture's area is."""
        return math.sqrt(self.height * self.width) / self.trained

    @property
    def ratio_y(self) -> float:
        """Height over the trained side."""
        return self.height / self.trained

    @property
    def ratio_x(self) -> float:
        """Width over the trained side."""
        return self.width / self.trained
