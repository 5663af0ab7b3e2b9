"""ScaleCrafter against U-Nets whose convolutions are really dilated, the published settings, and damping by two runs."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
import torch
from contract import snapshot
from hosts import HOSTS, residuals
from torch import nn
from unets import FAMILIES, call, fresh, inputs

from lib_unetmod import ConfigError, DeepCache, GuidanceInterval, TokenMerging, inspect_unet, modified, what_is_on
from lib_unetmod.core.call import Guidance, Prompts, Rows
from lib_unetmod.core.target import Target
from lib_unetmod.methods.resolution.scale_crafter import ScaleCrafter, _as_seen, conv_sites
from lib_unetmod.parts.blocks import extra_rows

pytestmark = pytest.mark.in_turn(60)

NEUTRAL = ScaleCrafter(auto=False, dilation=1)
CONTRACT = [
    ScaleCrafter(auto=False, above=0),
    ScaleCrafter(auto=False, above=0, dilation=1.5, dilation_height=3, level=1, input_level=1, taper=True),
    ScaleCrafter(auto=False, above=0, dispersed="5x5", dispersed_levels=3),
]
TWICE = CONTRACT[0]

families = pytest.mark.parametrize("family", ("sd1", "sdxl"))

#: The published settings (assets/dilate_settings of the authors' code), diffusers' names translated into blocks: factor by
#: block. A Downsample belongs to the block before it there, an Upsample to its own.
SD1_1024 = dict.fromkeys(["in.4", "in.5", "in.6.down", *(f"in.{i}" for i in (7, 8, 10, 11)), "in.9.down", "mid"], 2.0)
SD1_1024 |= {f"out.{i}": 2.0 for i in range(9)}
SD1_2048 = {"in.4": 2, "in.5": 2, "in.6.down": 2, "in.7": 3, "in.8": 3, "in.9.down": 3, "in.10": 4, "in.11": 4, "mid": 4}
SD1_2048 |= {f"out.{i}": 4 - i // 3 for i in range(9)}
SDXL_2048 = {"mid": 2, "out.0": 2, "out.1": 2, "out.2": 2}
SDXL_4096 = {"in.7": 4, "in.8": 4, "mid": 4} | {f"out.{i}": 4 - i // 3 for i in range(9)}


def seen_factors(family, config, progress=0.0):
    """Factor in height and width by name of block (and of Downsample), where it is not 1."""
    unet = inspect_unet(FAMILIES[family]())
    names = {
        module: block.name + (".down" if layer.kind == "down" else "")
        for block in unet.blocks
        for layer in block.layers
        for module in layer.module.modules()
    }
    found = {}
    for place in conv_sites(unet):
        factors = config.factors(place, unet.levels, progress)
        assert found.setdefault(names[place.module], factors) == factors
    return {name: factors for name, factors in found.items() if factors != (1, 1)}


def settled(family, width, height, **changes):
    trained = 1024 if family == "sdxl" else 512
    config = ScaleCrafter(**changes)
    return config.resolved(inspect_unet(FAMILIES[family]()), Target(trained, height, width))


def both(settings):
    return {name: (factor, factor) for name, factor in settings.items()}


# Auto.


@pytest.mark.parametrize(
    "family, side, expected, end",
    [
        ("sd1", 1024, SD1_1024, 0.6),
        ("sd1", 1280, dict.fromkeys(SD1_1024, 2.5), 0.7),
        ("sd1", 2048, SD1_2048, 0.7),
        ("sd2", 1024, SD1_1024, 0.4),
        ("sd2", 1280, dict.fromkeys(SD1_1024, 2.5), 0.6),
        ("sdxl", 2048, SDXL_2048, 0.6),
        ("sdxl", 2560, dict.fromkeys(SDXL_2048, 2.5), 0.6),
        ("sdxl", 4096, SDXL_4096, 0.7),
    ],
)
def test_auto_takes_the_published_settings(family, side, expected, end):
    config = settled(family, side, side)
    assert seen_factors(family, config) == both(expected)
    assert config.end == end and not config.auto
    assert config.progressive == (side >= 3 * (1024 if family == "sdxl" else 512))


def test_auto_in_height_and_width_apart():
    found = seen_factors("sd1", settled("sd1", width=1024, height=512))
    assert found == dict.fromkeys(SD1_1024, (1, 2))
    wide = seen_factors("sd1", settled("sd1", width=2048, height=1024))
    assert wide == {name: (2, factor) for name, factor in SD1_2048.items()}
    assert settled("sd1", width=832, height=1216).axes == (2.5, 1.5)
    assert settled("sd1", width=512, height=512).axes == (1, 1)


def test_auto_keeps_the_users_choices_and_a_window_that_ends_sooner():
    config = settled("sd1", 1024, 1024, noise_damped=True, dispersed="5x5", end=0.3, first_pass=False)
    assert config.noise_damped and config.dispersed == "5x5" and config.end == 0.3 and not config.first_pass
    late = settled("sd1", 1024, 1024, start=0.8)
    assert late.start == late.end == 0.8


def test_every_size_has_an_auto():
    for family in FAMILIES:
        for width, height in ((64, 64), (512, 8192), (3000, 1999), (10000, 10000)):
            config = settled(family, width, height)
            assert all(1 <= factor <= 8 for factors in seen_factors(family, config).values() for factor in factors)


def test_the_dilation_comes_back_as_published():
    """d(i) = max(ceil(d * (tau - i) / tau), 2), tau of 50 steps evenly spaced: step i is at progress i / 50."""
    tau = 35
    config = ScaleCrafter(auto=False, dilation=4, progressive=True, end=tau / 50)
    for i in range(tau):
        expected = max(math.ceil(4 * (tau - i) / tau - 1e-9), 2)
        (factors,) = set(seen_factors("sd1", config, i / 50 + 1e-9).values())
        assert factors == (expected, expected)
    small = replace(config, dilation=1.5)
    assert set(seen_factors("sd1", small, 0.69).values()) == {(1.5, 1.5)}


# What it computes.


def really_dilated(family, factors):
    """The U-Net with the attributes of its 3x3 convolutions set: torch's own dilation."""
    unet = fresh(family)
    for block in inspect_unet(unet).blocks:
        for layer in block.layers:
            factor = factors.get(f"{block.name}.down" if layer.kind == "down" else block.name)
            for module in layer.module.modules() if factor and layer.kind != "attn" else ():
                if isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3):
                    module.dilation = module.padding = (factor, factor)
    return unet


