"""Fields beside a question that may be a part of it: refused, with options that read them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from siftune.curate.core.errors import BadRow
from siftune.curate.core.types import Row
from siftune.curate.records.field_names import (
    ANSWER_WORDS,
    CONTEXT_WORDS,
    QUESTION_WORDS,
    could_ask,
    is_answer,
    is_context,
    is_datum,
    is_question,
    keys_with,
    map_flag,
    words,
)
from siftune.curate.records.turn_lists import opens_conversation

__all__ = ["CHAT_KEYS", "PART_KEYS", "TASK_WORDS", "left_out", "refuse_half_chat", "refuse_parts"]

_PERSONS: Final = frozenset({"user", "human", "ask", "request", "exercise"})
_TEXT: Final = frozenset({"text"})
_HISTORY: Final = frozenset(
    ("history", "chat", "conversation", "dialogue", "dialog", "message", "messages")
)
_INPUTS: Final = ("input", "inputs")
TASK_WORDS: Final = frozenset(
    ["definition", "task", "description", "directive", "guideline", "guidelines"]
)
"""Words of keys for the task that an input belongs to."""
_CHECKED: Final = frozenset({"solution", "solutions", "target", "targets"})
_ASKING: Final = ("system", "user")
_PARTS: Final = ({"history"} | _TEXT | TASK_WORDS | QUESTION_WORDS | CONTEXT_WORDS) - _PERSONS
PART_KEYS: Final = keys_with(_PARTS)
"""Pattern of JSON with a key that `refuse_parts` may mean."""
CHAT_KEYS: Final = keys_with(_PARTS | ANSWER_WORDS)
"""Pattern of JSON with a key that `refuse_half_chat` may mean."""


def refuse_parts(
    record: Row,
    extra: Row,
    turns: Sequence[Row],
    asked: str | None = None,
    others: Mapping[str, str] | None = None,
) -> None:
    """Check that no field left in ``extra`` could be a part of the question in ``turns``.

    Such a field is named as a question, a context, a history or ``text``, and is neither in the
    turns nor made of them; where the question is an input, its task is one, too. ``asked`` is the
    key of the question if that is a text, ``others`` are new names of other keys with which an
    instruction is read with its input.

    Raises:
        BadRow: one could; the text has the options that read the row.
    """
    left = left_out(extra, turns, asked)
    if left is None:
        return
    ways = []
    if asked is not None and (type(extra[left]) is str or _is_history(left)):
        ways = _ways(record, left, asked, others or {})
    ways = [f"read both with {' '.join(ways)}" if ways else "put both in one text"]
    raise BadRow(
        "unclear_prompt",
        f"{left!r} may be a part of the question, and is not in {asked or 'the turns'}; "
        f"{ways[0]}, or, where it is none, rename it with {map_flag(left, f'meta_{left}')}",
    )


def left_out(extra: Row, turns: Sequence[Row], asked: str | None = None) -> str | None:
    """The first key of ``extra`` that may be a part of the question and is not in the turns."""
    tasks = asked in _INPUTS
    found = (
        key
        for key, value in extra.items()
        if (_is_part(key) or (tasks and _is_task(key, value))) and _is_new(value, turns)
    )
    return next(found, None)


def refuse_half_chat(extra: Row, key: str, turns: Sequence[Row]) -> None:
    """Check that a chat that lacks its question or its answer has none in ``extra``.

    Raises:
        BadRow: it has; the text has the options that read the row.
    """
    others = [(name, value) for name, value in extra.items() if _is_new(value, turns)]
    first = next((turn["role"] for turn in turns if turn["role"] != "system"), "user")
    if first == "assistant":
        asked = [name for name, value in others if type(value) is str and _is_part(name)]
        if asked:
            _refuse_half(key, "begins with an answer", asked[0], {asked[0]: "prompt"}, "completion")
    elif turns[-1]["role"] in _ASKING:
        contents = [name for name, value in others if _ends(name) and _could_end(value)]
        if contents:
            _refuse_half(
                key, "ends with a question", contents[0], {contents[0]: "completion"}, "prompt"
            )


def _refuse_half(key: str, how: str, other: str, mapping: dict[str, str], name: str) -> None:
    renames = (mapping | {key: name}).items()
    flags = " ".join(map_flag(old, new) for old, new in renames if old != new)
    raise BadRow(
        "half_conversation",
        f"{key!r} {how}, and {other!r} may be what it lacks; read both with {flags}, or, where it "
        f"is not, rename it with {map_flag(other, f'meta_{other}')}",
    )


def _ways(record: Row, left: str, asked: str, others: Mapping[str, str]) -> list[str]:
    """Options with which the question is read with the left-over field, if they work."""
    if _is_history(left):
        mapping = {left: "history"}
        if asked == "prompt":
            mapping |= {asked: "query"} | dict.fromkeys(others, "response")
    elif not record[asked].strip():
        mapping = {asked: f"meta_{asked}", left: asked}
    else:
        mapping = _with_input(record, left, asked) | dict(others)
    if {*mapping.values()} & ({*record} - {*mapping}):
        return []
    return [map_flag(key, name) for key, name in mapping.items() if key != name]


def _with_input(record: Row, left: str, asked: str) -> dict[str, str]:
    """New names that make the question an instruction and the left-over field its input."""
    swapped = asked in _INPUTS and not is_context(left)
    first, second = (left, asked) if swapped else (asked, left)
    mapping = {first: "instruction", second: "input"}
    if "input" not in mapping and record.get("input", 0) in (None, ""):
        mapping["input"] = "meta_input"
    return mapping


def _is_part(key: str) -> bool:
    asks = is_question(key) and not words(key) <= _PERSONS
    return asks or is_context(key) or words(key) == _TEXT or _is_history(key)


def _is_history(key: str) -> bool:
    """Whether a key is that of earlier turns: ``history``, ``chat_history``."""
    return "history" in words(key) and words(key) <= _HISTORY


def _is_task(key: str, value: Any) -> bool:
    return bool(words(key) & TASK_WORDS) and could_ask(key, value)


def _is_new(value: Any, turns: Sequence[Row]) -> bool:
    """Whether a field has a text that neither is in the turns nor contains one of them."""
    texts = [_squeezed(text) for text in _texts(value) if not is_datum(text)]
    if not texts:
        return False
    contents = [(turn["role"], _squeezed(turn["content"] or "")) for turn in turns]
    whole = "\n".join(content for _, content in contents)
    asked = [content for role, content in contents if role == "user" and content]
    made = any(content in text for text in texts for content in asked)
    return not made and not all(text in whole for text in texts)


def _ends(key: str) -> bool:
    """Whether a key is a name of an answer; a solution may be a reference answer."""
    return is_answer(key) and not words(key) & _CHECKED


def _could_end(value: Any) -> bool:
    return type(value) is str or opens_conversation(value)


def _texts(value: Any) -> Iterator[str]:
    """The texts in a value, at any depth."""
    if type(value) is str:
        yield value
    elif isinstance(value, list | dict):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)


def _squeezed(text: str) -> str:
    return " ".join(text.split())
