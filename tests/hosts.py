"""Stand-ins for the U-Net forwards that hosts bring, walking the same real ldm and sgm layers as each host does.

`HOSTS[name].prepare(unet)` gives a copy of a U-Net from `unets` as that host would hold it, and
`HOSTS[name].forward(prepared, x, timesteps, context, y, control)` evaluates it through `Module.__call__`, so that
hooks on the U-Net fire. Without edits and control, every host gives the plain forward's output.

| host | after | walks | control residuals |
|---|---|---|---|
| plain | ldm, sgm | its own forward | none |
| a1111 | A1111 1.10 `sd_hijack_unet.py` | its own forward; `cat` resizes h to the skip | none |
| controlnet | sd-webui-controlnet 56cec5b2 `hook.py` | blocks | new tensor, resized nearest |
| controlnet_reference | the same, "reference_only" | the old forward, then blocks | the same |
| forge | `forks` | blocks, with more arguments | in place, dropped on mismatch |
| forge_classic | `forks` | layers, never a block's forward | in place, dropped on mismatch |
| reforge | `forks` | layers, never a block's forward | new tensor, resized bicubic |

Control is given as `residuals` lays it out: one tensor per skip connection in the order of the input blocks, then
the middle block's. The forks also take their own form, a dict of lists ("input", "middle", "output") that the
traversal empties from the end.
"""

from __future__ import annotations

import contextlib
import functools
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from forks import FORGE, FORGE_CLASSIC, REFORGE, Fork, adapt_for_fork
from torch import Tensor, nn
from unets import DOWNSAMPLES, TRANSFORMER_BLOCKS, copied, embed, ldm, sgm


@dataclass(frozen=True)
class Host:
    """`mismatch`: what becomes of a control residual of the wrong size ("nearest", "dropped", "bicubic"; None: the
    host takes no control). `calls_blocks`: whether a block's own forward runs."""

    name: str
    prepare: Callable[[nn.Module], nn.Module]
    forward: Callable[..., Tensor]
    mismatch: str | None
    calls_blocks: bool = True


def residuals(unet: nn.Module, x_shape: tuple[int, ...], seed: int = 0, scale: float = 0.1) -> list[Tensor]:
    """What a ControlNet returns for a latent of `x_shape` (B, C, H, W): `len(input_blocks) + 1` tensors, the skip
    connections' (B, channels, h, w) from first to last and the middle block's, of standard deviation `scale`."""
    generator = torch.Generator().manual_seed(seed)
    batch, _, height, width = x_shape
    shapes = []
    for block in [*unet.input_blocks, unet.middle_block]:
        if isinstance(block[0], DOWNSAMPLES):
            height, width = (height + 1) // 2, (width + 1) // 2
        channels = [layer.out_channels for layer in block if hasattr(layer, "out_channels")][-1]
        shapes.append((batch, channels, height, width))
    return [scale * torch.randn(shape, generator=generator) for shape in shapes]


def cat_aligned(tensors: list[Tensor], *args: Any, **kwargs: Any) -> Tensor:
    """`torch.cat` which first resizes the first of two tensors (nearest) to the height and width of the second."""
    if len(tensors) == 2 and tensors[0].shape[-2:] != tensors[1].shape[-2:]:
        tensors = [F.interpolate(tensors[0], tensors[1].shape[-2:], mode="nearest"), tensors[1]]
    return torch.cat(tensors, *args, **kwargs)


class _AlignedTorch(types.ModuleType):
    """torch, with `cat_aligned` for `cat`: what A1111 puts in place of the `th` in ldm's and sgm's openaimodel."""

    cat = staticmethod(cat_aligned)

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)


@contextlib.contextmanager
def webui_cat() -> Iterator[None]:
    """A1111's `cat` inside the plain forward, thanks to which any size works. A1111 leaves it on for good; here it
    lasts for one call, so that the other hosts and tests do not see it."""
    originals = ldm.th, sgm.th
    ldm.th = sgm.th = _AlignedTorch("torch")
    try:
        yield
    finally:
        ldm.th, sgm.th = originals


def aligned_adding(base: Tensor, residual: Tensor | float, align_channels: bool) -> Tensor:
    """A new tensor, the residual resized (nearest) to the base. With `align_channels` (inpainting models), a copy of
    the residual into a base-shaped tensor comes before the resizing, so that a size that differs raises."""
    if isinstance(residual, float):
        return base if residual == 0.0 else base + residual
    if align_channels:
        padded = torch.zeros_like(base)
        padded[:, : residual.shape[1]] = residual
        residual = padded
    if residual.shape[-2:] not in (base.shape[-2:], (1, 1)):
        residual = F.interpolate(residual, base.shape[-2:], mode="nearest")
    return base + residual


