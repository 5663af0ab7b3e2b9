"""An edit that raises costs its effect and a sentence, never the picture: against the U-Net as it is, in every host."""

from __future__ import annotations

import gc
import logging
import weakref

import pytest
import torch
from contract import snapshot
from hosts import HOSTS, residuals
from probe import Probe
from unets import FAMILIES, call, fresh, inputs

from lib_unetmod import DeepCache, DeepShrink, SkipBlocks, inspect_unet, modified
from lib_unetmod.core.patching import Edit
from lib_unetmod.core.registry import METHODS

pytestmark = pytest.mark.in_turn(60)

SHRUNKEN = DeepShrink(auto=False, above=0)


@pytest.fixture
def failing(probe, monkeypatch):
    """The probe raises in the layer named, in the second evaluation."""

    def at(place, error=KeyError):
        def edits(config, unet, run):
            def fails(call, *args, **kwargs):
                if run.clock.evaluation == 1:
                    raise error("of ours")
                return call(*args, **kwargs)

            layer = unet.out if place == "end" else unet.block(place).layers[-1].module
            yield Edit(layer, fails)

        object.__setattr__(METHODS["probe"], "edits", edits)
        return Probe(factor=2)

    yield at


def evaluated(unet, configs, forward, steps):
    with modified(unet, configs) as run:
        outs = []
        for step in steps:
            run.new_evaluation()
            outs.append(forward(unet, step))
        return outs, run


@pytest.mark.parametrize("family", ("sd1", "sdxl"))
@pytest.mark.parametrize("place", ("in.0", "in.3", "mid", "out.2", "out.8", "end"))
def test_the_evaluation_is_plain_and_so_are_those_that_follow(family, place, failing, caplog):
    unet = fresh(family)
    steps = [inputs(family, height=16, width=24, seed=seed, timestep=900 - 100 * seed) for seed in range(3)]
    before, plain = snapshot(unet), [call(unet, step) for step in steps]
    with caplog.at_level(logging.ERROR):
        outs, run = evaluated(unet, [failing(place), SHRUNKEN, SkipBlocks(blocks="in.4.attn")], call, steps)
    assert [torch.equal(out, expected) for out, expected in zip(outs, plain, strict=True)] == [False, True, True]
    assert len(run.notes) == 1 and "error in Probe (KeyError)" in run.notes[0]
    assert len(caplog.records) == 1 and "of ours" in caplog.text and "test_rescue.py" in caplog.text
    assert snapshot(unet) == before


@pytest.mark.parametrize("name", HOSTS)
@pytest.mark.parametrize("place", ("in.5", "out.3"))
def test_in_every_host_with_its_residuals(name, place, failing):
    host = HOSTS[name]
    unet = host.prepare(FAMILIES["sd1"]())
    steps = [inputs("sd1", height=16, width=24 if name != "plain" else 16, seed=seed) for seed in range(2)]
    shape, controlled = steps[0]["x"].shape, name not in ("plain", "a1111")

    def forward(unet, step):
        control = {"control": residuals(unet, shape)} if controlled else {}
        return host.forward(unet, **step, **control)

    plain = [forward(unet, step) for step in steps]
    outs, run = evaluated(unet, [failing(place), SHRUNKEN], forward, steps)
    assert torch.equal(outs[1], plain[1]) and not torch.equal(outs[0], plain[0]) and len(run.notes) == 1


def test_what_is_not_ours_goes_its_way_and_the_methods_stay(probe):
    unet, step = fresh("sd1"), inputs("sd1", height=8, width=8)
    layer = inspect_unet(unet).middle_block.layers[0].module
    fails = [False]

    class Foreign(Exception):
        pass

    def hook(module, args):
        if fails[0]:
            raise Foreign

    layer.in_layers[0].register_forward_pre_hook(hook)
    with modified(unet, [probe(factor=2)]) as run:
        expected = call(unet, step)
        fails[0] = True
        with pytest.raises(Foreign):
            call(unet, step)
        fails[0] = False
        assert torch.equal(call(unet, step), expected) and run.notes == []


def test_what_is_kept_is_let_go_before_the_call_is_made_again(failing):
    """Else an edit that ran out of memory would run out of it again."""
    unet, held = fresh("sd1"), []
    with modified(unet, [failing("end"), DeepCache(interval=2, reach=1)]) as run:
        for seed in range(2):
            run.new_evaluation()
            call(unet, inputs("sd1", height=8, width=8, seed=seed))
            held.append(run._ledger.bytes_held)
    assert held[0] > 0 == held[1]


def test_the_exceptions_tensors_are_let_go(failing):
    unet, seen = fresh("sd1"), []

    def fails(config, unet, run):
        def edit(call, x, *args, **kwargs):
            out = call(x, *args, **kwargs)
            seen.append(weakref.ref(out))
            raise RuntimeError

        yield Edit(unet.middle_block.layers[-1].module, edit)

    config = failing("mid")
    object.__setattr__(METHODS["probe"], "edits", fails)

    def at_the_end(module, args):
        gc.collect()
        seen.append(seen[0]())

    unet.out.register_forward_pre_hook(at_the_end)
    with modified(unet, [config]):
        call(unet, inputs("sd1", height=8, width=8))
    assert seen[1] is None


@pytest.mark.parametrize("error", (KeyboardInterrupt, SystemExit))
def test_who_asks_to_stop_is_heard(failing, error):
    unet, steps = fresh("sd1"), [inputs("sd1", height=8, width=8)] * 2
    before = snapshot(unet)
    with pytest.raises(error):
        evaluated(unet, [failing("mid", error)], call, steps)
    assert snapshot(unet) == before


def test_another_walk_that_calls_an_upsamples_convolution_alone_stops_what_stands_around_the_layer():
    unet, plain, step = fresh("sd1"), fresh("sd1"), inputs("sd1")
    upsample = next(layer.module for block in inspect_unet(unet).output_blocks for layer in block.of_kind("up"))
    under = type(upsample).forward

    def by_its_parts(module, x, *args, **kwargs):
        if module is not upsample:
            return under(module, x, *args, **kwargs)
        return upsample.conv(torch.nn.functional.interpolate(x, (4, 4)))

    def walked(step):
        # As a walk of its own, which goes around the layer's forward and with it around everything that stands there.
        kept = vars(upsample).get("forward")
        upsample.forward = lambda x, *args, **kwargs: by_its_parts(upsample, x)
        try:
            return call(unet, step)
        finally:
            upsample.forward = kept

    with modified(unet, [SHRUNKEN]) as run:
        out = walked(step)
    assert torch.equal(out, call(plain, step))
    assert run.notes == [
        "Another extension, which runs the U-Net in a way of its own, stopped all methods: the rest of this image is drawn "
        "without them. The console shows more."
    ]
