"""Lists of turns in the shapes of data sets, as lists of ``{"role", "content", …}``; roles.

A value of an unknown shape is returned as it is, so that the reader of turns can name its error.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

from siftune.curate.core.errors import BadRow
from siftune.curate.core.types import Row

__all__ = [
    "ROLES",
    "holds_records",
    "is_call_role",
    "is_conversation",
    "json_turns",
    "opens_conversation",
    "role_of",
    "turn_list",
]

ROLES: Final[Mapping[str, str]] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "model": "assistant",
    "tool": "tool",
    "observation": "tool",
    "function": "tool",
    "function_response": "tool",
    "tool_response": "tool",
    "person": "user",
    "customer": "user",
    "bot": "assistant",
    "chatbot": "assistant",
    "ai": "assistant",
    "agent": "assistant",
    "chatgpt": "assistant",
    "gpt4": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "claude": "assistant",
    "environment": "tool",
    "ipython": "tool",
    "tool_result": "tool",
    "function_result": "tool",
    "question": "user",
    "query": "user",
    "instruction": "user",
    "answer": "assistant",
    "response": "assistant",
    "llm": "assistant",
}
"""Raw role, in small letters, to role of a row. Compiled readers try them in this order."""

_CALL_ROLES: Final = frozenset({"function_call", "tool_call"})


def role_of(role: Any) -> str:
    """The role of a row for a raw role, in any letter case.

    >>> role_of("Human"), role_of("tool-response")
    ('user', 'tool')

    Raises:
        BadRow: it is unknown.
    """
    known = ROLES.get(role) if type(role) is str else None
    if known is None:
        known = ROLES.get(_folded(role))
    if known is None:
        raise BadRow(
            "unknown_role",
            f"role {_shown(role)}; expected system, user, assistant, tool or a usual name of one "
            "(human, gpt, observation, ...)",
        )
    return known


def is_call_role(role: Any) -> bool:
    """Whether turns of this role have the JSON of a tool call as content.

    >>> is_call_role("function_call"), is_call_role("tool")
    (True, False)
    """
    return _folded(role) in _CALL_ROLES


def _folded(role: Any) -> str:
    return role.strip().lower().replace("-", "_").replace(" ", "_") if type(role) is str else ""


def _shown(role: Any) -> str:
    text = repr(role)
    return text if len(text) <= 40 else f"{text[:39]}…"


_ROLE_KEYS: Final = ("role", "from", "speaker", "author", "sender")
_TEXT_KEYS: Final = ("content", "value", "text", "message", "parts", "utterance")
_SPEAKERS: Final[Mapping[str, str]] = (
    {"system": "system"}
    | dict.fromkeys(("human", "user", "prompter"), "user")
    | dict.fromkeys(("input", "question", "query", "prompt"), "user")
    | dict.fromkeys(("assistant", "gpt", "bot", "chatbot", "ai"), "assistant")
    | dict.fromkeys(("output", "answer", "response", "completion"), "assistant")
)
"""Roles of the keys of an object without a role."""
_RECORD_KEYS: Final = frozenset({"instruction", "chosen", "rejected"})
"""Keys of an object that is a record of a data set, not a turn."""
_ORDER: Final = ("system", "user", "assistant")


def turn_list(value: Any, *, texts: bool = False) -> Any:
    """``value`` as a list of objects with ``role`` and ``content``.

    It may be such a list, with the role under another usual key (``from``, ``speaker``) and the
    text too (``value``, ``text``); a list of objects of a question and its answer, as ``{"human",
    "assistant"}``; an object of lists of equal length; one turn; or the JSON text of any of these.
    With ``texts`` also a list of texts, the user's first, or of pairs of texts.

    >>> turn_list([{"human": "2+2?", "assistant": "4"}])
    [{'role': 'user', 'content': '2+2?'}, {'role': 'assistant', 'content': '4'}]
    >>> turn_list({"from": ["human"], "value": ["2+2?"]})
    [{'role': 'human', 'content': '2+2?'}]
    """
    listed = _items(_loaded(value) if type(value) is str else value)
    if type(listed) is not list:
        return value
    if texts and listed and type(listed[0]) is not dict:
        return _texts(listed)
    turns = [turn for item in listed for turn in _turns(item)]
    return turns if not listed or _has_role(turns[0]) else value


def opens_conversation(value: Any, *, texts: bool = False) -> bool:
    """Whether `turn_list` can convert ``value``."""
    turns = turn_list(value, texts=texts)
    return type(turns) is list and bool(turns) and _has_role(turns[0])


def holds_records(value: Any) -> bool:
    """Whether ``value`` is a list of objects or lists, none of which is a turn with a role.

    >>> holds_records([{"question": "2+2?", "answer": "4"}]), holds_records(["2+2?", "4"])
    (True, False)
    """
    return type(value) is list and bool(value) and all(map(_is_record, value))


def is_conversation(value: Any) -> bool:
    """Whether ``value`` is a list of objects that each have a role and a text.

    >>> is_conversation([{"role": "user", "content": "Hi"}]), is_conversation([{"id": 1}])
    (True, False)
    """
    return type(value) is list and bool(value) and all(map(_is_turn, value))


def json_turns(text: str) -> list[Row] | None:
    """The turns of a text that is the JSON of a conversation, else none.

    >>> json_turns('[{"role": "user", "content": "Hi"}]')
    [{'role': 'user', 'content': 'Hi'}]
    >>> json_turns("[1]"), json_turns("Hi")
    (None, None)
    """
    if not text.startswith("["):
        return None
    value = _loaded(text)
    return turn_list(value) if is_conversation(value) else None


def _loaded(text: str) -> Any:
    if text.lstrip()[:1] not in ("[", "{"):
        return text
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text


def _items(value: Any) -> Any:
    """A list of objects: of one turn, itself; of an object of equally long lists, their rows."""
    if type(value) is not dict:
        return value
    if _role_key(value) is not None or _spoken(value):
        return [value]
    columns = {key: items for key, items in value.items() if items is not None}
    if len(columns) < 2 or not all(type(items) is list for items in columns.values()):
        return value
    if len(set(map(len, columns.values()))) > 1:
        return value
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _texts(listed: list[Any]) -> list[Any]:
    """Turns of texts, the user's first, or of pairs: of a role and a text, or of two texts."""
    if all(type(item) is str for item in listed):
        return [_turn(_ORDER[1 + at % 2], text) for at, text in enumerate(listed)]
    if not all(type(item) is list and [*map(type, item)] == [str, str] for item in listed):
        return listed
    if all(first.lower() in ROLES for first, _ in listed):
        return [_turn(role, text) for role, text in listed]
    return [
        _turn(role, text) for pair in listed for role, text in zip(_ORDER[1:], pair, strict=True)
    ]


