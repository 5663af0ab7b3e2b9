"""Our options among the WebUI's own: their keys, what they hold, and config.json, in which the WebUI keeps them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from modules import shared

from ..core.knobs import ConfigError, Knob, shortened
from ..core.registry import Method

_FROZEN = "Not saved, because this WebUI lets nobody change these settings: {}."


def key_of(method: Method, knob: Knob | None = None) -> str:
    """The key of one of a method's knobs, without one that of its tick."""
    return f"unetmod_{method.name}" + (f"_{knob.name}" if knob else "")


def value_of(key: str, knob: Knob) -> Any:
    """The option's value as its knob takes it.

    Raises:
        ConfigError: naming the option.
    """
    value = shared.opts.data.get(key)
    try:
        return knob.default if value is None else knob.parse(value)
    except ConfigError:
        raise ConfigError(f"{key} is {shortened(value)}; it takes {knob.domain()}.") from None


def store(new: Mapping[str, Any]) -> None:
    """Set options and save them; where one cannot be set or saved, all stay as they were."""
    data = shared.opts.data
    before = {key: data[key] for key in new if key in data}
    try:
        for key, value in new.items():
            if data.get(key) != value:
                # As by hand on the page, so that --freeze-settings and its like are heeded.
                setattr(shared.opts, key, value)
        write_file()
    except (AssertionError, RuntimeError, ConfigError) as error:
        for key in new.keys() - before.keys():
            data.pop(key, None)
        data.update(before)
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(_FROZEN.format(error)) from None


def write_file() -> None:
    """Have the WebUI write config.json.

    Raises:
        ConfigError: where it cannot.
    """
    try:
        # The WebUI empties the file before it writes; what it stumbles over would cost the user all settings.
        json.dumps(shared.opts.data, ensure_ascii=False).encode("utf-8")
        shared.opts.save(shared.config_filename)
    except AssertionError as error:
        raise ConfigError(_FROZEN.format(error)) from None
    except (ValueError, TypeError, RecursionError) as error:
        raise ConfigError(
            f"Not saved, because another setting cannot be written to config.json: {shortened(str(error))}."
        ) from None
    except OSError as error:
        raise ConfigError(f"Not saved, because config.json cannot be written: {error.strerror or error}.") from None
