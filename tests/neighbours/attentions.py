"""Attentions that others edit on the way: Incantations' SEG and PAG, Regional Prompter, the WebUI's own hypertile."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from .base import Neighbour, attention, neighbour, transformers


@neighbour("seg")
class SEG(Neighbour):
    """Smoothed energy guidance: the queries of the middle's self-attention are averaged, in the second half of the rows."""

    rows_by_place = True
    size = (16, 8)

    def put_on(self, unet: nn.Module) -> None:
        def seg_to_q_hook(module: nn.Module, args: tuple, kwargs: dict, output: Tensor) -> Tensor:
            plain, q = output.chunk(2, dim=0)
            if self.strength:
                q[:] = q.mean(dim=1, keepdim=True)
            return torch.cat((plain, q), dim=0)

        for block in transformers(unet.middle_block):
            handle = block.attn1.to_q.register_forward_hook(seg_to_q_hook, with_kwargs=True)
            self._undo.append(handle.remove)


@neighbour("pag")
class PAG(Neighbour):
    """Perturbed-attention guidance: a further call in which the middle's self-attention answers with its values."""

    size = (16, 8)
    writes = ("pag_last_to_v",)

    def put_on(self, unet: nn.Module) -> None:
        self.enabled = False

        def to_v_pre_hook(attn1: nn.Module, module: nn.Module, args: tuple, kwargs: dict, output: Tensor) -> None:
            attn1.pag_last_to_v = output.clone()

        def pag_pre_hook(module: nn.Module, args: tuple, kwargs: dict, output: Tensor) -> Tensor | None:
            return module.pag_last_to_v[:, : output.shape[1]] if self.enabled else None

        for block in transformers(unet.middle_block):
            attn1 = block.attn1
            attn1.pag_last_to_v = None
            saving = functools.partial(to_v_pre_hook, attn1)
            self._undo.append(functools.partial(delattr, attn1, "pag_last_to_v"))
            self._undo.append(attn1.to_v.register_forward_hook(saving, with_kwargs=True).remove)
            self._undo.append(attn1.register_forward_hook(pag_pre_hook, with_kwargs=True).remove)

    def evaluate(self, unet: nn.Module, step: dict[str, Any]) -> Tensor:
        out = self.call(unet, step)
        self.enabled = True
        perturbed = self.call(unet, step)
        self.enabled = False
        return out + self.strength * (out - perturbed)


@neighbour("regional")
class Regional(Neighbour):
    """Columns of the prompt's rows attend to columns' own tokens; the first half of the rows is the prompt's."""

    rows_by_place = True

    def put_on(self, unet: nn.Module) -> None:
        for block in transformers(unet):
            attn2 = block.attn2
            attn2.forward = self.hook_forward(attn2)
            self._undo.append(functools.partial(delattr, attn2, "forward"))

    def hook_forward(self, module: nn.Module) -> Callable[..., Tensor]:
        def forward(x: Tensor, context: Tensor | None = None, mask=None, **kwargs: Any) -> Tensor:
            (prompt, negative), (tokens, against) = x.chunk(2), context.chunk(2)
            parts = [tokens, tokens.flip(1)[:, :20]] if self.strength else [tokens, tokens]
            side = round(x.shape[1] ** 0.5)
            left, right = (self._attend(module, prompt, part).unflatten(1, (-1, side)) for part in parts)
            half = side // 2
            out = torch.cat([left[:, :, :half], right[:, :, half:]], 2).flatten(1, 2)
            return torch.cat([out, self._attend(module, negative, against)])

        return forward

    @staticmethod
    def _attend(module: nn.Module, x: Tensor, context: Tensor) -> Tensor:
        return module.to_out(attention(module.to_q(x), module.to_k(context), module.to_v(context), module.heads))


@neighbour("hypertile_left")
class HypertileLeft(Neighbour):
    """The WebUI's own hypertile, once it was on, stays on the self-attentions, switched off."""

    stays = True

    def put_on(self, unet: nn.Module) -> None:
        for block in transformers(unet):
            block.attn1.forward = self.self_attn_forward(block.attn1.forward)

    @staticmethod
    def self_attn_forward(kept: Callable) -> Callable:
        @functools.wraps(kept)
        def wrapper(*args: Any, **kwargs: Any) -> Tensor:
            return kept(*args, **kwargs)

        # Who stands there is told by the file in which a function was written.
        wrapper.__code__ = wrapper.__code__.replace(co_filename="/webui/extensions-builtin/hypertile/hypertile.py")
        return wrapper
