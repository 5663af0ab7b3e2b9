"""How a method declares itself: its knobs once, in a frozen dataclass, and its edits in one function.

Panel, API, infotext, X/Y/Z axes, settings and the README's table are all generated from what is declared here. A method
joins with `@method`; nothing else lists the methods.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import Field, asdict, dataclass, field, fields
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, get_type_hints

from .patching import Edit
from .schedule import Window
from .target import Target

if TYPE_CHECKING:
    from .unet_map import UNetMap


class ConfigError(ValueError):
    """A setting that cannot be used; the message is one sentence that names the value to change."""


@dataclass(frozen=True)
class Knob:
    """What a user needs to know of one field. `low`, `high` and `step` hold for numbers, `choices` for text; `by_auto` says
    that it does not count while the method's `auto` is on, `rarely` that the panel keeps it folded away.

    `name`, `default` and `type` (bool, int, float, str or tuple, a list of names) come from the field itself.
    """

    label: str
    help: str
    low: float | None = None
    high: float | None = None
    step: float | None = None
    unit: str = ""
    choices: tuple[str, ...] = ()
    by_auto: bool = False
    rarely: bool = False
    name: str = ""
    default: Any = None
    type: type = str

    def parse(self, value: Any) -> Any:
        """Turn what a user, a file or a request supplied into this knob's type.

        Raises:
            ConfigError: naming the knob, what came and what may come instead.
        """
        parsed = _PARSERS[self.type](value)
        if parsed is None or (self.choices and parsed not in self.choices):
            raise ConfigError(f"{self.name} is {shortened(value)}; it takes {self.domain()}.")
        if self.low is not None and not self.low <= parsed <= self.high:
            raise ConfigError(f"{self.name} is {parsed}; it takes {self.domain()}.")
        return parsed

    def domain(self) -> str:
        """What the knob takes, in words."""
        if self.choices:
            return " or ".join(self.choices)
        if self.low is not None:
            kind = "a whole number" if self.type is int else "a number"
            return f"{kind} from {self.low:g} to {self.high:g}"
        return {bool: "true or false", tuple: "names separated by spaces"}.get(self.type, "text")

    def to_text(self, value: Any) -> str:
        """The value as one word or a line of words, which `parse` reads back."""
        if self.type is tuple:
            return " ".join(value)
        return f"{value:g}" if self.type is float else str(value).lower() if self.type is bool else str(value)


def knob(default: Any, label: str, help: str, **bounds: Any) -> Any:
    """A dataclass field that carries its `Knob`."""
    return field(default=default, metadata={"knob": Knob(label, help, **bounds)})


@dataclass(frozen=True, kw_only=True)
class Config:
    """What every method's settings share. Frozen; checked on creation, which raises `ConfigError`."""

    title: ClassVar[str]

    start: float = knob(0.0, "Start", "Acts from this progress on: 0 = pure noise, 1 = clean.", low=0, high=1, step=0.01)
    end: float = knob(1.0, "End", "Acts up to this progress; 1 takes in the last evaluation.", low=0, high=1, step=0.01)
    first_pass: bool = knob(True, "txt2img", "Acts in the first pass of txt2img.")
    hires_pass: bool = knob(True, "hires fix", "Acts in the second pass of hires fix.")
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
    def window(self) -> Window:
        return Window(self.start, self.end)

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
        """A few words for the closed panel: what is on, and in which window when it is not all of it."""
        window = "" if self.window.always else f" {self.start:g}-{self.end:g}"
        return f"{type(self).title}{window}"

    def settled(self: C, unet: UNetMap, target: Target) -> C:
        """These settings with everything decided that they leave to the U-Net and the picture's size."""
        return self

    @property
    def automatic(self) -> bool:
        """Whether they leave something to them."""
        return False

    def phase(self, progress: float) -> Hashable:
        """What the method does at this progress, for one that does different things within its window.

        What caches keep from evaluations in one phase is not for those in another.
        """
        return None

    def held_back(self, target: Target) -> str:
        """Why the method leaves pictures of this size alone, as one sentence; empty where it acts on them."""
        return ""

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
        unknown = [str(name) for name in values if name not in known]
        if unknown:
            raise ConfigError(f"{cls.__name__} has no knob {shortened(unknown[0])}; it has {', '.join(known)}.")
        return cls(**values)


