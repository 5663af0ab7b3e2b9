"""Drawing: evaluations counted, randomness kept, methods on while it lasts and off after it."""

from __future__ import annotations

import pytest
import torch
from PIL import Image
from small_model import same, settings

from lib_unetmod import GuidanceInterval, SkipBlocks, StepForecast, what_is_on
from lib_unetmod.core.call import Guidance
from lib_unetmod.core.depth import Depth
from lib_unetmod.core.patching import Edit
from lib_unetmod.core.registry import method
from lib_unetmod.playground.comparing import compare
from lib_unetmod.playground.distance import distance
from lib_unetmod.playground.report import table, times_line
from lib_unetmod.playground.samplers import SAMPLERS
from lib_unetmod.playground.sampling import draw


def count_calls(unet):
    calls = []
    return calls, unet.register_forward_pre_hook(lambda _, args: calls.append(len(args[0])))


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_evaluations_are_counted_exactly(sampler, model):
    calls, hook = count_calls(model.unet)
    progress = []
    try:
        picture = draw(model, settings(sampler=sampler, steps=3), progress=lambda *now: progress.append(now))
    finally:
        hook.remove()
    expected = 5 if sampler in ("heun", "dpm++sde") else 3
    assert len(calls) == picture.evaluations == picture.settings.evaluations == expected
    assert progress == [(n, expected) for n in range(1, expected + 1)]


@pytest.mark.parametrize(("strength", "evaluations"), [(0.0, 1), (0.05, 1), (0.5, 2), (0.75, 3), (1.0, 4)])
def test_strength_gives_the_number_of_evaluations(strength, evaluations, model):
    start = Image.new("RGB", (90, 50), "red")
    picture = draw(model, settings(steps=4, strength=strength, image=start))
    assert picture.evaluations == evaluations and picture.image.size == (64, 64)


def test_guidance_takes_both_prompts_in_one_batch_and_none_at_1(model):
    calls, hook = count_calls(model.unet)
    try:
        guided = draw(model, settings(cfg=4.0, negative_prompt="owl"))
        plain = draw(model, settings(cfg=1.0, negative_prompt="owl"))
    finally:
        hook.remove()
    assert calls == [2, 2, 1, 1]
    assert any("negative prompt" in note for note in plain.notes) and not guided.notes


@pytest.mark.parametrize("sampler", ["euler", "euler-a", "lcm"])
def test_a_seed_is_a_picture(sampler, model):
    first, again, other = (draw(model, settings(sampler=sampler, seed=seed)) for seed in (5, 5, 6))
    assert same(first, again) and not same(first, other)


def test_a_drawn_seed_is_told_and_drawn_with(model):
    picture = draw(model, settings(seed=-1))
    assert picture.settings.seed >= 0
    assert same(picture, draw(model, settings(seed=picture.settings.seed)))


def test_times_add_up(model):
    timings = draw(model, settings()).timings
    parts = (timings.text_encoder, timings.unet, timings.vae)
    assert all(part > 0 for part in parts) and sum(parts) <= timings.total
    assert timings.rest == pytest.approx(timings.total - sum(parts))


def test_notes_tell_of_sizes_and_unknown_words(model):
    picture = draw(model, settings(prompt="red zeppelin", width=70))
    assert picture.image.size == (128, 64)
    assert any("70x64" in note and "128x64" in note for note in picture.notes)
    assert any("zeppelin" in note and "red" not in note.split() for note in picture.notes)


def test_a_step_is_called_so_where_it_is_one_evaluation(model):
    assert times_line(draw(model, settings(steps=3))).startswith("3 steps of ")
    assert times_line(draw(model, settings(steps=3, sampler="heun"))).startswith("5 U-Net calls of ")


def test_how_many_steps_were_run_is_said_where_some_were_not(model):
    plain, half = (draw(model, settings(steps=4), configs) for configs in ((), [StepForecast(plan="FPFP")]))
    assert times_line(half).startswith("4 steps (2 run) of ") and half.plans == {"first": "FPFP"}
    assert "<td>4</td><td>2 of 4 run</td>" in table(plain, half)


