"""Turns out of raw records and back: roles, contents, tool calls, and the fields left over."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from siftune.curate.core.errors import BadRow
from siftune.curate.core.types import Row
from siftune.curate.records.roles import ROLES, is_call_role, role_of
from siftune.curate.records.turn_lists import json_turns, turn_list
from siftune.curate.rows.tool_calls import calls_of_text, read_calls
from siftune.curate.rows.turn_fields import put_fields, take_fields

__all__ = [
    "ROLES",
    "answer",
    "check_sides",
    "common_prefix",
    "content_of",
    "conversation",
    "leftover",
    "number_field",
    "plain",
    "read_side",
    "read_turns",
    "role_of",
    "said_by",
    "text_field",
    "type_name",
    "write_side",
    "write_turns",
]

_USED: Final = frozenset({"role", "content", "name", "tool_calls", "tool_call_id"})
_CALL: Final = "function_call"
_TEXT_TYPES: Final = (None, "text", "input_text", "output_text")
_PART_KEYS: Final = ("text", "value", "content")
_ASKING: Final = frozenset({"system", "user"})


def said_by(role: str, content: str | None) -> Row:
    """One turn with nothing but a role and a content; `chat.turn`, but quick."""
    return {
        "role": role,
        "content": content,
        "name": None,
        "tool_calls": None,
        "tool_call_id": None,
    }


def conversation(prompt: str, completion: str) -> list[Row]:
    """The two turns of a question and its answer."""
    return [said_by("user", prompt), said_by("assistant", completion)]


def answer(completion: str) -> list[Row]:
    """The one turn of an answer."""
    return [said_by("assistant", completion)]


def text_field(record: Row, key: str) -> str:
    """The text under ``key``; an empty one is text too.

    Raises:
        BadRow: missing, null, or not a string.
    """
    value = record.get(key)
    if type(value) is str:
        return value
    if value is None:
        how = "is null" if key in record else "is missing"
        raise BadRow("missing_field", f"{key!r} {how}; expected a text")
    raise BadRow("wrong_type", f"{key!r} is {type_name(value)}; expected a text")


def number_field(record: Row, key: str) -> float | None:
    """The finite number under ``key``, which CSV gives as text; null if missing or null.

    Raises:
        BadRow: it is something else.
    """
    value = record.get(key)
    if value is None or (type(value) is str and not value):
        return None
    try:
        number = math.nan if type(value) is bool else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise BadRow("wrong_type", f"{key!r} is {str(value)[:40]!r}; expected a finite number")
    return number


def leftover(record: Row, used: frozenset[str]) -> Row:
    """The fields of a record that have no column of their own."""
    return {key: value for key, value in record.items() if key not in used}


def read_turns(record: Row, key: str, extra: Row, *, texts: bool = False) -> list[Row]:
    """The turns under ``key``, in any shape that `core.readers.turn_lists.turn_list` knows.

    A content given as text parts is their texts in a row. A turn with a ``function_call``, or of a
    role that has calls for content, has ``tool_calls``. What else a turn holds goes to ``extra``
    under ``KEY.fields``, one object a turn. With ``texts`` a list of texts is one of turns.

    Raises:
        BadRow: not such a list, or an empty one; the text names the turn.
    """
    value = turn_list(record.get(key), texts=texts)
    if value is None:
        raise BadRow("missing_field", f"{key!r} is missing or null; expected a list of turns")
    if type(value) is not list:
        raise BadRow("wrong_type", f"{key!r} is {type_name(value)}; expected a list of turns")
    if not value:
        raise BadRow("empty_conversation", f"{key!r} holds no turn")
    turns = [_read_turn(turn, f"{key}[{at}]") for at, turn in enumerate(value)]
    put_fields(extra, key, [_rest(turn) for turn in value])
    return turns


def write_turns(turns: Sequence[Row], key: str, extra: Row) -> list[Row]:
    """The inverse of `read_turns`; takes the left-over fields out of ``extra`` if they fit."""
    rest = take_fields(extra, key, len(turns))
    return [_write_turn(turn) | fields for turn, fields in zip(turns, rest, strict=True)]


def read_side(record: Row, key: str, role: str, extra: Row) -> list[Row]:
    """The turns under ``key``: of a text one turn of ``role``, of a list its turns.

    One turn may be given as an object; a text that is the JSON of turns is these.

    Raises:
        BadRow: it is neither.
    """
    value = record.get(key)
    if type(value) in (list, dict) or (type(value) is str and json_turns(value)):
        return read_turns(record, key, extra)
    return [said_by(role, text_field(record, key))]


def write_side(turns: Sequence[Row], key: str, extra: Row, *, listed: bool) -> str | list[Row]:
    """The inverse of `read_side`: a list of turns, or the content of the one turn."""
    if listed:
        return write_turns(turns, key, extra)
    extra.pop(f"{key}.fields", None)
    content: str = turns[0]["content"]
    return content


def plain(turns: Sequence[Row], *roles: str) -> list[str] | None:
    """The contents, if the turns are just these roles and hold nothing but text; else null."""
    if len(turns) != len(roles):
        return None
    for turn, role in zip(turns, roles, strict=True):
        if turn["role"] != role or turn["content"] is None:
            return None
        if turn["name"] or turn["tool_calls"] or turn["tool_call_id"]:
            return None
    return [turn["content"] for turn in turns]


def common_prefix(chosen: Sequence[Row], rejected: Sequence[Row]) -> int:
    """How many turns two conversations share before their answers, at least one turn each."""
    most = min(len(chosen), len(rejected)) - 1
    return next((at for at in range(most) if chosen[at] != rejected[at]), max(most, 0))


def check_sides(chosen: Sequence[Row], rejected: Sequence[Row]) -> None:
    """Check that both sides end with an answer and, where they part, part at an answer.

    Raises:
        BadRow: one does not end so, or they part at a user's turn or differ in a later one: two
            questions are no pair.
    """
    for name, turns in (("chosen", chosen), ("rejected", rejected)):
        if turns[-1]["role"] != "assistant":
            raise BadRow("no_answer", f"{name!r} does not end with an assistant's turn")
    at = common_prefix(chosen, rejected)
    parted = (chosen[at], rejected[at])
    asked = zip(_asking(chosen[at + 1 :]), _asking(rejected[at + 1 :]), strict=False)
    if parted[0] != parted[1] and {turn["role"] for turn in parted} & _ASKING:
        detail = "chosen and rejected do not answer the same turns: they part at a user's turn"
        raise BadRow("prompt_mismatch", detail)
    if any(one != other for one, other in asked):
        detail = (
            "chosen and rejected do not answer the same turns: a later turn of the user differs"
        )
        raise BadRow("prompt_mismatch", detail)


def _asking(turns: Sequence[Row]) -> list[Row]:
    return [turn for turn in turns if turn["role"] in _ASKING]


def _read_turn(turn: Any, where: str) -> Row:
    if type(turn) is not dict:
        raise BadRow("wrong_type", f"{where} is {type_name(turn)}; expected an object")
    if is_call_role(turn.get("role")):
        calls = calls_of_text(turn.get("content"), where)
        return said_by("assistant", None) | {"tool_calls": calls}
    read = said_by(role_of(turn.get("role")), None)
    read["tool_calls"] = read_calls(turn, where)
    optional = read["tool_calls"] is not None
    read["content"] = content_of(turn.get("content"), where, optional=optional)
    for key in ("name", "tool_call_id"):
        if turn.get(key) is not None:
            read[key] = text_field(turn, key)
    return read


def _rest(turn: Row) -> Row:
    """The fields of a turn that have no column; a ``function_call`` that was read has one."""
    used = _USED if turn.get("tool_calls") else _USED | {_CALL}
    return {name: item for name, item in turn.items() if name not in used and item is not None}


def content_of(value: Any, where: str, *, optional: bool = False) -> str | None:
    """The text of a content: a text, or parts of text, which are put together.

    Raises:
        BadRow: it is missing and not ``optional``, or is not text.
    """
    if type(value) is str or (value is None and optional):
        return value
    if value is None:
        raise BadRow("missing_field", f"{where} has no content")
    if type(value) is list:
        return "".join(_part(part, where) for part in value)
    if type(value) is dict:
        return _part(value, where)
    raise BadRow("wrong_type", f"the content of {where} is {type_name(value)}; expected a text")


def _part(part: Any, where: str) -> str:
    """The text of a part: a text, or an object with it under one of the usual keys."""
    if type(part) is str:
        return part
    known = type(part) is dict and part.get("type") in _TEXT_TYPES
    key = next((key for key in _PART_KEYS if known and part.get(key) is not None), None)
    if key is None:
        raise BadRow("not_text", f"{where} holds a part that is not text")
    return text_field(part, key)


def _write_turn(turn: Row) -> Row:
    written = {key: turn[key] for key in ("role", "content")}
    for key in ("name", "tool_call_id"):
        if turn[key] is not None:
            written[key] = turn[key]
    if turn["tool_calls"] is not None:
        written["tool_calls"] = orjson.loads(turn["tool_calls"])
    return written


def type_name(value: Any) -> str:
    """The type of a value, as a user reads it."""
    return _NAMES.get(type(value), type(value).__name__)


_NAMES: Final[Mapping[type, str]] = {
    bool: "a boolean",
    int: "a number",
    float: "a number",
    str: "a text",
    list: "a list",
    dict: "an object",
}
