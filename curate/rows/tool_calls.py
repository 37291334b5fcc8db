"""Tool calls of raw turns as JSON text: ``tool_calls``, ``function_call``, call roles."""

from __future__ import annotations

from typing import Any, Final

import orjson

from siftune.curate.core.errors import BadRow
from siftune.curate.core.types import Row
from siftune.curate.files.json_text import dump

__all__ = [
    "CALL_KEYS",
    "arguments_key",
    "calls_as_text",
    "calls_of_text",
    "read_calls",
    "without_nulls",
]

CALL_KEYS: Final = frozenset({"tool_calls", "function_call", "tools", "functions"})
"""Keys of calls, and of functions that may be called, whose values may have any keys."""

_ARGUMENTS: Final = ("arguments", "parameters", "input", "args")


def read_calls(turn: Row, where: str) -> str | None:
    """The calls of a turn, JSON text of a list, as they came; None where it has none.

    They are under ``tool_calls`` (a list, one call, or JSON text of either) or, as in the first
    version of the OpenAI API, one is under ``function_call``.

    Raises:
        BadRow: one of them has no name.
    """
    given = _loaded(turn.get("tool_calls"), where)
    if given:
        return dump(_named([_loaded(call, where) for call in _listed(given)], where))
    given = _loaded(turn.get("function_call"), where)
    return dump(_functions(_named(_listed(given), where))) if given else None


def calls_of_text(value: Any, where: str) -> str:
    """The calls of a turn whose content is ``{"name", "arguments"}``, or a list, perhaps as text.

    Raises:
        BadRow: it is no call.
    """
    given = _loaded(value, where)
    if not given:
        raise BadRow("bad_tool_call", f"{where} is no JSON of a call with a name")
    return dump(_functions(_named(_listed(given), where)))


def _loaded(value: Any, where: str) -> Any:
    """``value``, read as JSON if it is a text that is not blank."""
    if type(value) is not str or not value.strip():
        return value or None
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError:
        raise BadRow("bad_tool_call", f"{where} is no JSON of a call with a name") from None


def _listed(given: Any) -> list[Any]:
    return given if type(given) is list else [given]


def _named(calls: list[Any], where: str) -> list[Row]:
    for call in calls:
        function = call.get("function", call) if type(call) is dict else None
        if type(function) is not dict or type(function.get("name")) is not str:
            raise BadRow("bad_tool_call", f"a tool call of {where} is no object with a name")
        objects = [key for key, value in function.items() if type(value) is dict]
        if objects and arguments_key(function) is None:
            raise BadRow(
                "bad_tool_call",
                f"a tool call of {where} has no 'arguments', but {objects[0]!r}: rename it",
            )
    return calls


def arguments_key(function: Row) -> str | None:
    """The key of a call's arguments: that of the OpenAI API, of Llama, of Anthropic, or ``args``.

    >>> arguments_key({"name": "f", "parameters": {"x": 1}})
    'parameters'
    """
    known = {key.lower(): key for key in reversed(function) if function[key] is not None}
    return next((known[name] for name in _ARGUMENTS if name in known), None)


def _functions(calls: list[Row]) -> list[Row]:
    return [{"type": "function", "function": call} for call in calls]


def without_nulls(value: Any, inside: bool = False) -> Any:
    """``value`` without null keys in calls and in functions that may be called.

    A struct column of Arrow has one set of keys: each call gets the keys of all others.

    >>> without_nulls({"unit": None, "tool_calls": [{"id": None, "name": "f"}]})
    {'unit': None, 'tool_calls': [{'name': 'f'}]}
    """
    if type(value) is list:
        return [without_nulls(item, inside) for item in value]
    if type(value) is not dict:
        return value
    items = value.items()
    return {
        key: without_nulls(item, inside or key in CALL_KEYS)
        for key, item in items
        if item is not None or not inside
    }


def calls_as_text(record: Row) -> Row:
    """``record`` for a container of columns: arguments, and functions to call, as JSON text.

    In one struct column, keys that a call lacks would be null, and numbers beside texts would
    become texts.

    >>> calls_as_text({"chosen": [{"tool_calls": [{"function": {"arguments": {"x": 1}}}]}]})
    {'chosen': [{'tool_calls': [{'function': {'arguments': '{"x":1}'}}]}]}
    """
    tools = {key: dump(record[key]) for key in ("tools", "functions") if _objects(record.get(key))}
    return {key: _with_text(value) for key, value in record.items()} | tools


def _objects(value: Any) -> bool:
    return type(value) is list and bool(value) and all(type(item) is dict for item in value)


def _with_text(value: Any, inside: bool = False) -> Any:
    if type(value) is list:
        return [_with_text(item, inside) for item in value]
    if type(value) is not dict:
        return value
    return {
        key: dump(item)
        if inside and key == "arguments" and type(item) is not str
        else _with_text(item, inside or key == "tool_calls")
        for key, item in value.items()
    }