@pytest.mark.parametrize(
    "family, factors, knobs",
    [
        ("sd1", dict.fromkeys(SD1_1024, 2), {}),
        ("sd1", SD1_2048, {"dilation": 4, "taper": True}),
        ("sdxl", SDXL_2048, {"level": 3, "input_level": 5}),
        ("sdxl", SDXL_4096, {"dilation": 4, "level": 1, "input_level": 3, "taper": True}),
    ],
)
@pytest.mark.parametrize("size", [(32, 32), (24, 40)], ids=str)
def test_it_is_the_unet_with_dilated_convolutions(family, factors, knobs, size):
    step = inputs(family, height=size[0], width=size[1])
    expected = call(really_dilated(family, factors), step)
    unet = FAMILIES[family]()
    with modified(unet, [replace(TWICE, **knobs)]):
        torch.testing.assert_close(call(unet, step), expected, rtol=1e-4, atol=1e-5)
    assert not torch.equal(call(unet, step), expected)


@pytest.mark.parametrize("attribute", ("dilation", "padding", "stride", "weight", "forward"))
def test_convolutions_are_as_they_were_after_and_but_for_forward_during(attribute):
    unet = fresh("sd1")
    convolutions = [module for module in unet.modules() if isinstance(module, nn.Conv2d)]
    before = [vars(module).get(attribute, module._parameters.get(attribute)) for module in convolutions]
    with modified(unet, [TWICE]):
        call(unet, inputs("sd1"))
        during = [vars(module).get(attribute, module._parameters.get(attribute)) for module in convolutions]
        assert attribute == "forward" or all(a is b for a, b in zip(before, during, strict=True))
    after = [vars(module).get(attribute, module._parameters.get(attribute)) for module in convolutions]
    assert all(a is b for a, b in zip(before, after, strict=True))


