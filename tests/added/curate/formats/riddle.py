"""``riddle`` and ``solved_by``: a question and its answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from siftune.curate.core.errors import BadRow
from siftune.curate.core.schema import Kind
from siftune.curate.core.types import Row
from siftune.curate.records.turns import conversation, leftover

__all__ = ["Riddle"]

_KEYS = frozenset({"riddle", "solved_by"})


@dataclass(frozen=True)
class Riddle:
    """One question and one answer, both texts."""

    kind: ClassVar[Kind] = "conversation"
    over: ClassVar[tuple[str, ...]] = ()
    many: ClassVar[bool] = False

    def matches(self, row: Row) -> bool:
        """Whether it has both texts."""
        return all(type(row.get(key)) is str for key in _KEYS)

    def read(self, row: Row) -> list[Row]:
        """The conversation of one record."""
        if not self.matches(row):
            raise BadRow("bad_answer", "expected texts in riddle and solved_by")
        turns = conversation(row["riddle"], row["solved_by"])
        return [{"messages": turns, "extra": leftover(row, _KEYS)}]

    def write(self, row: Row) -> Row:
        """The record of a conversation of two turns."""
        if [turn["role"] for turn in row["messages"]] != ["user", "assistant"]:
            raise BadRow("no_place", "expected a question and an answer")
        texts = [turn["content"] for turn in row["messages"]]
        return dict(zip(("riddle", "solved_by"), texts, strict=True)) | (row.get("extra") or {})
