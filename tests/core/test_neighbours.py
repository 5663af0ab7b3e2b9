"""Every method beside every other extension's way of touching the U-Net: a right picture, or a sentence and theirs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import pytest
import torch
from contract import contract_configs, neutral, snapshot
from hosts import HOSTS
from neighbours import NEIGHBOURS, Neighbour
from torch import Tensor, nn
from unets import FAMILIES, inputs

from lib_unetmod import GuidanceInterval, ScaleCrafter, modified, what_is_on
from lib_unetmod.core.call import Guidance
from lib_unetmod.core.composition import conflict

pytestmark = pytest.mark.in_turn(60)

#: Methods that take rows apart. The contract's other configs do the same to all rows.
ROWS_AT_ONE = GuidanceInterval()
DAMPED = ScaleCrafter(auto=False, above=0, noise_damped=True)
UNDAMPED = ScaleCrafter(auto=False, above=0)
BY_ROWS = {"guidance_interval": ROWS_AT_ONE, "scale_crafter damped": DAMPED}

#: By what a case is called: the first config of each method, and the others.
FIRST = {case.id.rpartition("-")[0]: case.values[0] for case in contract_configs() if case.id.endswith("-0")}
OTHERS = {case.id: case.values[0] for case in contract_configs() if not case.id.endswith("-0")}

#: Of neighbours that touch a U-Net alike one is quick to test; the others are left to the slow tests.
SELDOM = (
    "ip_adapter_left",
    "reference_put_back",
    "control_large",
    "tiles_apart",
    "tiles_36",
    "tiles_200",
    "lora_functional",
    "animatediff_16",
    "sag_reforge",
    "attn1_patch_reforge",
    "fork_control_classic",
    "fork_control_reforge",
)
#: Several calls an evaluation are something only to what keeps anything, and to rows.
MANY_CALLS = ("tiles", "tile_batches")
#: Beside these each method has a quick case of its own: of all at once one that speaks would hide one that does not.
APART = ("deepcache", "attn1_patch")
ASKS_FOR_CALLS = ("deep_cache", "encoder_reuse", "token_merging", "guidance_interval", "skip_blocks")


def together() -> tuple:
    """The first config of each method, but of those that exclude each other the first one."""
    chosen = []
    for config in FIRST.values():
        if not any(conflict(config, other) for other in chosen):
            chosen.append(config)
    return tuple(chosen)


def beside(quick: dict, neighbours=tuple(NEIGHBOURS), slow: dict | None = None, apart: dict | None = None):
    """Parameters for each case of configs, neighbour and family.

    Beside each neighbour a quarter of the configs in turn is quick, and beside each config a quarter of the neighbours.

    Args:
        slow: cases for slow tests only, as all cases of SDXL are.
        apart: the same, but quick beside some neighbours.
    """
    cases = []
    for turn, (called, given) in enumerate({**quick, **(slow or {}), **(apart or {})}.items()):
        configs = given if isinstance(given, tuple) else (given,)
        for place, name in enumerate(neighbours):
            seldom = name in SELDOM or (name in MANY_CALLS and called not in ASKS_FOR_CALLS)
            is_quick = called in quick or (called in (apart or {}) and name in APART)
            is_quick = is_quick and (len(quick) < 4 or (turn + place) % 4 == 0)
            for family in ("sd1", "sdxl"):
                marks = [pytest.mark.slow] if seldom or family == "sdxl" or not is_quick else []
                cases.append(pytest.param(configs, name, family, id=f"{called}-{name}-{family}", marks=marks))
    return pytest.mark.parametrize("configs, name, family", cases)


@cache
def prepared(host: str, family: str, of: str) -> nn.Module:
    """A U-Net as the host has it. All neighbours that leave nothing share one; `of` names one that does."""
    return HOSTS[host].prepare(FAMILIES[family]())


@contextmanager
def on(neighbour: Neighbour, family: str) -> Iterator[nn.Module]:
    """A U-Net that the neighbour is on."""
    name = neighbour.name if neighbour.leaves or neighbour.stays else ""
    try:
        unet = prepared(neighbour.host, family, name)
        with neighbour.on(unet):
            yield unet
    except BaseException:
        prepared.cache_clear()
        raise


def steps(neighbour: Neighbour, family: str) -> list[dict]:
    height, width = neighbour.size
    return [
        inputs(family, batch=2 * neighbour.frames, height=height, width=width, seed=i, timestep=900 - 20 * i)
        for i in range(neighbour.evaluations)
    ]


def drawn(neighbour: Neighbour, unet: nn.Module, family: str, configs: tuple = ()) -> tuple[list[Tensor], list[str]]:
    """The evaluations of one picture, and the notes under it."""
    scale = 1.0 if ROWS_AT_ONE in configs else 7.0
    outs = []
    with modified(unet, configs) as run:
        run.guidance = Guidance(scale, neighbour.conditional_of)
        for step in steps(neighbour, family):
            run.new_evaluation()
            neighbour.begin_evaluation(unet)
            outs.append(neighbour.evaluate(unet, step))
    return outs, run.notes


def afterwards(neighbour: Neighbour, unet: nn.Module, family: str) -> Tensor:
    """What a U-Net draws when the neighbour's picture is done."""
    return neighbour.alone().evaluate(unet, steps(neighbour, family)[0])