def test_transparent_pictures_begin_on_white(model):
    clear, white = Image.new("RGBA", (64, 64), (255, 0, 0, 0)), Image.new("RGB", (64, 64), "white")
    assert same(*(draw(model, settings(image=image)) for image in (clear, white)))


def test_neutral_settings_give_the_same_picture_bit_for_bit(model):
    comparison = compare(model, settings(), [SkipBlocks()])
    assert same(comparison.plain, comparison.modified) and comparison.distance.identical


def test_a_method_changes_the_picture_and_leaves_the_unet_as_it_was(model):
    before = draw(model, settings())
    comparison = compare(model, settings(), [SkipBlocks(middle=True, levels=2)])
    assert not comparison.distance.identical
    assert what_is_on(model.unet) == {}
    assert same(before, comparison.plain) and same(before, draw(model, settings()))


def test_an_exception_on_the_way_leaves_the_unet_as_it_was(model):
    on = []

    def stop(done, total):
        on.append(what_is_on(model.unet))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        draw(model, settings(), [SkipBlocks(middle=True)], progress=stop)
    assert on[0] and what_is_on(model.unet) == {}


def test_img2img_is_the_pass_it_says(model):
    only_txt2img = [SkipBlocks(levels=2, img2img=False)]
    start = Image.new("RGB", (64, 64), "red")
    assert compare(model, settings(image=start), only_txt2img).distance.identical
    assert not compare(model, settings(), only_txt2img).distance.identical


@pytest.mark.parametrize("image", [None, Image.new("RGB", (64, 64), "red")], ids=["txt2img", "img2img"])
def test_the_run_spans_the_autoencoder_and_knows_seed_and_rows(image, model, monkeypatch, probe):
    runs, on = [], []

    def edits(config, unet, run):
        runs.append(run)
        yield Edit(unet.middle_block.layers[-1].module, lambda call, *args, **kwargs: call(*args, **kwargs))

    method(probe, title="Probe", benefit="", at=Depth.INNERMOST)(edits)
    for name in ("encode_image", "decode"):
        original = getattr(model, name)
        monkeypatch.setattr(model, name, lambda x, original=original: (on.append(what_is_on(model.unet)), original(x))[1])
    draw(model, settings(cfg=4.0, seed=8, image=image), [probe(factor=2)])
    assert len(on) == (1 if image is None else 2) and all(on)
    assert runs[0].vae is model.vae and runs[0].call.seed == 8 and runs[0].guidance == Guidance(4.0, (1, 1))
    draw(model, settings(cfg=1.0), [probe(factor=2)])
    assert runs[1].guidance == Guidance(1.0, (0,))


def test_guidance_in_no_interval_draws_with_the_prompt_alone(model):
    prompt_alone = draw(model, settings(cfg=1.0))
    nowhere = draw(model, settings(cfg=4.0), [GuidanceInterval(guide_from=0, guide_to=0)])
    guided = draw(model, settings(cfg=4.0))
    assert distance(nowhere.image, prompt_alone.image).psnr > 50 > distance(guided.image, prompt_alone.image).psnr
    assert not nowhere.notes


def test_what_is_kept_is_reported_where_something_is(model, probe):
    def edits(config, unet, run):
        store = run.per_stream(lambda: torch.zeros(785_000), lambda tensor: [tensor])

        def keep(call, *args, **kwargs):
            store.get()
            store.count()
            return call(*args, **kwargs)

        yield Edit(unet.middle_block.layers[-1].module, keep)

    method(probe, title="Probe", benefit="", at=Depth.INNERMOST)(edits)
    plain, keeping = draw(model, settings()), draw(model, settings(), [probe(factor=2)])
    assert (plain.kept_bytes, keeping.kept_bytes) == (0, 3_140_000) and same(plain, keeping)
    assert "kept" not in times_line(plain) and times_line(keeping).endswith("; kept between steps: 3.1 MB")
    assert "kept between" not in table(plain, plain)
    assert "Memory kept between steps</th><td>0.0 MB</td><td>3.1 MB</td>" in table(plain, keeping)
