"""The U-Nets of Forge, Forge Classic and reForge, made of the real ldm and sgm modules; `hosts` puts them to use.

After Forge dfdcbab6 `backend/nn/unet.py`; Forge Classic 1f95d71 and reForge 3b56b26 `ldm_patched/ldm/modules/`
(`attention.py`, `diffusionmodules/openaimodel.py`). All three descend from ComfyUI's U-Net, so one set of adapters
serves them, with the differences in `Fork`:

| layer receives | Forge | Forge Classic | reForge |
|---|---|---|---|
| ResBlock | h, emb, transformer_options | h, emb | h, emb |
| SpatialTransformer | h, context, transformer_options | the same | the same |
| Upsample | h, output_shape= | the same | the same |
| attn1, attn2 | h, context=, value=, transformer_options= | the same | h, context=, value= |
"""

from __future__ import annotations

import functools
import logging
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from unets import (
    ATTENTIONS,
    BLOCKS,
    RESBLOCKS,
    SPATIAL_TRANSFORMERS,
    TRANSFORMER_BLOCKS,
    UNETS,
    UPSAMPLES,
    copied,
    embed,
)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fork:
    """Where the three forks differ."""

    name: str
    unet_class: str
    walks_layers: bool  # forward_timestep_embed iterates a block's layers; the block's own forward never runs
    resblock_options: bool  # ResBlocks receive transformer_options
    attention_options: bool  # attn1 and attn2 receive transformer_options
    in_place: bool  # residuals are added in place, to skip connections and inside transformer blocks
    resize: str | None  # how a control residual of another size is resized; None: dropped, with a warning


FORGE = Fork(
    "forge",
    "IntegratedUNet2DConditionModel",
    walks_layers=False,
    resblock_options=True,
    attention_options=True,
    in_place=True,
    resize=None,
)
FORGE_CLASSIC = Fork(
    "forge_classic",
    "UNetModel",
    walks_layers=True,
    resblock_options=False,
    attention_options=True,
    in_place=True,
    resize=None,
)
REFORGE = Fork(
    "reforge",
    "UNetModel",
    walks_layers=True,
    resblock_options=False,
    attention_options=False,
    in_place=False,
    resize="bicubic",
)


def adapt_for_fork(unet: nn.Module, fork: Fork) -> nn.Module:
    """A copy of the U-Net whose modules take the arguments that the fork passes.

    Each instance's `__class__` becomes a subclass of its real class that bears the same name and overrides `forward`
    (for the U-Net in Forge: Forge's name). Parameters, children, state-dict keys and isinstance checks stay.
    """
    unet = copied(unet)
    adapters: list[tuple[type | tuple[type, ...], type]] = [
        (UNETS, _ForkUNet),
        (BLOCKS, _ForkBlock),
        (UPSAMPLES, _ForkUpsample),
        (SPATIAL_TRANSFORMERS, _ForkSpatialTransformer),
        (TRANSFORMER_BLOCKS, _ForkTransformerBlock),
        (ATTENTIONS, _ForkOptionsAttention if fork.attention_options else _ForkAttention),
    ]
    if fork.resblock_options:
        adapters.append((RESBLOCKS, _ForkOptionsResBlock))
    for module in unet.modules():
        for real, adapter in adapters:
            if isinstance(module, real):
                module.__class__ = _subclass(adapter, type(module), fork)
    return unet


@functools.cache
def _subclass(adapter: type, real: type, fork: Fork) -> type:
    name = fork.unet_class if issubclass(real, UNETS) else real.__name__
    return type(name, (adapter, real), {"fork": fork, "__module__": real.__module__})


def forward_timestep_embed(ts, x, emb, context=None, transformer_options=None, output_shape=None) -> Tensor:
    """The forks' walk through the layers of one block, each getting what that fork passes it."""
    options = {} if transformer_options is None else transformer_options
    for layer in ts:
        if isinstance(layer, RESBLOCKS):
            x = layer(x, emb, options) if ts.fork.resblock_options else layer(x, emb)
        elif isinstance(layer, SPATIAL_TRANSFORMERS):
            x = layer(x, context, options)
            options["transformer_index"] = options.get("transformer_index", 0) + 1
        elif isinstance(layer, UPSAMPLES):
            x = layer(x, output_shape=output_shape)
        else:
            x = layer(x)
    return x


def apply_control(fork: Fork, h: Tensor, control: dict[str, list[Tensor]] | None, name: str) -> Tensor:
    """Take the last residual of `control[name]` and add it; in place, unless the fork resizes."""
    residual = control[name].pop() if control and control.get(name) else None
    if residual is None:
        return h
    if fork.resize and residual.shape[-2:] != h.shape[-2:]:
        residual = F.interpolate(residual.float(), h.shape[-2:], mode=fork.resize, align_corners=False).to(h)
    try:
        return _add(fork, h, residual)
    except RuntimeError:
        log.warning("control could not be applied %s %s", tuple(h.shape), tuple(residual.shape))
        return h


def _add(fork: Fork, a: Tensor, b: Tensor) -> Tensor:
    return a.add_(b) if fork.in_place else a + b


