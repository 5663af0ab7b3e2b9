"""What a run keeps: for a traversal, for a pass, from one evaluation to the next; what goes, and when."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from unets import FAMILIES, call, fresh, inputs

from lib_unetmod import ConfigError, DeepShrink, EncoderReuse, FreeU, HostCall, modified
from lib_unetmod.core import memory, tables
from lib_unetmod.core.clock import Clock
from lib_unetmod.core.state import MOST_EVALUATIONS_UNMET, MOST_STREAMS, bytes_of
from tests.contract import contract_configs

CACHE = EncoderReuse(interval=2, reach=1)


def drawn(unet, run, timesteps):
    for timestep in timesteps:
        run.new_evaluation()
        call(unet, inputs("sd1", timestep=timestep))


class Stores:
    """A run of no methods' own whose traversals are begun by hand."""

    def __init__(self, probe, keep_bytes=None, make=lambda: torch.zeros(2, 3)):
        self.run = modified(FAMILIES["sd1"](), [], keep_bytes=keep_bytes)
        self.kept = self.run.per_stream(make, lambda state: state if isinstance(state, list) else [state])

    def begin(self, place, doing=(), evaluation=True):
        if evaluation:
            self.run.new_evaluation()
        self.run.clock.new_traversal()
        self.run.traversal.place = place
        self.run.traversal.told_doing = lambda: doing
        return self.run.traversal


@pytest.fixture
def stores(probe):
    return Stores(probe)


def test_values_of_a_traversal_go_with_it(stores):
    slot = stores.run.per_traversal(list)
    stores.begin("a")
    slot.get().append(1)
    assert slot.get() == [1] and slot.take() == [1] and slot.get() == []
    slot.set([2])
    stores.begin("a", evaluation=False)
    assert slot.get() == []


def test_a_state_is_met_again_under_its_key_alone(stores):
    stores.begin("a")
    first = stores.kept.get()
    assert stores.kept.get() is first
    stores.begin("b", evaluation=False)
    assert stores.kept.get() is not first
    stores.begin("a").split("rows")
    assert stores.kept.get() is not first
    stores.begin("a", evaluation=False)
    assert stores.kept.get() is first
    assert len(stores.kept) == 3
    stores.begin(None)
    assert stores.kept.get() is None and stores.run.traversal.state_key is None


def test_what_the_same_place_did_before_is_let_go(stores):
    stores.begin("a", doing="first phase")
    stores.kept.get()
    stores.begin("b", doing="first phase", evaluation=False)
    other = stores.kept.get()
    stores.begin("a", doing="second phase")
    stores.kept.get()
    assert len(stores.kept) == 2
    stores.begin("b", doing="first phase", evaluation=False)
    assert stores.kept.get() is other


def test_states_not_met_in_the_last_evaluations_are_let_go(stores):
    stores.begin("now and then")
    kept = stores.kept.get()
    for _ in range(MOST_EVALUATIONS_UNMET):
        stores.begin("always")
        stores.kept.get()
    assert len(stores.kept) == 2
    for _ in range(5):
        stores.begin("none asked for")  # evaluations that a cache answers count for nothing
    stores.begin("now and then")
    assert stores.kept.get() is kept
    for _ in range(MOST_EVALUATIONS_UNMET + 1):
        stores.begin("always")
        stores.kept.get()
    assert len(stores.kept) == 1


def kept_at(stores, places, evaluation=True):
    """At which of these places, met in this order in one evaluation, something is kept."""
    kept = []
    for place in places:
        stores.begin(place, evaluation=evaluation)
        evaluation = False
        if stores.kept.get() is not None:
            stores.kept.count()
            kept.append(place)
    return kept


def test_streams_for_which_there_is_no_room_are_refused_and_the_old_ones_stay(probe):
    stores = Stores(probe, keep_bytes=3 * 24)
    for _ in range(3):
        assert kept_at(stores, range(7)) == [0, 1, 2]
    assert len(stores.kept) == 3 and stores.run.kept_bytes == 3 * 24
    (note,) = stores.run.notes
    assert "Memory limit" in note and "keep_bytes" in note and "0 MB" in note
    stores.run.end_pass()
    assert len(stores.kept) == 0 and stores.kept.bytes_held == 0 and stores.run.kept_bytes == 3 * 24
    assert kept_at(stores, [9, 8, 7, 6]) == [9, 8, 7]


