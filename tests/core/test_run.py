"""The run and the patching under it, where the contract does not look: what is left alone, lost, copied or replaced."""

from __future__ import annotations

import copy

import pytest
import torch
from hosts import HOSTS
from unets import call, fresh, inputs

from lib_unetmod import ConfigError, SkipBlocks, UnsupportedUNet, inspect_unet, modified, what_is_on


def test_a_block_without_edits_costs_nothing():
    unet = fresh("sd1")
    with modified(unet, [SkipBlocks(middle=True)]):
        touched = {path for path, module in unet.named_modules() if "forward" in vars(module)}
    assert touched == {"input_blocks.0.0", "middle_block.0", "middle_block.1", "middle_block.2", "out"}


def test_what_is_on_names_owners_outermost_first(probe):
    unet = fresh("sd1")
    with modified(unet, [probe(factor=2.0), SkipBlocks(middle=True)]) as run:
        assert run.methods == ("skip_blocks", "probe")
        assert what_is_on(unet)["middle_block.2"] == ["rescue", "skip_blocks", "probe"]
        # The span passes on what comes, so the probe under it is not called.
        together = call(unet, inputs("sd1"))
    with modified(unet, [SkipBlocks(middle=True)]):
        assert torch.equal(call(unet, inputs("sd1")), together)


def test_a_place_lost_to_a_foreign_wrapper_is_taken_again():
    unet, step = fresh("sd1"), inputs("sd1")
    layer = inspect_unet(unet).middle_block.layers[0].module
    layer.forward = under = layer.forward
    with modified(unet, [SkipBlocks(middle=True)]):
        expected = call(unet, step)
        layer.forward = under  # a foreign wrapper leaves by writing back what it found long ago
        assert torch.equal(call(unet, step), expected)
    assert vars(layer)["forward"] is under


def test_a_copy_made_on_the_way_is_unmodified_and_its_own():
    unet, step = fresh("sd1"), inputs("sd1")
    plain = call(unet, step)
    with modified(unet, [SkipBlocks(middle=True)]):
        copied = copy.deepcopy(unet)
        assert torch.equal(call(copied, step), plain)
    for parameter in unet.parameters():
        parameter.zero_()
    assert torch.equal(call(copied, step), plain)


def test_a_class_swapped_on_the_way_acts():
    """As the WebUI's own token merging does: another class for a module that is wrapped already."""
    unet, step = fresh("sd1"), inputs("sd1")
    layer = inspect_unet(unet).block("out.11").layers[0].module
    with modified(unet, [SkipBlocks(blocks="out.11.res", start=0.9)]):
        before = call(unet, step)
        original = type(layer)
        layer.__class__ = type("Doubled", (original,), {"forward": lambda self, *args: 2 * original.forward(self, *args)})
        assert not torch.equal(call(unet, step), before)


def test_a_replaced_attention_is_told_once():
    host, step = HOSTS["forge"], inputs("sd1")
    unet = host.prepare(fresh("sd1"))

    def replacement(q, k, v, extra_options):
        return q

    options = {"patches_replace": {"attn1": {("input", 4): replacement}}}
    with modified(unet, [SkipBlocks(blocks="in.4.self")]) as run:
        host.forward(unet, **step)
        assert run.notes == []
        for _ in range(2):
            host.forward(unet, **step, transformer_options=options)
    assert len(run.notes) == 1 and "replaces attn1" in run.notes[0]
    with modified(unet, [SkipBlocks(middle=True)]) as run:
        host.forward(unet, **step, transformer_options=options)
    assert run.notes == []


def test_a_method_that_the_next_unet_refuses_comes_back_with_one_that_takes_it():
    sd1, sdxl = fresh("sd1"), fresh("sdxl")
    with modified(sd1, [SkipBlocks(levels=3)]) as run:
        run.follow(sdxl)
        assert what_is_on(sd1) == what_is_on(sdxl) == {} and "levels is 3" in run.notes[0]
        run.follow(sd1)
        assert what_is_on(sd1)
        with pytest.raises(UnsupportedUNet):
            run.follow(torch.nn.Identity())
        assert what_is_on(sd1) == {}
    assert what_is_on(sd1) == {}


def test_an_unknown_pass_is_refused():
    with pytest.raises(ConfigError, match="pass_name is 'second'; it takes first or hires or img2img"):
        modified(fresh("sd1"), [SkipBlocks(middle=True)], pass_name="second")
