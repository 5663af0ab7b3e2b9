"""The one order in which methods compose: who stands outside whom where their edits meet on one module.

What stands outside is called first, sees what the host gives, and decides what everything inside is given.
"""

from __future__ import annotations

from enum import IntEnum, auto


class Depth(IntEnum):
    """The outermost first. Of equal depth the method whose name comes first in the alphabet stands outside."""

    #: What goes wrong anywhere inside is caught.
    RESCUE = auto()
    #: A traversal begins before anything acts in it.
    CLOCK = auto()
    #: Rows that are left out are left out for everybody: all others see the rows that are computed.
    ROWS = auto()
    #: Steps that are not run, whoever acts in the others.
    FORECAST = auto()
    #: Knows which rows are left, and colours the latent before anything resizes it.
    COLOR = auto()
    #: Maps are resized outside of what keeps them, so that caches keep small maps and are told of every change of size.
    RESIZED_MAPS = auto()
    #: Rows that run along: what stands inside sees them as any other rows. Convolutions that look further, too, since
    #: they hand on their map in pieces, which no resizing may see.
    EXTRA_ROWS = auto()
    #: What a host is handed at the size it expects; the caches inside keep the maps as they are.
    HANDED_OVER_MAPS = auto()
    #: What a cache leaves out is left out with every edit inside it.
    CACHES = auto()
    #: FreeU acts on an output block's input, also where single layers of the block are left out.
    BACKBONE = auto()
    #: Blocks and layers that are not run.
    LEFT_OUT = auto()
    #: Maps of deep levels made smaller by the level's own layers, and attention in windows.
    LEVELS = auto()
    #: Tiles lie within windows.
    TILES = auto()
    #: Keys of what a tile holds.
    KEYS = auto()
    #: Tokens of what a tile holds are merged.
    TOKENS = auto()
    #: The layer's own answer, rescaled.
    LAYER = auto()
    #: Stands inside all methods; for tests and for edits that measure.
    INNERMOST = auto()