class _ForkUNet:
    """Patches: "input_block_patch" p(h, options), "input_block_patch_after_skip" the same once the skip is stored,
    "output_block_patch" p(h, skip, options) before the concat; lists in `transformer_options["patches"]`."""

    def forward(self, x, timesteps=None, context=None, y=None, control=None, transformer_options=None, **kwargs):
        options = {} if transformer_options is None else transformer_options
        options.update(original_shape=list(x.shape), transformer_index=0)
        patches = options.get("patches", {})
        if isinstance(control, list):
            control = {"output": control[:-1], "middle": control[-1:]}
        walk = forward_timestep_embed if self.fork.walks_layers else lambda block, *args: block(*args)

        emb, h, skips = embed(self, timesteps, y).to(x.dtype), x, []
        for index, block in enumerate(self.input_blocks):
            options["block"] = ("input", index)
            h = apply_control(self.fork, walk(block, h, emb, context, options), control, "input")
            for patch in patches.get("input_block_patch", []):
                h = patch(h, options)
            skips.append(h)
            for patch in patches.get("input_block_patch_after_skip", []):
                h = patch(h, options)
        options["block"] = ("middle", 0)
        h = apply_control(self.fork, walk(self.middle_block, h, emb, context, options), control, "middle")
        for index, block in enumerate(self.output_blocks):
            options["block"] = ("output", index)
            skip = apply_control(self.fork, skips.pop(), control, "output")
            for patch in patches.get("output_block_patch", []):
                h, skip = patch(h, skip, options)
            output_shape = skips[-1].shape if skips else None
            h = walk(block, torch.cat([h, skip], dim=1), emb, context, options, output_shape)
        return self.out(h).type(x.dtype)


class _ForkBlock:
    def forward(self, x, emb, context=None, transformer_options=None, output_shape=None):
        return forward_timestep_embed(self, x, emb, context, transformer_options, output_shape)


class _ForkOptionsResBlock:
    def forward(self, x, emb, transformer_options=None):
        return super().forward(x, emb)


class _ForkUpsample:
    def forward(self, x, output_shape=None):
        """Resizes to the height and width of `output_shape`, the next skip connection's shape, not by two."""
        size = [2 * n for n in x.shape[-2:]] if output_shape is None else list(output_shape[-2:])
        x = F.interpolate(x, size=size, mode="nearest")
        return self.conv(x) if self.use_conv else x


class _ForkSpatialTransformer:
    def forward(self, x, context=None, transformer_options=None):
        options = {} if transformer_options is None else transformer_options
        height, width = x.shape[-2:]
        h = self.norm(x)
        h = h if self.use_linear else self.proj_in(h)
        h = h.flatten(2).transpose(1, 2).contiguous()
        h = self.proj_in(h) if self.use_linear else h
        for index, block in enumerate(self.transformer_blocks):
            options["block_index"] = index
            h = block(h, context=context, transformer_options=options)
        h = self.proj_out(h) if self.use_linear else h
        h = h.transpose(1, 2).unflatten(2, (height, width)).contiguous()
        return (h if self.use_linear else self.proj_out(h)) + x


class _ForkTransformerBlock:
    """Extensions' functions in `transformer_options`, which get `options`, all of it but the functions.

    "patches" may have lists: "attn1_patch" p(n, context, value, options) gives what attn1 is called with,
    "attn1_output_patch" p(n, options) what is done to its answer. "patches_replace" may have, by kind ("attn1", "attn2") and
    block (`("input", 1)`, or with the transformer's number `("middle", 0, 0)`), what stands in for an attention, whose
    forward then never runs: p(q, k, v, options) gets the projected tokens (B, N, inner size).
    """

    def forward(self, x, context=None, transformer_options=None):
        return self._forward(x, context, transformer_options)

    def _forward(self, x, context=None, transformer_options=None):
        every = {} if transformer_options is None else transformer_options
        patches = every.get("patches", {})
        options = {key: value for key, value in every.items() if key not in ("patches", "patches_replace")}
        options.update(n_heads=self.attn1.heads, dim_head=self.attn1.to_q.out_features // self.attn1.heads)
        extra = {"transformer_options": options} if self.fork.attention_options else {}

        def attention(kind, n, context, value):
            of_kind, block = every.get("patches_replace", {}).get(kind, {}), every.get("block")
            replaced = of_kind.get((*(block or ()), every.get("block_index", 0)), of_kind.get(block))
            module = getattr(self, kind)
            if replaced is None:
                return module(n, context=context, value=value, **extra)
            keys = n if context is None else context
            q, k, v = module.to_q(n), module.to_k(keys), module.to_v(keys if value is None else value)
            return module.to_out(replaced(q, k, v, options))

        n, keys, value = self.norm1(x), context if self.disable_self_attn else None, None
        for patch in patches.get("attn1_patch", []):
            keys = n if keys is None else keys
            n, keys, value = patch(n, keys, keys if value is None else value, options)
        n = attention("attn1", n, keys, value)
        for patch in patches.get("attn1_output_patch", []):
            n = patch(n, options)
        x = _add(self.fork, x, n)
        x = _add(self.fork, x, attention("attn2", self.norm2(x), context, None))
        return _add(self.fork, self.ff(self.norm3(x)), x)


class _ForkAttention:
    def forward(self, x, context=None, value=None, mask=None):
        if value is None:
            return super().forward(x, context=context, mask=mask)
        keys = x if context is None else context
        q, k, v = (
            t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in (self.to_q(x), self.to_k(keys), self.to_v(value))
        )
        return self.to_out(F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2))


class _ForkOptionsAttention(_ForkAttention):
    def forward(self, x, context=None, value=None, mask=None, transformer_options=None):
        return super().forward(x, context, value, mask)
