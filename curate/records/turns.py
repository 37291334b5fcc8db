"""Turns of raw records, and back: roles, contents, tool calls, left-over fields, dialogues."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeGuard

import orjson

from siftune.curate.core.errors import BadRow
from siftune.curate.core.types import Row
from siftune.curate.records.turn_lists import ROLES, is_call_role, json_turns, role_of, turn_list
from siftune.curate.rows.tool_calls import calls_of_text, read_calls
from siftune.curate.rows.turn_fields import put_fields, take_fields

__all__ = [
    "ROLES",
    "answer",
    "check_sides",
    "common_prefix",
    "content_of",
    "conversation",
    "has_user_mark",
    "leftover",
    "number_field",
    "plain",
    "prompt_turns",
    "read_dialogue",
    "read_prompt_turns",
    "read_side",
    "read_turns",
    "role_of",
    "text_field",
    "text_turn",
    "type_name",
    "write_dialogue",
    "write_side",
    "write_turns",
]

_USED: Final = frozenset({"role", "content", "name", "tool_calls", "tool_call_id"})
_CALL: Final = "function_call"
_TEXT_TYPES: Final = (None, "text", "input_text", "output_text")
_PART_KEYS: Final = ("text", "value", "content")
_ASKING: Final = frozenset({"system", "user"})


def text_turn(role: str, content: str | None) -> Row:
    """One turn with a role and a content alone; as `chat.turn`, but faster."""
    return {
        "role": role,
        "content": content,
        "name": None,
        "tool_calls": None,
        "tool_call_id": None,
    }


def conversation(prompt: str, completion: str) -> list[Row]:
    """The two turns of a question and its answer."""
    return [text_turn("user", prompt), text_turn("assistant", completion)]


def answer(completion: str) -> list[Row]:
    """The one turn of an answer."""
    return [text_turn("assistant", completion)]


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
    """The fields of a record without a column."""
    return {key: value for key, value in record.items() if key not in used}


def read_turns(record: Row, key: str, extra: Row, *, texts: bool = False) -> list[Row]:
    """The turns under ``key``, in any shape of `records.turn_lists.turn_list`.

    A content given as text parts is their texts in a row. A turn with a ``function_call``, or of a
    role that has calls for content, has ``tool_calls``. Further fields of a turn are in ``extra``
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
        raise BadRow("empty_conversation", f"{key!r} has no turn")
    turns = [_read_turn(turn, f"{key}[{at}]") for at, turn in enumerate(value)]
    put_fields(extra, key, [_rest(turn) for turn in value])
    return turns


def write_turns(turns: Sequence[Row], key: str, extra: Row) -> list[Row]:
    """The inverse of `read_turns`; removes the further fields from ``extra`` if they fit."""
    rest = take_fields(extra, key, len(turns))
    return [_write_turn(turn) | fields for turn, fields in zip(turns, rest, strict=True)]


def read_side(record: Row, key: str, role: str, extra: Row) -> list[Row]:
    """The turns under ``key``: of a text one turn of ``role``, of a list its turns.

    One turn may be given as an object; a text may be the JSON of turns.

    Raises:
        BadRow: it is neither.
    """
    value = record.get(key)
    if type(value) in (list, dict) or (type(value) is str and json_turns(value)):
        return read_turns(record, key, extra)
    return [text_turn(role, text_field(record, key))]


def write_side(turns: Sequence[Row], key: str, extra: Row, *, listed: bool) -> str | list[Row]:
    """The inverse of `read_side`: a list of turns, or the content of the one turn."""
    if listed:
        return write_turns(turns, key, extra)
    extra.pop(f"{key}.fields", None)
    content: str = turns[0]["content"]
    return content


def plain(turns: Sequence[Row], *roles: str) -> list[str] | None:
    """The contents, if the turns have just these roles and nothing but text; else null."""
    if len(turns) != len(roles):
        return None
    for turn, role in zip(turns, roles, strict=True):
        if turn["role"] != role or turn["content"] is None:
            return None
        if turn["name"] or turn["tool_calls"] or turn["tool_call_id"]:
            return None
    return [turn["content"] for turn in turns]


def common_prefix(chosen: Sequence[Row], rejected: Sequence[Row]) -> int:
    """Number of turns that two conversations share before their answers, at least one turn each."""
    most = min(len(chosen), len(rejected)) - 1
    return next((at for at in range(most) if chosen[at] != rejected[at]), max(most, 0))


