from __future__ import annotations

import gc
import itertools
from collections import Counter

import pytest
import torch
from probe import probe_registered

from lib_unetmod import Config

# The tensors are too small for a second thread to pay; processes run side by side instead (pytest -n).
torch.set_num_threads(1)


_tests = itertools.count(1)


def pytest_addoption(parser):
    parser.addoption("--quick", action="store_true", help="of each test one case")


def pytest_configure(config):
    config.pluginmanager.register(InTurn())
    config.pluginmanager.register(LongFirst())


class InTurn:
    """Of the cases of a test marked `in_turn(k)`, or whose file is, one of k is for every day, and the others are slow.

    For every day are those too that a name (a method's, also of its config, a family's, a host's) would not be met without.
    Cases that are slow anyway do not count.
    """

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items):
        seen, met, numbers = Counter(), set(), {}
        for item in items:
            marker = item.get_closest_marker("in_turn")
            if marker is None or item.get_closest_marker("slow") or not hasattr(item, "callspec"):
                continue
            (of,) = marker.args
            test = (item.parent.nodeid, item.originalname)
            named = {name: _name_of(value) for name, value in item.callspec.params.items()}
            names = {(test, name, value) for name, value in named.items() if value is not None}
            # One of each k neighbours, and in each test another one: else all would leave out the same family and methods.
            turn = seen[test] + seen[test] // of + numbers.setdefault(test, len(numbers))
            if turn % of and names <= met:
                item.add_marker(pytest.mark.slow)
            else:
                met |= names
            seen[test] += 1


class LongFirst:
    """Files with long tests first: so no process ends with them while the others have nothing left."""

    def pytest_collection_modifyitems(self, items):
        long = {item.path for item in items if item.get_closest_marker("long")}
        items.sort(key=lambda item: item.path not in long)


def _name_of(value):
    """None of what is no name."""
    return type(value) if isinstance(value, Config) else value if isinstance(value, str) else None


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config, items):
    """With --quick, one case of each test, of those that markers and -k have left, and in each test another one."""
    if not config.getoption("--quick"):
        return
    cases = {}
    for item in items:
        cases.setdefault((item.parent.nodeid, getattr(item, "originalname", item.name)), []).append(item)
    kept = {id(of_test[number % len(of_test)]) for number, of_test in enumerate(cases.values())}
    config.hook.pytest_deselected(items=[item for item in items if id(item) not in kept])
    items[:] = [item for item in items if id(item) in kept]


@pytest.fixture(scope="session", autouse=True)
def _libraries_are_no_garbage():
    """Without them a collection takes milliseconds."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _copies_of_unets_are():
    """A test's copies of U-Nets lie in cycles. They are few objects, so that Python lets gigabytes of them gather.

    What is left then belongs to all tests, and looking through it again takes a quarter of a second.
    """
    yield
    if next(_tests) % 10 == 0:
        gc.collect()
        gc.freeze()


@pytest.fixture
def probe():
    """The throw-away method `Probe`, registered for one test."""
    with probe_registered() as config:
        yield config


@pytest.fixture(scope="session", autouse=True)
def _no_file_in_the_users_cache(tmp_path_factory):
    """What is computed once and cached as data goes to a folder of the tests' own."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def _global_random_state_untouched():
    """No test and nothing it calls may move the global random state, on which a sampler's noise depends."""
    before = torch.random.get_rng_state()
    yield
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.fixture(autouse=True)
def _no_gradients():
    with torch.no_grad():
        yield
