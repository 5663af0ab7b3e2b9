"""EncoderReuse against a forward written out again here."""

from __future__ import annotations

import pytest
import torch
from hosts import HOSTS, cat_aligned, residuals
from unets import FAMILIES, call, embed, fresh, inputs

from lib_unetmod import ConfigError, DeepCache, EncoderReuse, HiDiffusion, SkipBlocks, modified
from lib_unetmod.core.state import bytes_of

pytestmark = pytest.mark.in_turn(60)

NEUTRAL = EncoderReuse(interval=1)
CONTRACT = [EncoderReuse(interval=2, reach=1), EncoderReuse(interval=3, predictor="linear", reach=1)]


def encode(unet, step):
    emb, h, skips = embed(unet, step["timesteps"], step["y"]), step["x"], []
    for block in unet.input_blocks:
        h = block(h, emb, step["context"])
        skips.append(h)
    return unet.middle_block(h, emb, step["context"]), skips


def decode(unet, step, middle, skips, control=None):
    emb, h, skips = embed(unet, step["timesteps"], step["y"]), middle, list(skips)
    if control is not None:
        h, skips = h + control[-1], [skip + residual for skip, residual in zip(skips, control, strict=False)]
    for block in unet.output_blocks:
        h = block(cat_aligned([h, skips.pop()], 1), emb, step["context"])
    return unet.out(h)


@pytest.mark.parametrize("family", FAMILIES)
def test_equals_a_plain_decoder_on_kept_features(family):
    unet, plain = fresh(family), fresh(family)
    steps = [inputs(family, seed=i, timestep=t, height=8, width=16) for i, t in enumerate((900, 850, 800, 750, 700))]
    with modified(unet, [EncoderReuse(interval=2)]) as run:
        results = [call(unet, step) for step in steps]
    for index, (step, result) in enumerate(zip(steps, results, strict=True)):
        if index % 2 == 0:
            kept = encode(plain, step)
        assert torch.equal(result, decode(plain, step, *kept)), index
    assert run.kept_bytes == sum(map(bytes_of, [kept[0], *kept[1]]))


def test_a_plan_says_when_the_encoder_runs():
    unet, plain = fresh("sd1"), fresh("sd1")
    steps = [inputs("sd1", seed=i, timestep=t) for i, t in enumerate((900, 850, 800, 750))]
    with modified(unet, [EncoderReuse(plan="FFEE")], evaluations=4):
        results = [call(unet, step) for step in steps]
    kept = encode(plain, steps[1])
    assert torch.equal(results[0], call(plain, steps[0])) and torch.equal(results[1], call(plain, steps[1]))
    for step, result in zip(steps[2:], results[2:], strict=True):
        assert torch.equal(result, decode(plain, step, *kept))
    with pytest.raises(ConfigError, match="EncoderReuse: plan is 'FDF'; it takes the letters F and E"):
        EncoderReuse(plan="FDF")


def test_linear_forecast_of_every_skip_connection():
    unet, plain = fresh("sd1"), fresh("sd1")
    steps = [inputs("sd1", seed=i, timestep=t) for i, t in enumerate((899.1, 849.15, 799.2, 749.25))]
    with modified(unet, [EncoderReuse(interval=2, predictor="linear")]):
        results = [call(unet, step) for step in steps]
    (middle_a, skips_a), (middle_b, skips_b) = encode(plain, steps[0]), encode(plain, steps[2])
    # Progress 0.1, 0.2, then 0.25: half as far again as the two lie apart.
    forecast = [b + (b - a) * 0.5 for a, b in zip([middle_a, *skips_a], [middle_b, *skips_b], strict=True)]
    torch.testing.assert_close(results[3], decode(plain, steps[3], forecast[0], forecast[1:]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ("controlnet", "forge", "forge_classic", "reforge"))
def test_controlnets_residuals_are_added_to_what_is_reused(name):
    host = HOSTS[name]
    unet, plain = host.prepare(fresh("sd1")), fresh("sd1")
    steps = [inputs("sd1", seed=i, timestep=t) for i, t in enumerate((900, 850))]
    control = residuals(plain, steps[0]["x"].shape)
    with modified(unet, [EncoderReuse(interval=2)]):
        host.forward(unet, **steps[0], control=[residual.clone() for residual in control])
        result = host.forward(unet, **steps[1], control=[residual.clone() for residual in control])
    torch.testing.assert_close(result, decode(plain, steps[1], *encode(plain, steps[0]), control), rtol=1e-4, atol=1e-5)


def test_two_caches_at_one_time_are_refused_and_one_after_the_other_are_not():
    with pytest.raises(ConfigError, match="do not work together: both decide which blocks a step runs"):
        modified(fresh("sd1"), [EncoderReuse(), DeepCache()])
    with modified(fresh("sd1"), [EncoderReuse(end=0.5), DeepCache(start=0.5)]) as run:
        assert run.methods == ("deep_cache", "encoder_reuse")
    with modified(fresh("sd1"), [EncoderReuse(hires_pass=False, img2img=False), DeepCache(first_pass=False)]):
        pass


def test_skipped_levels_reuse_what_they_carried():
    unet, plain = fresh("sd1"), fresh("sd1")
    steps = [inputs("sd1", seed=i, timestep=t) for i, t in enumerate((900, 850))]
    with modified(unet, [EncoderReuse(interval=2), SkipBlocks(middle=True, levels=1)]):
        result = [call(unet, step) for step in steps][1]
    # Level 4 is input blocks 9 to 11 and output blocks 0 to 2: what leaves input block 8 enters output block 3.
    skips = encode(plain, steps[0])[1][:9]
    emb, h = embed(plain, steps[1]["timesteps"], None), skips[8]
    for block in plain.output_blocks[3:]:
        h = block(torch.cat([h, skips.pop()], 1), emb, steps[1]["context"])
    assert torch.equal(result, plain.out(h))


def test_nothing_kept_under_another_method_is_reused_after_its_window():
    """Progress 0.1, 0.15, 0.2: the levels come back in what would be a reusing evaluation, which runs in full."""
    unet, plain = fresh("sd1"), fresh("sd1")
    steps = [inputs("sd1", seed=i, timestep=t) for i, t in enumerate((899.1, 849.15, 799.2))]
    with modified(unet, [EncoderReuse(interval=3), SkipBlocks(middle=True, levels=1, end=0.18)]):
        results = [call(unet, step) for step in steps]
    assert torch.equal(results[2], call(plain, steps[2]))


def test_nothing_kept_in_one_phase_of_a_method_is_reused_in_another():
    """RAU-Net ends at 0.18, between the evaluations at progress 0.15 and 0.2; the windows go on."""
    unet, hi_diffusion = fresh("sd1"), HiDiffusion(auto=False, above=0, conv_end=0.18)
    steps = [inputs("sd1", seed=i, timestep=t) for i, t in enumerate((899.1, 849.15, 799.2))]
    together, alone = ([EncoderReuse(interval=3), hi_diffusion], [hi_diffusion])
    results = []
    for configs in (together, alone):
        with modified(unet, configs):
            results.append([call(unet, step) for step in steps])
    assert not torch.equal(results[0][1], results[1][1])
    assert torch.equal(results[0][2], results[1][2])