class ControlNetHook:
    """sd-webui-controlnet's hold on a U-Net: `unet.forward` becomes an instance attribute that loops over the blocks.

    reference: every call first runs the forward that was there when the hook came, on other data, without entering
    the U-Net through `__call__` (no hook of the U-Net fires), and attn1 always gets an explicit context, from a
    `_forward` set on each transformer block. bank: the second traversal also attends to the tokens that the first
    one wrote, which doubles attn1's context and changes the output; without it the output is the plain one.
    """

    def __init__(self, unet: nn.Module, reference: bool = False, bank: bool = False) -> None:
        self.unet, self.reference, self.bank = unet, reference, bank
        self.writing = False
        self.original_forward = unet._original_forward = unet.forward
        unet.forward = self.forward
        self.transformer_blocks = [m for m in unet.modules() if reference and isinstance(m, TRANSFORMER_BLOCKS)]
        for block in self.transformer_blocks:
            block.bank = []
            block._forward = functools.partial(self._transformer_block_forward, block)

    def restore(self) -> None:
        """As the extension does: `forward` goes back as an instance attribute, which is not where it came from."""
        self.unet.forward = self.unet._original_forward
        del self.unet._original_forward
        for block in self.transformer_blocks:
            del block._forward, block.bank

    def forward(self, x, timesteps=None, context=None, y=None, control=None, **kwargs) -> Tensor:
        unet = self.unet
        control = [0.0] * (len(unet.input_blocks) + 1) if control is None else list(control)
        align_channels = x.shape[1] == 9
        if self.reference:
            noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(7)).to(x)
            labels = {} if y is None else {"y": y}
            self.writing = True
            self.original_forward(x=noise, timesteps=timesteps, context=context, **labels)
            self.writing = False

        emb, h, skips = embed(unet, timesteps, y), x, []
        for block in unet.input_blocks:
            h = block(h, emb, context)
            skips.append(h)
        h = aligned_adding(unet.middle_block(h, emb, context), control.pop(), align_channels)
        for block in unet.output_blocks:
            skip = aligned_adding(skips.pop(), control.pop(), align_channels)
            h = block(cat_aligned([h, skip], dim=1), emb, context)
        return unet.out(h.type(x.dtype))

    def _transformer_block_forward(self, block: nn.Module, x: Tensor, context: Tensor | None = None) -> Tensor:
        n = block.norm1(x)
        attended = context if block.disable_self_attn else n
        if self.bank and self.writing:
            block.bank.append(n.clone())
        elif self.bank:
            attended = torch.cat([attended, *block.bank], dim=1)
            block.bank.clear()
        x = block.attn1(n, context=attended) + x
        x = block.attn2(block.norm2(x), context=context) + x
        return block.ff(block.norm3(x)) + x


def _hooked(unet: nn.Module, reference: bool = False) -> nn.Module:
    unet = copied(unet)
    ControlNetHook(unet, reference)
    return unet


def _forward_plain(unet, x, timesteps, context, y=None, control=None, **kwargs) -> Tensor:
    if control is not None:
        raise ValueError("the plain forward has no place for control residuals")
    return unet(x, timesteps=timesteps, context=context, y=y, **kwargs)


def _forward_webui(unet, x, timesteps, context, y=None, control=None, **kwargs) -> Tensor:
    """Through A1111's wrappers: ldm's passes the timesteps by position, sgm's by keyword. The control travels as a
    keyword here; the extension computes it inside its forward."""
    if control is not None:
        if not hasattr(unet, "_original_forward"):
            raise ValueError("A1111 adds no control residuals without the ControlNet extension")
        kwargs["control"] = control
    with webui_cat():
        if y is None:
            return unet(x, timesteps, context=context, **kwargs)
        return unet(x, timesteps=timesteps, context=context, y=y, **kwargs)


def _forward_fork(unet, x, timesteps, context, y=None, control=None, transformer_options=None, **kwargs) -> Tensor:
    options = {} if transformer_options is None else transformer_options
    if y is not None:
        kwargs["y"] = y
    return unet(x, timesteps, context=context, control=control, transformer_options=options, **kwargs)


def _host_of_fork(fork: Fork) -> Host:
    prepare = functools.partial(adapt_for_fork, fork=fork)
    return Host(fork.name, prepare, _forward_fork, fork.resize or "dropped", calls_blocks=not fork.walks_layers)


HOSTS: dict[str, Host] = {
    host.name: host
    for host in (
        Host("plain", copied, _forward_plain, None),
        Host("a1111", copied, _forward_webui, None),
        Host("controlnet", _hooked, _forward_webui, "nearest"),
        Host("controlnet_reference", functools.partial(_hooked, reference=True), _forward_webui, "nearest"),
        _host_of_fork(FORGE),
        _host_of_fork(FORGE_CLASSIC),
        _host_of_fork(REFORGE),
    )
}
