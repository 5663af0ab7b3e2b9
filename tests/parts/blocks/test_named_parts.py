"""The names of parts: all of a U-Net's, and which of them mean something of each other."""

from __future__ import annotations

import pytest
from unets import FAMILIES, fresh

from lib_unetmod import inspect_unet
from lib_unetmod.core.schedule import ProgressRange
from lib_unetmod.parts.blocks.named_parts import all_names, branches_of, share_branches, window_of, within


@pytest.mark.parametrize("family", FAMILIES)
def test_all_names_name_every_resblock_and_every_transformer_once(family):
    unet = inspect_unet(fresh(family))
    names = [*all_names(unet)]
    modules = [branch.module for name in names for branch in branches_of(name, unet)]
    layers = {layer.module for block in unet.blocks for layer in block.layers if layer.kind in ("res", "attn")}
    assert len(names) == len(set(names)) and len(modules) == len(set(modules)) and layers <= set(modules)


@pytest.mark.parametrize(
    "name, other, share",
    [
        ("in.4.attn", "in.4.ff", True),
        ("in.4.self", "in.4.attn@0-0.5", True),
        ("in.4.self", "in.4.ff", False),
        ("in.4.res", "in.4.attn", False),
        ("in.4.attn", "in.5.ff", False),
        ("mid.res.0", "mid.attn", False),
        ("in.1.attn", "in.10.ff", False),
    ],
)
def test_what_a_transformer_holds(name, other, share):
    assert share_branches(name, other) is share_branches(other, name) is share


def test_a_window_is_read_as_it_is_written():
    window = ProgressRange(0.125, 0.6667)
    assert within("in.4.ff", window) == "in.4.ff@0.125-0.6667" and window_of(within("in.4.ff", window)) == window
    assert within("in.4.ff", ProgressRange()) == "in.4.ff" and window_of("in.4.ff") == ProgressRange()
