"""sd-webui-controlnet: IP-Adapter, references, StyleAlign, residuals, and what is left of them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from enum import Enum
from types import MethodType
from typing import Any

import torch
import torch.nn.functional as F
from hosts import ControlNetHook, residuals
from torch import Tensor, nn

from .base import Neighbour, neighbour, noise, transformers


@neighbour("ip_adapter")
class IPAdapter(Neighbour):
    """attn2 also attends to the picture's tokens, which are there once for each row of the whole batch."""

    leaves = True
    rows_by_place = True

    def put_on(self, unet: nn.Module) -> None:
        for block in transformers(unet):
            attn2 = block.attn2
            shape, kept = attn2.to_k.weight.shape, attn2.forward
            to_k, to_v = (noise(*shape, seed=seed) * shape[1] ** -0.5 for seed in (1, 2))
            attn2.forward = MethodType(attn_forward_hacked, attn2)
            attn2.ipadapter_hacks = [functools.partial(self._image_attention, to_k, to_v)]
            self._undo.append(functools.partial(self._put_back, attn2, kept))

    @staticmethod
    def _put_back(attn2: nn.Module, kept: Callable) -> None:
        attn2.forward = kept
        attn2.ipadapter_hacks = []

    def _image_attention(self, to_k: Tensor, to_v: Tensor, attn2: nn.Module, x: Tensor, q: Tensor) -> Tensor:
        image = noise(2, 4, to_k.shape[1], seed=3)  # prompt and negative prompt
        head = x.shape[2] // attn2.heads
        k, v = ((image @ w.T).view(len(x), -1, attn2.heads, head).transpose(1, 2) for w in (to_k, to_v))
        out = F.scaled_dot_product_attention(q, k, v)
        return self.strength * out.transpose(1, 2).reshape(len(x), -1, attn2.heads * head)


