"""The mechanism's price: what a wrapped layer, a run and an evaluation cost beside the work itself.

An empty layer is called plain, with one edit, and with one edit that its window keeps from acting; then a whole SD1.5
U-Net's worth of layers is put on and taken off.
"""

from __future__ import annotations

import statistics
import timeit

from torch import nn

from benchmarks.subjects import sd15
from benchmarks.timing import device
from lib_unetmod import SkipBlocks, inspect_unet, modified
from lib_unetmod.core.acting import Applied
from lib_unetmod.core.patching import Edit, Installed
from lib_unetmod.core.registry import METHODS

CALLS = 20_000


def microseconds(call) -> float:
    """Median over 15 repeats of the mean over `CALLS` calls."""
    return statistics.median(timeit.repeat(call, number=CALLS, repeat=15)) / CALLS * 1e6


def main() -> None:
    layer, x = nn.Identity(), None
    plain = microseconds(lambda: layer(x))

    applied = Applied(METHODS["skip_blocks"], SkipBlocks(middle=True), active=True)
    edit = Edit(layer, applied.guarded(lambda call, *args, **kwargs: call(*args, **kwargs), lambda: applied.active))
    installed = Installed()
    installed.add([edit], "price", 0)
    acting = microseconds(lambda: layer(x))
    applied.active = False
    waiting = microseconds(lambda: layer(x))
    installed.remove()
    after = microseconds(lambda: layer(x))

    unet = sd15(width=32)
    every = [name for block in inspect_unet(unet).blocks for name in _names(block)]
    config = SkipBlocks(blocks=every)

    def on_and_off() -> None:
        with modified(unet, [config]):
            pass

    repeats = 20
    whole = statistics.median(timeit.repeat(on_and_off, number=repeats, repeat=5)) / repeats * 1e6

    print(f"Price of the mechanism ({device()})\n")
    print("| what | µs |\n|---|---|")
    print(f"| one call of an empty layer | {plain:.2f} |")
    print(f"| the same, wrapped and acting | + {acting - plain:.2f} |")
    print(f"| the same, wrapped and outside its window | + {waiting - plain:.2f} |")
    print(f"| the same, after the run | + {after - plain:.2f} |")
    print(f"| inspect the U-Net, put {len(every)} edits on and take them off, once a picture | {whole:.0f} |")


def _names(block) -> list[str]:
    return [f"{block.name}.{kind}" for kind in ("res", "attn") if block.of_kind(kind)]


if __name__ == "__main__":
    main()
