"""Turns and tools in the form of chat templates, from our columns and ``extra``."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, NoReturn

from siftune.curate.files.json_text import dump
from siftune.curate.rows.tool_calls import arguments_key, without_nulls
from siftune.curate.rows.turn_fields import fields_of

__all__ = ["REASONING", "WEIGHTS", "chat", "columns_of", "tools_of", "turn_keys"]

REASONING: Final = ("reasoning_content", "reasoning", "thinking")
"""Fields of a turn with the reasoning before an answer; the first with a text is taken."""

WEIGHTS: Final = ("weight", "train", "training", "trainable", "loss", "loss_weight", "loss_mask")
"""Fields of a turn for its weight in the loss: 1 or true, 0 or false (for masks too)."""

_TRUTHS: Final = {"1": 1, "1.0": 1, "true": 1, "0": 0, "0.0": 0, "false": 0}


def chat(
    turns: Sequence[Mapping[str, Any]] | None, beside: Sequence[dict[str, Any]] | None = None
) -> list[dict[str, Any]]:
    """Turns in the form of transformers and TRL: only fields that are set, calls as objects.

    ``beside`` are further keys of each turn (`turn_keys`). Each call is ``{"type": "function",
    "function": {"name", "arguments"}}`` with what else it came with; arguments that are the JSON
    text of an object are that object. The result of a call has its name.

    >>> chat([{"role": "user", "content": "Hi", "name": None, "tool_calls": None}])
    [{'role': 'user', 'content': 'Hi'}]
    """
    made = [_turn(turn) for turn in turns or ()]
    _name_results(made)
    return made if beside is None else [t | keys for t, keys in zip(made, beside, strict=True)]


def columns_of(turns: Sequence[Mapping[str, Any]]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The inverse of `chat`: turns with all the fields of our columns, and the keys for ``extra``.

    Those keys are ``{"prompt.fields": [...]}``, or ``{}`` where no turn has further fields.
    """
    names = ("role", "content", "name", "tool_calls", "tool_call_id")
    made = [{name: turn.get(name) for name in names} for turn in turns]
    for turn in made:
        turn["tool_calls"] = dump(turn["tool_calls"]) if turn["tool_calls"] else None
    rest = [{key: value for key, value in turn.items() if key not in names} for turn in turns]
    return made, {"prompt.fields": rest} if any(rest) else {}


def _turn(turn: Mapping[str, Any]) -> dict[str, Any]:
    given = _set(turn)
    if "tool_calls" in given:
        given["tool_calls"] = [_call(call) for call in json.loads(given["tool_calls"])]
    return {"role": turn["role"], "content": "", **given}


def _name_results(turns: Sequence[dict[str, Any]]) -> None:
    """Name each tool turn after its call, by id or else by its place: some templates write it."""
    calls: list[dict[str, Any]] = []
    at = 0
    for turn in turns:
        if turn["role"] != "tool":
            calls, at = turn.get("tool_calls") or [], 0
            continue
        own = turn.get("tool_call_id")
        found = [call for call in calls if own is not None and call.get("id") == own]
        by_place = calls[at : at + 1] if own is None else []
        for call in [*found, *by_place][:1]:
            turn.setdefault("name", call["function"].get("name"))
        at += 1


def _call(call: Any) -> dict[str, Any]:
    """A tool call in the shape of the OpenAI API, its arguments an object if they are one."""
    function, beside = call.get("function"), call
    if not isinstance(function, dict):
        used = ("name", "type", arguments_key(call))  # Anthropic's type is tool_use
        function = {key: call[key] for key in (used[0], used[2]) if key in call}
        beside = {key: value for key, value in call.items() if key not in used}
    key = arguments_key(function)
    rest = {name: value for name, value in _set(function).items() if name != key}
    given = None if key is None else function.get(key)
    named = {**rest, "arguments": _arguments(given)}
    return {"type": "function", **_set(beside), "function": named}


def _set(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if value is not None}


def _arguments(given: Any) -> Any:
    """Arguments as an object; a text that is no JSON object stays as it is, none are ``{}``.

    A null in a text was written on purpose; one in an object comes from a column of structs.
    """
    if given is None or (isinstance(given, str) and not given.strip()):
        return {}
    if not isinstance(given, str):
        return without_nulls(given, inside=True)
    value: Any = given
    for _ in range(2):  # some data has them encoded twice
        value = _parsed(value) if isinstance(value, str) else value
    return value if isinstance(value, dict) else given


def _parsed(text: str) -> Any:
    """The value of a JSON text; None where it is none, is nested too deep, or is no Unicode."""
    try:
        value = json.loads(text, parse_constant=_no_constant, parse_float=_finite)
        json.dumps(value, ensure_ascii=False).encode()  # half a surrogate pair is no text
    except (ValueError, RecursionError):
        return None
    return value


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _finite(digits: str) -> float:
    if math.isinf(float(digits)):
        raise ValueError(f"{digits} is beyond float64")
    return float(digits)


def tools_of(extra: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """The functions that a row's model may call, as the OpenAI API lists them; None without any.

    They are the row's ``tools`` or, of the old API, its ``functions``: a list or JSON text of one.
    A function without its ``{"type": "function", "function": ...}`` gets it.

    >>> tools_of({"tools": '[{"name": "f", "parameters": {}}]'})
    [{'type': 'function', 'function': {'name': 'f', 'parameters': {}}}]
    """
    given = extra.get("tools") or extra.get("functions")
    listed = _parsed(given) if isinstance(given, str) else without_nulls(given, inside=True)
    tools = [listed] if isinstance(listed, dict) else listed
    if not isinstance(tools, list) or not tools:
        return None
    found = [_tool(_parsed(tool) if isinstance(tool, str) else tool) for tool in tools]
    return None if None in found else [tool for tool in found if tool is not None]


def _tool(tool: Any) -> dict[str, Any] | None:
    if not isinstance(tool, dict):
        return None
    if isinstance(tool.get("function"), dict):
        return {"type": "function", **tool} if "name" in tool["function"] else None
    if not isinstance(tool.get("name"), str):
        return None
    return {"type": "function", "function": {k: v for k, v in tool.items() if k != "type"}}


def turn_keys(
    extra: Mapping[str, Any], column: str, turns: Sequence[Mapping[str, Any]] | None
) -> list[dict[str, Any]]:
    """Fields in ``extra`` for each turn of ``column`` that training uses, as keys of the turn.

    ``weight`` is 1 where the turn is trained on, else 0; another value is kept as it is.
    ``reasoning_content`` is the reasoning of an assistant turn.

    >>> turn_keys({"messages.fields": [{}, {"train": False}]}, "messages", [{}, {}])
    [{}, {'weight': 0}]
    """
    listed = turns or ()
    fields = fields_of(extra, column, len(listed))
    return [_keys(turn, own) for turn, own in zip(listed, fields, strict=True)]


def _keys(turn: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    texts = (fields.get(key) for key in REASONING)
    reasoning = next((text for text in texts if isinstance(text, str) and text.strip()), None)
    if reasoning is not None and turn.get("role") == "assistant":
        found["reasoning_content"] = reasoning
    weights = [_weight(fields[key]) for key in WEIGHTS if fields.get(key) is not None]
    if weights:
        odd = [weight for weight in weights if weight not in (0, 1)]
        found["weight"] = odd[0] if odd else min(weights)
    return found


def _weight(given: Any) -> Any:
    """0 or 1 of a number, a truth value or a text of one; anything else as it came."""
    return _TRUTHS.get(str(given).strip().lower(), given)
