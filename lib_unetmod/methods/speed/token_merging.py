"""Merge similar tokens before attention and copy the result back to each: large images are faster, and texture smoother.

Token Merging (Bolya & Hoffman 2023, "Token Merging for Fast Stable Diffusion", sections 3 and 4). The map is divided into
cells of stride_x by stride_y tokens. One token of each cell is a destination, the others are sources; the `ratio` of all
tokens that lie nearest to a destination, by the cosine of the angle between them, are averaged into it.

Costs: the search for the nearest destinations, which grows with the square of the pixels and eats much of what is won, so
one search serves some evaluations in a row (`refresh`), for which a few hundred kilobytes are kept. Saves: at ratio 0.5
half of the queries, keys and values of the largest maps. Changes: fine texture; the higher the ratio, the smoother.

Searching every third evaluation moved the small checkpoint's prediction no further than searching in each (by 13.6 and by
13.5 % of its size over 20 steps); one search for all layers of a side moved it by 16.5 %, one for all layers by 19.8 %. So
by default each layer has a search of its own, and keeps it for three evaluations.

The tokens are those that enter a transformer layer. Inside HyperTile's tiles each tile is searched by itself, and a search
serves later evaluations in which the tiles lie as they did. Where another extension gives self-attention keys of its own
(ControlNet's reference), only the queries are merged.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ...core.config import Config
from ...core.depth import Depth
from ...core.knobs import ConfigError, knob
from ...core.patching import Edit
from ...core.registry import method
from ...core.run import Run
from ...core.size import Size
from ...core.state import PerTraversal
from ...core.tables import sent
from ...core.unet_map import Block, UNetMap
from ...core.upcoming_picture import Idle, UpcomingPass
from ...parts.attention.tokens import TokenMap, map_size, note_map_size, token_map

#: Similarities held at one time, 64 MB of float32: the whole matrix of a 128x128 map would be 200 MB a row.
SIMILARITIES_AT_ONCE = 2**24


@dataclass(frozen=True, kw_only=True)
class TokenMerging(Config):
    """How many tokens are merged, where, and how often the search is done."""

    short = "ToMe"

    ratio: float = knob(
        0.5,
        "Merge ratio",
        "Share of tokens that is merged: higher is faster, but smoother. With cells of 2 x 2 no more than 0.75 are.",
        low=0,
        high=0.95,
        step=0.05,
    )
    max_downsample: int = knob(
        1,
        "Max. downsample",
        "1 = merges only at the largest attention level; 2, 4 and 8 add deeper ones and save a little more time.",
        low=1,
        high=8,
        step=1,
    )
    share: str = knob(
        "block",
        "Share matches",
        "block = each layer finds its own (most exact), side = encoder and decoder one each, walk = one for all (fastest).",
        choices=("block", "side", "walk"),
        rarely=True,
    )
    refresh: int = knob(
        3,
        "Match every",
        "Number of U-Net calls (usually one per step) that use one match: higher is faster, 1 = a new one each time.",
        low=1,
        high=10,
        step=1,
        rarely=True,
    )
    random: bool = knob(
        False,
        "Random targets",
        "Avoids regular patterns: the seed chooses which token of a cell the others merge into, not always the top left.",
        rarely=True,
    )
    stride_x: int = knob(
        2,
        "Cell width",
        "One token of each cell stays: larger cells allow a higher Merge ratio.",
        low=1,
        high=8,
        step=1,
        unit="tokens",
        rarely=True,
    )
    stride_y: int = knob(
        2,
        "Cell height",
        "One token of each cell stays: larger cells allow a higher Merge ratio.",
        low=1,
        high=8,
        step=1,
        unit="tokens",
        rarely=True,
    )
    attention: bool = knob(
        True, "Self-attention", "Merges for self-attention, where nearly all of the time is saved.", rarely=True
    )
    cross_attention: bool = knob(False, "Cross-attention", "Merges for cross-attention too: saves little.", rarely=True)
    mlp: bool = knob(False, "Feed-forward", "Merges for the feed-forward layers too: faster, visibly coarser.", rarely=True)
    min_width: int = knob(
        0,
        "Minimum width",
        "Leaves narrower images alone; 0 = acts on all.",
        low=0,
        high=4096,
        step=64,
        unit="px",
        rarely=True,
    )
    min_height: int = knob(
        0,
        "Minimum height",
        "Leaves lower images alone; 0 = acts on all.",
        low=0,
        high=4096,
        step=64,
        unit="px",
        rarely=True,
    )

    @property
    def acting_ratio(self) -> float:
        """The share of tokens that really goes: one destination a cell always stays."""
        return min(self.ratio, 1 - 1 / (self.stride_x * self.stride_y))

    def changes_nothing(self) -> bool:
        return self.acting_ratio == 0 or not (self.attention or self.cross_attention or self.mlp)

    def details(self) -> str:
        return f"{self.acting_ratio:.2g}"

    def stands_aside(self, height: int, width: int) -> bool:
        """Whether a picture of this size in pixels is smaller than the smallest that is merged in."""
        return width < self.min_width or height < self.min_height

    def merged_of(self, size: Size) -> int:
        """How many tokens of a map are merged away."""
        height, width = size
        cells = (height // min(self.stride_y, height)) * (width // min(self.stride_x, width))
        return min(int(height * width * self.ratio), height * width - cells)

    def idle_at(self, reached: tuple[float, ...] | None, one: UpcomingPass, unet: UNetMap | None) -> Idle | None:
        if self.stands_aside(one.target.height, one.target.width):
            why = f"{one.size} is below Minimum width or Minimum height. Lower them to use it here."
            return Idle(f"at {one.size}", f"{self.short} does nothing: {why}")
        if unet is None or not unet.attention_levels or self.merged_of(one.map_size(unet.attention_levels[0])) > 0:
            return None
        return Idle(f"at {one.size}", f"{self.short} does nothing: {one.size} has too few tokens to merge.")


@dataclass(frozen=True)
class Matching:
    """Which of B x N tokens become which of B x M merged ones. A token is counted through all rows: row * N + token.

    Attributes:
        place: (B * N,) the merged token that each token goes into.
        members: (B * N,) the tokens in the order of the merged ones that they go into.
        starts: (B * M,) where each merged token's members begin.
    """

    place: Tensor
    members: Tensor
    starts: Tensor

    def tensors(self) -> tuple[Tensor, ...]:
        return self.place, self.members, self.starts

    def merge(self, x: Tensor) -> Tensor:
        """(B, N, C) -> (B, M, C): the mean of each merged token's members (section 3.1)."""
        return mean_of_members(x.flatten(0, 1), self).unflatten(0, (x.shape[0], -1))

    def unmerge(self, x: Tensor) -> Tensor:
        """(B, M, C) -> (B, N, C): each token gets what its merged token became (section 3.1)."""
        return x.flatten(0, 1).index_select(0, self.place).unflatten(0, (x.shape[0], -1))