@cache
def theirs(name: str, family: str) -> tuple[list[Tensor], dict[str, list[str]], Tensor]:
    """A neighbour's picture without us, what it leaves on a U-Net, and what that draws then."""
    neighbour = NEIGHBOURS[name]()
    with on(neighbour, family) as unet:
        outs, _ = drawn(neighbour, unet, family)
    return outs, names(unet), afterwards(neighbour, unet, family)


@cache
def ours(configs: tuple, family: str, host: str, size, frames: int, evaluations: int) -> tuple[list[Tensor], list[str]]:
    """Our picture without a neighbour."""
    nobody = Neighbour(0.0)
    nobody.host, nobody.size, nobody.frames, nobody.evaluations = host, size, frames, evaluations
    with on(nobody, family) as unet:
        return drawn(nobody, unet, family, configs)


def as_of(twin: Neighbour, family: str, configs: tuple = ()) -> tuple[list[Tensor], list[str]]:
    if type(twin) is Neighbour:
        return ours(configs, family, twin.host, twin.size, twin.frames, twin.evaluations)
    with on(twin, family) as unet:
        return drawn(twin, unet, family, configs)


def names(unet: nn.Module) -> dict[str, list[str]]:
    """Which attributes and how many hooks stand on each module."""
    hooks = ("_forward_hooks", "_forward_pre_hooks")
    return {
        path: [*sorted(vars(module)), *(str(len(vars(module)[hook])) for hook in hooks)]
        for path, module in unet.named_modules()
    }


def identities(unet: nn.Module, neighbour: Neighbour) -> dict[str, tuple]:
    """`contract.snapshot` without what the neighbour sets while the U-Net runs."""
    return {
        path: (cls, tuple(one for one in attributes if one[0] not in neighbour.writes), *others)
        for path, (cls, attributes, *others) in snapshot(unet).items()
    }


