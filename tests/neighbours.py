"""Stand-ins for other extensions: each one's way of touching a U-Net, re-written in a few lines.

`NEIGHBOURS[name](strength)` makes one. `put_on(unet)` and `take_off()` do to a U-Net, as `HOSTS[neighbour.host].prepare`
gives it, what the extension does when its picture begins and ends; `begin_evaluation()` is its callback before each
evaluation, and `evaluate(unet, step)` how the U-Net is called in one. With a strength of 0 everything is touched as ever and
the picture stays as it is, so that whatever then differs is the doing of how two meet. Where that would tell nothing, a
`twin` does the same in a way that no method can get in the way of.

| neighbour | after | touches |
|---|---|---|
| ip_adapter | sd-webui-controlnet `plugable_ipadapter.py` | attn2.forward, with the image's tokens for all rows |
| reference, style_align | the same, `hook.py` | unet.forward, `_forward` of transformers, forward of blocks |
| ..._left, ..._put_back | the same, when its picture is done | what it leaves behind until a checkpoint is loaded |
| control, control_large | the same | unet.forward; residuals of the right and of another size |
| seg, pag | v0xie's Incantations | forward hooks on to_q, on to_v and attn1; pag: a further call |
| deepcache | aria1th's sd-webui-deepcache-standalone | unet.forward; leaves whole blocks uncalled |
| tiles, tiles_apart, tile_batches | Tiled Diffusion (multidiffusion-upscaler) | nothing; calls of parts of the latent |
| regional | Regional Prompter `attention.py` | attn2.forward, which takes rows by place |
| kohya, kohya_before | wcde's Kohya hires.fix | elements of input_blocks and output_blocks, while sampling or before it |
| freeu | ljleb's sd-webui-freeu | torch.cat in the U-Net's file; h in place |
| cd_tuner | hako-mikan's CD-Tuner | parameters of conv_in and out, replaced while sampling |
| lora, lora_functional | A1111's Lora | forward of torch's classes, which write weights or add to answers |
| animatediff, animatediff_v1 | AnimateDiff | modules inserted into blocks; v1 also the group norm's class |
| hypertile_left | A1111's hypertile | attn1.forward, switched off but never taken away |
| sag, fork_pag, fork_style_align, fork_reference | Forge, reForge | functions in attn1's place, further calls |
| fork_ip_adapter | Forge | functions in attn2's place |
| attn1_patch, fork_tome | Forge | what attn1 is called with, and its answer |
| fork_freeu, hrfix, fork_control | Forge, reForge | maps between blocks; some in place |

Dynamic Thresholding, Neutral Prompt and CFG combiners replace `combine_denoised` of the denoiser and touch no U-Net.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from types import MethodType
from typing import Any

import torch
import torch.nn.functional as F
from hosts import HOSTS, ControlNetHook, cat_aligned, residuals
from torch import Tensor, nn
from unets import DOWNSAMPLES, SPATIAL_TRANSFORMERS, TRANSFORMER_BLOCKS, UPSAMPLES, embed, ldm, sgm

from lib_unetmod import inspect_unet


class Neighbour:
    """What one extension does to a U-Net.

    Attributes:
        name: by which it is registered; empty of nobody.
        host: in which of `HOSTS` it lives.
        rows_by_place: whether its picture is wrong where a layer gets fewer or more rows than the U-Net does.
        comes_inside: whether it comes and goes while the sampler runs, and not around the sampling.
        stays: whether it is on for good: what is left of a picture before.
        evaluations: how many it takes until all that it does was done.
        frames: how many rows a prompt has: a batch's pictures, or frames of one.
        writes: attributes of modules that it sets while the U-Net runs.
        leaves: whether anything but that stays on a U-Net when its picture is done.
        has_zero: whether a strength of 0 tells anything.
        answers: of the U-Net, to each call of the picture.
        missed: what it waited for in vain.
    """

    name = ""
    host = "a1111"
    rows_by_place = False
    comes_inside = False
    stays = False
    evaluations = 2
    size = (8, 8)
    frames = 1
    writes: tuple[str, ...] = ()
    leaves = False
    has_zero = True

    def __init__(self, strength: float = 1.0) -> None:
        self.strength = strength
        self.answers: list[Tensor] = []
        self.missed: list[str] = []
        self._undo: list[Callable[[], None]] = []

    @property
    def in_fork(self) -> bool:
        return HOSTS[self.host].name in ("forge", "forge_classic", "reforge")

    @property
    def conditional_of(self) -> tuple[int, ...]:
        """For each row of a call the conditional row of its picture: the forks put the negative prompt's first."""
        n = self.frames
        first = n if self.in_fork else 0
        return (*range(first, first + n), *range(first, first + n))

    def put_on(self, unet: nn.Module) -> None:
        """Its picture begins."""

    def take_off(self) -> None:
        """Its picture is done. What extensions leave behind stays."""
        while self._undo:
            self._undo.pop()()

    def twin(self) -> Neighbour | None:
        """One that draws what this one does, by means that nobody can get in the way of; None where there is none."""
        return self.alone() if self.has_zero and not self.strength else None

    def alone(self) -> Neighbour:
        """Nobody, in the same host and with the same pictures."""
        nobody = Neighbour(0.0)
        for name in ("host", "size", "frames", "evaluations"):
            setattr(nobody, name, getattr(self, name))
        return nobody

    @contextlib.contextmanager
    def on(self, unet: nn.Module) -> Iterator[None]:
        """Its picture, whatever happens in it."""
        self.put_on(unet)
        try:
            yield
        finally:
            self.take_off()

    def begin_evaluation(self, unet: nn.Module) -> None:
        """The host's callback before an evaluation (`on_cfg_denoiser`)."""

    def evaluate(self, unet: nn.Module, step: dict[str, Any]) -> Tensor:
        """What the host makes of one evaluation, as large as the step's x."""
        return self.call(unet, step)

    def call(self, unet: nn.Module, step: dict[str, Any], **more: Any) -> Tensor:
        """One call of the U-Net."""
        if self.in_fork:
            chunks = [1, 0] if len(step["x"]) > 1 else [1]
            options = {"cond_or_uncond": chunks, **more.pop("transformer_options", {})}
            more["transformer_options"] = options
        self.answers.append(HOSTS[self.host].forward(unet, **step, **more))
        return self.answers[-1]


