"""Drawings that can be stopped on their way, by a button or because nobody looks any more."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


class Stopped(Exception):
    """Raised out of a drawing that was told to stop."""


@dataclass
class Drawing:
    """One drawing under way: how far it is, in words for the user, and whether it shall stop."""

    at: str = "at the beginning"
    stopped: bool = False

    def reached(self, at: str) -> None:
        """To be called after every step.

        Raises:
            Stopped: where `stopped` was set meanwhile.
        """
        self.at = at
        if self.stopped:
            raise Stopped


class Drawings:
    """The drawings under way by the session (a tab of a browser) that they are for, which has one at a time."""

    def __init__(self) -> None:
        self._running: dict[str, Drawing] = {}

    @contextmanager
    def running(self, session: str) -> Iterator[Drawing]:
        """Within it the session's drawing can be stopped."""
        drawing = self._running[session] = Drawing()
        try:
            yield drawing
        finally:
            if self._running.get(session) is drawing:
                del self._running[session]

    def stop(self, session: str) -> Drawing | None:
        """Stop the session's drawing before its next step; None where it has none."""
        drawing = self._running.get(session)
        if drawing is not None:
            drawing.stopped = True
        return drawing