def same(a: list[Tensor], b: list[Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def close(a: list[Tensor], b: list[Tensor]) -> bool:
    return all(torch.allclose(x, y, rtol=1e-3, atol=1e-4) for x, y in zip(a, b, strict=True))


def conditional(outs: list[Tensor], neighbour: Neighbour) -> list[Tensor]:
    """The rows of the prompt."""
    return [out[sorted(set(neighbour.conditional_of))] for out in outs]


# The stand-ins.


@beside({"nobody": ()})
def test_a_neighbour_draws_what_its_twin_does(configs, name, family):
    """With a strength of 0 that is the plain picture, however much is touched. With one of 1 it is another."""
    for neighbour in (NEIGHBOURS[name](), NEIGHBOURS[name](0.0)):
        if neighbour.twin() is not None:
            assert close(as_of(neighbour, family)[0], as_of(neighbour.twin(), family)[0])
    does_nothing = neighbour.stays and not neighbour.rows_by_place
    assert same(theirs(name, family)[0], as_of(neighbour.alone(), family)[0]) == does_nothing


# Ours beside theirs.


@beside({"neutral": tuple({type(config): neutral(config) for config in (*FIRST.values(), ROWS_AT_ONE)}.values())})
def test_neutral_methods_leave_a_neighbours_picture_alone(configs, name, family):
    neighbour = NEIGHBOURS[name]()
    with on(neighbour, family) as unet:
        outs, notes = drawn(neighbour, unet, family, configs)
    assert same(outs, theirs(name, family)[0]) and not notes


@beside({**FIRST, **BY_ROWS}, slow=OTHERS)
def test_acts_or_says_why_not_and_leaves_no_trace(configs, name, family):
    neighbour = NEIGHBOURS[name]()
    picture, left, plain = theirs(name, family)
    with on(neighbour, family) as unet:
        before = identities(unet, neighbour)
        outs, notes = drawn(neighbour, unet, family, configs)
        assert neighbour.comes_inside or identities(unet, neighbour) == before

    assert all(out.shape == theirs.shape and out.isfinite().all() for out, theirs in zip(outs, picture, strict=True))
    assert notes or not same(outs, picture)
    assert notes or not neighbour.missed, neighbour.missed
    if configs == (ROWS_AT_ONE,):
        # At a scale of 1 the guided result is the prompt's, which is never to change.
        assert close(conditional(outs, neighbour), conditional(picture, neighbour))

    assert what_is_on(unet) == {} and names(unet) == left
    if neighbour.writes or family != "sd1":
        assert torch.equal(afterwards(neighbour, unet, family), plain)


_twins = {name: next((one for one in (cls(), cls(0.0)) if one.twin()), None) for name, cls in NEIGHBOURS.items()}


_with_twin = [name for name, one in _twins.items() if one]


@beside({"all": together(), **BY_ROWS}, _with_twin, slow=OTHERS, apart=FIRST)
def test_is_as_beside_a_twin_that_nothing_gets_in_the_way_of(configs, name, family):
    """Without a sentence the picture is the twin's with ours: of what changes nothing, ours alone.

    With a sentence some of ours may act. Of rows all are taken apart, or none.
    """
    strength = _twins[name].strength
    neighbour = NEIGHBOURS[name](strength)
    with on(neighbour, family) as unet:
        outs, notes = drawn(neighbour, unet, family, configs)
    alike, notes_alike = as_of(NEIGHBOURS[name](strength).twin(), family, configs)
    as_alike = close(outs, alike)
    if set(notes) <= set(notes_alike):
        assert as_alike
    elif configs in ((ROWS_AT_ONE,), (DAMPED,)):
        aside = ((),) if configs == (ROWS_AT_ONE,) else ((UNDAMPED,), ())
        assert as_alike or any(close(outs, as_of(NEIGHBOURS[name](strength).twin(), family, one)[0]) for one in aside)


# Rows apart.

_by_place = [name for name, cls in NEIGHBOURS.items() if cls().rows_by_place]
_each_for_itself = [name for name in NEIGHBOURS if name not in _by_place]


@beside(BY_ROWS, _by_place)
def test_rows_stay_together_where_a_neighbour_takes_them_by_place(configs, name, family):
    """The picture is the neighbour's, bit for bit (or the undamped method's beside it), and a note names it."""
    neighbour, expected = NEIGHBOURS[name](), theirs(name, family)[0]
    with on(neighbour, family) as unet:
        outs, notes = drawn(neighbour, unet, family, configs)
    if configs == (DAMPED,):
        other = NEIGHBOURS[name]()
        with on(other, family) as unet:
            expected, _ = drawn(other, unet, family, (UNDAMPED,))
    assert same(outs, expected)
    stood_there = type(neighbour).mro()[1].__module__.rpartition(".")[2]
    assert any(stood_there in note for note in notes), notes


@beside(BY_ROWS, _each_for_itself)
def test_rows_are_taken_apart_beside_others(configs, name, family):
    """What has ended is no reason not to, nor is what was never inside a layer."""
    neighbour = NEIGHBOURS[name]()
    with on(neighbour, family) as unet:
        _, notes = drawn(neighbour, unet, family, configs)
    assert not (notes and neighbour.stays)
    if configs == (ROWS_AT_ONE,) and not notes:
        of = list(neighbour.conditional_of)
        assert all(torch.equal(out, out[of]) for out in neighbour.answers if len(out) == len(of))