def test_a_lora_that_a_host_applies_in_its_convolutions_acts():
    """Conv2d.forward of the class is another, as in AUTOMATIC1111; it adds to what the weight gives."""
    step, unet = inputs("sd1"), FAMILIES["sd1"]()
    plain, doubled = nn.Conv2d.forward, really_dilated("sd1", dict.fromkeys(SD1_1024, 2))

    def with_lora(self, x):
        return 1.5 * plain(self, x)

    nn.Conv2d.forward = with_lora
    try:
        expected = call(doubled, step)
        with modified(unet, [TWICE]):
            out = call(unet, step)
        with modified(unet, [replace(TWICE, dispersed="5x5")]) as run:
            beside = call(unet, step)
            assert any("Dispersed kernel is slow" in note for note in run.notes)
    finally:
        nn.Conv2d.forward = plain
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-5)

    for module in (within := fresh("sd1")).modules():
        if isinstance(module, nn.Conv2d):
            module.weight.mul_(1.5)
            module.bias.mul_(1.5)
    with modified(within, [replace(TWICE, dispersed="5x5")]) as run:
        torch.testing.assert_close(beside, call(within, step), rtol=1e-3, atol=1e-4)
        assert run.notes == []


@pytest.mark.long
def test_dispersion_acts_at_the_deepest_levels_it_is_asked_for():
    step, unet = inputs("sd1", height=32, width=32), FAMILIES["sd1"]()
    results = [TWICE] + [replace(TWICE, dispersed="5x5", dispersed_levels=levels) for levels in (1, 2, 3, 4)]
    outputs = []
    for config in results:
        with modified(unet, [config]):
            outputs.append(call(unet, step))
    assert torch.equal(outputs[3], outputs[4])  # level 1 is not widened at all
    assert not any(torch.equal(a, b) for a, b in itertools.pairwise(outputs[:4]))


def test_maps_that_another_method_made_smaller_are_widened_by_less():
    assert _as_seen((4.0, 2.0), (16, 32), (128, 128), 3) == (2, 2)
    assert _as_seen((2.0, 2.0), (32, 32), (128, 128), 3) == (2, 2)
    assert _as_seen((2.0, 3.0), (8, 16), (128, 128), 3) == (1, 1.5)
    assert _as_seen((2.0, 2.0), (2, 3), (17, 24), 4) == (2, 2)  # 17, 9, 5, 3: a cell less is rounding


@families
def test_ticked_with_its_defaults(family):
    """At twice the trained size it acts, up to its own end; at the trained size it does not, and says so."""
    unet, trained = FAMILIES[family](), 128
    large, small = inputs(family, height=32, width=32, timestep=900), inputs(family)
    done = inputs(family, height=32, width=32, timestep=30)
    plain, plain_done = call(unet, large), call(unet, done)
    with modified(unet, [ScaleCrafter()], trained_size=trained) as run:
        assert not torch.equal(call(unet, large), plain) and run.notes == []
        assert torch.equal(call(unet, done), plain_done)
    with modified(unet, [ScaleCrafter()], trained_size=trained) as run:
        inside = call(unet, small)
    assert len(run.notes) == 1 and "ScaleCrafter does nothing" in run.notes[0]
    assert torch.equal(inside, call(unet, small))
    assert what_is_on(unet) == {}


# Noise-damped guidance.

DAMPED = replace(TWICE, noise_damped=True)
LESS = replace(TWICE, level=3, input_level=3)


def expected_damped(family, step, partner):
    """v_uncond for uncond, v_uncond + d_cond - d_uncond for cond, from runs of the two U-Nets on all rows."""
    unet = FAMILIES[family]()
    with modified(unet, [TWICE]):
        widened = call(unet, step)
    with modified(unet, [LESS]):
        less = call(unet, step)
    return combined(widened, less, partner)


def combined(widened, less, partner):
    out = widened.clone()
    for row, of in enumerate(partner):
        if row != of:
            out[row] = less[row]
            out[of] = less[row] + widened[of] - widened[row]
    return out


