"""Plain text: one document a record, for pretraining and for text statistics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from siftune.curate.core.errors import BadRow
from siftune.curate.core.schema import Kind
from siftune.curate.core.types import Row
from siftune.curate.records.field_names import could_answer, is_picture
from siftune.curate.records.layout import Layout, TurnField
from siftune.curate.records.prompts import question_keys
from siftune.curate.records.turns import answer, leftover, plain, text_field

__all__ = ["Text"]


@dataclass(frozen=True)
class Text:
    """``text``, kept as one assistant turn without a prompt.

    Detected only where no other field could be its question, its answer, its picture or its role;
    else set the format.
    """

    kind: ClassVar[Kind] = "text"
    over: ClassVar[tuple[str, ...]] = ()
    many: ClassVar[bool] = False
    layout: ClassVar[Layout] = Layout({"messages": (TurnField("assistant", "text"),)})

    def matches(self, row: Row) -> bool:
        """Whether it has a text, and nothing that it could belong to."""
        if (
            type(row.get("text")) is not str
            or {"prompt", "role"} & row.keys()
            or question_keys(row)
        ):
            return False
        others = ((key, value) for key, value in row.items() if key != "text")
        return not any(could_answer(*each) or is_picture(*each) for each in others)

    def read(self, row: Row) -> list[Row]:
        """The document of one record."""
        extra = leftover(row, frozenset({"text"}))
        return [{"messages": answer(text_field(row, "text")), "extra": extra}]

    def write(self, row: Row) -> Row:
        """The record; a conversation has no place."""
        contents = plain(row["messages"], "assistant")
        if contents is None:
            raise BadRow("no_place", "a text is one turn; this is a conversation")
        return {"text": contents[0]} | dict(row.get("extra") or {})
