"""Exact match: 1 where the completion is the row's known answer, else 0."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from siftune.curate.text.answer_match import after_thinking, exact_match

__all__ = ["ExactMatch"]


@dataclass(frozen=True)
class ExactMatch:
    """Whether the completion equals the row's ``reference``.

    Compared as by `answer_match.exact_match` when a model is evaluated: case, white space and a
    full stop at the end do not count, nor does what is before the last ``</think>``. A row without
    a reference cannot be scored.

    >>> ExactMatch()(["2+2?", "?"], [" 4. ", "4"], [{"reference": "4"}, {"reference": None}])
    [1.0, None]
    """

    reads_extra: ClassVar = False

    def __call__(
        self,
        prompts: Sequence[str],
        completions: Sequence[str],
        rows: Sequence[Mapping[str, Any]],
    ) -> list[float | None]:
        """1.0, 0.0 or None for each completion."""
        return [
            None if known is None else float(exact_match(after_thinking(said), known))
            for said, known in zip(completions, (row["reference"] for row in rows), strict=True)
        ]