def guided(unet, config, step, partner=(0, 0), forward=call, **more):
    with modified(unet, [config] if isinstance(config, ScaleCrafter) else config) as run:
        run.guidance = None if partner is None else Guidance(7.0, partner)
        out = forward(unet, step, **more)
    return out, run.notes


@families
@pytest.mark.parametrize("partner", [(0, 0), (1, 1), (0, 1, 0, 1), (1, 1, 3, 3), (2, 3, 2, 3)], ids=str)
@pytest.mark.parametrize("size", [(16, 16), (24, 32)], ids=str)
def test_the_guided_result_is_the_papers(family, partner, size):
    """eps = v_uncond + s (d_cond - d_uncond), section 3.4, by the host's u + s (c - u)."""
    step = inputs(family, batch=len(partner), height=size[0], width=size[1])
    out, notes = guided(FAMILIES[family](), DAMPED, step, partner)
    torch.testing.assert_close(out, expected_damped(family, step, partner), rtol=1e-4, atol=1e-4)
    assert notes == []


@families
@pytest.mark.parametrize("name", [name for name in HOSTS if name != "controlnet_reference"])
@pytest.mark.parametrize("size", [(16, 16), (17, 24)], ids=str)
@pytest.mark.parametrize("controlled", (False, True), ids=("alone", "control"))
def test_in_every_host_with_control_and_at_odd_sizes(family, name, size, controlled):
    host = HOSTS[name]
    if (controlled and host.mismatch is None) or (name == "plain" and size != (16, 16)):
        pytest.skip("this host has no control, or takes no such size")
    unet, step = host.prepare(FAMILIES[family]()), inputs(family, height=size[0], width=size[1])
    control = residuals(unet, step["x"].shape) if controlled else None

    def forward(unet, step):
        told = {} if control is None else {"control": [residual.clone() for residual in control]}
        return host.forward(unet, **step, **told)

    (widened, _), (less, _) = (guided(unet, config, step, forward=forward) for config in (TWICE, LESS))
    before = snapshot(unet)
    out, notes = guided(unet, DAMPED, step, forward=forward)
    torch.testing.assert_close(out, combined(widened, less, (0, 0)), rtol=1e-3, atol=1e-4)
    assert notes == [] and snapshot(unet) == before


ALL_OF_THE_PROMPT = Prompts(inputs("sd1")["context"], torch.zeros(1, 1, 24))
SPLIT = "an extension splits the batch in its own way, so prompt and negative prompt cannot be told apart."


@pytest.mark.parametrize(
    ("guidance", "why"),
    [
        (None, "this program does not say which part of a batch is the prompt's (run.guidance)."),
        (
            Guidance(7.0, (0,), prompts=ALL_OF_THE_PROMPT),
            "prompt and negative prompt do not run together; turn on Batch cond/uncond.",
        ),
        (Guidance(7.0, (0,)), SPLIT),
        (Guidance(7.0, (0, 1, 2, 0, 1, 2)), SPLIT),
        (Guidance(7.0, reason="the prompt has several parts (AND)."), "the prompt has several parts (AND)."),
    ],
)
def test_it_stands_aside_where_rows_do_not_pair(guidance, why):
    unet, step = FAMILIES["sd1"](), inputs("sd1")
    with modified(unet, [TWICE]):
        expected = call(unet, step)
    with modified(unet, [DAMPED]) as run:
        run.guidance = guidance
        assert torch.equal(call(unet, step), expected)
        assert run.notes == [f"ScaleCrafter: Noise-damped guidance is off: {why}"]


def test_it_stands_aside_for_controlnets_reference_and_patches_of_attention():
    host, step = HOSTS["controlnet_reference"], inputs("sd1")
    unet = host.prepare(FAMILIES["sd1"]())

    def forward(unet, step):
        return host.forward(unet, **step)

    expected, _ = guided(unet, TWICE, step, forward=forward)
    out, notes = guided(unet, DAMPED, step, forward=forward)
    assert torch.equal(out, expected) and "off: hosts needs the negative prompt" in notes[0]

    host = HOSTS["forge"]
    unet = host.prepare(FAMILIES["sd1"]())

    def patched(unet, step):
        options = {"patches": {"attn1_output_patch": [lambda x, options: x]}}
        return host.forward(unet, **step, transformer_options=options)

    expected, _ = guided(unet, TWICE, step, forward=patched)
    out, notes = guided(unet, DAMPED, step, forward=patched)
    assert torch.equal(out, expected) and "off: test_scale_crafter needs the negative prompt" in notes[0]


