"""Which rows a call of the U-Net holds, and whether they may be computed apart: decided here for all methods.

A host says it in one of two ways. AUTOMATIC1111 tells before an evaluation how its rows belong together (`Guidance`), and
then calls the U-Net once with all of them, or in several calls; there rows are told by their prompts. Its forks say with
each call which of its equal chunks hold the prompt (`transformer_options["cond_or_uncond"]`: 0 the prompt, 1 the negative
prompt).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from .call import UNTOLD, Guidance, Rows

#: The reason where a call holds neither all rows of an evaluation nor those of one kind.
_SPLIT = "an extension splits the batch in its own way, so prompt and negative prompt cannot be told apart."


@dataclass(frozen=True)
class CallRows:
    """The rows of one call.

    Attributes:
        conditional: (B,) whether a row is the prompt's; None where that is not known.
        rows: how they belong together, where each unconditional one has its conditional one in the same call.
        reason: where no conditional row can stand in for an unconditional one, why, as the end of a sentence.
    """

    conditional: tuple[bool, ...] | None = None
    rows: Rows | None = None
    reason: str = ""

    @property
    def all_conditional(self) -> bool:
        return self.conditional is not None and all(self.conditional)

    @property
    def all_unconditional(self) -> bool:
        return self.conditional is not None and not any(self.conditional)


def rows_of_call(
    guidance: Guidance | None, options: Mapping[str, Any] | None, context: Tensor | None, batch: int
) -> CallRows:
    """What is known of the `batch` rows of a call.

    Args:
        options: the forks' `transformer_options`.
        context: (B, L, D) embeddings that the rows are called with. Waits for the device where rows are told by these.
    """
    chunks = (options or {}).get("cond_or_uncond")
    if chunks and batch % len(chunks) == 0:
        return _of_chunks(guidance, [chunk == 0 for chunk in chunks], batch)
    if guidance is None:
        return CallRows(reason=UNTOLD)
    if len(guidance.rows) == batch:
        conditional = tuple(sign > 0 for sign in guidance.rows.signs)
        return CallRows(conditional, guidance.rows, guidance.reason)
    if guidance.rows and len(guidance.rows.conditional) == batch:  # the host leaves out the others
        return CallRows((True,) * batch, Rows(tuple(range(batch))), guidance.reason)
    if guidance.prompts is not None and isinstance(context, Tensor) and len(context) == batch:
        conditional = guidance.prompts.kinds(context)
        of_both = conditional is None or len(set(conditional)) > 1
        return CallRows(conditional, None, guidance.reason or (_SPLIT if of_both else ""))
    return CallRows(reason=guidance.reason or (_SPLIT if guidance.rows else UNTOLD))


def _of_chunks(guidance: Guidance | None, chunks: list[bool], batch: int) -> CallRows:
    conditional = tuple(chunk for chunk in chunks for _ in range(batch // len(chunks)))
    rows, reason = Rows.of_chunks(chunks, batch), guidance.reason if guidance else ""
    if rows is None and not reason:
        several = any(conditional)
        reason = "the prompt has several parts (AND)." if several else "prompt and negative prompt do not run together."
    return CallRows(conditional, rows, reason)