NEIGHBOURS: dict[str, Callable[..., Neighbour]] = {}


def neighbour(name: str, **settings: Any) -> Callable[[type[Neighbour]], type[Neighbour]]:
    """Register a class under a name, with settings of its own where one class stands for several."""

    def register(cls: type[Neighbour]) -> type[Neighbour]:
        NEIGHBOURS[name] = type(cls.__name__, (cls,), {"name": name, **settings})
        return cls

    return register


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def transformers(unet: nn.Module) -> list[nn.Module]:
    return [module for module in unet.modules() if isinstance(module, TRANSFORMER_BLOCKS)]


def of_rows(step: dict[str, Any], first: int, last: int) -> dict[str, Any]:
    return {name: None if value is None else value[first:last] for name, value in step.items()}


def attention(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """Multi-head attention of projected tokens (B, N, inner), without the projection after it."""
    q, k, v = (t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


# sd-webui-controlnet.


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


@neighbour("reference")
class Reference(Neighbour):
    """reference_only: a pass over another picture writes tokens, which the self-attentions read in the next one.

    The negative prompt's rows, by their numbers, read none. Blocks' own forwards are replaced too, to no effect here.
    """

    leaves = True
    rows_by_place = True
    writes = ("bank", "mean_bank", "var_bank", "style_cfgs")
    machine = "reference"

    def put_on(self, unet: nn.Module) -> None:
        self.machine = type(self).machine
        hook = _ControlNet(unet, self)
        self._undo.append(hook.restore)
        for block in transformers(unet):
            if not hasattr(block, "_original_inner_forward_cn_hijack"):
                block._original_inner_forward_cn_hijack = block._forward
            block._forward = functools.partial(self.hacked_basic_transformer_inner_forward, block)
            block.bank = []
        last = len(unet.output_blocks)
        for block in (unet.middle_block, *unet.input_blocks[4:6], *unet.output_blocks[: last - 4]):
            if not hasattr(block, "original_forward_cn_hijack"):
                block.original_forward_cn_hijack = block.forward
            block.forward = functools.partial(self.hacked_group_norm_forward, block)
            block.mean_bank, block.var_bank, block.style_cfgs = [], [], []

    def hacked_group_norm_forward(self, block: nn.Module, *args: Any, **kwargs: Any) -> Tensor:
        x = block.original_forward_cn_hijack(*args, **kwargs)
        block.mean_bank, block.var_bank, block.style_cfgs = [], [], []
        return x

    def hacked_basic_transformer_inner_forward(self, block: nn.Module, x: Tensor, context: Tensor | None = None) -> Tensor:
        n = block.norm1(x)
        own = None
        negative = [row for row, of in enumerate(self.conditional_of) if row != of]
        positive = [row for row, of in enumerate(self.conditional_of) if row == of]
        if self.machine == "write":
            block.bank.append(n.clone())
        elif self.machine == "style align" and self.strength:
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
    machine = "style align"


class _ControlNet(ControlNetHook):
    """The U-Net's forward with a pass for `neighbour`, and with residuals where it has any."""

    def __init__(self, unet: nn.Module, neighbour: Neighbour) -> None:
        super().__init__(unet)
        self.neighbour = neighbour
        self.reference = getattr(neighbour, "machine", "") == "reference"

    def forward(self, x: Tensor, timesteps=None, context=None, y=None, control=None, **kwargs: Any) -> Tensor:
        neighbour = self.neighbour
        if self.reference:
            labels = {} if y is None else {"y": y}
            neighbour.machine, pictured = "write", noise(*x.shape, seed=7)
            self.original_forward(x=pictured, timesteps=timesteps, context=context, **labels)
            neighbour.machine = "read"
            self.reference = False  # the pass is done here
        try:
            return super().forward(x, timesteps, context, y, control, **kwargs)
        finally:
            self.reference = getattr(neighbour, "machine", "") == "read"


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


# v0xie's Incantations.


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


# Caches and tiles.


@neighbour("deepcache")
class ForeignDeepCache(Neighbour):
    """Walks the layers itself, of an Upsample only its convolution.

    In evaluations that reuse, neither the blocks below `level` nor the middle are called.
    """

    leaves = True
    evaluations = 4
    level = 3
    writes = ("_deepcache_hooked",)

    def put_on(self, unet: nn.Module) -> None:
        stored, self.number, self.kept = unet.forward, -1, None
        unet.forward = functools.partial(self.hijacked_unet_forward, unet)
        unet._deepcache_hooked = True

        def detach() -> None:
            unet.forward = stored
            unet._deepcache_hooked = False

        self._undo.append(detach)

    def hijacked_unet_forward(self, unet: nn.Module, x: Tensor, timesteps=None, context=None, y=None, **kwargs) -> Tensor:
        reuses = bool(self.strength) and self.number > 0 and self.number % 5 != 0 and self.kept is not None
        keeps = self.number >= 0
        emb, h, skips = embed(unet, timesteps, y), x, []
        for index, block in enumerate(unet.input_blocks):
            h = walk_layers(block, h, emb, context)
            skips.append(h)
            if reuses and index == self.level:
                break
        if not reuses:
            h = walk_layers(unet.middle_block, h, emb, context)
        entry = len(unet.output_blocks) - self.level - 1
        for index, block in enumerate(unet.output_blocks):
            if reuses and index < entry:
                continue
            if index == entry and reuses:
                h = self.kept
            elif index == entry and keeps:
                self.kept = h
            joined = torch.cat([h, skips.pop()], dim=1)
            h = walk_layers(block, joined, emb, context, skips[-1].shape if skips else None)
        self.number += 1
        return unet.out(h)


def walk_layers(block: nn.Module, x: Tensor, emb: Tensor, context: Tensor, output_shape: Any = None) -> Tensor:
    """A block's layers one by one, as extensions of A1111 that bring a walk of their own call them."""
    for layer in block:
        if hasattr(layer, "emb_layers"):
            x = layer(x, emb)
        elif isinstance(layer, SPATIAL_TRANSFORMERS):
            x = layer(x, context)
        elif isinstance(layer, UPSAMPLES) and output_shape is not None:
            x = layer.conv(F.interpolate(x, size=output_shape[-2:], mode="nearest"))
        else:
            x = layer(x)
    return x


@neighbour("tiles")
@neighbour("tiles_apart", apart=True)
@neighbour("tile_batches", together=3)
@neighbour("tiles_36", size=(28, 28))
@neighbour("tiles_200", size=(64, 44), apart=True)
class Tiles(Neighbour):
    """Tiles of 8x8 that overlap by half, each a call of its own or several in one; their mean is the picture."""

    size = (16, 16)
    has_zero = False
    apart = False
    together = 1

    def evaluate(self, unet: nn.Module, step: dict[str, Any]) -> Tensor:
        x = step["x"]
        out, weight = torch.zeros_like(x), torch.zeros_like(x)
        height, width = x.shape[-2:]
        corners = [(top, left) for top in range(0, height - 7, 4) for left in range(0, width - 7, 4)]
        for first in range(0, len(corners), self.together):
            batch = corners[first : first + self.together]
            tiles = [x[:, :, top : top + 8, left : left + 8] for top, left in batch]
            given = {name: None if v is None else v.repeat(len(batch), *[1] * (v.ndim - 1)) for name, v in step.items()}
            given["x"] = torch.cat(tiles)
            if self.apart:
                answers = torch.cat([self.call(unet, of_rows(given, row, row + 1)) for row in range(len(given["x"]))])
            else:
                answers = self.call(unet, given)
            for (top, left), answer in zip(batch, answers.split(len(x)), strict=True):
                out[:, :, top : top + 8, left : left + 8] += answer
                weight[:, :, top : top + 8, left : left + 8] += 1
        return out / weight


# Regions.


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


# Maps of another size, and edits of maps in place.


class Scaler(nn.Module):
    """Kohya hires.fix's stand-in for a block, which runs on a resized map. It is no sequence of layers."""

    def __init__(self, scale: float, block: nn.Module) -> None:
        super().__init__()
        self.scale, self.block = scale, block

    def forward(self, x: Tensor, *args: Any) -> Tensor:
        return self.block(F.interpolate(x, scale_factor=self.scale, mode="bicubic"), *args)


@neighbour("kohya")
@neighbour("kohya_before", comes_inside=False)
class Kohya(Neighbour):
    """An input block runs on a map of half the size, and the output block of as many before the end on one twice as large.

    It comes with the first evaluation, inside of sampling, and goes with the third; where a batch's first picture has one
    step, it is there from the second one's beginning to its end.
    """

    comes_inside = True
    evaluations = 3
    size = (16, 16)
    depth = 2

    def put_on(self, unet: nn.Module) -> None:
        self.number = 0
        self._undo.append(lambda: self._unwrap(unet))
        if not self.comes_inside:
            self._wrap(unet)

    def begin_evaluation(self, unet: nn.Module) -> None:
        if self.comes_inside and self.number in (0, 2):
            (self._unwrap if self.number else self._wrap)(unet)
        self.number += 1

    def _wrap(self, unet: nn.Module) -> None:
        for blocks, index, scale in ((unet.input_blocks, self.depth, 0.5), (unet.output_blocks, -self.depth - 1, 2.0)):
            blocks[index] = Scaler(scale if self.strength else 1.0, blocks[index])

    def _unwrap(self, unet: nn.Module) -> None:
        for blocks in (unet.input_blocks, unet.output_blocks):
            for index, block in enumerate(blocks):
                if isinstance(block, Scaler):
                    blocks[index] = block.block


@neighbour("freeu")
class ForeignFreeU(Neighbour):
    """Stands in for `torch.cat` in the U-Net's file, and scales h in place."""

    host = "plain"
    has_zero = False
    in_place = True

    def twin(self) -> Neighbour:
        one = type(self)(self.strength)
        one.in_place = False
        return one

    def evaluate(self, unet: nn.Module, step: dict[str, Any]) -> Tensor:
        with self._cat():
            return super().evaluate(unet, step)

    @contextlib.contextmanager
    def _cat(self) -> Iterator[None]:
        originals = ldm.th, sgm.th

        class Hijacked:
            @staticmethod
            def cat(tensors: list[Tensor], *args: Any, **kwargs: Any) -> Tensor:
                if len(tensors) == 2:
                    h = tensors[0] if self.in_place else tensors[0].clone()
                    tensors = [h.mul_(1 + 0.2 * self.strength), tensors[1]]
                return cat_aligned(tensors, *args, **kwargs)

            def __getattr__(self, name: str) -> Any:
                return getattr(torch, name)

        ldm.th = sgm.th = Hijacked()
        try:
            yield
        finally:
            ldm.th, sgm.th = originals


# Weights.


class Baked(Neighbour):
    """What another writes into weights on the way stands in them from the beginning."""

    def __init__(self, other: Neighbour) -> None:
        super().__init__()
        self.other = other

    def put_on(self, unet: nn.Module) -> None:
        self.other.bake(unet)
        self._undo.append(self.other.take_off)


@neighbour("cd_tuner")
class ForeignCDTuner(Neighbour):
    """The first convolution and the last layers get new parameters before the first evaluation, and old ones at the end.

    The extension's own last act is a copy of the old parameters; here they come back themselves.
    """

    comes_inside = True
    has_zero = False

    def twin(self) -> Neighbour:
        return Baked(self)

    def put_on(self, unet: nn.Module) -> None:
        self.done = False

    def begin_evaluation(self, unet: nn.Module) -> None:
        if not self.done:
            self.done = True
            self.bake(unet)

    def bake(self, unet: nn.Module) -> None:
        for module, bias in ((unet.input_blocks[0][0], 1.1), (unet.out[0], 1)):
            for name, factor in (("weight", 0.95), ("bias", bias)):
                old = getattr(module, name)
                self._undo.append(functools.partial(setattr, module, name, old))
                setattr(module, name, nn.Parameter(old.clone() * factor, requires_grad=False))


@neighbour("lora")
@neighbour("lora_functional", functional=True)
class Lora(Neighbour):
    """The forwards of torch's own classes are replaced. The first call of a layer writes the network into its weight, and
    the first one after the picture writes the old weight back; or nothing is written and each call adds the network's part.

    The classes stay replaced for as long as the WebUI runs; here the U-Net runs once more when its picture is done, and they
    are put back.
    """

    functional = False
    has_zero = False
    writes = ("network_current_names", "network_weights_backup")

    def twin(self) -> Neighbour:
        return Baked(self)

    def bake(self, unet: nn.Module) -> None:
        for module in unet.modules():
            if isinstance(module, (nn.Linear, nn.Conv2d)):
                self._undo.append(functools.partial(module.weight.copy_, module.weight.clone()))
                module.weight.mul_(self.factor)

    @property
    def factor(self) -> float:
        return 1 + 0.02 * self.strength

    def put_on(self, unet: nn.Module) -> None:
        self.loaded = ("network",)
        for name, module in unet.named_modules():
            if isinstance(module, (nn.Linear, nn.Conv2d)):
                module.network_layer_name = name.replace(".", "_")
        for cls in (nn.Linear, nn.Conv2d):
            original = cls.forward
            cls.forward = self.network_forward(original)
            self._undo.append(functools.partial(setattr, cls, "forward", original))
        self._undo.append(lambda: self._restore(unet))

    def network_forward(self, original: Callable) -> Callable:
        def forward(module: nn.Module, x: Tensor) -> Tensor:
            if self.functional:
                return original(module, x) + (self._part(module, original, x) if self._named(module) else 0)
            if self._named(module):
                self.apply_weights(module)
            return original(module, x)

        return forward

    @staticmethod
    def _named(module: nn.Module) -> bool:
        return "network_layer_name" in vars(module)

    def _part(self, module: nn.Module, original: Callable, x: Tensor) -> Tensor:
        out = original(module, x)
        return (self.factor - 1) * (out - (0 if module.bias is None else _as_map(module.bias, out)))

    def apply_weights(self, module: nn.Module) -> None:
        if getattr(module, "network_current_names", ()) == self.loaded:
            return
        if "network_weights_backup" not in vars(module):
            module.network_weights_backup = module.weight.clone()
        module.weight.copy_(module.network_weights_backup)
        for _ in self.loaded:
            module.weight.mul_(self.factor)
        module.network_current_names = self.loaded

    def _restore(self, unet: nn.Module) -> None:
        self.loaded = ()
        for module in unet.modules():
            if not self._named(module):
                continue
            if not self.functional:
                self.apply_weights(module)
            for name in ("network_layer_name", "network_current_names", "network_weights_backup"):
                if name in vars(module):
                    delattr(module, name)


def _as_map(bias: Tensor, out: Tensor) -> Tensor:
    return bias.view(1, -1, 1, 1) if out.ndim == 4 else bias


# AnimateDiff.


class Temporal(nn.Module):
    """A motion module: each cell of a map attends to itself in the other frames."""

    def __init__(self, channels: int, frames: int, strength: float) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(8, channels)
        self.frames, self.strength = frames, strength
        self.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        n = self.norm(x).flatten(2).unflatten(0, (-1, self.frames)).permute(0, 3, 1, 2).flatten(0, 1)
        out = attention(n, n, n, 1).unflatten(0, (-1, x.shape[2] * x.shape[3])).permute(0, 2, 3, 1)
        return x + self.strength * out.flatten(0, 1).unflatten(2, x.shape[2:])


@neighbour("animatediff")
@neighbour("animatediff_16", frames=16)
class AnimateDiff(Neighbour):
    """Motion modules stand in the blocks, behind other layers but before an Upsample; rows are a picture's frames."""

    frames = 2

    def put_on(self, unet: nn.Module) -> None:
        map_ = inspect_unet(unet)
        sides = [(map_.input_blocks, unet.input_blocks), (map_.output_blocks, unet.output_blocks)]
        for described, blocks in sides:
            for one, block in zip(described, blocks, strict=True):
                if one.of_kind("res"):
                    self._insert(block, one.out_channels)
        self._insert(unet.middle_block, map_.middle_block.out_channels, -1)

    def _insert(self, block: nn.Module, channels: int, place: int | None = None) -> None:
        if place is None:
            place = len(block) - isinstance(block[-1], (*UPSAMPLES, *DOWNSAMPLES))
        block.insert(place if place >= 0 else len(block) + place, Temporal(channels, self.frames, self.strength))
        self._undo.append(functools.partial(self._take_out, block))

    @staticmethod
    def _take_out(block: nn.Module) -> None:
        for number in reversed(range(len(block))):
            if isinstance(block[number], Temporal):
                block.pop(number)


@neighbour("animatediff_v1")
class AnimateDiffV1(AnimateDiff):
    """Motion modules of before v2 need statistics over all frames: the class of group norms takes a batch for two halves."""

    rows_by_place = True

    def put_on(self, unet: nn.Module) -> None:
        super().put_on(unet)
        for cls in {type(module) for module in unet.modules() if type(module).__name__ == "GroupNorm32"}:
            original = cls.__dict__["forward"]
            cls.forward = self.groupnorm32_mm_forward(original)
            self._undo.append(functools.partial(setattr, cls, "forward", original))

    def groupnorm32_mm_forward(self, original: Callable) -> Callable:
        def forward(module: nn.Module, x: Tensor) -> Tensor:
            if not self.strength:
                x.view(2, len(x) // 2, *x.shape[1:])
                return original(module, x)
            halves = x.unflatten(0, (2, -1)).transpose(1, 2)
            return original(module, halves).transpose(1, 2).flatten(0, 1)

        return forward


# What the WebUI itself leaves.


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

        return wrapper


# The forks.


@neighbour("sag", host="forge")
@neighbour("sag_reforge", host="reforge")
class SAG(Neighbour):
    """Self-attention guidance keeps the middle's attention of the negative prompt's rows, reads it after the evaluation, and
    calls the U-Net with the negative prompt's rows once more.

    What it kept it reads again where the middle was not asked anew. A map that is no square of two fails.
    """

    rows_by_place = True
    size = (16, 16)

    def put_on(self, unet: nn.Module) -> None:
        self.kept: Tensor | None = None
        self.side = self.size[1] // 2 ** (inspect_unet(unet).levels - 1)

    def attn_and_record(self, q: Tensor, k: Tensor, v: Tensor, options: dict[str, Any]) -> Tensor:
        heads, chunks = options["n_heads"], options["cond_or_uncond"]
        rows = len(q) // len(chunks)
        first = rows * chunks.index(1)
        a, b = (t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in (q, k))
        self.kept = (a @ b.transpose(-1, -2) * a.shape[-1] ** -0.5).softmax(-1)[first : first + rows]
        return attention(q, k, v, heads)

    def evaluate(self, unet: nn.Module, step: dict[str, Any]) -> Tensor:
        before = self.kept
        options = {"patches_replace": {"attn1": {("middle", 0, 0): self.attn_and_record}}}
        out = self.call(unet, step, transformer_options=options)
        if self.kept is before:
            self.missed.append("the middle's attention")
        mask = (self.kept.mean(1).sum(1) > 1).to(out).reshape(-1, 1, self.side, self.side)
        mask = F.interpolate(mask, out.shape[-2:])
        negative = out[: len(mask)]
        blurred = F.avg_pool2d(negative, 3, 1, 1) * mask + negative * (1 - mask)
        again = {**of_rows(step, 0, len(mask)), "x": step["x"][: len(mask)] + blurred - negative}
        guided = self.call(unet, again, transformer_options=options)
        return out + self.strength * torch.cat([torch.zeros_like(guided), blurred - guided])


@neighbour("fork_pag", host="forge_classic")
class ForkPAG(Neighbour):
    """Perturbed-attention guidance: a further call of the prompt's rows, in which the middle's attn1 answers with values."""

    size = (16, 8)

    def evaluate(self, unet: nn.Module, step: dict[str, Any]) -> Tensor:
        def perturbed(q: Tensor, k: Tensor, v: Tensor, options: dict[str, Any]) -> Tensor:
            return v

        out, half = self.call(unet, step), len(step["x"]) // 2
        replaced = {"cond_or_uncond": [0], "patches_replace": {"attn1": {("middle", 0): perturbed}}}
        other = self.call(unet, of_rows(step, half, 2 * half), transformer_options=replaced)
        return out + self.strength * torch.cat([torch.zeros_like(other), out[half:] - other])


class _Replaced(Neighbour):
    """A function in the place of every self-attention."""

    kind = "attn1"
    rows_by_place = True

    def proc(self, q: Tensor, k: Tensor, v: Tensor, options: dict[str, Any]) -> Tensor:
        raise NotImplementedError

    def _options(self, unet: nn.Module) -> dict[str, Any]:
        names = {("input", index) for index in range(len(unet.input_blocks))}
        names |= {("output", index) for index in range(len(unet.output_blocks))} | {("middle", 0)}
        return {"patches_replace": {self.kind: dict.fromkeys(names, self.proc)}}

    def evaluate(self, unet: nn.Module, step: dict[str, Any]) -> Tensor:
        return self.call(unet, step, transformer_options=self._options(unet))


@neighbour("fork_style_align", host="forge")
class ForkStyleAlign(_Replaced):
    """The rows of each prompt, by their numbers, attend to each other's tokens."""

    def proc(self, q: Tensor, k: Tensor, v: Tensor, options: dict[str, Any]) -> Tensor:
        rows, results = 1, []
        for place, _ in enumerate(options["cond_or_uncond"]):
            mine = [t[[place * rows + row for row in range(rows)]] for t in (q, k, v)]
            results.append(attention(mine[0], mine[1] * (1 + 0.5 * self.strength), mine[2], options["n_heads"]))
        return torch.cat(results)


@neighbour("fork_reference", host="reforge")
class ForkReference(_Replaced):
    """A call on another picture records keys and values, which the prompt's rows attend to in the next one."""

    def evaluate(self, unet: nn.Module, step: dict[str, Any]) -> Tensor:
        self.recorded, self.recording = {}, True
        pictured = {**step, "x": noise(*step["x"].shape, seed=7)}
        self.call(unet, pictured, transformer_options=self._options(unet))
        self.recording = False
        return self.call(unet, step, transformer_options=self._options(unet))

    def proc(self, q: Tensor, k: Tensor, v: Tensor, options: dict[str, Any]) -> Tensor:
        place, heads = (*options["block"], options["block_index"]), options["n_heads"]
        own = attention(q, k, v, heads)
        if self.recording:
            self.recorded[place] = k, v
            return own
        rows, (kept_k, kept_v) = [1], self.recorded[place]
        both = attention(q[rows], torch.cat([k[rows], kept_k[rows]], 1), torch.cat([v[rows], kept_v[rows]], 1), heads)
        return torch.cat([own[:1], own[rows] + self.strength * (both - own[rows])])


@neighbour("fork_ip_adapter", host="forge")
class ForkIPAdapter(_Replaced):
    """What stands in for the cross-attentions also attends to the picture's tokens, by which rows `cond_or_uncond` tells."""

    kind = "attn2"

    def proc(self, q: Tensor, k: Tensor, v: Tensor, options: dict[str, Any]) -> Tensor:
        heads, chunks = options["n_heads"], options["cond_or_uncond"]
        image = noise(2, 4, q.shape[2], seed=3)
        tokens = torch.cat([image[[chunk] * (len(q) // len(chunks))] for chunk in chunks])
        return attention(q, k, v, heads) + self.strength * attention(q, tokens, tokens.flip(1), heads)


@neighbour("fork_tome", host="forge")
class ForkToMe(Neighbour):
    """The fork's own token merging: self-attentions are asked for every second token, and answer for both."""

    has_zero = False

    def evaluate(self, unet: nn.Module, step: dict[str, Any]) -> Tensor:
        def tomesd_m(n: Tensor, context: Tensor, value: Tensor, options: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
            self.tokens = n.shape[1]
            return n[:, ::2], context, value

        def tomesd_u(n: Tensor, options: dict[str, Any]) -> Tensor:
            return n.repeat_interleave(2, 1)[:, : self.tokens]

        patches = {"attn1_patch": [tomesd_m], "attn1_output_patch": [tomesd_u]}
        return self.call(unet, step, transformer_options={"patches": patches})


@neighbour("attn1_patch", host="forge")
@neighbour("attn1_patch_reforge", host="reforge")
class Attn1Patch(Neighbour):
    """What self-attentions are called with is changed, as for IP-Adapter's kin and hypernetworks, row by row."""

    def evaluate(self, unet: nn.Module, step: dict[str, Any]) -> Tensor:
        def patch(n: Tensor, context: Tensor, value: Tensor, options: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
            return n, context, value * (1 + 0.5 * self.strength)

        return self.call(unet, step, transformer_options={"patches": {"attn1_patch": [patch]}})


@neighbour("fork_freeu", host="forge")
class ForkFreeU(Neighbour):
    """Half of the backbone's channels are scaled in place, where an output block is entered."""

    has_zero = False
    in_place = True

    def twin(self) -> Neighbour:
        one = type(self)(self.strength)
        one.in_place = False
        return one

    def evaluate(self, unet: nn.Module, step: dict[str, Any]) -> Tensor:
        def output_block_patch(h: Tensor, skip: Tensor, options: dict[str, Any]) -> tuple[Tensor, Tensor]:
            half, h = h.shape[1] // 2, h if self.in_place else h.clone()
            h[:, :half] = h[:, :half] * (1 + 0.2 * self.strength)
            return h, skip * (1 - 0.1 * self.strength)

        return self.call(unet, step, transformer_options={"patches": {"output_block_patch": [output_block_patch]}})


@neighbour("hrfix", host="forge")
class HRFix(Neighbour):
    """The fork's own Kohya hires.fix: a map is shrunken behind an input block, and fitted to the skip connection later."""

    size = (16, 16)
    has_zero = False

    def evaluate(self, unet: nn.Module, step: dict[str, Any]) -> Tensor:
        def input_block_patch(h: Tensor, options: dict[str, Any]) -> Tensor:
            return F.avg_pool2d(h, 2) if self.strength and options["block"][1] == 2 else h

        def output_block_patch(h: Tensor, skip: Tensor, options: dict[str, Any]) -> tuple[Tensor, Tensor]:
            if h.shape[2] != skip.shape[2]:
                h = F.interpolate(h, skip.shape[-2:], mode="bicubic")
            return h, skip

        patches = {"input_block_patch_after_skip": [input_block_patch], "output_block_patch": [output_block_patch]}
        return self.call(unet, step, transformer_options={"patches": patches})


@neighbour("fork_control", host="forge")
@neighbour("fork_control_classic", host="forge_classic")
@neighbour("fork_control_reforge", host="reforge")
class ForkControl(Neighbour):
    """A ControlNet's residuals, which Forge and Forge Classic add in place."""

    has_zero = False

    def evaluate(self, unet: nn.Module, step: dict[str, Any]) -> Tensor:
        given = [t * self.strength for t in residuals(unet, step["x"].shape)]
        names = {"input": [], "output": given[:-1], "middle": given[-1:]}
        return self.call(unet, step, control=names)