def test_one_stream_that_is_larger_than_all_the_room_is_not_kept(probe):
    stores = Stores(probe, keep_bytes=23)
    assert kept_at(stores, [0]) == [0]  # how large it is shows when it is there
    assert len(stores.kept) == 0 and stores.run._ledger.bytes_held == 0
    assert kept_at(stores, [0, 1]) == [] and stores.run.kept_bytes == 0 and len(stores.run.notes) == 1


def test_streams_that_grow_are_let_go_of_when_they_outgrow_the_room(probe):
    stores = Stores(probe, keep_bytes=4 * 24, make=list)
    for _ in range(3):
        stores.run.new_evaluation()
        for place in range(4):
            stores.begin(place, evaluation=False)
            if (state := stores.kept.get()) is not None:
                state[:] = [*state[-1:], torch.zeros(2, 3)]  # the last two, as a straight line through them needs
                stores.kept.count()
                assert stores.run._ledger.bytes_held <= 4 * 24
    assert [stores.run._ledger.bytes_held, len(stores.kept)] == [4 * 24, 2]


def test_all_slots_of_a_run_keep_a_stream_or_none_does(probe):
    stores = Stores(probe, keep_bytes=48)
    other = stores.run.per_stream(lambda: torch.zeros(2, 3), lambda tensor: [tensor])
    for place in range(3):
        stores.begin(place, evaluation=place == 0)
        assert (stores.kept.get() is None) == (place > 0)
        stores.kept.count()
        assert (other.get() is None) == (place > 0)
        other.count()
    assert len(stores.kept) == len(other) == 1 and stores.run._ledger.bytes_held == 48
    # One slot's count lets go of what the others keep for that stream, and none begins it anew in the same traversal.
    stores = Stores(probe, keep_bytes=47)
    other = stores.run.per_stream(lambda: torch.zeros(2, 3), lambda tensor: [tensor])
    stores.begin(0)
    for slot in (stores.kept, other):
        slot.get()
        slot.count()
    assert stores.kept.get() is None and other.get() is None and stores.run._ledger.bytes_held == 0


def test_room_that_becomes_free_is_given_to_others(probe):
    stores = Stores(probe, keep_bytes=24)
    assert kept_at(stores, ["a", "b"]) == ["a"]
    for _ in range(MOST_EVALUATIONS_UNMET + 1):
        kept = kept_at(stores, ["b"])
    assert kept == ["b"] and stores.run._ledger.bytes_held == 24


def test_streams_are_bounded_in_number_whatever_they_hold(probe):
    stores = Stores(probe, make=lambda: torch.zeros(0))
    assert len(kept_at(stores, range(MOST_STREAMS + 3))) == MOST_STREAMS
    (note,) = stores.run.notes
    assert "Use larger tiles" in note and len(stores.kept) == MOST_STREAMS


def test_by_itself_a_quarter_of_what_is_free_is_used_asked_once_a_pass(probe, monkeypatch):
    free = [4 * 3 * 24, 4 * 24]
    monkeypatch.setattr(memory, "free_bytes", lambda device: free.pop(0))
    stores = Stores(probe)
    assert [kept_at(stores, range(5)), kept_at(stores, range(5))] == [[0, 1, 2]] * 2
    stores.run.begin_pass("hires")
    assert kept_at(stores, range(5)) == [0] and free == []


@pytest.mark.parametrize("wrong", (-1, 1.5, True, "1"), ids=str)
def test_a_limit_that_is_none_is_refused(wrong):
    with pytest.raises(ConfigError, match="keep_bytes is"):
        modified(FAMILIES["sd1"](), [], keep_bytes=wrong)


def test_bytes_without_an_attribute_of_newer_torches():
    assert bytes_of(torch.zeros(3, 5, dtype=torch.float16)) == 30


