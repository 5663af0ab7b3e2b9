"""What each kind of edit does, on layers that a reader can do by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from unets import fresh

from lib_unetmod import inspect_unet
from lib_unetmod.core.edits import DecoderEdit, after, around_block, before, instead
from lib_unetmod.core.patching import Edit, Installed


class Plus(nn.Module):
    def forward(self, x, more=0, *, most=0):
        return x + 1 + more + most


def answered(edits, module, *args, **kwargs):
    installed = Installed()
    installed.add(edits, "test", 0)
    try:
        return module(*args, **kwargs)
    finally:
        installed.remove()


@pytest.mark.parametrize(
    "edit, expected",
    [(before, 2 * 3 + 111), (after, 2 * (3 + 111)), (lambda m, f: instead(m, lambda plus, x: plus(x) - f(x)), 114 - 6)],
)
def test_by_hand(edit, expected):
    module = Plus()
    out = answered([edit(module, lambda x: 2 * x)], module, torch.tensor(3.0), 10, most=100)
    assert out == expected and module(torch.tensor(3.0)) == 4


def test_a_block_of_one_layer_is_entered_first_and_left_last():
    block = inspect_unet(fresh("sd1")).input_blocks[0]
    seen = []
    edits = list(around_block(block, lambda x: (seen.append("enter"), x)[1], lambda out: (seen.append("leave"), out)[1]))
    inner = Edit(block.layers[0].module, lambda call, x: (seen.append("layer"), call(x))[1])
    answered([*edits, inner], block.layers[0].module, torch.zeros(1, 4, 8, 8))
    assert seen == ["enter", "layer", "leave"]


def test_a_blocks_edits_are_of_its_first_and_last_layer():
    block = inspect_unet(fresh("sd1")).input_blocks[1]
    edits = list(around_block(block, lambda x: x, lambda out: out))
    assert {edit.module for edit in edits} == {block.layers[0].module, block.layers[-1].module}
    assert [edit.module for edit in around_block(block, None, lambda out: out)] == [block.layers[-1].module]


def test_an_edit_of_the_decoder_is_the_same_edit_marked():
    edit = before(Plus(), lambda x: x)
    marked = DecoderEdit.of(edit)
    assert isinstance(marked, DecoderEdit) and (marked.module, marked.wrapper) == (edit.module, edit.wrapper)
