"""Profiles: what tuning found for a model, a sampler and a size, one JSON file each, to be shared.

A file says of which picture it is and what makes it faster: `{"model": "...", "speed": "2x", "passes": [{"name": "first",
"sampler": "Euler", "schedule": "uniform", "steps": 20, "cfg": 7.0, "width": 512, "height": 512}], "methods":
{"step_forecast": {"plan": "FPFP..."}}, "measured": {...}}`. A picture of the same model, sampler and schedule type for which
nothing was tuned goes by the nearest one.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..core.config import Config
from ..core.knobs import ConfigError, shortened
from ..core.upcoming_picture import PASS_NAMES, UpcomingPass, UpcomingPicture
from .files import FileError, read_json, write_text
from .selection import Selection, config_of

SUFFIX = ".json"
MOST_BYTES = 16 * 1024
#: What this method leaves out was chosen for each step: it says nothing of other numbers of them.
_BY_STEP = "skip_blocks"
#: Of evaluations, pixels or CFG scale: a profile of so many times more or fewer says nothing any more.
_FARTHEST = {"steps": 2.0, "size": 5.0, "cfg": 4.0}


class ProfileError(ValueError):
    """A profile that cannot be read or written; the message is one sentence."""


@dataclass(frozen=True)
class TunedPass:
    """One pass of the picture for which it was tuned; `steps` are its evaluations."""

    name: str
    sampler: str
    schedule: str
    steps: int
    cfg: float
    width: int
    height: int

    @classmethod
    def of(cls, one: UpcomingPass) -> TunedPass:
        evaluations = one.steps if one.evaluations is None else len(one.evaluations)
        return cls(one.name, one.sampler, one.schedule, evaluations, one.cfg, one.target.width, one.target.height)

    def __post_init__(self) -> None:
        texts, wholes = (self.sampler, self.schedule), (self.steps, self.width, self.height)
        if self.name not in PASS_NAMES or any(not isinstance(one, str) or len(one) > 100 for one in texts):
            raise ProfileError("its passes cannot be read")
        if any(type(one) is not int or not 1 <= one <= 65536 for one in wholes) or not _is_number(self.cfg):
            raise ProfileError("its passes cannot be read")

    def distance(self, other: TunedPass) -> float:
        """0 for the same; infinite where what was found for the one says nothing of the other."""
        if (self.name, self.sampler, self.schedule) != (other.name, other.sampler, other.schedule):
            return math.inf
        apart = {
            "steps": _times(self.steps, other.steps),
            "size": _times(self.width * self.height, other.width * other.height),
            "cfg": _times(max(self.cfg, 1.0), max(other.cfg, 1.0)),
        }
        if any(times > _FARTHEST[name] for name, times in apart.items()):
            return math.inf
        return sum(math.log(times) for times in apart.values())

    def __str__(self) -> str:
        return f"{self.steps} steps, CFG {self.cfg:g}, {self.width}x{self.height}"


@dataclass(frozen=True)
class Profile:
    """What was found for one speed of one kind of picture.

    Attributes:
        model: which one, by its name and what tells it from others.
        speed: as `2x`.
        passes: of the picture.
        methods: what makes it faster.
        measured: numbers by name: `effort`, the pictures' time that tuning was given, 0 where it was stopped; `time` over
            all steps; `error` of the final latents, and beside it that of fewer steps, `fewer_steps`, and of the shipped
            plan, `shipped`.
    """

    model: str
    speed: str
    passes: tuple[TunedPass, ...]
    methods: Selection
    measured: Mapping[str, float] = field(default_factory=dict)

    @property
    def beaten(self) -> bool:
        """Whether fewer steps came nearer to the image of all of them."""
        return self.measured.get("fewer_steps", math.inf) < self.measured.get("error", 0.0)

    @property
    def configs(self) -> tuple[Config, ...]:
        return tuple(config_of(name, values) for name, values in self.methods.items())

    @property
    def file_name(self) -> str:
        """The same for what replaces it."""
        last = self.passes[-1]
        words = [self.model[-60:], last.sampler, last.schedule, *(f"{one.steps}" for one in self.passes), f"cfg{last.cfg:g}"]
        name = " ".join([*words, f"{last.width}x{last.height}", self.speed])
        return re.sub(r"[^\w .+-]+", "_", name) + SUFFIX

    @property
    def text(self) -> str:
        """What its file holds."""
        held = {
            "model": self.model,
            "speed": self.speed,
            "passes": [asdict(one) for one in self.passes],
            "methods": self.methods,
            "measured": dict(self.measured),
        }
        return json.dumps(held, indent=2, ensure_ascii=False) + "\n"

    def distance(self, word: str, upcoming: UpcomingPicture) -> float:
        """0 where it was made for this speed and picture; infinite where it says nothing of it."""
        passes = tuple(TunedPass.of(one) for one in upcoming.passes)
        if not _is_same(self.model, upcoming.model) or self.speed != word or len(self.passes) != len(passes):
            return math.inf
        by_step = [one.steps for one in self.passes], [one.steps for one in passes]
        if _BY_STEP in self.methods and by_step[0] != by_step[1]:
            return math.inf
        return sum(mine.distance(other) for mine, other in zip(self.passes, passes, strict=True))

    def __str__(self) -> str:
        return " and ".join(map(str, self.passes))


class Profiles:
    """The profiles in a folder, which is made when the first one is written."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._read: dict[tuple[str, int, int], Profile | str] = {}

    def nearest(self, word: str, upcoming: UpcomingPicture) -> Profile | None:
        """The profile that is nearest to a picture at a speed; None where none says anything of it."""
        found = [(profile.distance(word, upcoming), profile) for profile in self._all() if isinstance(profile, Profile)]
        distance, profile = min(found, key=lambda one: one[0], default=(math.inf, None))
        return None if math.isinf(distance) else profile

    def holds(self, word: str, upcoming: UpcomingPicture, effort: float) -> bool:
        """Whether that speed of that very picture was tuned to the end, in the time of so many pictures or more."""
        known = self.nearest(word, upcoming)
        if known is None or known.distance(word, upcoming) > 0:
            return False
        return known.measured.get("effort", 0.0) >= effort

    def problems(self) -> list[str]:
        """A sentence for each file that cannot be read."""
        return [one for one in self._all() if isinstance(one, str)]

    def keep(self, profile: Profile) -> Path:
        """Write a profile, in place of the one for the same picture. Returns its file.

        Raises:
            ProfileError: where it cannot be written.
        """
        path = self.folder / profile.file_name
        try:
            write_text(path, profile.text)
        except FileError as error:
            raise ProfileError(f"The profile {path.name} {error}.") from None
        return path

    def _all(self) -> Iterator[Profile | str]:
        try:
            files = sorted(path for path in self.folder.iterdir() if path.suffix == SUFFIX)
        except OSError:
            return
        for path in files:
            try:
                stat = path.stat()
            except OSError:
                continue
            key = (path.name, stat.st_mtime_ns, stat.st_size)
            if key not in self._read:
                try:
                    self._read[key] = read_file(path)
                except ProfileError as error:
                    self._read[key] = str(error)
            yield self._read[key]