@pytest.mark.long
def test_a_glide_of_sizes_keeps_no_more_than_one_cache():
    """Deep Shrink's smooth exit begins a new phase in each evaluation; 8 of them were held, 7 times the memory."""

    def kept(configs):
        unet = fresh("sd1")
        with modified(unet, configs) as run:
            drawn(unet, run, range(990, 400, -40))
        return run.kept_bytes

    alone = kept([CACHE])
    assert 0.5 * alone < kept([CACHE, DeepShrink(auto=False, above=0, smooth=1, end=0.7)]) <= alone


def test_what_is_kept_is_let_go_when_the_pass_ends():
    unet = fresh("sd1")
    with modified(unet, [CACHE]) as run:
        drawn(unet, run, (900, 880))
        assert run._ledger.bytes_held > 0
        run.begin_pass("first")
        assert run._ledger.bytes_held > 0
        run.begin_pass("hires")
        assert run._ledger.bytes_held == 0 and not run.traversal.slots
        drawn(unet, run, (900, 880))
        run.end_pass()
        assert run._ledger.bytes_held == 0 and not run.traversal.slots


def test_another_unet_keeps_no_more_than_the_first():
    first, second = fresh("sd1"), fresh("sd1")
    with modified(first, [CACHE]) as run:
        drawn(first, run, (900, 880))
        kept = run.kept_bytes
        run.follow(second)
        drawn(second, run, (860, 840))
    assert run.kept_bytes == kept > 0


def test_caches_go_on_after_following_to_a_unet_that_converts_its_input():
    first, second = fresh("sd1"), fresh("sd1")
    ran, middle, begin = [], second.middle_block[0].forward, second.input_blocks[0].forward
    second.middle_block[0].forward = lambda *args, **kwargs: (ran.append(1), middle(*args, **kwargs))[1]
    second.input_blocks[0].forward = lambda x, *args, **kwargs: begin(x.clone(), *args, **kwargs)
    with modified(first, [CACHE]) as run:
        drawn(first, run, (900,))
        run.follow(second)
        drawn(second, run, (880, 860, 840, 820))
    assert len(ran) == 2


def test_the_timestep_is_read_for_those_who_ask(monkeypatch):
    asked, read = [], Clock.timestep.fget
    monkeypatch.setattr(Clock, "timestep", property(lambda clock: (asked.append(1), read(clock))[1]))
    unet = fresh("sd1")
    for config, reads in ((FreeU(), False), (FreeU(end=0.5), True), (FreeU(soft=0.1, end=0.9), True)):
        with modified(unet, [config]) as run:
            asked.clear()
            drawn(unet, run, (900,))
            assert bool(asked) == reads, config
    with modified(unet, [FreeU()]) as run:  # evaluations that are not announced are told apart by it
        call(unet, inputs("sd1", timestep=900))
        call(unet, inputs("sd1", timestep=880))
        assert run.clock.evaluation == 1


def test_tables_are_kept_while_a_run_is_on():
    unet = fresh("sd1")
    with modified(unet, [FreeU()]) as outer:
        drawn(unet, outer, (900,))
        kept = tables.count()
        assert kept > 0
        drawn(unet, outer, (880,))
        assert tables.count() == kept
        other = fresh("sd1")
        with modified(other, [CACHE]) as inner:
            drawn(other, inner, (900,))
        assert tables.count() == kept
    assert tables.count() == 0
    assert _table_of(3) is not _table_of(3) and tables.count() == 0


@tables.table
def _table_of(number):
    return torch.zeros(number)


@pytest.mark.parametrize("config", contract_configs(others_slow=True))
def test_a_unet_goes_with_its_last_reference(config):
    """Without waiting for a collection of cycles, which may come long after another checkpoint was loaded."""
    call(FAMILIES["sd1"](), inputs("sd1"))  # what hosts import on their first call keeps frames
    unet = fresh("sd1")
    gc.collect()
    gc.disable()
    try:
        with modified(unet, [config], call=HostCall(seed=1)) as run:
            drawn(unet, run, (900, 880))
        gone = weakref.ref(unet)
        del unet, run
        assert gone() is None
    finally:
        gc.enable()