C = TypeVar("C", bound=Config)
#: `edits(config, unet_map, run)`, called when a run is entered; raises ConfigError for what the U-Net does not have.
Edits = Callable[..., Iterable[Edit]]

SHARED_KNOBS = tuple(f.name for f in fields(Config))


@cache
def knobs(config: type[Config]) -> tuple[Knob, ...]:
    """The knobs of a config class, its own first and the ones every method shares last."""
    types = get_type_hints(config)

    def complete(f: Field) -> Knob:
        declared = f.metadata["knob"]
        of_type = types[f.name]
        plain = of_type if isinstance(of_type, type) and of_type in _PARSERS else tuple
        return Knob(**{**vars(declared), "name": f.name, "default": f.default, "type": plain})

    ordered = sorted(fields(config), key=lambda f: f.name in SHARED_KNOBS)
    return tuple(complete(f) for f in ordered)


@dataclass(frozen=True)
class Method:
    """A registered method. `group` is "speed", "resolution" or "detail"; a lower `order` stands further outside.

    `excludes` gives the reason, as the end of a sentence, for each other method with which it cannot act at one time.
    """

    name: str
    title: str
    group: str
    order: int
    config: type[Config]
    edits: Edits
    excludes: Mapping[str, str] = field(default_factory=dict)

    @property
    def idea(self) -> str:
        """The first sentence of the method's file."""
        text = sys.modules[self.config.__module__].__doc__ or ""
        return re.split(r"(?<=\.)\s", text.strip(), maxsplit=1)[0].replace("\n", " ")


METHODS: dict[str, Method] = {}


def method(
    config: type[Config], *, title: str, group: str, order: int, excludes: Mapping[str, str] | None = None
) -> Callable[[Edits], Edits]:
    """Register the decorated function, which yields the edits for a config, under the config's snake-case name."""

    def register(edits: Edits) -> Edits:
        name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", config.__name__).lower()
        config.title = title
        METHODS[name] = Method(name, title, group, order, config, edits, dict(excludes or {}))
        return edits

    return register


def method_of(config: Config) -> Method:
    """The method a config belongs to."""
    for candidate in METHODS.values():
        if candidate.config is type(config):
            return candidate
    raise ConfigError(f"{type(config).__name__} is no config of a registered method.")


def shortened(value: Any) -> str:
    """What came from outside, as a sentence may quote it: in one line, at most 40 characters."""
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


def _parse_bool(value: Any) -> bool | None:
    if isinstance(value, str):
        return {"true": True, "on": True, "1": True, "false": False, "off": False, "0": False}.get(value.strip().lower())
    if isinstance(value, (bool, int, float)) and value in (0, 1):
        return bool(value)
    return None


def _parse_float(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _parse_int(value: Any) -> int | None:
    number = _parse_float(value)
    return int(number) if number is not None and number == int(number) else None


def _parse_text(value: Any) -> str | None:
    return value if isinstance(value, str) and len(value) <= 1000 else None


def _parse_names(value: Any) -> tuple[str, ...] | None:
    if isinstance(value, str):
        value = re.split(r"[\s,;]+", value.strip()) if value.strip() else []
    if not isinstance(value, (list, tuple)) or len(value) > 1000:
        return None
    if not all(isinstance(name, str) and len(name) <= 100 for name in value):
        return None
    return tuple(dict.fromkeys(value))


_PARSERS: dict[type, Callable[[Any], Any]] = {
    bool: _parse_bool,
    int: _parse_int,
    float: _parse_float,
    str: _parse_text,
    tuple: _parse_names,
}
