"""Presets: named selections, built in as configs or kept as one JSON file each, to be shared.

A file holds the preset's name and its methods: `{"name": "Mine", "methods": {"skip_blocks": {"middle": true}}}`. Whatever a
file holds, it is read whole or refused in one sentence, and a refusal changes nothing.
"""

from __future__ import annotations

import json
import os
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.config import Config
from ..core.knobs import ConfigError, shortened
from ..methods.detail.cd_tuner import CDTuner
from ..methods.detail.free_u import FreeU
from ..methods.resolution.deep_shrink import DeepShrink
from ..methods.resolution.hi_diffusion import HiDiffusion
from ..methods.speed.guidance_interval import GuidanceInterval
from ..methods.speed.step_forecast import StepForecast
from ..methods.speed.token_downsampling import TokenDownsampling
from . import speed_target
from .files import FileError, read_json, write_text
from .selection import Selection, config_of, selection_of

SUFFIX = ".json"
#: A preset of all methods with all knobs takes about 6 KiB.
MOST_BYTES = 64 * 1024
#: In characters; with ".json" it stays below the 255 bytes that a file's name may have, whatever the characters.
LONGEST_NAME = 60

_NOT_IN_NAMES = '/\\:*?"<>|'
#: Names that Windows keeps for devices, whatever comes after a dot.
_DEVICES = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in "123456789¹²³")}


class PresetError(ValueError):
    """A preset that cannot be read, kept or named so; the message is one sentence that names what to change."""


@dataclass(frozen=True)
class Preset:
    """A name and the methods with their knobs."""

    name: str
    selection: Selection

    @property
    def file_name(self) -> str:
        return self.name + SUFFIX

    @property
    def text(self) -> str:
        """What its file holds."""
        return json.dumps({"name": self.name, "methods": self.selection}, indent=2, ensure_ascii=False) + "\n"


#: "Faster" is what docs/speed.md found nearest to all steps. Models for few steps have none to skip: their presets make each
#: evaluation cheaper instead, and leave the negative prompt out, since they are drawn at CFG 1; see `quick.acting` for other
#: pages. SD1, SD2 and SDXL need no presets of their own, since the autos go by the U-Net; SDXL Turbo's does not tell that it
#: was trained at 512 pixels, half of SDXL's side.
BUILT_IN: Mapping[str, tuple[Config, ...]] = {
    "Faster": (StepForecast(),),
    "Fast (few steps)": (GuidanceInterval(), TokenDownsampling()),
    "Larger": (DeepShrink(), HiDiffusion(raunet=False)),
    "Large, fast (few steps)": (GuidanceInterval(), HiDiffusion()),
    "Large (SDXL Turbo)": (
        GuidanceInterval(),
        HiDiffusion(auto=False, above=0.65, conv_end=0, pool_block=4, pool_end=0.5),
    ),
    "More detail": (FreeU(), CDTuner(detail1=0, detail2=2)),
}


class Presets:
    """The built-in presets and those in a folder, which is made when the first one is saved."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def names(self) -> list[str]:
        """The built-in ones first, then the folder's by name.

        A file that has no name for a preset is passed over, and so is a link to where nobody may look.
        """
        try:
            stems = [path.stem for path in self.folder.iterdir() if path.suffix == SUFFIX and _is_file(path)]
        except OSError:
            stems = []
        return [*BUILT_IN, *sorted((stem for stem in stems if _can_be_listed(stem)), key=_folded)]

    def load(self, name: Any) -> Preset:
        """The preset of that name.

        Raises:
            PresetError: where there is none, or its file cannot be read.
        """
        if _is_built_in(name):
            return Preset(name, selection_of(BUILT_IN[name]))
        path = self._existing(name)
        return Preset(path.stem, read_file(path).selection)

    def kept_as(self, name: Any) -> str:
        """The name of the folder's preset that `name` means; empty where there is none."""
        try:
            name = checked_name(name)
        except PresetError:
            return ""
        return name if not _is_built_in(name) and self._path(name).is_file() else ""

    def save(self, name: Any, selection: Selection) -> str:
        """Keep a selection under a name; a preset of exactly that name is replaced. Returns the name as it is kept.

        Raises:
            PresetError: for a name or a selection that cannot be kept.
        """
        name = self._free(name, instead_of=checked_name(name))
        self._write(self._path(name), Preset(name, _checked(selection, "The preset")))
        return name

    def rename(self, old: Any, new: Any) -> str:
        """Give a preset of the folder another name, which is returned.

        Raises:
            PresetError: for a built-in preset, one that is not there, or a name that is taken.
        """
        path = self._own(old, "renamed")
        name = self._free(new, instead_of=path.stem)
        self._write(path, Preset(name, read_file(path).selection))
        try:
            os.replace(path, self._path(name))
        except OSError as error:
            raise PresetError(f"{path.name} cannot be renamed: {error.strerror or error}.") from None
        return name

    def delete(self, name: Any) -> None:
        """Remove a preset's file.

        Raises:
            PresetError: for a built-in preset or one that is not there.
        """
        path = self._own(name, "deleted")
        try:
            path.unlink()
        except OSError as error:
            raise PresetError(f"{path.name} cannot be deleted: {error.strerror or error}.") from None

    def add(self, file: Path) -> str:
        """Keep a copy of a preset's file that someone shared, under the name that it carries. Returns the name.

        Raises:
            PresetError: for a file that is no preset, or whose name is taken.
        """
        shared = read_file(file)
        name = self._free(shared.name)
        self._write(self._path(name), shared)
        return name

    def _path(self, name: str) -> Path:
        return self.folder / (name + SUFFIX)

    def _existing(self, name: Any) -> Path:
        path = self._path(checked_name(name))
        if not _is_file(path):
            raise PresetError(f"There is no preset {shortened(name)}, or its file may not be read.")
        return path

    def _own(self, name: Any, done: str) -> Path:
        if not name:
            raise PresetError("Choose a preset first.")
        if _is_built_in(name):
            raise PresetError(f"{name} is built in and cannot be {done}.")
        return self._existing(name)

    def _free(self, name: Any, instead_of: Any = None) -> str:
        """The name as it is kept, if no other preset has it. Names that differ in case only are one name on some systems."""
        name = checked_name(name)
        for taken in self.names():
            if _folded(taken) == _folded(name) and (_is_built_in(taken) or taken != instead_of):
                raise PresetError(f"There is a preset {taken} already; choose another name.")
        return name

    def _write(self, path: Path, preset: Preset) -> None:
        try:
            write_text(path, preset.text)
        except FileError as error:
            raise PresetError(f"{path.name} {error}.") from None