def mean_of_members(x: Tensor, matching: Matching) -> Tensor:
    """(B * N, C) -> (B * M, C). Sums in single precision: thousands of tokens of a flat sky may share a destination."""
    if x.device.type in ("cpu", "cuda"):
        return F.embedding_bag(matching.members, x, matching.starts, mode="mean")
    return mean_by_adding(x, matching)


def mean_by_adding(x: Tensor, matching: Matching) -> Tensor:
    """The same, for devices that have no embedding_bag (Apple's among them)."""
    merged = len(matching.starts)
    sums = torch.zeros(merged, x.shape[1], dtype=torch.float32, device=x.device)
    counts = torch.zeros(merged, 1, dtype=torch.float32, device=x.device)
    sums.index_add_(0, matching.place, x.float())
    counts.index_add_(0, matching.place, torch.ones_like(x[:, :1], dtype=torch.float32))
    return (sums / counts).to(x.dtype)


def destinations(size: Size, stride: Size, generator: torch.Generator | None) -> Tensor:
    """(D,) one token of each whole cell of `stride` in a map of `size`: the top left, or drawn by `generator` (section 4.1).

    Rows and columns that fill no cell have none. A stride beyond the map is cut to it, so that D is at least 1.
    """
    (height, width), (stride_y, stride_x) = size, (min(s, length) for s, length in zip(stride, size, strict=True))
    rows, columns = height // stride_y, width // stride_x
    if generator is None:
        inside = torch.zeros(rows, columns, dtype=torch.int64)
    else:
        inside = torch.randint(stride_y * stride_x, (rows, columns), generator=generator)
    y = torch.arange(rows)[:, None] * stride_y + inside // stride_x
    x = torch.arange(columns) * stride_x + inside % stride_x
    return (y * width + x).flatten()


