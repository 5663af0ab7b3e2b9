"""The picture's size beside the trained one, maps made smaller or larger, and Upsample layers that fit skip connections."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from unets import call, fresh, inputs

from lib_unetmod import SkipBlocks, inspect_unet, modified
from lib_unetmod.core.config import knobs
from lib_unetmod.core.depth import Depth
from lib_unetmod.core.edits import after
from lib_unetmod.core.knobs import knob
from lib_unetmod.core.patching import Edit, Installed
from lib_unetmod.core.registry import METHODS, method
from lib_unetmod.core.target import Target
from lib_unetmod.methods.resolution.large import LargeConfig, at_trained_size
from lib_unetmod.parts.maps.resize import RESIZE_METHODS, resize, scaled
from lib_unetmod.parts.maps.skip_connections import fit_upsample

methods = pytest.mark.parametrize("method", RESIZE_METHODS)


def seeded(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def test_a_target_beside_the_trained_size():
    target = Target(512, height=1024, width=512)
    assert (target.ratio_y, target.ratio_x) == (2, 1) and target.scale == math.sqrt(2)


@pytest.mark.parametrize("family, trained", [("sd1", 512), ("sdxl", 1024)])
def test_a_run_knows_its_target(family, trained):
    unet = fresh(family)
    with modified(unet, []) as run:
        assert run.methods == ()
    with modified(unet, [SkipBlocks(middle=True)]) as run:
        call(unet, inputs(family, height=16, width=24))
        assert run.target == Target(trained, 128, 192)
    with modified(unet, [SkipBlocks(middle=True)], trained_size=128) as run:
        call(unet, inputs(family, height=16, width=24))
        assert run.target.scale == math.sqrt(1.5) and not run.circular
        run.map.input_blocks[0].layers[0].module.padding_mode = "circular"
        assert run.circular


def test_resizing_by_hand():
    row = torch.tensor([[[[1.0, 2.0, 6.0, 7.0]]]])
    assert resize(row, (1, 2), "area").flatten().tolist() == [1.5, 6.5]
    assert resize(row, (1, 2), "nearest").flatten().tolist() == [2, 7]  # centres at 1 and 3: the cells that begin there
    assert resize(row, (1, 2), "bilinear").flatten().tolist() == [1.5, 6.5]
    assert resize(row, (1, 8), "bilinear").flatten().tolist() == [1, 1.25, 1.75, 3, 5, 6.25, 6.75, 7]
    # Between the last and the first cell, (7 + 1) / 2 = 4, there is no edge on a torus.
    assert resize(row, (1, 8), "bilinear", circular=True).flatten().tolist() == [2.5, 1.25, 1.75, 3, 5, 6.25, 6.75, 5.5]


@methods
@pytest.mark.parametrize("size", [(8, 8), (5, 3), (16, 24), (1, 1)])
@pytest.mark.parametrize("circular", (False, True))
def test_a_flat_map_stays_flat_and_dtypes_stay(method, size, circular):
    flat = torch.full((2, 3, 8, 8), 0.75, dtype=torch.bfloat16)
    out = resize(flat, size, method, circular)
    assert out.shape == (2, 3, *size) and out.dtype == torch.bfloat16
    assert (out.float() - 0.75).abs().max() < 1e-2
    out.zero_()
    assert (flat == 0.75).all()


@methods
@pytest.mark.parametrize("size", [(8, 8), (32, 32), (12, 20)])
def test_on_a_torus_rolling_before_and_after_is_the_same(method, size):
    x = seeded(1, 2, 16, 16)
    rolled = resize(x.roll((8, 8), (2, 3)), size, method, circular=True)
    expected = resize(x, size, method, circular=True).roll((size[0] // 2, size[1] // 2), (2, 3))
    torch.testing.assert_close(rolled, expected)
    inner = slice(size[0] // 2 - 1, size[0] // 2 + 1)  # which sees no edge
    torch.testing.assert_close(
        resize(x, size, method)[:, :, inner, inner], resize(x, size, method, True)[:, :, inner, inner]
    )


def test_scaled_sizes():
    assert scaled((17, 24), 2, 2) == (8, 12) and scaled((3, 64), 8, 0.5) == (1, 128)


@pytest.mark.parametrize("family", ("sd1", "sdxl"))
def test_upsamples_give_the_skip_connections_size(family):
    """A map cut to an odd size below the first Downsample comes back up through Upsamples alone."""
    unet = fresh(family)
    structure, entered, handed = inspect_unet(unet), {}, {}

    def cut(call, x, *args, **kwargs):
        return call(x[:, :, :7, :5], *args, **kwargs)

    def note(index):
        def noting(call, x, *args, **kwargs):
            entered[index] = tuple(x.shape[-2:])
            return call(x, *args, **kwargs)

        return noting

    def note_skip(index, out):
        handed[index] = tuple(out.shape[-2:])
        return out

    def next_skip(index):
        return handed.get(len(structure.input_blocks) - 2 - index)

    level_2 = [block for block in structure.input_blocks if block.level == 2]
    first = level_2[1]
    growing = structure.paired_output(first.index - 1).index - 1
    installed = Installed()
    with modified(unet, []) as run:
        for block in structure.input_blocks:
            installed.add([after(block.layers[-1].module, partial(note_skip, block.index))], "test", 0)
        installed.add([Edit(first.layers[0].module, cut)], "test", 0)
        for output in structure.output_blocks:
            installed.add(fit_upsample(output, run, partial(next_skip, output.index)), "test", 0)
            installed.add([Edit(output.layers[0].module, note(output.index))], "test", 0)
        installed.add([Edit(structure.output_blocks[growing].layers[-1].module, whole)], "test", -1)
        call(unet, inputs(family, height=16, width=16))
        installed.remove()
    levels = {block.index: block.level for block in structure.output_blocks}
    below = [index for index, level in levels.items() if index <= growing and level == 2]
    assert below and all(entered[index] == (7, 5) for index in below)
    assert all(entered[index] == (16, 16) for index, level in levels.items() if level == 1)


def whole(call, x, *args, **kwargs):
    return F.interpolate(call(x, *args, **kwargs), (8, 8))


@dataclass(frozen=True, kw_only=True)
class Enlarged(LargeConfig):
    """Adds `amount` to the middle's output; its auto takes the target's scale, and ends at half of the way."""

    amount: float = knob(0.5, "Amount", "Added.", low=0, high=9, step=0.1)

    def changes_nothing(self):
        return False

    def resolved(self, unet, target):
        return replace(self, auto=False, amount=round(target.scale, 1), end=0.5) if self.auto else self


@contextmanager
def registered() -> Iterator[None]:
    def edits(config, unet, run):
        def add(call, *args, **kwargs):
            amounts.append(run.resolved(config).amount)
            return call(*args, **kwargs).clone()

        yield Edit(unet.middle_block.layers[-1].module, add)

    method(Enlarged, title="Enlarged", benefit="", at=Depth.INNERMOST)(edits)
    amounts.clear()
    try:
        yield
    finally:
        del METHODS["enlarged"]


amounts: list[float] = []


def walked(config, sides, trained=128, timestep=900):
    unet = fresh("sd1")
    with registered(), modified(unet, [config], trained_size=trained) as run:
        for side in sides:
            call(unet, inputs("sd1", height=side, width=side, timestep=timestep))
    return amounts, run.notes


@pytest.mark.long
def test_autos_decide_by_the_pictures_size():
    assert walked(Enlarged(), [32]) == ([2], [])
    assert walked(Enlarged(), [32, 48]) == ([2, 3], [])
    assert walked(Enlarged(auto=False), [32]) == ([0.5], [])
    done, notes = walked(Enlarged(), [32], timestep=400)  # past the end that it chose
    assert done == [] and len(notes) == 1 and "ends at 0.5, and txt2img begins at 0.6" in notes[0]


@pytest.mark.parametrize("published", [0.16, 0.35, 0.6])
def test_models_of_small_pictures_decide_at_less_noise(published):
    """A quarter of the side, a quarter of the noise, of SD's betas; larger models go by the published ones."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    kept = (1 - betas).cumprod(0)
    sigmas = ((1 - kept) / kept).sqrt()
    quarter = sigmas[round((1 - published) * 999)] / 4
    timestep = (sigmas - quarter).abs().argmin().item()
    assert at_trained_size(published, Target(128, 256, 256)) == pytest.approx(1 - timestep / 999, abs=0.006)
    for trained in (512, 768, 1024):
        assert at_trained_size(published, Target(trained, 2048, 2048)) == published