def read_file(path: Path) -> Preset:
    """The preset in a file, checked to the last knob.

    Raises:
        PresetError: for everything else that a file may hold, naming the file.
    """
    file = f"The file {shortened(path.name)}"
    try:
        held = read_json(path, MOST_BYTES, "preset")
    except FileError as error:
        raise PresetError(f"{file} {error}.") from None
    if not isinstance(held, Mapping) or set(held) != {"name", "methods"}:
        raise PresetError(f'{file} is no preset: it takes {{"name": ..., "methods": ...}} and nothing else.')
    try:
        name = checked_name(held["name"])
    except PresetError as error:
        raise PresetError(f"{file}: {error}") from None
    return Preset(name, _checked(held["methods"], file))


def checked_name(name: Any) -> str:
    """A name as presets have them: one line that every system takes for a file's name.

    Raises:
        PresetError: for any other.
    """
    if not isinstance(name, str) or len(name) > 10 * LONGEST_NAME:
        raise PresetError(f"A preset's name is text of 1 to {LONGEST_NAME} characters.")
    name = _plain(name)
    if not name:
        raise PresetError("Give the preset a name.")
    if len(name) > LONGEST_NAME:
        raise PresetError(f"The name is {len(name)} characters long; it takes at most {LONGEST_NAME}.")
    unusable = [character for character in name if character in _NOT_IN_NAMES or not character.isprintable()]
    if unusable:
        raise PresetError(f"The name has {unusable[0]!r}; it takes no {' '.join(_NOT_IN_NAMES)} and nothing invisible.")
    if name.startswith(".") or name.endswith("."):
        raise PresetError("The name begins or ends with a dot; put a letter there.")
    if name.split(".")[0].strip().lower() in _DEVICES:
        raise PresetError(f"The name {name} is kept by Windows for a device; choose another one.")
    return name


def _checked(selection: Any, what: str) -> Selection:
    """The speed and the methods with the knobs that differ from their defaults, if all can be read."""
    if not isinstance(selection, Mapping) or not selection:
        raise PresetError(f"{what} holds no method; it takes at least one.")
    try:
        speed, methods = speed_target.checked(selection), speed_target.taken_apart(selection)[1]
        checked = {**speed, **selection_of(config_of(name, values) for name, values in methods.items())}
        json.dumps(checked, ensure_ascii=False).encode("utf-8")
    except ConfigError as error:
        raise PresetError(f"{what} is refused. {error}") from None
    except UnicodeEncodeError:  # JSON may escape half of a pair of characters, which no file can hold
        raise PresetError(f"{what} is refused. It holds half a character (a lone surrogate).") from None
    except (RecursionError, ValueError):  # on quoting the value in a refusal
        raise PresetError(f"{what} is refused. A value is nested too deeply, or a number too long.") from None
    return checked


def _is_file(path: Path) -> bool:
    """As `Path.is_file`, which raises where a link leads into a folder that may not be read."""
    try:
        return path.is_file()
    except OSError:
        return False


def _is_built_in(name: Any) -> bool:
    return isinstance(name, str) and name in BUILT_IN


def _can_be_listed(stem: str) -> bool:
    try:
        return checked_name(stem) == stem and _folded(stem) not in map(_folded, BUILT_IN)
    except PresetError:
        return False


def _plain(name: str) -> str:
    """One line, single spaces, and one spelling of each accented letter, which some systems change in files' names."""
    return " ".join(unicodedata.normalize("NFC", name).split())


def _folded(name: str) -> str:
    return _plain(name).casefold()
