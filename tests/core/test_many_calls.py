"""Large pictures in tiles: many calls of the U-Net in each evaluation, each of which goes on from its own of the one before.

Tiled Diffusion makes 9 to 200 of them; cond and uncond may be called apart, which doubles their number.
"""

from __future__ import annotations

import gc
from dataclasses import replace

import pytest
import torch
from unets import FAMILIES, call, inputs

from lib_unetmod import DeepCache, EncoderReuse, SkipBlocks, TokenMerging, modified
from lib_unetmod.core.state import bytes_of

pytestmark = [pytest.mark.in_turn(60), pytest.mark.long]

TIMESTEPS = (900, 880, 860, 840)
EVALUATIONS = len(TIMESTEPS)
CACHES = {"deep_cache": DeepCache(interval=2, reach=1), "encoder_reuse": EncoderReuse(interval=2, reach=1)}
LINEAR = {name: replace(config, predictor="linear") for name, config in CACHES.items()}

caches = pytest.mark.parametrize("config", CACHES.values(), ids=CACHES)
of_many = pytest.mark.parametrize("calls", (9, 36, 200))


def tile(number, timestep):
    """One tile's input at a timestep: of one shape, as tiles are; one row, as when cond and uncond are called apart."""
    return inputs("sd1", batch=1, height=8, width=8, seed=1000 * number + timestep, timestep=timestep)


@pytest.fixture
def unet():
    """The small U-Net, which notes how often its middle block really runs."""
    unet = FAMILIES["sd1"]()
    ran = []
    hook = unet.middle_block[0].in_layers[0].register_forward_pre_hook(lambda module, args: ran.append(1))
    unet.ran = ran
    yield unet
    hook.remove()
    del unet.ran


def drawn(unet, configs, tiles, watch=lambda run: None, timesteps=TIMESTEPS, **how):
    """What each tile becomes, evaluation by evaluation, and the run. A host announces the evaluations."""
    with modified(unet, configs, **how) as run:
        results = []
        for timestep in timesteps:
            run.new_evaluation()
            results.append([call(unet, tile(number, timestep)) for number in tiles])
            watch(run)
    return [torch.cat(of_tile) for of_tile in zip(*results, strict=True)], run


@of_many
@caches
def test_every_tile_is_reused_and_is_what_it_is_alone(unet, config, calls):
    timesteps = TIMESTEPS if calls == 9 else TIMESTEPS[:2]
    together, run = drawn(unet, [config], range(calls), timesteps=timesteps)
    assert len(unet.ran) == calls * len(timesteps) // 2 and run.notes == []
    for number in {0, 7, 8, calls - 1}:
        (alone,), _ = drawn(unet, [config], [number], timesteps=timesteps)
        assert torch.equal(together[number], alone), number


def test_a_host_that_announces_nothing_is_reused_for_as_well(unet):
    with modified(unet, [CACHES["deep_cache"]]):
        for timestep in TIMESTEPS:
            for number in range(9):
                call(unet, tile(number, timestep))
    assert len(unet.ran) == 9 * EVALUATIONS // 2


@caches
def test_without_room_for_all_the_rest_runs_in_full_and_all_are_right(unet, config):
    _, alone = drawn(unet, [config], [0])
    unet.ran.clear()
    room, calls = 5, 12
    together, run = drawn(unet, [config], range(calls), keep_bytes=room * alone.kept_bytes + 1)
    assert len(unet.ran) == calls * EVALUATIONS - room * EVALUATIONS // 2
    assert run.kept_bytes == room * alone.kept_bytes
    (note,) = run.notes
    assert note.startswith(f"{config.title}: what is kept between steps has reached ") and "Memory limit" in note
    for number in (0, room - 1, room, calls - 1):
        (expected,), _ = drawn(unet, [config] if number < room else [], [number])
        assert torch.equal(together[number], expected), number


@pytest.mark.parametrize(
    "config", [*CACHES.values(), *LINEAR.values()], ids=[*CACHES, *(f"{name} linear" for name in LINEAR)]
)
def test_what_lives_is_bounded(unet, config):
    """Counted over all tensors that there are, not by what the run says of itself."""
    _, alone = drawn(unet, [config], [0])
    calls = 12
    limit, living = 4 * alone.kept_bytes, []
    gc.collect()
    before = bytes_alive()
    drawn(unet, [config], range(calls), watch=lambda run: living.append(bytes_alive() - before), keep_bytes=limit)
    # Beside what is kept: the evaluations' results, and what the last traversal holds until the next one begins.
    results = [evaluation * calls * bytes_of(tile(0, 900)["x"]) for evaluation in range(1, EVALUATIONS + 1)]
    assert all(alive - result <= limit + 2 * alone.kept_bytes for alive, result in zip(living, results, strict=True))
    assert max(living) > 0.5 * limit


def bytes_alive():
    return sum(bytes_of(one) for one in gc.get_objects() if type(one) is torch.Tensor)


def test_nothing_may_be_kept_at_all(unet):
    together, run = drawn(unet, [CACHES["deep_cache"]], range(3), keep_bytes=0)
    plain, _ = drawn(unet, [], range(3))
    assert all(torch.equal(one, other) for one, other in zip(together, plain, strict=True))
    assert run.kept_bytes == 0 and len(run.notes) == 1


def test_methods_that_keep_for_each_other_are_refused_together(unet):
    """A span that is skipped takes up in the decoder what a cache of the encoder did not run: both know it or neither."""
    skipping = SkipBlocks(middle=True, levels=2)
    kept = [CACHES["encoder_reuse"], skipping, TokenMerging(min_width=0, refresh=2)]
    in_full = [skipping, TokenMerging(min_width=0, refresh=1)]
    _, alone = drawn(unet, kept, [0])
    together, run = drawn(unet, kept, range(6), keep_bytes=int(2.5 * alone.kept_bytes))
    assert run.kept_bytes <= 2.5 * alone.kept_bytes and len(run.notes) == 1
    for number, picture in enumerate(together):
        (expected,), _ = drawn(unet, kept if number < 2 else in_full, [number])
        assert torch.equal(picture, expected), number