@torch.no_grad()
def match(tokens: Tensor, chosen: Tensor, merged: int) -> Matching:
    """Merge the `merged` sources of tokens (B, N, C) that lie nearest to one of the destinations `chosen` (D,), on the CPU.

    Merged tokens stand in the order destinations, then the sources that are left, nearest first.
    """
    batch, count, _ = tokens.shape
    is_source = torch.ones(count, dtype=torch.bool)
    is_source[chosen] = False
    sources, chosen = (sent(places, tokens.device) for places in (is_source.nonzero().flatten(), chosen))

    similarity, nearest = nearest_destinations(tokens, sources, chosen)
    left = similarity.argsort(dim=1, descending=True)[:, merged:]
    stays = len(chosen) + len(sources) - merged
    places_left = torch.arange(len(chosen), stays, device=tokens.device)
    place = torch.empty(batch, count, dtype=torch.int64, device=tokens.device)
    place[:, chosen] = torch.arange(len(chosen), device=tokens.device)
    place[:, sources] = nearest.scatter(1, left, places_left.expand(batch, -1))
    place += stays * torch.arange(batch, device=tokens.device)[:, None]

    in_order, members = place.flatten().sort(stable=True)
    starts = torch.searchsorted(in_order, torch.arange(batch * stays, device=tokens.device))
    return Matching(place.flatten(), members, starts)