@pytest.mark.parametrize("bound", [0.0, 1.0])
def test_never_and_always_are_so_at_every_trained_size(bound):
    assert at_trained_size(bound, Target(128, 256, 256)) == bound


def test_pictures_near_the_trained_size_are_left_alone_and_said_so():
    done, notes = walked(Enlarged(), [16, 8])
    assert done == [] and notes == [
        "Enlarged does nothing: 128x128 is not above 1.3 x native 128 px. Lower Minimum size to use it here."
    ]
    assert walked(Enlarged(above=0), [16]) == ([1], [])


def test_hires_fix_whose_second_pass_is_large_has_nothing_to_tell():
    assert walked(Enlarged(), [16, 32, 16]) == ([2], [])


@pytest.mark.parametrize("name", [name for name, one in METHODS.items() if issubclass(one.config, LargeConfig)])
@pytest.mark.parametrize("family", ("sd1", "sdxl"))
def test_autos_decide_what_they_say_and_nothing_else(name, family):
    config, unet = METHODS[name].config, inspect_unet(fresh(family))
    decided = {knob.name for knob in knobs(config) if knob.when == "not auto"}
    others = {knob.name: knob.low for knob in knobs(config) if knob.name in decided and knob.low is not None}
    for height, width in ((1024, 1024), (1536, 2048), (640, 1024), (4096, 4096)):
        target = Target(512, height, width)
        settled = config().resolved(unet, target)
        changed = {name for name, value in settled.values().items() if value != config().values()[name]}
        assert not settled.auto and changed <= decided | {"auto", "end"}
        assert config(**others).resolved(unet, target) == settled
