"""Who looks at the attention of the middle block, as the forks' extensions do by a function that stands in its place.

Self-attention guidance has it in every call, and reads after an evaluation what it kept there: where the middle block was
not run, or ran on a map of another size, it would fail. Perturbed attention guidance makes a call of its own after the
host's, in which it acts; to stand aside there alone would guide by the difference that we make.
"""

from __future__ import annotations

from collections.abc import Mapping

Replaced = Mapping[str, Mapping[tuple, str]]


class AttentionReaders:
    """Those of one run.

    Attributes:
        names: of those that are there from a pass's first call on; beside them the middle block has to stay as it is.
        late: of those that come in calls of their own.
    """

    def __init__(self) -> None:
        self.names: list[str] = []
        self.late: list[str] = []
        self._first = True

    def pass_begins(self) -> None:
        self._first = True

    def called(self, replaced: Replaced) -> None:
        """Take in a call of the U-Net, with the names of what stands in for its attentions, by kind and place."""
        functions = replaced.get("attn1", {})
        found = list(dict.fromkeys(functions.values()))
        if found and all(place[0] == "middle" for place in functions):
            if self._first:
                self.names = found
            elif not self.names:
                self.late = found
        self._first = False
