"""What UNet Mod 0.1.0 kept in Settings, taken over once.

It had one line of text a method, "on" or "off; interval=2", under the key that holds the tick now.
"""

from __future__ import annotations

from modules import shared

from ..core.config import knobs
from ..core.knobs import ConfigError, can_be_written, shortened
from ..core.registry import METHODS
from ..settings.selection import knobs_in_line
from . import controls, host
from .stored_options import key_of, write_file


def take_over() -> None:
    """Write what 0.1.0 kept as lines of text into the options of today, and save them."""
    data = shared.opts.data
    lines = [(method, data[key_of(method)]) for method in METHODS.values() if isinstance(data.get(key_of(method)), str)]
    for method, line in lines:
        del data[key_of(method)]
        off, entry = _split_off(line)
        if not entry:
            continue
        try:
            values = knobs_in_line(method.name, entry)
        except ConfigError as error:
            kept = key_of(method) + "_unread"
            data[kept] = line if can_be_written(line) else line.encode("utf-8", "backslashreplace").decode()
            host.say(
                f"Settings: {shortened(line)}, how {method.title} was to start, cannot be read. {error} Set it anew in "
                f"Settings; the line is kept in config.json as {kept}."
            )
            continue
        data[key_of(method)] = not off
        for knob in knobs(method.config):
            if knob.name in values:
                data[key_of(method, knob)] = controls.shown(knob, values[knob.name])
    if lines:
        try:
            write_file()
        except ConfigError as error:
            host.say(f"Settings of UNet Mod 0.1.0 are taken over, but not saved. {error}")


def _split_off(line: str) -> tuple[bool, str]:
    """Whether a line of 0.1.0 leaves its method unticked, and the rest of it, empty for an empty line."""
    line = line.strip().strip(";").strip()
    first, _, rest = line.partition(";")
    if first.strip().lower() in ("off", "on"):
        return first.strip().lower() == "off", rest.strip() or "on"
    return False, line
