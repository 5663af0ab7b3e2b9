"""The test U-Nets are what they claim to be, and every host stand-in agrees with a plain loop over the same blocks."""

from __future__ import annotations

import logging

import pytest
import torch
import torch.nn.functional as F
import unets
from hosts import HOSTS, ControlNetHook, Host, residuals, webui_cat
from torch import Tensor, nn

pytestmark = pytest.mark.in_turn(60)

SMALL = {"height": 16, "width": 8}
everywhere = pytest.mark.parametrize("host", HOSTS.values(), ids=HOSTS)
with_control = pytest.mark.parametrize("host", [h for h in HOSTS.values() if h.mismatch], ids=lambda h: h.name)
families = pytest.mark.parametrize("family", unets.FAMILIES)


def reference(unet: nn.Module, x, timesteps, context, y=None, control=None) -> Tensor:
    """One traversal in its simplest form: residuals on every skip connection and on the middle block's output."""
    emb, h, skips = unets.embed(unet, timesteps, y), x, []
    control = control or [torch.zeros(())] * (len(unet.input_blocks) + 1)
    for block in unet.input_blocks:
        h = block(h, emb, context)
        skips.append(h)
    h = unet.middle_block(h, emb, context) + control[-1]
    for block, skip, residual in zip(unet.output_blocks, skips[::-1], control[-2::-1], strict=True):
        h = block(torch.cat([h, skip + residual], 1), emb, context)
    return unet.out(h)


def difference(a: Tensor, b: Tensor) -> float:
    return (a - b).abs().max().item()


@families
def test_family_is_shaped_like_the_original_and_stays_of_order_one(family):
    unet = unets.FAMILIES[family]()
    count = 9 if family in ("sdxl", "ssd1b") else 12
    assert (len(unet.input_blocks), len(unet.output_blocks)) == (count, count)
    assert len(unet.middle_block) == (1 if family == "ssd1b" else 3)
    assert not any(p.requires_grad for p in unet.parameters()) and not unet.training
    for height, width in ((8, 8), (24, 16)):
        out = unets.call(unet, unets.inputs(unet, height=height, width=width))
        assert out.shape == (2, 4, height, width)
        assert 0.2 < out.std() < 1 and out.abs().max() < 4


def test_pruned_unet_has_the_depths_of_ssd1b():
    unet = unets.ssd1b()
    depths = [
        [
            sum(len(layer.transformer_blocks) for layer in block if isinstance(layer, unets.SPATIAL_TRANSFORMERS))
            for block in blocks
        ]
        for blocks in (unet.input_blocks, unet.output_blocks)
    ]
    assert depths == [[0, 0, 0, 0, 2, 2, 0, 4, 4], [4, 4, 10, 2, 1, 1, 0, 0, 0]]


@families
@pytest.mark.long
def test_every_layer_shows_in_the_output(family):
    """A layer that could be left out unnoticed would let tests of edits pass by accident."""
    unet = unets.FAMILIES[family]()
    inputs = unets.inputs(unet, batch=1, **SMALL)
    plain = unets.call(unet, inputs)
    for block in [*unet.input_blocks, unet.middle_block, *unet.output_blocks]:
        for layer in block:
            handle = layer.register_forward_hook(lambda module, args, out: out + 0.3 * out.flip(-1))
            try:
                assert difference(unets.call(unet, inputs), plain) > 1e-3
            finally:
                handle.remove()


def test_building_and_copying_leave_the_global_random_state_alone():
    before = torch.get_rng_state()
    unets.sd2.__wrapped__()
    unets.inputs("sd2")
    residuals(unets.sd2(), (1, 4, 8, 8))
    assert torch.equal(torch.get_rng_state(), before)
    assert unets.fresh("sd1") is not unets.sd1() is unets.sd1()


@families
@everywhere
def test_host_without_control_gives_the_plain_output(host: Host, family):
    unet = unets.FAMILIES[family]()
    inputs = unets.inputs(unet, **SMALL)
    assert difference(host.forward(host.prepare(unet), **inputs), unets.call(unet, inputs)) <= 1e-6


@families
@with_control
def test_host_adds_residuals_as_a_plain_loop_does(host: Host, family):
    unet = unets.FAMILIES[family]()
    inputs = unets.inputs(unet, **SMALL)
    control = residuals(unet, inputs["x"].shape)
    expected = reference(unet, **inputs, control=control)
    assert difference(expected, unets.call(unet, inputs)) > 1e-2
    assert difference(host.forward(host.prepare(unet), **inputs, control=control), expected) <= 1e-6


@with_control
def test_residuals_of_another_size(host: Host, caplog):
    unet = unets.sd1()
    inputs = unets.inputs(unet, **SMALL)
    sizes = [r.shape[-2:] for r in residuals(unet, inputs["x"].shape)]
    control = residuals(unet, (2, 4, 32, 16))
    if host.mismatch == "dropped":
        expected = unets.call(unet, inputs)
    else:
        resized = [F.interpolate(r, size, mode=host.mismatch) for r, size in zip(control, sizes, strict=True)]
        expected = reference(unet, **inputs, control=resized)
    with caplog.at_level(logging.WARNING):
        out = host.forward(host.prepare(unet), **inputs, control=control)
    assert difference(out, expected) <= 1e-6
    assert len(caplog.records) == (13 if host.mismatch == "dropped" else 0)