def test_rows_that_were_left_out_are_no_reason_for_a_note():
    unet, step = fresh("sd1"), inputs("sd1")
    with modified(unet, [DAMPED, GuidanceInterval()]) as run:
        run.guidance = Guidance(1.0, (0, 0))
        call(unet, step)
    assert run.notes == []


def test_a_unet_that_does_not_end_in_layers_cannot_be_damped():
    unet = fresh("sd1")
    del unet.out
    with pytest.raises(ConfigError, match=r"^ScaleCrafter: Noise-damped guidance is not for this U-Net.*switch it off\.$"):
        modified(unet, [DAMPED]).__enter__()
    assert what_is_on(unet) == {}


def test_what_every_layer_is_given_is_joined_once(monkeypatch):
    """The embedding and the prompt, that is, beside each layer's own map."""
    joined, concatenate = [], torch.cat

    def noting(tensors, *args, **kwargs):
        tensors = list(tensors)
        if len(tensors) == 2 and len(tensors[0]) == 2 and len(tensors[1]) == 1:
            joined.append(tensors[0].data_ptr())
        return concatenate(tensors, *args, **kwargs)

    unet, step, embedded = fresh("sd1"), inputs("sd1"), []
    unet.time_embed.register_forward_hook(lambda _, args, out: embedded.append(out))
    monkeypatch.setattr(extra_rows.torch, "cat", noting)
    guided(unet, DAMPED, step)
    assert [joined.count(given.data_ptr()) for given in (step["context"], *embedded)] == [1, 1]


def test_what_a_host_changes_in_place_is_joined_again():
    given = torch.zeros(2, 3)
    rows = extra_rows.Companions(Rows((0, 0)), None, given, given)
    first = rows.joined(given)
    assert rows.joined(given) is first and first.shape == (3, 3)
    given += 1
    assert torch.equal(rows.joined(given), torch.ones(3, 3))


@families
def test_what_damping_costs(family):
    """Three rows for two, in the layers and their convolutions."""
    unet, step, seen = fresh(family), inputs(family, batch=4), []
    layer = inspect_unet(unet).middle_block.of_kind("res")[0].module
    layer.in_layers[0].register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    guided(unet, TWICE, step, (0, 1, 0, 1))
    guided(unet, DAMPED, step, (0, 1, 0, 1))
    assert seen == [4, 6]


@pytest.mark.parametrize(
    "other", [DeepCache(interval=2), TokenMerging(), GuidanceInterval(guide_to=0.3)], ids=lambda c: c.title
)
def test_damping_with_other_methods(other):
    """They stand inside and see the companions; outside of guidance's interval there are none."""
    unet = FAMILIES["sd1"]()
    steps = [inputs("sd1", seed=i, timestep=t) for i, t in enumerate((900, 880, 500, 480))]
    outputs = []
    for config in (TWICE, DAMPED):
        with modified(unet, [config, other]) as run:
            run.guidance = Guidance(7.0, (0, 0))
            for step in steps:
                run.new_evaluation()
                outputs.append(call(unet, step))
                assert outputs[-1].isfinite().all()
    changed = [not torch.equal(a, b) for a, b in zip(outputs[:4], outputs[4:], strict=True)]
    assert changed == [True, True, other.title != GuidanceInterval.title, other.title != GuidanceInterval.title]


def test_damping_of_nothing_is_refused():
    config = replace(DAMPED, level=5, input_level=5)
    with pytest.raises(ConfigError, match="level is 5 and input_level is 5.*lower level"):
        modified(fresh("sd1"), [config]).__enter__()


def test_summaries():
    assert ScaleCrafter().summary() == "ScaleCrafter auto"
    assert replace(DAMPED, dispersed="7x7", end=0.6).summary() == "ScaleCrafter 2 7x7 damped 0-0.6"
    assert replace(TWICE, dilation_height=1.5).summary() == "ScaleCrafter 2x1.5"
