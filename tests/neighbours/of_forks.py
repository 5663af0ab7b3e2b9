"""What Forge, Forge Classic and reForge offer extensions: functions in their `transformer_options`."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from hosts import residuals
from torch import Tensor, nn

from lib_unetmod import inspect_unet

from .base import Neighbour, attention, neighbour, noise, of_rows


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
    """The rows of each prompt, two pictures of a batch, attend to each other's tokens."""

    frames = 2

    def proc(self, q: Tensor, k: Tensor, v: Tensor, options: dict[str, Any]) -> Tensor:
        heads, results = options["n_heads"], []
        for number, _ in enumerate(options["cond_or_uncond"]):
            rows = list(range(2 * number, 2 * number + 2))
            alone = [t[rows] for t in (q, k, v)]
            joined = [t.reshape(1, -1, t.shape[2]) for t in alone]
            whole = attention(*joined, heads).reshape(alone[0].shape)
            results.append(whole if self.strength else attention(*alone, heads))
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
