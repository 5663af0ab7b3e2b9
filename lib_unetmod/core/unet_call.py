"""One call of the U-Net, as the host makes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn


@dataclass(frozen=True, eq=False)
class UNetCall:
    """What the U-Net is called with: the latent, the timesteps, the context, and more by keyword."""

    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    def _given(self, place: int, *names: str) -> Any:
        if len(self.args) > place:
            return self.args[place]
        return next((self.kwargs[name] for name in names if name in self.kwargs), None)

    @property
    def x(self) -> Tensor | None:
        """The latent (B, C, H, W)."""
        return self._given(0, "x")

    @property
    def timesteps(self) -> Tensor | None:
        """(B,)"""
        return self._given(1, "timesteps")

    @property
    def context(self) -> Tensor | None:
        """Embeddings of the prompts (B, L, D)."""
        return self._given(2, "context")

    @property
    def options(self) -> Mapping[str, Any] | None:
        """The forks' `transformer_options`, None elsewhere."""
        options = self.kwargs.get("transformer_options")
        return options if isinstance(options, Mapping) else None

    @property
    def controlled(self) -> bool:
        """Whether a ControlNet's residuals come with it, as in the forks; elsewhere they are added on the way."""
        return self.kwargs.get("control") is not None

    def kept(self) -> UNetCall:
        """The same call, to be made again: the forks take a ControlNet's residuals out of their lists on the way."""
        return UNetCall(self.args, {name: _copied(value) for name, value in self.kwargs.items()})

    def made_again(self, unet: nn.Module) -> Tensor:
        """What `unet` answers."""
        # Its `forward`, and not itself: hooks around the call have run.
        return unet.forward(*self.args, **self.kwargs)


def _copied(value: Any) -> Any:
    if isinstance(value, list):
        return list(value)
    return {key: _copied(inner) for key, inner in value.items()} if type(value) is dict else value
