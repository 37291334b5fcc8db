"""ShareGPT: conversations of turns with from and value, with tool calls and observations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import orjson

from siftune.curate.core.errors import BadRow
from siftune.curate.core.schema import Kind
from siftune.curate.core.types import Row
from siftune.curate.files.json_text import dump
from siftune.curate.records.layout import Layout, Side
from siftune.curate.records.question_parts import CHAT_KEYS, refuse_half_chat
from siftune.curate.records.turn_lists import ROLES, is_call_role, role_of
from siftune.curate.records.turns import content_of, leftover, text_field, text_turn
from siftune.curate.rows.tool_calls import calls_of_text
from siftune.curate.rows.turn_fields import put_fields, take_fields

__all__ = ["ShareGPT"]

_KEY = "conversations"
_CALL = "function_call"
_TAGS = {"system": "system", "user": "human", "assistant": "gpt", "tool": "observation"}
_TURN = frozenset({"from", "value"})


@dataclass(frozen=True)
class ShareGPT:
    """``conversations: [{"from", "value"}]`` and, where given, ``system``.

    ``from`` is human, gpt, system, observation, function_call or another known role. The JSON
    value of a ``function_call`` (``{"name", "arguments"}``, or a list) becomes ``tool_calls`` of an
    assistant turn without text. ``tools`` and other fields stay in ``extra``.
    """

    kind: ClassVar[Kind] = "conversation"
    over: ClassVar[tuple[str, ...]] = ("text",)
    many: ClassVar[bool] = False
    tools: ClassVar[bool] = True  # LLaMA-Factory's records have them
    layout: ClassVar[Layout] = Layout(
        {"messages": (Side(_KEY, form="list"),)},
        turn=("from", "value"),
        roles=ROLES,
        unused=("system",),
        doubted=CHAT_KEYS,
    )

    def matches(self, row: Row) -> bool:
        """Whether its conversations have turns with from and value."""
        turns = row.get(_KEY)
        return type(turns) is list and bool(turns) and _is_turn(turns[0])

    def read(self, row: Row) -> list[Row]:
        """The conversation of one record."""
        raw = row.get(_KEY)
        if type(raw) is not list:
            reason = "missing_field" if raw is None else "wrong_type"
            raise BadRow(reason, f"{_KEY!r} is not a list of turns")
        if not raw:
            raise BadRow("empty_conversation", f"{_KEY!r} has no turn")
        turns = [_read_turn(turn, at) for at, turn in enumerate(raw)]
        extra = leftover(row, frozenset({_KEY}))
        if extra.get("system") in (None, "") or turns[0]["role"] != "system":
            system = extra.pop("system", None)
            turns[:0] = [text_turn("system", text_field(row, "system"))] if system else []
        rest = [{k: v for k, v in turn.items() if k not in _TURN and v is not None} for turn in raw]
        beside: list[Row] = [{}] * (len(turns) - len(rest))  # a system turn that is no item
        put_fields(extra, _KEY, [*beside, *rest])
        refuse_half_chat(extra, _KEY, turns)
        return [{"messages": turns, "extra": extra}]

    def write(self, row: Row) -> Row:
        """The record; names and ids of tool calls, and text beside a call, have no place."""
        extra, turns = dict(row.get("extra") or {}), row["messages"]
        rest = take_fields(extra, "messages", len(turns))
        written = [_write_turn(turn) | fields for turn, fields in zip(turns, rest, strict=True)]
        return {_KEY: written} | extra


def _is_turn(turn: Any) -> bool:
    return type(turn) is dict and turn.keys() >= _TURN


def _read_turn(turn: Any, at: int) -> Row:
    if not _is_turn(turn):
        raise BadRow("missing_field", f"{_KEY}[{at}] is not an object with 'from' and 'value'")
    if is_call_role(turn["from"]):
        calls = calls_of_text(turn["value"], f"{_KEY}[{at}]")
        return text_turn("assistant", None) | {"tool_calls": calls}
    return text_turn(role_of(turn["from"]), content_of(turn["value"], f"{_KEY}[{at}]"))


def _write_turn(turn: Row) -> Row:
    if turn["name"] is not None or turn["tool_call_id"] is not None:
        raise BadRow("no_place", "sharegpt has no place for a turn's name or tool_call_id")
    if turn["tool_calls"] is None:
        return {"from": _TAGS[turn["role"]], "value": turn["content"]}
    calls = orjson.loads(turn["tool_calls"])
    bare = type(calls) is list and all(_is_call(call) for call in calls)
    if turn["content"] is not None or not bare:
        raise BadRow("no_place", "sharegpt takes plain function calls without text or ids")
    called = [call["function"] for call in calls]
    return {"from": _CALL, "value": dump(called[0] if len(called) == 1 else called)}


def _is_call(call: Any) -> bool:
    return type(call) is dict and call.keys() == {"type", "function"} and "name" in call["function"]
