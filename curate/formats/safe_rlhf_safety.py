"""PKU-SafeRLHF: a prompt and two responses; the safety preference says which is chosen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from curate.core.readers.judged import in_places, judged_pair, place_field
from curate.core.readers.turns import answer, said_by, text_field
from curate.core.schema import Kind
from curate.core.types import Row

__all__ = ["SafeRLHFSafety"]

_LABEL = "safer_response_id"
_ANSWERS = ("response_0", "response_1")
_USED = frozenset({"prompt", _LABEL, *_ANSWERS})


@dataclass(frozen=True)
class SafeRLHFSafety:
    """``prompt``, ``response_0``, ``response_1``, and which is safer: 0 or 1.

    Read as the safety preference, ``safer_response_id``, where it is named; `safe_rlhf`, which is
    what such rows are taken for, reads ``better_response_id``. Ji et al. 2024, arXiv:2406.15513;
    the data set's card.
    """

    kind: ClassVar[Kind] = "preference"
    over: ClassVar[tuple[str, ...]] = ("text",)
    many: ClassVar[bool] = False

    def matches(self, row: Row) -> bool:
        """Whether it has both responses and this label."""
        return row.keys() >= _USED

    def read(self, row: Row) -> list[Row]:
        """The pair of one record."""
        prompt = [said_by("user", text_field(row, "prompt"))]
        answers = [answer(text_field(row, key)) for key in _ANSWERS]
        return [judged_pair(prompt, answers, place_field(row, _LABEL), row, _USED)]

    def write(self, row: Row) -> Row:
        """The record; the chosen answer takes the place it had, the first if it had none."""
        extra = dict(row.get("extra") or {})
        prompt, first, second, better = in_places(row, extra)
        written = {"prompt": prompt, "response_0": first, "response_1": second}
        return written | {_LABEL: better} | extra
