from __future__ import annotations

import gc
import itertools

import pytest
import torch
from probe import probe_registered

# The tensors are too small for a second thread to pay; processes run side by side instead (pytest -n).
torch.set_num_threads(1)


_tests = itertools.count(1)


def pytest_addoption(parser):
    parser.addoption(
        "--quick", action="store_true", help="of each test the first case; of one that runs over configs, one of each method"
    )


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config, items):
    """With --quick, leave out the cases of a test that differ from its first in parameters alone.

    Last, so that the first is one of those that markers and -k have left.
    """
    if not config.getoption("--quick"):
        return
    kept, left_out, known = [], [], set()
    for item in items:
        parameters = item.callspec.params if hasattr(item, "callspec") else {}
        case = (item.parent.nodeid, getattr(item, "originalname", item.name), type(parameters.get("config")))
        (left_out if case in known else kept).append(item)
        known.add(case)
    config.hook.pytest_deselected(items=left_out)
    items[:] = kept


@pytest.fixture(scope="session", autouse=True)
def _libraries_are_no_garbage():
    """Without them a collection takes milliseconds."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _copies_of_unets_are():
    """A test's copies of U-Nets lie in cycles. They are few objects, so that Python lets gigabytes of them gather."""
    yield
    if next(_tests) % 10 == 0:
        gc.collect()


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