def nearest_destinations(tokens: Tensor, sources: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
    """For each source of tokens (B, N, C): the highest cosine similarity to a destination, and to which. Both (B, S)."""
    unit = F.normalize(tokens, dim=-1)
    ends = unit[:, chosen].transpose(1, 2)
    sources_at_once = max(1, SIMILARITIES_AT_ONCE // len(chosen))
    rows_at_once = max(1, sources_at_once // len(sources))
    rows = []
    for begin in range(0, len(tokens), rows_at_once):
        part = slice(begin, begin + rows_at_once)
        best = [(unit[part][:, some] @ ends[part]).max(dim=-1) for some in sources.split(sources_at_once)]
        rows.append((torch.cat([b.values for b in best], 1), torch.cat([b.indices for b in best], 1)))
    return torch.cat([values for values, _ in rows]), torch.cat([indices for _, indices in rows])


@dataclass
class _Kept:
    """The matchings of one stream by what they are for, each with the evaluation that made it."""

    made: dict[Hashable, tuple[int, Matching]] = field(default_factory=dict)

    def tensors(self) -> Iterator[Tensor]:
        for _, matching in self.made.values():
            yield from matching.tensors()

    def drop_older_than(self, evaluation: int) -> None:
        self.made = {key: value for key, value in self.made.items() if value[0] >= evaluation}


@dataclass(frozen=True)
class _Entered:
    """What came into the transformer layer that runs now: tokens (B, N, C) of a map of `size`."""

    tokens: Tensor
    size: Size
    sharers: str


@method(TokenMerging, title="Token merging (ToMe)", benefit="Faster large images, smoother texture", at=Depth.TOKENS)
def token_merging(config: TokenMerging, unet: UNetMap, run: Run) -> Iterator[Edit]:
    """Edits of the transformer layers at the first levels with attention, and of the parts of them that are merged."""
    first = unet.first_attention_level
    if first is None:
        raise ConfigError("TokenMerging: this U-Net has no attention to merge for; switch it off.")
    merging = _Merging(config, run)
    for block in unet.blocks:
        if block.transformer_blocks and 2 ** (block.level - first) <= config.max_downsample:
            yield from merging.edits(block)


class _Merging:
    """The edits and what they share: the matchings of a traversal, and those that outlive it."""

    def __init__(self, config: TokenMerging, run: Run) -> None:
        self.config = config
        self.run = run
        self._kept = run.per_stream(_Kept, _Kept.tensors)
        self._made: PerTraversal[dict[Hashable, Matching | None]] = run.per_traversal(dict)
        self._entered: PerTraversal[_Entered | None] = run.per_traversal(lambda: None)

    def edits(self, block: Block) -> Iterator[Edit]:
        for layer in block.of_kind("attn"):
            yield note_map_size(layer, self.run)
        for inner in block.transformer_blocks:
            sharers = {"block": inner.name, "side": block.side, "walk": "all"}[self.config.share]
            yield Edit(inner.module, self._note_tokens(sharers))
            parts = {
                inner.self_attention: self.config.attention,
                inner.cross_attention: self.config.cross_attention,
                inner.feed_forward: self.config.mlp,
            }
            for module, wanted in parts.items():
                if wanted and module is not None:
                    yield Edit(module, self._on_merged)

    def _note_tokens(self, sharers: str) -> Callable[..., Tensor]:
        def noting(call: Callable[..., Tensor], x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
            self._entered.set(_Entered(x, map_size(self.run), sharers))
            if self.config.cross_attention or self.config.mlp:
                # Forge adds to `x` in place between the parts of the layer.
                self._matching_for(x)
            try:
                return call(x, *args, **kwargs)
            finally:
                self._entered.set(None)

        return noting

    def _on_merged(self, call: Callable[..., Tensor], x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Run a part of the layer on merged tokens.

        With arguments that are `x` itself (keys) those of as many tokens are merged too: the forks can give other values.
        """
        matching = None if kwargs.get("mask") is not None else self._matching_for(x)
        if matching is None:
            return call(x, *args, **kwargs)
        merged = matching.merge(x)
        if any(given is x for given in (*args, *kwargs.values())):
            args = tuple(_merged(given, x, merged, matching) for given in args)
            kwargs = {name: _merged(given, x, merged, matching) for name, given in kwargs.items()}
        return matching.unmerge(call(merged, *args, **kwargs))

    def _matching_for(self, x: Tensor) -> Matching | None:
        """The matching for tokens `x` (B, N, C), of the layer's map or of tiles of it; None where nothing is merged."""
        entered, seen = self._entered.get(), token_map(self.run)
        height, width = size = seen.size
        picture = self.run.target
        if self.config.stands_aside(picture.height, picture.width):
            return None
        if x.shape[1] != height * width:
            self.run.note("Token merging is off in some layers: another extension changed the number of tokens.")
            return None
        if size != entered.size or x.shape[:2] != entered.tokens.shape[:2]:
            # Tiles that are cut alike share a search as whole maps do; whose tiles they are may not be known.
            return self._shared(x, seen, entered.sharers) if seen.piece else self._search(x, size, entered.sharers)
        return self._shared(entered.tokens, TokenMap(size), entered.sharers)

    def _shared(self, tokens: Tensor, seen: TokenMap, sharers: str) -> Matching | None:
        made, key = self._made.get(), (sharers, seen, tokens.shape[:2], tokens.dtype, tokens.device)
        if key not in made:
            made[key] = self._kept_or_searched(key, tokens, seen.size, sharers)
        return made[key]

    def _kept_or_searched(self, key: Hashable, tokens: Tensor, size: Size, sharers: str) -> Matching | None:
        kept = self._kept.get() if self.config.refresh > 1 else None
        now = self.run.clock.evaluation
        if kept is not None:
            kept.drop_older_than(now - self.config.refresh + 1)
            if key in kept.made:
                return kept.made[key][1]
        found = self._search(tokens, size, sharers)
        if kept is not None and found is not None:
            kept.made[key] = (now, found)
            self._kept.count()
        return found

    def _search(self, tokens: Tensor, size: Size, sharers: str) -> Matching | None:
        config = self.config
        generator = self.run.generator(f"token merging {sharers} {size}") if config.random else None
        chosen = destinations(size, (config.stride_y, config.stride_x), generator)
        merged = config.merged_of(size)
        return match(tokens, chosen, merged) if merged > 0 else None


def _merged(given: Any, x: Tensor, merged: Tensor, matching: Matching) -> Any:
    """`given` with its tokens merged as those of `x` are, where it has as many; anything else as it is."""
    if given is x:
        return merged
    return matching.merge(given) if isinstance(given, Tensor) and given.shape[:-1] == x.shape[:-1] else given
