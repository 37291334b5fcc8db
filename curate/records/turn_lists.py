"""Lists of turns in the shapes that data sets use, as lists of ``{"role", "content", …}``.

Every function returns a value whose shape it does not know as it is, so that the reader of turns
can say what is wrong with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

from siftune.curate.core.types import Row
from siftune.curate.records.roles import ROLES

__all__ = ["holds_records", "is_conversation", "json_turns", "opens_conversation", "turn_list"]

_ROLE_KEYS: Final = ("role", "from", "speaker", "author", "sender")
_TEXT_KEYS: Final = ("content", "value", "text", "message", "parts", "utterance")
_SPEAKERS: Final[Mapping[str, str]] = (
    {"system": "system"}
    | dict.fromkeys(("human", "user", "prompter"), "user")
    | dict.fromkeys(("input", "question", "query", "prompt"), "user")
    | dict.fromkeys(("assistant", "gpt", "bot", "chatbot", "ai"), "assistant")
    | dict.fromkeys(("output", "answer", "response", "completion"), "assistant")
)
"""Whose text a key of an object without a role holds."""
_RECORD_KEYS: Final = frozenset({"instruction", "chosen", "rejected"})
"""Keys of an object that is a record of a data set, not a turn, whatever else it holds."""
_ORDER: Final = ("system", "user", "assistant")


def turn_list(value: Any, *, texts: bool = False) -> Any:
    """``value`` as a list of objects with ``role`` and ``content``.

    It may be such a list, with the role under another usual key (``from``, ``speaker``) and the
    text too (``value``, ``text``); a list of objects that hold a question and its answer, as
    ``{"human", "assistant"}``; an object of lists of equal length; one turn; or the JSON text of
    any of these. With ``texts`` also a list of texts, the user's first, or of pairs of texts.

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
    """Whether `turn_list` knows the shape of ``value``."""
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
    """The turns that one item of a list holds; the item itself where its shape is not known."""
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
    """The turns of ``{"human": text, "assistant": text}``; other fields go with the last."""
    if not _RECORD_KEYS.isdisjoint(map(str.lower, item)):
        return []
    keys = {key: _SPEAKERS[key.lower()] for key in item if key.lower() in _SPEAKERS}
    said = {role: item[key] for key, role in keys.items()}
    if len(said) < len(keys) or not said.keys() & {"user", "assistant"}:
        return []
    if not all(text is None or type(text) is str for text in said.values()):
        return []
    turns = [_turn(role, said[role]) for role in _ORDER if said.get(role) is not None]
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