def test_controlnet_raises_for_a_residual_of_another_size_on_an_inpainting_model():
    unet, host = unets.inpainting(), HOSTS["controlnet"]
    control = residuals(unet, (2, 9, 32, 16))
    with pytest.raises(RuntimeError, match="expanded size"):
        host.forward(host.prepare(unet), **unets.inputs(unet, **SMALL), control=control)


@pytest.mark.parametrize("host", [h for h in HOSTS.values() if h.name != "plain"], ids=lambda h: h.name)
def test_hosts_take_sizes_that_ldm_does_not(host: Host):
    """A1111 resizes h to the skip connection, after the Upsample; the forks resize in the Upsample, before its conv."""
    unet, inputs = unets.sd1(), unets.inputs("sd1", height=13, width=10)
    with pytest.raises(RuntimeError):
        unets.call(unet, inputs)
    out = host.forward(host.prepare(unet), **inputs, control=residuals(unet, (2, 4, 13, 10)) if host.mismatch else None)
    assert out.shape == (2, 4, 13, 10) and out.isfinite().all()


@everywhere
@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_who_is_called_with_what(host: Host, family):
    unet = host.prepare(unets.FAMILIES[family]())
    calls: dict[str, list[tuple[int, list[str]]]] = {}

    def watch(name: str, module: nn.Module) -> None:
        def record(_, args, kwargs):
            calls.setdefault(name, []).append((len(args), sorted(kwargs)))

        module.register_forward_pre_hook(record, with_kwargs=True)

    resblock, transformer = unet.input_blocks[5]
    upsample = next(layer for block in unet.output_blocks for layer in block if isinstance(layer, unets.UPSAMPLES))
    watched = {
        "unet": unet,
        "block": unet.input_blocks[0],
        "resblock": resblock,
        "transformer": transformer,
        "upsample": upsample,
        "attn1": transformer.transformer_blocks[0].attn1,
    }
    for name, module in watched.items():
        watch(name, module)
    host.forward(unet, **unets.inputs(unet, **SMALL))

    traversals = 2 if host.name == "controlnet_reference" else 1
    fork = host.name in ("forge", "forge_classic", "reforge")
    assert len(calls["unet"]) == 1
    assert len(calls.get("block", [])) == (traversals if host.calls_blocks else 0)
    assert calls["resblock"] == [(3 if host.name == "forge" else 2, [])] * traversals
    assert calls["transformer"] == [(3 if fork else 2, [])] * traversals
    assert calls["upsample"] == [(1, ["output_shape"] if fork else [])] * traversals
    options = ["transformer_options"] if host.name in ("forge", "forge_classic") else []
    if fork:
        assert calls["attn1"] == [(1, ["context", *options, "value"])]
    elif host.name == "controlnet_reference" or family == "sd1":
        assert calls["attn1"] == [(1, ["context"])] * traversals
    else:
        assert calls["attn1"] == [(1, ["additional_tokens", "context", "n_times_crossframe_attn_in_self"])]


@pytest.mark.parametrize("name", ["forge", "forge_classic", "reforge"])
def test_forks_take_patches_and_values(name):
    host, inputs = HOSTS[name], unets.inputs("sdxl", **SMALL)
    unet = host.prepare(unets.sdxl())
    attention = unet.input_blocks[4][1].transformer_blocks[0].attn1
    tokens = torch.randn(1, 6, attention.to_q.in_features, generator=torch.Generator().manual_seed(0))
    assert difference(attention(tokens, context=tokens, value=tokens), attention(tokens)) <= 1e-6

    ran = []
    attention.register_forward_pre_hook(lambda *_: ran.append("attn1"))
    replace = {("input", 4): lambda q, k, v, options: torch.zeros_like(q)}
    options = {"patches": {"output_block_patch": [lambda h, skip, options: (h, 1.1 * skip)]}}
    plain = host.forward(unet, **inputs)
    assert ran == ["attn1"]
    assert difference(host.forward(unet, **inputs, transformer_options=options), plain) > 1e-3
    ran.clear()
    out = host.forward(unet, **inputs, transformer_options={"patches_replace": {"attn1": replace}})
    assert difference(out, plain) > 1e-4 and ran == []


def test_controlnet_hook_comes_off_and_its_bank_reaches_attn1():
    unet, inputs = unets.fresh("sd1"), unets.inputs("sd1", **SMALL)
    plain = unets.call(unet, inputs)
    hook = ControlNetHook(unet, reference=True, bank=True)
    lengths = []
    attention = unet.input_blocks[1][1].transformer_blocks[0].attn1
    attention.register_forward_pre_hook(lambda _, args, kwargs: lengths.append(kwargs["context"].shape[1]), with_kwargs=True)
    with webui_cat():
        assert difference(unets.call(unet, inputs), plain) > 1e-3
    assert lengths == [128, 256]
    hook.restore()
    attention._forward_pre_hooks.clear()
    assert difference(unets.call(unet, inputs), plain) == 0
    assert "forward" in vars(unet), "as the extension leaves it"
