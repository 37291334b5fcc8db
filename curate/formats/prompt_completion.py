"""Prompt and completion: two texts, or two lists of turns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from siftune.curate.core.errors import BadRow
from siftune.curate.core.schema import Kind
from siftune.curate.core.types import Row
from siftune.curate.records.layout import Layout, Side
from siftune.curate.records.question_parts import PART_KEYS, refuse_parts
from siftune.curate.records.turns import (
    ROLES,
    leftover,
    plain,
    read_prompt_turns,
    read_side,
    write_side,
)
from siftune.curate.rows.turn_fields import has_fields, put_fields, take_fields

__all__ = ["PromptCompletion"]

_USED = frozenset({"prompt", "completion"})


@dataclass(frozen=True)
class PromptCompletion:
    """``prompt`` and ``completion``, each a text or a list of turns, as in TRL."""

    kind: ClassVar[Kind] = "conversation"
    over: ClassVar[tuple[str, ...]] = ("text",)
    many: ClassVar[bool] = False
    layout: ClassVar[Layout] = Layout(
        {"messages": (Side("prompt", "user"), Side("completion"))},
        roles=ROLES,
        doubted=PART_KEYS,
    )

    def matches(self, row: Row) -> bool:
        """Whether it has both."""
        return "prompt" in row and "completion" in row

    def read(self, row: Row) -> list[Row]:
        """The conversation of one record."""
        extra = leftover(row, _USED)
        turns = read_prompt_turns(row, "prompt", extra)
        asked = "prompt" if type(row["prompt"]) is str else None
        turns += read_side(row, "completion", "assistant", extra)
        refuse_parts(row, extra, turns, asked, {"completion": "output"})
        return [{"messages": turns, "extra": extra}]

    def write(self, row: Row) -> Row:
        """The record: texts if it is one question and one answer, else lists of turns."""
        turns, extra = row["messages"], dict(row.get("extra") or {})
        if len(turns) < 2 or turns[-1]["role"] != "assistant":
            raise BadRow("no_place", "a completion is an assistant turn after at least one other")
        listed = not plain(turns, "user", "assistant") or has_fields(extra, "messages")
        fields = take_fields(extra, "messages", len(turns))
        put_fields(extra, "prompt", fields[:-1])
        put_fields(extra, "completion", fields[-1:])
        return {
            "prompt": write_side(turns[:-1], "prompt", extra, listed=listed),
            "completion": write_side(turns[-1:], "completion", extra, listed=listed),
        } | extra
