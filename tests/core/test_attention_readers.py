"""SAG's and PAG's way of looking at the middle block: who is there from the start has it as it is."""

from __future__ import annotations

import pytest
import torch
from hosts import HOSTS
from unets import FAMILIES, inputs

from lib_unetmod import DeepCache, DeepShrink, FreeU, HiDiffusion, SkipBlocks, modified

FORGE = HOSTS["forge"]
SKIPPED = SkipBlocks(middle=True)
ASIDE = [SKIPPED, DeepCache(interval=2, reach=1), DeepShrink(auto=False, above=0), HiDiffusion(auto=False, above=0)]


def reading(kept):
    """A function in place of the middle's self-attention, which keeps how many tokens it saw."""

    def instead(q, k, v, options):
        kept.append(q.shape[1])
        return v

    return {"patches_replace": {"attn1": {("middle", 0): instead}}}


@pytest.mark.parametrize("config", ASIDE, ids=lambda config: config.title)
def test_who_reads_from_the_start_finds_the_middle_as_it_is(config):
    unet, steps = FORGE.prepare(FAMILIES["sd1"]()), [inputs("sd1", seed=seed) for seed in range(3)]
    expected = [FORGE.forward(unet, **step, transformer_options=reading([])) for step in steps]
    with modified(unet, [config]) as run:
        for step, out in zip(steps, expected, strict=True):
            run.new_evaluation()
            kept = []
            assert torch.equal(FORGE.forward(unet, **step, transformer_options=reading(kept)), out)
            assert kept == [4]  # 2x2 tokens of a latent of 16x16
    assert f"{config.short or config.title} is off: test_attention_readers reads the middle block." in run.notes


def test_what_keeps_the_maps_acts_beside_it():
    unet, step = FORGE.prepare(FAMILIES["sd1"]()), inputs("sd1")
    plain = FORGE.forward(unet, **step, transformer_options=reading([]))
    with modified(unet, [FreeU()]) as run:
        assert not torch.equal(FORGE.forward(unet, **step, transformer_options=reading([])), plain)
    assert run.notes == []


def test_who_comes_in_calls_of_its_own_is_told_and_nobody_stands_aside_half_way():
    unet, step = FORGE.prepare(FAMILIES["sd1"]()), inputs("sd1")
    with modified(unet, [SKIPPED]) as run:
        alone = FORGE.forward(unet, **step)
        for _ in range(2):
            run.new_evaluation()
            assert torch.equal(FORGE.forward(unet, **step), alone)
            kept = []
            # Without the middle there is nothing to change: the difference that it guides by is none, not ours.
            assert torch.equal(FORGE.forward(unet, **step, transformer_options=reading(kept)), alone) and kept == []
    assert len(run.notes) == 1 and "test_attention_readers changes the middle block" in run.notes[0]
