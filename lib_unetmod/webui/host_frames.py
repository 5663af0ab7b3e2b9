"""Whether AnimateDiff's frames move: more than its context batch size are drawn in windows, which it shifts every step."""

from __future__ import annotations

from typing import Any

_MOVING = (
    "AnimateDiff draws other frames together in each step, so nothing is reused. Set its Context batch size to the Number "
    "of frames."
)


def why_moving(denoiser: Any) -> str:
    """`HostCall.moving` in AUTOMATIC1111's denoiser, where AnimateDiff stands in for the model's forward."""
    forward = getattr(getattr(denoiser, "inner_model", None), "forward", None)
    for cell in getattr(getattr(forward, "__func__", forward), "__closure__", None) or ():
        try:
            settings = cell.cell_contents
        except ValueError:  # nothing stands there yet
            continue
        frames, together = (getattr(settings, name, None) for name in ("video_length", "batch_size"))
        if isinstance(frames, int) and isinstance(together, int) and frames > together:
            return _MOVING
    return ""
