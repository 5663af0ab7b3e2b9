"""`modified(unet, configs)`: the methods act on the U-Net inside the `with`, and are gone after it whatever happens."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from . import tables
from .acting import Applied, Seen, why_nothing
from .attention_readers import AttentionReaders
from .call import Guidance, HostCall, Rows
from .call_rows import CallRows, rows_of_call
from .clock import Clock, Traversal
from .composition import in_order
from .config import Config
from .depth import Depth
from .edits import DecoderEdit, NetworkEdit
from .foreign import empty_reference_banks, inside_layers, replaced_attentions
from .knobs import ConfigError, shortened
from .patching import Edit, Installed, watch_calls, what_is_on
from .registry import method_of
from .rescue import Failure, Rescue
from .schedule import PASSES, ProgressRange
from .size import Size, size_of
from .state import Ledger, PerPass, PerStream, PerTraversal
from .target import PIXELS, TRAINED, Target
from .unet_call import UNetCall
from .unet_map import UNetMap, inspect_unet

C = TypeVar("C", bound=Config)
P = TypeVar("P")
S = TypeVar("S")
T = TypeVar("T")


class Run:
    """One use of `modified`: which methods are on, the clock, what is kept, what the host says, and the notes.

    Attributes:
        map: what the U-Net has (`UNetMap`).
        clock: evaluations, traversals and progress (`Clock`).
        notes: sentences for the user, each once: where a method stood aside, and why; at the end also which did nothing.
        vae: the autoencoder that decodes the latents, for the methods that act on it too; None where there is none.
        call: what the host says of its next calls (`HostCall`); `guidance`, `prediction` and `last_pass` set parts of it.
        left_out: the rows of the host's call whose unconditional ones no layer computes in this traversal, if any.
        first_size: height and width of the latent of txt2img's first pass, None before it.
        predicted: numbers of the evaluations in which no layer ran.
        plans: by pass, a letter an evaluation: where that was planned to be so.
    """

    def __init__(
        self,
        unet: nn.Module,
        configs: Sequence[Config],
        call: HostCall,
        timesteps: int,
        vae: nn.Module | None,
        trained_size: int | None,
        keep_bytes: int | None = None,
    ) -> None:
        self.map: UNetMap = inspect_unet(unet)
        self.clock = Clock(timesteps)
        self.notes: list[str] = []
        self.vae = vae
        self.call = call
        self.begin_pass(call.pass_name, call.evaluations)
        self.first_size: Size | None = None
        self.predicted: set[int] = set()
        self.plans: dict[str, str] = {}
        self.left_out: PerTraversal[Rows | None] = PerTraversal(self.clock, lambda: None)
        self._resolved: PerTraversal[dict[Config, Config]] = PerTraversal(self.clock, dict)
        self._ledger = Ledger(self.clock, keep_bytes, self.notes)
        self._shared: dict[Callable[[Run], Any], Any] = {}
        self._trained_size = trained_size
        self._seen = Seen()
        self._called = UNetCall()
        self._rows: PerTraversal[CallRows | None] = PerTraversal(self.clock, lambda: None)
        self._inside: PerTraversal[list[str] | None] = PerTraversal(self.clock, lambda: None)
        self._readers = AttentionReaders()
        self._failed = False
        self._asking = ""
        self._walked_call_input = False
        self._followed = unet
        self._asked = [Applied(method_of(config), config) for config in in_order(configs)]
        self._applied = list(self._asked)
        self._installed = Installed()
        self._attention_edited: set[str] = set()
        self._undo: list[Callable[[], None]] = []

    @property
    def methods(self) -> tuple[str, ...]:
        """Names of the methods that are on, in the order in which they apply; neutral ones are not on."""
        return tuple(applied.method.name for applied in self._applied)

    @property
    def acted(self) -> dict[str, int]:
        """In how many traversals each of the methods that were asked for changed something, so far in this run."""
        return {applied.method.name: applied.acted for applied in self._asked}

    @property
    def traversal(self) -> Traversal:
        return self.clock.traversal

    @property
    def target(self) -> Target:
        """The picture of the current traversal beside the U-Net's trained size."""
        height, width = self.traversal.latent_size
        return Target(self._trained_size or TRAINED[self.map.family], PIXELS * height, PIXELS * width)

    @property
    def circular(self) -> bool:
        """Whether the picture is a torus now: a host's tiling pictures pad convolutions circularly."""
        return getattr(self.map.input_blocks[0].layers[0].module, "padding_mode", "") == "circular"

    # What the host says.

    @property
    def pass_name(self) -> str:
        """The pass of the next traversals: "first", "hires" or "img2img"."""
        return self.call.pass_name

    @property
    def guidance(self) -> Guidance | None:
        """How the rows of the host's next calls belong together, None where that is not known."""
        return self.call.guidance

    @guidance.setter
    def guidance(self, guidance: Guidance | None) -> None:
        self.call = replace(self.call, guidance=guidance)

    @property
    def prediction(self) -> str:
        """What the U-Net predicts: "eps", the noise, or "v"."""
        return self.call.prediction

    @prediction.setter
    def prediction(self, prediction: str) -> None:
        self.call = replace(self.call, prediction=prediction)

    @property
    def last_pass(self) -> bool:
        """Whether what this pass draws is the picture."""
        return self.call.last_pass

    @last_pass.setter
    def last_pass(self, last_pass: bool) -> None:
        self.call = replace(self.call, last_pass=last_pass)

    def told(self, call: HostCall) -> None:
        """Take in what a host says of its next calls, which pass they belong to among it."""
        self.begin_pass(call.pass_name)
        self.call = call
        self.clock.evaluations = call.evaluations

    def begin_pass(self, pass_name: str, evaluations: int | None = None) -> None:
        """Say which pass the next traversals belong to: "first", "hires" or "img2img".

        Args:
            evaluations: how many the pass makes; its first one is the next then.
        """
        if pass_name not in PASSES:
            raise ConfigError(f"pass_name is {pass_name!r}; it takes {' or '.join(PASSES)}.")
        if evaluations is not None and (type(evaluations) is not int or evaluations < 1):
            raise ConfigError(f"evaluations is {shortened(evaluations)}; it takes a whole number from 1, or None.")
        if pass_name != self.call.pass_name:
            self.end_pass()
        if evaluations is not None:
            self.clock.begin_pass(evaluations)
        self.call = replace(self.call, pass_name=pass_name, evaluations=self.clock.evaluations)

    def end_pass(self) -> None:
        """Let go of all that is kept for further evaluations: the pass's last one is done, and decoding may follow."""
        self._let_go()
        self.clock.begin_pass(None)

    def _let_go(self) -> None:
        self._ledger.clear()
        empty_reference_banks(self.map)
        self.clock.end_traversals()
        self._called = UNetCall()
        self._readers.pass_begins()

    def new_evaluation(self) -> None:
        """For hosts that know: the sampler calls its denoiser now. See `Clock`."""
        self.clock.new_evaluation()

    # For methods.

    @property
    def called_with(self) -> UNetCall:
        """The host's current call of the U-Net."""
        return self._called

    def resolved(self, config: C) -> C:
        """`config` with everything decided that it leaves to the U-Net and to the current traversal's size."""
        decided = self._resolved.get()
        if config not in decided:
            decided[config] = config.resolved(self.map, self.target)
        return decided[config]

    def within(self, bounds: ProgressRange) -> bool:
        """Whether the current evaluation lies in these bounds. Reads the timestep only where that decides."""
        return bounds.always or (not bounds.empty and bounds.holds(self.clock.progress))

    def note(self, sentence: str) -> None:
        """Tell the user something, once however often it happens."""
        if sentence not in self.notes:
            self.notes.append(sentence)

    def rows(self, batch: int) -> CallRows:
        """What is known of the rows of the current traversal, of which there are `batch`."""
        if self._rows.get() is None:
            self._rows.set(rows_of_call(self.guidance, self._called.options, self._called.context, batch))
        return self._rows.get()

    @property
    def needs_all_rows(self) -> str:
        """Why no row may be missing inside layers, as the end of a sentence: who acts there; empty where nobody does."""
        if self._inside.get() is None:
            self._inside.set(inside_layers(self.map, self._called.options))
        names = self._inside.get()
        return f"{_and(names)} needs the negative prompt too." if names else ""

    def generator(self, key: str) -> torch.Generator:
        """A new generator on the CPU, the same for equal keys within one evaluation, from the seed given to `modified`.

        Cond and uncond called apart draw the same from it; torch's global random state is untouched.
        """
        told = f"{self.call.seed} {self.pass_name} {self.clock.evaluation} {key}"
        return torch.Generator().manual_seed(zlib.crc32(told.encode()))

    def per_traversal(self, make: Callable[[], T]) -> PerTraversal[T]:
        """A slot for a value of the current traversal."""
        slot = PerTraversal(self.clock, make)
        self._ledger.slots.append(slot)
        return slot

    def per_pass(self, make: Callable[[], T]) -> PerPass[T]:
        """A slot for a value of the current pass."""
        slot = PerPass(make)
        self._ledger.slots.append(slot)
        return slot

    def per_stream(self, make: Callable[[], S], tensors: Callable[[S], Iterable[Tensor]] | None = None) -> PerStream[S]:
        """A slot for what is kept from one evaluation to the next, apart for each stream of traversals.

        `tensors` gives those that a state holds, for their bytes to be counted; None where it holds none. Streams for which
        there is no room have no state.
        """
        slot = PerStream(self.clock, self._ledger, make, tensors, self._asking)
        self._ledger.slots.append(slot)
        return slot

    def shared(self, part: Callable[[Run], P]) -> P:
        """The one `part(run)` of this run, which several methods share: what one notes, another reads."""
        if part not in self._shared:
            self._shared[part] = part(self)
        return self._shared[part]

    def picture_done(self) -> tuple[str, ...]:
        """Tell of each method that did nothing to the picture, and why; leaving the run without an exception does so too.

        Returns the names of these methods. Not among them are those of which the host does all that they are for.
        """
        found = [applied for applied in self._asked if not applied.acted]
        picture = self._seen.as_upcoming(self.clock) if found else None
        idle = [(applied.method, one) for applied in found if not (one := why_nothing(applied, picture)).needless]
        for method, one in idle:
            # A note that an error stopped them stands for all of them.
            if not self._failed and not any(name in note for name in method.names for note in self.notes):
                self.note(one.why)
        return tuple(method.name for method, _ in idle)

    @property
    def kept_bytes(self) -> int:
        """Bytes of tensors that all methods together kept between evaluations, at their most so far in this run."""
        return self._ledger.peak_bytes

    def follow(self, unet: nn.Module) -> None:
        """Leave the U-Net of before and go on with `unet`: a refiner or another checkpoint has taken its place.

        Methods that the new U-Net refuses are left out with a note, and come back with a U-Net that takes them.

        Raises:
            UnsupportedUNet: nothing is on then, until a U-Net is followed that can be modified.
        """
        if unet is self._followed:
            return
        self._leave()
        self._followed = unet
        self.map = inspect_unet(unet)
        self._applied = []
        for asked in self._asked:
            try:
                self._planned([asked])
                self._applied.append(asked)
            except ConfigError as error:
                self.note(f"Left out after the model changed: {error}")
        self._enter()

    def check(self) -> None:
        """Ask all methods for their edits, and install none.

        Raises:
            ConfigError: for what entering would raise it for.
        """
        self._refuse_twice()
        self._planned(self._applied)
        self._forget_slots()

    def __enter__(self) -> Run:
        self._enter()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if kind is None:
                self.picture_done()
        finally:
            self._leave()

    def _enter(self) -> None:
        self._forget_slots()
        if not self._applied:
            return
        self._refuse_twice()
        # All methods are asked before the first module is touched, so that a refusal leaves nothing behind.
        planned = self._planned(self._applied)
        edited = {edit.module for _, edits in planned for edit in edits}
        self._attention_edited = self._kinds_of_attention(edited)
        tables.run_begins()
        self._undo.append(tables.run_ends)
        try:
            self._undo.append(watch_calls(self.map.unet, self._unet_called))
            rescue = Rescue(self.map, self._call_plainly, self._stand_aside)
            self._installed.add(rescue.edits(edited), "rescue", Depth.RESCUE)
            begin = Edit(self.map.input_blocks[0].layers[0].module, self._traversal_begins)
            self._installed.add([begin], "clock", Depth.CLOCK)
            for applied, edits in planned:
                self._installed.add(edits, applied.method.name, applied.method.at)
        except BaseException:
            self._leave()
            raise

    def _leave(self) -> None:
        self._installed.remove()
        while self._undo:
            self._undo.pop()()
        self._let_go()
        self.clock.traversal = Traversal()
        self._walked_call_input = False
        self._forget_slots()

    def _forget_slots(self) -> None:
        """Slots know the methods that made them, and these know the run: they would be garbage in cycles."""
        self._ledger.close()
        self._shared.clear()

    def _planned(self, asked: Iterable[Applied]) -> list[tuple[Applied, list[Edit]]]:
        return [(applied, list(self._guarded(applied))) for applied in asked]

    def _refuse_twice(self) -> None:
        on_now = {owner for owners in what_is_on(self.map.unet).values() for owner in owners}
        for applied in self._applied:
            if applied.method.name in on_now:
                raise ConfigError(
                    f"{applied.config.title} is already on this U-Net; leave the run that put it there before another."
                )

    def _guarded(self, applied: Applied) -> Iterator[Edit]:
        self._asking = applied.config.title
        for edit in applied.method.edits(applied.config, self.map, self):
            if isinstance(edit, NetworkEdit):
                yield edit
                continue
            runs = self._finishes if isinstance(edit, DecoderEdit) else _is_active
            yield Edit(edit.module, applied.guarded(edit.wrapper, partial(runs, applied)), edit.at)

    def _finishes(self, applied: Applied) -> bool:
        return self.last_pass and applied.config.acts_in(self.pass_name)

    def _kinds_of_attention(self, edited: Iterable[nn.Module]) -> set[str]:
        inner = [one for block in self.map.blocks for one in block.transformer_blocks]
        kinds = {one.self_attention: "attn1" for one in inner} | {one.cross_attention: "attn2" for one in inner}
        return {kinds[module] for module in edited if module in kinds}

    def _unet_called(self, args: tuple, kwargs: dict) -> None:
        self._called = UNetCall(args, kwargs).kept()
        if self._called.timesteps is not None:
            self.clock.at_timestep(self._called.timesteps)
        self._installed.put_back_lost()
        self._see_replaced_attentions()

    def _see_replaced_attentions(self) -> None:
        """The forks' extensions can put a function in an attention's place, which is called instead of its forward."""
        replaced = replaced_attentions(self._called.options)
        for kind, functions in replaced.items():
            if kind in self._attention_edited:
                self.note(f"{_and(functions.values())} replaces {kind}; UNet Mod has no effect in those layers.")
        self._readers.called(replaced)
        if self._readers.late and not all(applied.method.keeps_maps for applied in self._applied):
            self.note(f"{_and(self._readers.late)} changes the middle block, and can do less where blocks are left out.")

    def _call_plainly(self) -> Tensor:
        """What the U-Net gives as it was called, with no method acting."""
        self._failed = True
        self._ledger.clear()
        try:
            return self._called.kept().made_again(self.map.unet)
        except BaseException:
            self._failed = False
            raise

    def _stand_aside(self, failure: Failure) -> None:
        self.note(
            f"{failure.reason} stopped all methods: the rest of this image is drawn without them. The console shows more."
        )

    @contextmanager
    def coming_traversal(self) -> Iterator[None]:
        """Inside, all is as it will be in the traversal that walks the input of the U-Net's current call.

        For what a host runs in the call before it enters a layer. Where a method does not act then, it has no state here.
        """
        before, walked = self.traversal, self._walked_call_input
        active = [applied.active for applied in self._applied]
        try:
            self._begin_traversal(self._called.x)
            yield
        finally:
            self.clock.traversal, self._walked_call_input = before, walked
            for applied, was in zip(self._applied, active, strict=True):
                applied.traversal_begins(was)

    def _traversal_begins(self, call: Callable[..., Tensor], x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        self._begin_traversal(x)
        return call(x, *args, **kwargs)

    def _begin_traversal(self, x: Tensor) -> None:
        self.clock.new_traversal()
        traversal = self.traversal
        traversal.place = self._place(x)
        traversal.latent_size = size_of(x)
        self._ledger.device, self._ledger.moving = x.device, self.call.moving
        if self.pass_name == "first":
            self.first_size = traversal.latent_size
        if traversal.continues:
            self._seen.traversal(self.map, self.target, self.clock, self.call, guided=self._may_be_guided(len(x)))
        for applied in self._applied:
            applied.traversal_begins(active=self._is_for_now(applied))
        # What one set of methods kept is not for another: where a window or a phase begins, caches begin anew.
        acting = [applied for applied in self._applied if applied.active]
        traversal.told_doing = partial(self._doing, acting)

    def _doing(self, acting: Sequence[Applied]) -> Hashable:
        """What acts on a traversal besides the prompt, ours and others'."""
        phases = ((one.method.name, self._phase(one.config)) for one in acting)
        return (*phases, self._called.controlled, self.call.conditions())

    def _may_be_guided(self, batch: int) -> bool:
        """Whether unconditional rows may be among those of the call. Nothing is read for it."""
        conditional = rows_of_call(self.guidance, self._called.options, None, batch).conditional
        return conditional is None or not all(conditional)

    def _phase(self, config: Config) -> Hashable:
        config = self.resolved(config)
        return config.cache_key(self.clock.progress) if config.has_phases else None

    def _is_for_now(self, applied: Applied) -> bool:
        """Whether a method is to act in this traversal: by its passes, its window and the picture's size."""
        config = applied.config
        if self._failed or not config.acts_in(self.pass_name):
            return False
        config = self.resolved(config)
        if not self.within(config.window):
            return False
        if self._readers.names and not applied.method.keeps_maps:
            self.note(f"{config.short or config.title} is off: {_and(self._readers.names)} reads the middle block.")
            return False
        return not config.held_back(self.target)

    def _place(self, x: Tensor) -> Hashable | None:
        """What a traversal of `x` continues; None for one of other data than the U-Net was called with.

        ControlNet's reference pass walks the blocks with a picture of its own before it walks them with the call's input,
        and may stop doing so half-way. Hosts that convert the input give no sign of that; there the order in the evaluation
        decides.
        """
        same_place = (self.traversal.call, tuple(x.shape), x.dtype, x.device)
        called_with = self._called.x
        if called_with is not None and called_with.data_ptr() == x.data_ptr() and called_with.shape == x.shape:
            self._walked_call_input = True
            return same_place
        return None if self._walked_call_input else (self.traversal.ordinal, *same_place)


def modified(
    unet: nn.Module,
    configs: Iterable[Config],
    *,
    pass_name: str = "first",
    timesteps: int = 1000,
    seed: int = 0,
    vae: nn.Module | None = None,
    trained_size: int | None = None,
    call: HostCall | None = None,
    keep_bytes: int | None = None,
    evaluations: int | None = None,
) -> Run:
    """Modify `unet` inside a `with` statement.

    Args:
        unet: the ldm, sgm or Forge U-Net module, as a host calls it.
        configs: settings of the methods, in any order; they apply in the one order in which they compose.
        pass_name: "first", "hires" or "img2img"; `Run.begin_pass` changes it on the way.
        timesteps: T, the length of the training schedule to which the U-Net's timesteps belong.
        seed: the picture's, from which methods that draw at random take their generators.
        vae: the autoencoder that will decode the latents inside the `with`, for the methods that act on it too.
        trained_size: side in pixels of the square at which the model was trained; None for that of the U-Net's family.
        call: what a host says of its calls, in place of `pass_name`, `seed` and `evaluations`.
        keep_bytes: the most that methods may keep from one evaluation to the next, all together; None for a quarter of what
            is free on the device. What there is no room for runs in full, which is noted.
        evaluations: how many evaluations the first pass makes, where that is known: for methods that go by a plan.

    Raises:
        UnsupportedUNet: for a module that is no such U-Net.
        ConfigError: for settings that cannot be used, naming the one to change; the U-Net is untouched then.
    """
    call = call or HostCall(pass_name=pass_name, seed=seed, evaluations=evaluations)
    if keep_bytes is not None and (type(keep_bytes) is not int or keep_bytes < 0):
        raise ConfigError(f"keep_bytes is {shortened(keep_bytes)}; it takes a whole number from 0, or None.")
    return Run(unet, list(configs), call, timesteps, vae, trained_size, keep_bytes)


def _and(names: Iterable[str]) -> str:
    return " and ".join(dict.fromkeys(names))


def _is_active(applied: Applied) -> bool:
    return applied.active