def check_sides(chosen: Sequence[Row], rejected: Sequence[Row]) -> None:
    """Check that both sides end with an answer and, where they differ, differ at an answer.

    Raises:
        BadRow: one does not end so, or they differ at a user's turn: two questions are no pair.
    """
    for name, turns in (("chosen", chosen), ("rejected", rejected)):
        if turns[-1]["role"] != "assistant":
            raise BadRow("no_answer", f"{name!r} does not end with an assistant's turn")
    at = common_prefix(chosen, rejected)
    parted = (chosen[at], rejected[at])
    asked = zip(_asking(chosen[at + 1 :]), _asking(rejected[at + 1 :]), strict=False)
    if parted[0] != parted[1] and {turn["role"] for turn in parted} & _ASKING:
        detail = "chosen and rejected do not answer the same turns: they differ at a user's turn"
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
        return text_turn("assistant", None) | {"tool_calls": calls}
    read = text_turn(role_of(turn.get("role")), None)
    read["tool_calls"] = read_calls(turn, where)
    optional = read["tool_calls"] is not None
    read["content"] = content_of(turn.get("content"), where, optional=optional)
    for key in ("name", "tool_call_id"):
        if turn.get(key) is not None:
            read[key] = text_field(turn, key)
    return read


def _rest(turn: Row) -> Row:
    """The fields of a turn without a column; a ``function_call`` that was read is left out."""
    used = _USED if turn.get("tool_calls") else _USED | {_CALL}
    return {name: item for name, item in turn.items() if name not in used and item is not None}


def content_of(value: Any, where: str, *, optional: bool = False) -> str | None:
    """The text of a content: a text, or joined parts of text.

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
    """The text of a part: a text, or an object with one under a usual key."""
    if type(part) is str:
        return part
    known = type(part) is dict and part.get("type") in _TEXT_TYPES
    key = next((key for key in _PART_KEYS if known and part.get(key) is not None), None)
    if key is None:
        raise BadRow("not_text", f"{where} has a part that is not text")
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
    """The type of a value in words."""
    return _NAMES.get(type(value), type(value).__name__)


_NAMES: Final[Mapping[type, str]] = {
    bool: "a boolean",
    int: "a number",
    float: "a number",
    str: "a text",
    list: "a list",
    dict: "an object",
}


_MARK: Final = re.compile(r"(?:\A|\n\n)(Human|Assistant):(?: |(?=\n|\Z))")
_ROLES: Final = {"Human": "user", "Assistant": "assistant"}
_MARKS: Final = {role: f"\n\n{mark}: " for mark, role in _ROLES.items()}


def has_user_mark(value: object) -> TypeGuard[str]:
    r"""Whether ``value`` is a text that begins with the mark of a user.

    >>> has_user_mark("\n\nHuman: Hi\n\nAssistant: Hello"), has_user_mark("Human nature")
    (True, False)
    """
    return type(value) is str and value.lstrip("\n").startswith("Human:")


def prompt_turns(text: str) -> list[Row]:
    r"""The turns of a prompt: of a dialogue its own, without a trailing empty answer.

    >>> [turn["content"] for turn in prompt_turns("\n\nHuman: Hi\n\nAssistant:")]
    ['Hi']
    """
    if not has_user_mark(text) or not _MARK.match("\n\n" + text.lstrip("\n")):
        return [text_turn("user", text)]
    turns = read_dialogue(text, "prompt")
    return turns[:-1] if turns[-1] == text_turn("assistant", "") else turns


def read_prompt_turns(record: Row, key: str, extra: Row) -> list[Row]:
    """The turns of a prompt: of a list its own, of a text those of `prompt_turns`.

    Raises:
        BadRow: it is neither a text nor turns.
    """
    value = record.get(key)
    return prompt_turns(value) if has_user_mark(value) else read_side(record, key, "user", extra)


def read_dialogue(text: str, key: str) -> list[Row]:
    """The turns of a dialogue; a turn may be empty.

    Raises:
        BadRow: it does not begin with ``Human:`` or ``Assistant:``.
    """
    pieces = _MARK.split(text if text.startswith("\n\n") else "\n\n" + text.lstrip("\n"))
    if len(pieces) < 3 or pieces[0]:
        raise BadRow("no_turn_marks", f"{key!r} does not begin with 'Human:' or 'Assistant:'")
    marks, contents = pieces[1::2], pieces[2::2]
    return [text_turn(_ROLES[mark], content) for mark, content in zip(marks, contents, strict=True)]


def write_dialogue(turns: Sequence[Row]) -> str:
    """The inverse of `read_dialogue`.

    Raises:
        BadRow: a turn is not a text of a user or an assistant, or contains a mark itself.
    """
    contents = plain(turns, *(turn["role"] for turn in turns))
    if contents is None or not {turn["role"] for turn in turns} <= set(_MARKS):
        raise BadRow("no_place", "a dialogue text has only user and assistant turns of text")
    text = "".join(
        _MARKS[turn["role"]] + content for turn, content in zip(turns, contents, strict=True)
    )
    if turns and [turn["content"] for turn in read_dialogue(text, "text")] != contents:
        raise BadRow("no_place", "a paragraph of a turn begins with a mark itself")
    return text