def read_file(path: Path) -> Profile:
    """The profile in a file, checked to the last knob.

    Raises:
        ProfileError: for everything else that a file may hold, naming the file.
    """
    file = f"The profile {shortened(path.name)}"
    try:
        held = read_json(path, MOST_BYTES, "profile")
    except FileError as error:
        raise ProfileError(f"{file} {error}; it is passed over.") from None
    try:
        return _profile(held)
    except (ConfigError, ProfileError, TypeError, KeyError, ValueError, RecursionError) as error:
        raise ProfileError(f"{file} is passed over: {_plain(error)}.") from None


def _is_same(model: str, other: str) -> bool:
    """By what the files hold, `name [hash]`, where both say so: a file may have been renamed."""
    hashes = [re.search(r"\[(\w+)\]$", one) for one in (model, other)]
    if all(hashes):
        return len({found[1] for found in hashes}) == 1
    return bool(model) and model == other


def _profile(held: Any) -> Profile:
    if not isinstance(held, Mapping) or not {"model", "speed", "passes", "methods"} <= set(held):
        raise ProfileError("it takes model, speed, passes and methods")
    model, speed, passes, measured = held["model"], held["speed"], held["passes"], held.get("measured", {})
    if not isinstance(model, str) or not isinstance(speed, str) or not isinstance(passes, list) or not 1 <= len(passes) <= 2:
        raise ProfileError("its model, speed or passes cannot be read")
    if not isinstance(held["methods"], Mapping) or not isinstance(measured, Mapping):
        raise ProfileError("its methods cannot be read")
    profile = Profile(
        model,
        speed,
        tuple(TunedPass(**one) for one in passes),
        dict(held["methods"]),
        {str(name): float(value) for name, value in measured.items() if _is_number(value)},
    )
    if not profile.configs:
        raise ProfileError("it holds no method")
    return profile


def _plain(error: Exception) -> str:
    """What is wrong, as a sentence may say it. Python's own messages are no words for users."""
    return str(error).rstrip(".") if isinstance(error, (ConfigError, ProfileError)) else "its passes cannot be read"


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _times(a: float, b: float) -> float:
    """How many times larger the larger is."""
    return max(a / b, b / a)
