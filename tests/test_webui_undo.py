"""The undo at the WebUI's edge: the methods act while `p.sample` runs, and nothing is left whatever ends it."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest
import torch
import webui_stubs
from contract import snapshot
from unets import fresh
from webui_stubs import ENTRY, SKIP, P, generate, loaded, sd_unet, shared

from lib_unetmod import what_is_on
from lib_unetmod.selection import INFOTEXT_NOTE
from lib_unetmod.webui import api, sampling, settings


@pytest.fixture(autouse=True)
def fresh_webui():
    webui_stubs.reset()
    yield
    assert sampling._current is None


@pytest.fixture(scope="module")
def sd1():
    return fresh("sd1")


@pytest.fixture(scope="module")
def sdxl():
    return fresh("sdxl")


def test_acts_while_sampling_and_leaves_nothing(sd1):
    before, plain = snapshot(sd1), generate(P([sd1]))
    p = P([sd1])
    on = generate(p, SKIP)
    assert not torch.equal(on[0], plain[0]) and all(count for _, count in p.seen)
    assert p.extra_generation_params == {"Size": "64x64", ENTRY: "middle=true; levels=1"}
    assert snapshot(sd1) == before and "sample" not in vars(p)
    assert torch.equal(generate(P([sd1]))[0], plain[0])


@pytest.mark.parametrize("error", [RuntimeError("broken"), KeyboardInterrupt(), GeneratorExit(), MemoryError()])
def test_undone_whatever_ends_the_sampling(sd1, error):
    before = snapshot(sd1)
    with pytest.raises(type(error)):
        generate(P([sd1], ends_with=error), SKIP)
    assert snapshot(sd1) == before and sampling._current is None


def test_a_shadow_acts_once_and_then_passes_on(sd1):
    p = P([sd1])
    shared.sd_model = loaded(sd1)
    sampling.prepare(p, api.read([SKIP], settings.read()))
    sampling.arm(p)
    kept = p.sample
    kept()
    kept()
    p.sample()
    assert [count > 0 for _, count in p.seen] == [True, True, False, False, False, False]


def test_batches_and_reused_p_are_modified_once_each(sd1):
    p = P([sd1], steps=1)
    generate(p, SKIP)
    sampling.arm(p)
    p.sample()
    generate(p, SKIP)
    assert len({count for _, count in p.seen}) == 1


def test_a_copied_p_samples_itself(sd1):
    p = P([sd1])
    sampling.prepare(p, api.read([SKIP], settings.read()))
    sampling.arm(p)
    cell = copy.copy(p)
    cell.seen = []
    generate(cell)
    assert cell.seen and not p.seen and all(count == 0 for _, count in cell.seen)


@pytest.mark.parametrize("first", [True, False])
def test_a_foreign_shadow_survives(sd1, first):
    p, calls = P([sd1], steps=1), []

    def put_on_foreign() -> None:
        original = p.sample
        p.sample = lambda: calls.append(1) or original()

    shared.sd_model = loaded(sd1)
    sampling.prepare(p, api.read([SKIP], settings.read()))
    steps = [put_on_foreign, lambda: sampling.arm(p)]
    for step in steps if first else reversed(steps):
        step()
    foreign = vars(p)["sample"] if not first else None
    p.sample()
    p.sample()
    assert calls == [1, 1] and [count > 0 for _, count in p.seen] == [True, False]
    assert foreign is None or vars(p)["sample"] is foreign


def test_follows_a_refiner_and_says_what_it_refuses(sd1, sdxl):
    before = snapshot(sd1), snapshot(sdxl)
    p = P([sd1, sdxl])
    shared.sd_model = loaded(sd1)

    def sample() -> None:
        for unet in (sd1, sdxl, sd1):
            shared.sd_model = loaded(unet)
            sampling.on_cfg_denoiser(None)
            p.seen.append(("", len(what_is_on(unet))))

    p.sample = sample
    sampling.prepare(p, api.read([{"skip_blocks": {"levels": 3}}], settings.read()))
    sampling.arm(p)
    p.sample()
    assert [count > 0 for _, count in p.seen] == [True, False, True]
    assert "levels is 3" in p.extra_generation_params[INFOTEXT_NOTE]
    assert (snapshot(sd1), snapshot(sdxl)) == before


def test_a_method_that_is_refused_leaves_the_others_on(sdxl, probe):
    p = P([sdxl])
    p.family = "sdxl"
    generate(p, {"skip_blocks": {"levels": 3}, "probe": {"factor": 2}, "unknown": {}})
    assert all(count for _, count in p.seen)
    assert p.extra_generation_params["UNet Mod probe"] == "factor=2" and ENTRY not in p.extra_generation_params
    note = p.extra_generation_params[INFOTEXT_NOTE]
    assert "levels is 3" in note and "unknown" in note and len(p.comments) == 2


def test_passes_are_announced(sd1):
    p = P([sd1], steps=1, hires=True)
    generate(p, SKIP)
    assert [name for name, _ in p.seen] == ["first", "hires"]
    p = P([sd1], steps=1)
    p.init_images = [object()]
    generate(p, SKIP)
    assert [name for name, _ in p.seen] == ["img2img"]


def test_inner_generation_during_sampling_keeps_the_outer_run(sd1):
    outer = P([sd1], steps=1)
    sample = outer.sample

    def with_inner() -> None:
        run = sampling._current.run
        generate(P([sd1], steps=1), SKIP)
        assert sampling._current.run is run
        sample()

    outer.sample = with_inner
    generate(outer, SKIP)
    assert all(count for _, count in outer.seen)


@pytest.mark.parametrize(
    ("unet", "word"),
    [(torch.nn.Linear(2, 2), "only the U-Nets of Stable Diffusion"), (None, "no U-Net")],
)
def test_a_model_that_cannot_be_modified_is_said(unet, word):
    p = P([unet])
    p.sample = lambda: "picture"
    assert generate(p, SKIP) == "picture"
    assert word in p.extra_generation_params[INFOTEXT_NOTE] and ENTRY not in p.extra_generation_params
    assert any(word in comment for comment in p.comments)


def test_live_sd_unet_and_rivals_are_said_once(sd1, capsys):
    sd_unet.current_unet = SimpleNamespace(option=SimpleNamespace(label="TRT"))
    p = P([sd1])
    generate(p, SKIP)
    assert "TRT" in p.extra_generation_params[INFOTEXT_NOTE] and all(count == 0 for _, count in p.seen)
    sd_unet.current_unet = None
    p = P([sd1])
    p.get_token_merging_ratio = lambda for_hr=False: 0.5
    generate(p, SKIP)
    sampling.arm(p)
    p.sample()
    assert capsys.readouterr().out.count("token merging") == 1
    assert p.extra_generation_params[ENTRY] and "token merging" in p.extra_generation_params[INFOTEXT_NOTE]


def test_cells_of_a_plot_do_not_share_our_entries(sd1):
    p = P([sd1])
    on, off = copy.copy(p), copy.copy(p)
    generate(on, axes={"skip_blocks.levels": "2"})
    generate(off, axes={"skip_blocks.levels": "2", "switch": "false"})
    assert on.extra_generation_params[ENTRY] == "levels=2"
    assert off.extra_generation_params == {"Size": "64x64"} == p.extra_generation_params
