"""`modified(unet, configs)`: the methods act on the U-Net inside the `with`, and are gone after it whatever happens."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from .clock import Clock, Traversal
from .composition import in_order
from .config import Config
from .depth import Depth
from .knobs import ConfigError
from .patching import Edit, Installed, Wrapper, watch_calls, what_is_on
from .registry import Method, method_of
from .schedule import PASSES
from .streams import Streams
from .target import PIXELS, TRAINED, Target
from .unet_map import UNetMap, inspect_unet

C = TypeVar("C", bound=Config)


@dataclass(frozen=True)
class Guidance:
    """What a host says of its batch: classifier-free guidance's scale, and which rows it joins.

    Attributes:
        scale: of classifier-free guidance; at 1 the unconditional rows do not count.
        partner: (B,) for each row of a call the row that holds the same picture's conditional input; a conditional row is
            its own partner. Calls of another batch size are not described.
        reason: where the host cannot tell partners, why, as a sentence for the user.
    """

    scale: float
    partner: tuple[int, ...] = ()
    reason: str = ""


@dataclass(frozen=True, eq=False)
class Finishing(Edit):
    """An edit of the autoencoder for finished pictures: it acts on what is decoded in the last of a picture's passes.

    It keeps to the passes of its method but not to its window, which is about evaluations.
    """


@dataclass(eq=False)
class _Applied:
    """One method in a run. `active` is decided when a traversal begins, so that no walk is half modified."""

    method: Method
    config: Config
    active: bool = False


class Run:
    """The state of one use of `modified`: which methods are on, the clock, the pass and the notes.

    Attributes:
        map: what the U-Net has (`UNetMap`).
        clock: evaluations, traversals and progress (`Clock`).
        notes: sentences for the user, each once: where a method stood aside, and why.
        vae: the autoencoder that decodes the latents, for the methods that act on it too; None where there is none.
        guidance: what the host said of the rows of its calls, None where it said nothing.
        prediction: what the U-Net predicts, as the host says: "eps", the noise, or "v".
        last_pass: whether what this pass draws is the picture, as the host says, and not what another pass begins with.
        first_size: height and width of the latent of txt2img's first pass, None before it.
    """

    def __init__(
        self,
        unet: nn.Module,
        configs: Sequence[Config],
        pass_name: str,
        timesteps: int,
        seed: int,
        vae: nn.Module | None,
        trained_size: int | None,
    ) -> None:
        self.map: UNetMap = inspect_unet(unet)
        self.clock = Clock(timesteps)
        self.notes: list[str] = []
        self.vae = vae
        self.guidance: Guidance | None = None
        self.prediction = "eps"
        self.last_pass = True
        self.first_size: tuple[int, int] | None = None
        self.pass_name = ""
        self._seed = seed
        self._trained_size = trained_size
        self._held_back: dict[str, str] = {}
        self._streams: list[Streams[Any]] = []
        self._shared_streams: dict[Callable[[], Any], Streams[Any]] = {}
        self._called_with: Tensor | None = None
        self._walked_call_input = False
        self.begin_pass(pass_name)
        self._followed = unet
        self._asked = [_Applied(method_of(config), config) for config in in_order(configs)]
        self._applied = list(self._asked)
        self._installed = Installed()
        self._attention_edited: set[str] = set()
        self._unwatch: Callable[[], None] | None = None

    @property
    def methods(self) -> tuple[str, ...]:
        """Names of the methods that are on, in the order in which they apply; neutral ones are not on."""
        return tuple(applied.method.name for applied in self._applied)

    @property
    def traversal(self) -> Traversal:
        return self.clock.traversal

    @property
    def target(self) -> Target:
        """The picture of the current traversal beside the U-Net's trained size."""
        height, width = self.traversal.latent_size
        return Target(self._trained_size or TRAINED[self.map.family], PIXELS * height, PIXELS * width)

    @property
    def wraps(self) -> bool:
        """Whether the picture is a torus now: a host's tiling pictures pad convolutions circularly."""
        return getattr(self.map.input_blocks[0].layers[0].module, "padding_mode", "") == "circular"

    def begin_pass(self, pass_name: str) -> None:
        """Say which pass the next traversals belong to: "first", "hires" or "img2img"."""
        if pass_name not in PASSES:
            raise ConfigError(f"pass_name is {pass_name!r}; it takes {' or '.join(PASSES)}.")
        if pass_name != self.pass_name:
            self._forget()
        self.pass_name = pass_name

    def new_evaluation(self) -> None:
        """For hosts that know: the sampler calls its denoiser now. See `Clock`."""
        self.clock.new_evaluation()

    def settled(self, config: C) -> C:
        """`config` with everything decided that it leaves to the U-Net and to the current traversal's size."""
        memory = self.traversal.memory
        if config not in memory:
            memory[config] = config.settled(self.map, self.target)
        return memory[config]

    def note(self, sentence: str) -> None:
        """Tell the user something, once however often it happens."""
        if sentence not in self.notes:
            self.notes.append(sentence)

    def generator(self, key: str) -> torch.Generator:
        """A new generator on the CPU, the same for equal keys within one evaluation, from the seed given to `modified`.

        Cond and uncond called apart draw the same from it; torch's global random state is untouched.
        """
        told = f"{self._seed} {self.pass_name} {self.clock.evaluation} {key}"
        return torch.Generator().manual_seed(zlib.crc32(told.encode()))

    def streams(self, new: Callable[[], Any]) -> Streams[Any]:
        """A store for what a method keeps from one evaluation to the next; see `Streams`."""
        store = Streams(self, new)
        self._streams.append(store)
        return store

    def shared_streams(self, new: Callable[[], Any]) -> Streams[Any]:
        """The one store of this kind for all methods of the run."""
        if new not in self._shared_streams:
            self._shared_streams[new] = self.streams(new)
        return self._shared_streams[new]

    @property
    def kept_bytes(self) -> int:
        """Bytes of tensors that all methods keep between evaluations, at their most so far in this pass."""
        return sum(store.peak_bytes for store in self._streams)

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
                list(asked.method.edits(asked.config, self.map, self))
                self._applied.append(asked)
            except ConfigError as error:
                self.note(f"Left out on the new U-Net: {error}")
        self._enter()

    def __enter__(self) -> Run:
        self._enter()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._leave()

    def _enter(self) -> None:
        if not self._applied:
            return
        self._refuse_twice()
        # All methods are asked before the first module is touched, so that a refusal leaves nothing behind.
        planned = [(applied, list(self._guarded(applied))) for applied in self._applied]
        self._attention_edited = self._kinds_of_attention(edit.module for _, edits in planned for edit in edits)
        try:
            self._unwatch = watch_calls(self.map.unet, self._unet_called)
            begin = Edit(self.map.input_blocks[0].layers[0].module, self._traversal_begins)
            self._installed.add([begin], "clock", Depth.CLOCK)
            for applied, edits in planned:
                self._installed.add(edits, applied.method.name, applied.method.at)
        except BaseException:
            self._leave()
            raise

    def _leave(self) -> None:
        self._installed.remove()
        if self._unwatch is not None:
            self._unwatch()
            self._unwatch = None
        self.clock.traversal = Traversal()
        self._called_with = None
        self._forget()

    def _forget(self) -> None:
        for store in self._streams:
            store.clear()

    def _refuse_twice(self) -> None:
        on_now = {owner for owners in what_is_on(self.map.unet).values() for owner in owners}
        for applied in self._applied:
            if applied.method.name in on_now:
                raise ConfigError(
                    f"{applied.config.title} is already on this U-Net; leave the run that put it there before another."
                )

    def _guarded(self, applied: _Applied) -> Iterator[Edit]:
        for edit in applied.method.edits(applied.config, self.map, self):
            acts = self._finishes if isinstance(edit, Finishing) else _is_active
            yield Edit(edit.module, _while(partial(acts, applied), edit.wrapper), edit.at)

    def _finishes(self, applied: _Applied) -> bool:
        return self.last_pass and applied.config.acts_in(self.pass_name)

    def _kinds_of_attention(self, edited: Iterable[nn.Module]) -> set[str]:
        inner = [one for block in self.map.blocks for one in block.transformer_blocks]
        kinds = {one.self_attention: "attn1" for one in inner} | {one.cross_attention: "attn2" for one in inner}
        return {kinds[module] for module in edited if module in kinds}

    def _unet_called(self, args: tuple, kwargs: dict) -> None:
        timesteps = args[1] if len(args) > 1 else kwargs.get("timesteps")
        if timesteps is not None:
            self.clock.at_timestep(timesteps)
        self._called_with = args[0] if args else kwargs.get("x")
        self._installed.put_back_lost()
        self._note_replaced_attention(kwargs.get("transformer_options"))

    def _note_replaced_attention(self, options: Any) -> None:
        """Forge's extensions can put a function in an attention's place, which is called instead of its forward."""
        replaced = options.get("patches_replace") if isinstance(options, dict) else None
        for kind in ("attn1", "attn2"):
            if (replaced or {}).get(kind) and kind in self._attention_edited:
                self.note(f"Another extension replaces {kind}, so that our edits of the attentions it takes do not act.")

    def _traversal_begins(self, call: Callable[..., Tensor], x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        self.clock.new_traversal()
        self.traversal.stream = self._stream(x)
        self.traversal.latent_size = (x.shape[-2], x.shape[-1])
        if self.pass_name == "first":
            self.first_size = self.traversal.latent_size
        for applied in self._applied:
            applied.active = self._acts(applied.config)
        if self.traversal.stream is not None:
            # What one set of methods left in memory is not for another: where a window or a phase begins, caches begin anew.
            acting = (applied for applied in self._applied if applied.active)
            doing = tuple((one.method.name, self.settled(one.config).phase(self.clock.progress)) for one in acting)
            self.traversal.stream = (self.traversal.stream, doing)
        return call(x, *args, **kwargs)

    def _acts(self, config: Config) -> bool:
        if not config.acts_in(self.pass_name):
            return False
        config = self.settled(config)
        if not (config.window.always or config.window.holds(self.clock.progress)):
            return False
        reason = config.held_back(self.target)
        if reason and config.title not in self._held_back:
            self._held_back[config.title] = reason
            self.note(reason)
        elif not reason:
            self._take_back(self._held_back.get(config.title))
            self._held_back[config.title] = ""
        return not reason

    def _take_back(self, sentence: str | None) -> None:
        # A method held back in hires fix's first pass and acting in the second is as it should be.
        if sentence in self.notes:
            self.notes.remove(sentence)

    def _stream(self, x: Tensor) -> Hashable | None:
        """Which stream a walk of `x` continues; None for a walk of other data than the U-Net was called with.

        ControlNet's reference pass walks the blocks with a picture of its own before it walks them with the call's input,
        and may stop doing so half-way. Hosts that convert the input give no sign of that; there the order in the evaluation
        decides.
        """
        same_place = (self.traversal.call, tuple(x.shape), x.dtype, x.device)
        called_with = self._called_with
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

    Raises:
        UnsupportedUNet: for a module that is no such U-Net.
        ConfigError: for settings that cannot be used, naming the one to change; the U-Net is untouched then.
    """
    return Run(unet, list(configs), pass_name, timesteps, seed, vae, trained_size)


def _is_active(applied: _Applied) -> bool:
    return applied.active


def _while(acts: Callable[[], bool], wrapper: Wrapper) -> Wrapper:
    def guarded(call: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        return wrapper(call, *args, **kwargs) if acts() else call(*args, **kwargs)

    return guarded
