"""Messages: a list of turns with a role and a content, as chat APIs and TRL take them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Final

from siftune.curate.core.schema import Kind
from siftune.curate.core.types import Row
from siftune.curate.records.layout import Layout, Side
from siftune.curate.records.question_parts import CHAT_KEYS, refuse_half_chat
from siftune.curate.records.turn_lists import ROLES, holds_records, opens_conversation
from siftune.curate.records.turns import leftover, read_turns, write_turns

__all__ = ["Messages"]


_KEYS: Final = ("messages", "conversations", "conversation")
_DATA: Final = "data"
_WEAK_KEYS: Final = ("dialogue", "dialog", "turns", "chat", _DATA)
"""Keys of turns only where no other field could be the text, the question or the answer."""
_TEXTS: Final = frozenset(
    {"text", "prompt", "question", "instruction", "query", "completion", "response", "answer"}
)


@dataclass(frozen=True)
class Messages:
    """``messages`` (``conversations``, ``conversation``, ``data``): ``[{"role", "content", …}]``.

    Also turns in the other shapes of `records.turn_lists`: ``{"human", "assistant"}``
    objects, texts in turn (UltraChat, LIMA), an object of lists, JSON text. Tool calls, tool turns
    and names are kept; ``tools`` and every other field stay in ``extra``. A conversation without an
    answer is read: its scores are null.
    """

    kind: ClassVar[Kind] = "conversation"
    over: ClassVar[tuple[str, ...]] = ("text",)
    many: ClassVar[bool] = False
    layout: ClassVar[Layout] = Layout(
        {"messages": (Side("messages", form="list", other="conversations"),)},
        roles=ROLES,
        doubted=CHAT_KEYS,
    )

    def matches(self, row: Row) -> bool:
        """Whether it has turns, and not those of `sharegpt`."""
        key = _key(row)
        sharegpt = key == "conversations" and _is_sharegpt(row.get(key))
        return _opens(row, key) and not sharegpt

    def read(self, row: Row) -> list[Row]:
        """The conversation of one record."""
        key = _key(row)
        extra = leftover(row, frozenset({key}))
        turns = read_turns(row, key, extra, texts=key != "messages")
        if key not in _KEYS[:2] and f"{key}.fields" in extra:
            extra["messages.fields"] = extra.pop(f"{key}.fields")
        refuse_half_chat(extra, key, turns)
        return [{"messages": turns, "extra": extra}]

    def write(self, row: Row) -> Row:
        """The record, under ``messages``."""
        extra = dict(row.get("extra") or {})
        return {"messages": write_turns(row["messages"], "messages", extra)} | extra


def _key(row: Row) -> str:
    """The key of the turns: the first whose value has a known shape, else the first of them."""
    keys = _KEYS if row.keys() & _TEXTS else (*_KEYS, *_WEAK_KEYS)
    there = [key for key in keys if row.get(key) is not None]
    return next((key for key in there if _opens(row, key)), [*there, "messages"][0])


def _opens(row: Row, key: str) -> bool:
    if key == _DATA and holds_records(row.get(key)):
        return False  # the rows of a whole data set
    return opens_conversation(row.get(key), texts=key != "messages")


def _is_sharegpt(value: Any) -> bool:
    first = value[0] if type(value) is list and value else None
    return type(first) is dict and {"from", "value"} <= first.keys()
