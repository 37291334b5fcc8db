"""Messages: a list of turns with a role and a content, as chat APIs and TRL take them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from curate.core.readers.layout import Layout, Side
from curate.core.readers.turns import ROLES, leftover, read_turns, write_turns
from curate.core.schema import Kind
from curate.core.types import Row

__all__ = ["Messages"]


@dataclass(frozen=True)
class Messages:
    """``messages`` (or ``conversations``): ``[{"role", "content", …}]``.

    Tool calls, tool turns and names survive; ``tools`` and every other field stay in ``extra``. A
    conversation without an answer is taken: scorers give it null.
    """

    kind: ClassVar[Kind] = "conversation"
    over: ClassVar[tuple[str, ...]] = ("text",)
    many: ClassVar[bool] = False
    layout: ClassVar[Layout] = Layout(
        {"messages": (Side("messages", form="list", other="conversations"),)}, roles=ROLES
    )

    def matches(self, row: Row) -> bool:
        """Whether it has a list of turns with roles."""
        return _is_turns(row.get(_key(row)))

    def read(self, row: Row) -> list[Row]:
        """The conversation of one record."""
        key = _key(row)
        extra = leftover(row, frozenset({key}))
        return [{"messages": read_turns(row, key, extra), "extra": extra}]

    def write(self, row: Row) -> Row:
        """The record, under ``messages``."""
        extra = dict(row.get("extra") or {})
        return {"messages": write_turns(row["messages"], "messages", extra)} | extra


def _key(row: Row) -> str:
    return "messages" if "messages" in row or "conversations" not in row else "conversations"


def _is_turns(value: Any) -> bool:
    return type(value) is list and bool(value) and type(value[0]) is dict and "role" in value[0]
