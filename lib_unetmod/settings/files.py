"""Small JSON files that users keep and share: read whole or refused in one sentence, written as a whole or not at all."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any


class FileError(ValueError):
    """The message says what is wrong, after the file's name."""


def read_json(path: Path, most_bytes: int, kind: str) -> Any:
    """What a file of this `kind` holds.

    Raises:
        FileError: for one that cannot be read, is too large, or is no JSON.
    """
    try:
        if not path.is_file():
            raise FileError("is no file")
        with path.open("rb") as opened:
            data = opened.read(most_bytes + 1)
    except OSError as error:
        raise FileError(f"cannot be read: {error.strerror or error}") from None
    if len(data) > most_bytes:
        raise FileError(f"is larger than the {most_bytes // 1024} KiB that a {kind} may have")
    try:
        return json.loads(data.decode("utf-8-sig"))
    except RecursionError:
        raise FileError(f"is no {kind}: it is nested too deeply") from None
    except ValueError:  # no UTF-8, no JSON, or a number of more digits than Python reads
        raise FileError(f"is no {kind}: it cannot be read as JSON") from None


def write_text(path: Path, text: str) -> None:
    """Write a file, in a folder that is made where there is none.

    Raises:
        FileError: where that cannot be.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, begun = tempfile.mkstemp(".part", ".", path.parent)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
            os.replace(begun, path)
        except BaseException:
            os.unlink(begun)
            raise
    except OSError as error:
        raise FileError(f"cannot be written to {path.parent}: {error.strerror or error}") from None