def _turns(item: Any) -> list[Any]:
    """The turns of one item of a list; the item itself where its shape is unknown."""
    if type(item) is not dict:
        return [item]
    role = _role_key(item)
    return [_renamed(item, role)] if role is not None else _spoken(item) or [item]


def _renamed(turn: Row, role: str) -> Row:
    text = _text_key(turn) or "content"
    if role == "role" and text == "content":
        return turn
    rest = {key: value for key, value in turn.items() if key not in (role, text)}
    return {**rest, "role": turn[role], "content": turn.get(text)}


def _spoken(item: Row) -> list[Row]:
    """The turns of ``{"human": text, "assistant": text}``; the last gets the other fields."""
    if not _RECORD_KEYS.isdisjoint(map(str.lower, item)):
        return []
    keys = {key: _SPEAKERS[key.lower()] for key in item if key.lower() in _SPEAKERS}
    texts = {role: item[key] for key, role in keys.items()}
    if len(texts) < len(keys) or not texts.keys() & {"user", "assistant"}:
        return []
    if not all(text is None or type(text) is str for text in texts.values()):
        return []
    turns = [_turn(role, texts[role]) for role in _ORDER if texts.get(role) is not None]
    if turns:
        turns[-1] |= {key: value for key, value in item.items() if key not in keys}
    return turns


def _turn(role: str, content: str) -> Row:
    return {"role": role, "content": content}


def _role_key(item: Row) -> str | None:
    return next((key for key in _ROLE_KEYS if type(item.get(key)) is str), None)


def _text_key(item: Row) -> str | None:
    return next((key for key in _TEXT_KEYS if item.get(key) is not None), None)


def _is_turn(item: Any) -> bool:
    return type(item) is dict and _role_key(item) is not None and _text_key(item) is not None


def _is_record(item: Any) -> bool:
    return type(item) is list or (type(item) is dict and _role_key(item) is None)


def _has_role(item: Any) -> bool:
    return type(item) is dict and "role" in item
