"""What the settings of every method share: a frozen dataclass whose fields carry their knobs."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import Field, asdict, dataclass, fields
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, get_type_hints

from .knobs import PARSERS, ConfigError, Knob, knob, shortened
from .schedule import ProgressRange
from .target import Target
from .upcoming_picture import Idle, UpcomingPass, UpcomingPicture

if TYPE_CHECKING:
    from .unet_map import UNetMap

C = TypeVar("C", bound="Config")


@dataclass(frozen=True, kw_only=True)
class Config:
    """What every method's settings share. Frozen; checked on creation, which raises `ConfigError`.

    `title` is the method's name in full, `short` what it is called where there is little room.
    """

    title: ClassVar[str]
    short: ClassVar[str] = ""

    start: float = knob(
        0.0, "Active from", "Acts from this noise level on: 0 = pure noise, 1 = finished image.", low=0, high=1, step=0.01
    )
    end: float = knob(
        1.0,
        "Active until",
        "Acts until this noise level: 0 = pure noise, 1 = finished image, the last step included.",
        low=0,
        high=1,
        step=0.01,
    )
    first_pass: bool = knob(True, "txt2img", "Acts in txt2img; with Hires. fix, in its first pass.")
    hires_pass: bool = knob(True, "Hires. fix", "Acts in the second pass of Hires. fix.")
    img2img: bool = knob(True, "img2img", "Acts in img2img and inpainting.")

    def __post_init__(self) -> None:
        for knob_ in knobs(type(self)):
            try:
                object.__setattr__(self, knob_.name, knob_.parse(getattr(self, knob_.name)))
            except ConfigError as error:
                raise ConfigError(f"{type(self).__name__}: {error}") from None
        if self.start > self.end:
            raise ConfigError(
                f"{type(self).__name__}: start is {self.start:g} and end is {self.end:g}; start must not be above end."
            )

    @property
    def window(self) -> ProgressRange:
        return ProgressRange(self.start, self.end)

    def acts_in(self, pass_name: str) -> bool:
        """Whether the method acts in the pass "first", "hires" or "img2img"."""
        return {"first": self.first_pass, "hires": self.hires_pass, "img2img": self.img2img}[pass_name]

    def overlaps(self, other: Config) -> bool:
        """Whether both act in one pass at one progress."""
        passes = ("first_pass", "hires_pass", "img2img")
        together = any(getattr(self, name) and getattr(other, name) for name in passes)
        return together and max(self.start, other.start) < min(self.end, other.end)

    @property
    def neutral(self) -> bool:
        """Whether these settings change nothing, so that nothing is installed. Methods refine `changes_nothing`."""
        passes = (self.first_pass, self.hires_pass, self.img2img)
        return self.window.empty or not any(passes) or self.changes_nothing()

    def changes_nothing(self) -> bool:
        """Whether the method's own knobs are at values that leave the U-Net as it is."""
        raise NotImplementedError

    def summary(self) -> str:
        """A few words for the closed panel: the method, what is set, and in which range when it is not all of it."""
        return " ".join(filter(None, (self.short or type(self).title, self.details(), self.range_in_words())))

    def details(self) -> str:
        """What is set, in a few words; empty where the method's name says it."""
        return ""

    def range_in_words(self) -> str:
        return "" if self.window.always else f"{self.start:g}-{self.end:g}"

    def resolved(self: C, unet: UNetMap, target: Target) -> C:
        """These settings with everything decided that they leave to the U-Net and the picture's size."""
        return self

    @property
    def automatic(self) -> bool:
        """Whether they leave something to them."""
        return False

    def repeated(self: C, plans: Mapping[str, str]) -> C:
        """These settings as a picture's text keeps them, so that it comes out the same elsewhere.

        Args:
            plans: what was planned by itself for the picture, as `Run.plans` has it.
        """
        return self

    @property
    def has_phases(self) -> bool:
        """Whether `cache_key` hangs on the progress, reading which waits for the device."""
        return type(self).cache_key is not Config.cache_key

    def cache_key(self, progress: float) -> Hashable:
        """What the method does at this progress, for one that does different things within its window.

        What caches keep from evaluations in one phase is not for those in another.
        """
        return None

    def held_back(self, target: Target) -> str:
        """Why the method leaves pictures of this size alone, as one sentence; empty where it acts on them."""
        return ""

    def idle_reason(self, upcoming: UpcomingPicture) -> str:
        """Why the method will do nothing to the next picture, as a sentence; empty where it acts, or nobody can tell."""
        idle = self.idle(upcoming)
        return idle.why if idle else ""

    def idle(self, upcoming: UpcomingPicture) -> Idle | None:
        """The same with the setting that decides it. Goes by what decides while a picture is drawn.

        Raises:
            ConfigError: for settings that this U-Net does not take.
        """
        if self.neutral:
            return Idle("at these values", f"{self.short} changes nothing at these values.")
        found = None
        for one in upcoming.passes:
            if self.acts_in(one.name):
                found = self.idle_in(one, upcoming)
                if found is None:
                    return None
        last = upcoming.last.title
        return found or Idle(f"in {last}", f"{self.short} is not ticked for {last}: tick it under When.")

    def idle_in(self, one: UpcomingPass, upcoming: UpcomingPicture) -> Idle | None:
        """Why the method does nothing in this one of its passes."""
        config = self
        if upcoming.unet is not None:
            config = self.resolved(upcoming.unet, one.target)
            reason = config.held_back(one.target)
            if reason:
                return Idle(f"at {one.size}", reason)
            if config.neutral:
                return Idle(f"at {one.size}", f"{self.short} has nothing to change at {one.size}.")
        reached = None if one.evaluations is None else tuple(filter(config.window.holds, one.evaluations))
        if reached == () or (config.window.end <= one.begins and config.window.end < 1):
            return _unreached(config, one)
        return config.idle_at(reached, one, upcoming.unet)

    def idle_at(self, reached: tuple[float, ...] | None, one: UpcomingPass, unet: UNetMap | None) -> Idle | None:
        """Why these settings, resolved, change nothing in the evaluations of a pass that lie in their range.

        Args:
            reached: progress of these evaluations, at least one; None where it is not known.
            unet: None where no model is loaded.
        """
        return None

    def values(self) -> dict[str, Any]:
        """Every knob's value by name, of plain JSON types."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def from_values(cls: type[C], values: Mapping[str, Any]) -> C:
        """The config with these knobs set and the others at their defaults; `values` may come from anywhere.

        Raises:
            ConfigError: for a name or a value that the method does not have.
        """
        known = [knob_.name for knob_ in knobs(cls)]
        unknown = [name for name in values if name not in known]
        if unknown:
            raise ConfigError(f"{cls.__name__} has no knob {shortened(unknown[0])}; it has {', '.join(known)}.")
        return cls(**values)


def _unreached(config: Config, one: UpcomingPass) -> Idle:
    """No evaluation of the pass lies in the config's range."""
    ends = config.window.end
    if one.denoising < 1 and ends <= one.begins:
        return Idle(
            f"at denoising strength {one.denoising:g}",
            f"{config.short} ends at {ends:g}, and {one.title} begins at {one.begins:.2g} with this denoising strength.",
        )
    return Idle(
        f"at {one.steps} step{'s' * (one.steps != 1)}",
        f"No sampling step falls between {config.window.start:g} and {ends:g}, where {config.short} is active: widen that "
        "range or take more steps.",
    )


SHARED_KNOBS = tuple(f.name for f in fields(Config))


@cache
def knobs(config: type[Config]) -> tuple[Knob, ...]:
    """The knobs of a config class, its own first and the ones every method shares last."""
    types = get_type_hints(config)

    def complete(f: Field) -> Knob:
        declared = f.metadata["knob"]
        of_type = types[f.name]
        plain = of_type if isinstance(of_type, type) and of_type in PARSERS else tuple
        return Knob(**{**vars(declared), "name": f.name, "default": f.default, "type": plain})

    ordered = sorted(fields(config), key=lambda f: f.name in SHARED_KNOBS)
    return tuple(complete(f) for f in ordered)