def attn_forward_hacked(self: nn.Module, x: Tensor, context: Tensor | None = None, **kwargs: Any) -> Tensor:
    """IP-Adapter's attention, by its name there."""
    keys = x if context is None else context
    q, k, v = (
        t.view(len(x), -1, self.heads, x.shape[2] // self.heads).transpose(1, 2)
        for t in (self.to_q(x), self.to_k(keys), self.to_v(keys))
    )
    out = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(x.shape)
    for hack in self.ipadapter_hacks:
        out = out + hack(self, x, q)
    return self.to_out(out)


class AutoMachine(Enum):
    """What the extension's hold on transformer blocks does when they run."""

    Read = "Read"
    Write = "Write"
    StyleAlign = "StyleAlign"


@neighbour("reference")
class Reference(Neighbour):
    """reference_only: a pass over another picture writes tokens, which the self-attentions read in the next one.

    The negative prompt's rows, by their numbers, read none. Blocks' own forwards are replaced too, to no effect here.
    """

    leaves = True
    rows_by_place = True
    writes = ("bank", "mean_bank", "var_bank", "style_cfgs")
    begins_as = AutoMachine.Read
    has_a_pass = True

    def put_on(self, unet: nn.Module) -> None:
        self.attention_auto_machine = self.begins_as
        hook = _ControlNet(unet, self)
        self._undo.append(hook.restore)
        for block in transformers(unet):
            if not hasattr(block, "_original_inner_forward_cn_hijack"):
                block._original_inner_forward_cn_hijack = block._forward
            block._forward = MethodType(self.of_this_picture(), block)
            block.bank = []
        last = len(unet.output_blocks)
        for block in (unet.middle_block, *unet.input_blocks[4:6], *unet.output_blocks[: last - 4]):
            if not hasattr(block, "original_forward_cn_hijack"):
                block.original_forward_cn_hijack = block.forward
            block.forward = functools.partial(self.hacked_group_norm_forward, block)
            block.mean_bank, block.var_bank, block.style_cfgs = [], [], []

    def of_this_picture(self) -> Callable[..., Tensor]:
        """A transformer block's forward with the picture's settings in its closure, where the extension has them too."""
        outer = self

        def hacked_basic_transformer_inner_forward(block: nn.Module, x: Tensor, context: Tensor | None = None) -> Tensor:
            return outer.transformer_block(block, x, context)

        return hacked_basic_transformer_inner_forward

    def hacked_group_norm_forward(self, block: nn.Module, *args: Any, **kwargs: Any) -> Tensor:
        x = block.original_forward_cn_hijack(*args, **kwargs)
        block.mean_bank, block.var_bank, block.style_cfgs = [], [], []
        return x

    def transformer_block(self, block: nn.Module, x: Tensor, context: Tensor | None) -> Tensor:
        n = block.norm1(x)
        own = None
        negative = [row for row, of in enumerate(self.conditional_of) if row != of]
        positive = [row for row, of in enumerate(self.conditional_of) if row == of]
        if self.attention_auto_machine is AutoMachine.Write:
            block.bank.append(n.clone())
        elif self.attention_auto_machine is AutoMachine.StyleAlign and self.strength:
            own = torch.zeros_like(n)
            for rows in (negative, positive):
                own[rows] = block.attn1(n[rows].reshape(1, -1, n.shape[2])).reshape(len(rows), *n.shape[1:])
        else:
            if block.bank and self.strength:
                own = block.attn1(n, context=torch.cat([n, *block.bank], dim=1)).clone()
                own[negative] = block.attn1(n[negative], context=n[negative])
            block.bank = []
        x = (block.attn1(n, context=n) if own is None else own) + x
        x = block.attn2(block.norm2(x), context=context) + x
        return block.ff(block.norm3(x)) + x


@neighbour("style_align")
class StyleAlign(Reference):
    """The rows of one prompt, two pictures of a batch, attend to each other's tokens."""

    frames = 2
    begins_as = AutoMachine.StyleAlign
    has_a_pass = False


class _ControlNet(ControlNetHook):
    """The U-Net's forward with a pass for `neighbour`, and with residuals where it has any."""

    def __init__(self, unet: nn.Module, neighbour: Neighbour) -> None:
        super().__init__(unet)
        self.neighbour = neighbour
        self.in_the_pass = False

    def forward(self, x: Tensor, timesteps=None, context=None, y=None, control=None, **kwargs: Any) -> Tensor:
        neighbour = self.neighbour
        if neighbour.has_a_pass:
            labels = {} if y is None else {"y": y}
            neighbour.attention_auto_machine, pictured = AutoMachine.Write, noise(*x.shape, seed=7)
            self.original_forward(x=pictured, timesteps=timesteps, context=context, **labels)
            neighbour.attention_auto_machine = AutoMachine.Read
        return super().forward(x, timesteps, context, y, control, **kwargs)


class Left(Neighbour):
    """What an extension leaves on the U-Net when its picture is done."""

    stays = True
    pictures: tuple[type[Neighbour], ...] = ()

    def put_on(self, unet: nn.Module) -> None:
        for cls in self.pictures:
            one = cls(self.strength)
            one.put_on(unet)
            one.take_off()


class OtherUnit(Neighbour):
    """A picture with another unit of ControlNet's, which puts back what a reference left: as attributes of instances."""

    def put_on(self, unet: nn.Module) -> None:
        self._undo.append(ControlNetHook(unet).restore)
        for module in unet.modules():
            if hasattr(module, "_original_inner_forward_cn_hijack"):
                module._forward = module._original_inner_forward_cn_hijack
            if hasattr(module, "original_forward_cn_hijack"):
                module.forward = module.original_forward_cn_hijack


for _name, _pictures in {
    "ip_adapter_left": (IPAdapter,),
    "reference_left": (Reference,),
    "reference_put_back": (Reference, OtherUnit),
}.items():
    neighbour(_name, pictures=_pictures, writes=Reference.writes)(Left)


@neighbour("style_align_left", pictures=(StyleAlign,), writes=Reference.writes)
class StyleAlignLeft(Left):
    """What a picture with StyleAlign leaves goes on acting, in all pictures until the next with another unit."""

    rows_by_place = True
    frames = StyleAlign.frames


@neighbour("control")
@neighbour("control_large", times=2)
class Control(Neighbour):
    """A ControlNet's residuals: new tensors, resized where the U-Net's maps are not of their size."""

    leaves = True
    times = 1
    has_zero = False

    def put_on(self, unet: nn.Module) -> None:
        self._undo.append(ControlNetHook(unet).restore)

    def evaluate(self, unet: nn.Module, step: dict[str, Any]) -> Tensor:
        batch, channels, height, width = step["x"].shape
        shape = (batch, channels, self.times * height, self.times * width)
        return self.call(unet, step, control=residuals(unet, shape, scale=0.1 * self.strength))
