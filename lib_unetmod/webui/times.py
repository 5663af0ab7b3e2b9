"""What a generation ran and took, as lines under its pictures: text encoder, U-Net, VAE, and the U-Net with no method on.

The WebUI encodes the prompts between the script's `process_batch` and `p.sample`, and decodes between `p.sample` and
`postprocess_batch`; what `p.sample` does besides its evaluations belongs to the VAE too, for hires fix decodes, enlarges
and encodes there.
"""

from __future__ import annotations

import time
from typing import Any

from ..core.pace import Pace


class Times:
    """Seconds of the parts, over all batches of a generation."""

    def __init__(self) -> None:
        self.text_encoder = self.unet = self.vae = 0.0
        self.plain: float | None = 0.0
        self._last = time.perf_counter()
        self._evaluations: list[int] = []  # of each batch
        self._skipped = 0
        self._pictures = 0

    def batch_begins(self) -> None:
        self._last = time.perf_counter()

    def sampling_begins(self) -> None:
        self.text_encoder += self._since_last()

    def sampled(self, pace: Pace, skipped: int) -> None:
        """`p.sample` has returned; in so many of its evaluations no layer ran."""
        self.unet += pace.seconds
        self.plain = None if self.plain is None or pace.plain is None else self.plain + pace.plain
        self.vae += max(self._since_last() - pace.seconds, 0.0)
        self._evaluations.append(pace.evaluations)
        self._skipped += skipped

    def batch_decoded(self, pictures: int) -> None:
        self.vae += self._since_last()
        self._pictures += pictures

    def sentences(self, timed: bool) -> list[str]:
        """How many U-Net calls were run, where some were not, and if `timed` what the parts of decoded pictures took."""
        total = sum(self._evaluations)
        calls = f"{total - self._skipped} of {total} U-Net calls were run."
        return [*([calls] if self._skipped else []), *([self._parts()] if timed and self.unet and self._pictures else [])]

    def _parts(self) -> str:
        faster = self.plain is not None and self.plain > 1.02 * self.unet
        beside = f" (about {_seconds(self.plain)} with no method on)" if faster else ""
        parts = [("Text encoder", self.text_encoder, ""), ("U-Net", self.unet, beside), ("VAE", self.vae, "")]
        said = ", ".join(f"{name} {_seconds(seconds)}{more}" for name, seconds, more in parts)
        return f"{said}.{self._rate()}"

    def _rate(self) -> str:
        """Pictures a second, for those who draw each in one step."""
        if set(self._evaluations) != {1}:
            return ""
        return f" {self._pictures / (self.text_encoder + self.unet + self.vae):.1f} images a second."

    def _since_last(self) -> float:
        before, self._last = self._last, time.perf_counter()
        return self._last - before


def is_last_batch(p: Any) -> bool:
    """Whether the batch that `p` draws now is the generation's last."""
    return getattr(p, "iteration", 0) + 1 >= getattr(p, "n_iter", 1)


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 0.95 else f"{seconds:.2f} s"
