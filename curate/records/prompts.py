"""The prompt of a record in a field of its own, under any of its usual names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from siftune.curate.core.errors import BadRow
from siftune.curate.core.types import Row
from siftune.curate.records.field_names import could_ask, map_flag, question_text
from siftune.curate.records.layout import SYSTEMS
from siftune.curate.records.question_parts import refuse_parts
from siftune.curate.records.turn_lists import json_turns, opens_conversation
from siftune.curate.records.turns import read_prompt_turns, read_turns, text_turn
from siftune.curate.rows.turn_fields import put_fields

__all__ = [
    "CHATS",
    "QUESTIONS",
    "chat_key",
    "no_other_prompt",
    "question_keys",
    "read_prompt",
    "shared_text",
]

QUESTIONS: Final = ("question", "query", "instruction", "problem", "user_prompt", "input")
"""Keys of a text that is the question, besides ``prompt``."""
CHATS: Final = ("messages", "conversations", "conversation")
"""Keys of the turns of a chat."""
_BETWEEN: Final = "\n\n"
_MOVE: Final = "a key 'prompt' that has it as one text or as turns"


def chat_key(record: Row) -> str | None:
    """The key of the turns of a chat, if ``record`` has one."""
    return next(iter(_chats(record)), None)


def question_keys(record: Row) -> list[str]:
    """The keys of ``record`` whose one text may be its question."""
    found = [key for key in QUESTIONS if question_text(record.get(key)) is not None]
    return [key for key in found if key != "input"] or found


def read_prompt(record: Row, extra: Row, answers: Sequence[list[Row]] = ()) -> list[Row]:
    """The turns of the prompt, none where no field has them; these fields leave ``extra``.

    ``prompt`` is preferred to all others, and has to contain them. Else it is the one text of
    `QUESTIONS` (an ``input`` follows its instruction after a blank line) or the turns of one of
    `CHATS`, without an answer of ``answers`` at their end. ``history`` (pairs of texts, or turns)
    comes before a text, or is the prompt itself. A system text is left to `records.layout`.

    Raises:
        BadRow: more than one field could be the prompt or a part of it, or the prompt cannot be
            read.
    """
    if record.get("prompt") not in (None, "", []):
        turns, texts = _taken(record, "prompt", extra), ["prompt"]
        _has_question(record, turns, extra)
    else:
        turns = _asked(record, extra, answers)
        texts = [] if _chats(record) else question_keys(record)
    extra.pop("prompt", None)
    if turns:
        asked = next((key for key in texts if type(record[key]) is str), None)
        refuse_parts(record, extra, turns, asked)
    return turns or [text_turn("user", "")] * (record.get("prompt") == "")


def no_other_prompt(record: Row, extra: Row) -> None:
    """Check that no field of a record that is left in ``extra`` could be the prompt.

    Raises:
        BadRow: one could; the text has the options that name it.
    """
    fields = ((key, value) for key, value in extra.items() if key not in SYSTEMS)
    others = {key: value for key, value in fields if could_ask(key, value)}
    if others:
        none = " ".join(map_flag(key, f"meta_{key}") for key in others)
        readable = [key for key, value in others.items() if _is_prompt(value)]
        ways = [_only(key, [], record) for key in readable]
        raise _unclear(
            record, [*others], f"{' or '.join(ways) or _MOVE}, or, where none is, with {none}"
        )


def shared_text(chosen: str, rejected: str) -> int:
    """Number of characters of the shared prompt of two texts by TRL's rule: to the last space."""
    pairs = enumerate(zip(chosen, rejected, strict=False))
    end = next((at for at, (a, b) in pairs if a != b), min(len(chosen), len(rejected)))
    return chosen.rfind(" ", 0, end) + 1


def _has_question(record: Row, turns: list[Row], extra: Row) -> None:
    """Check that ``prompt`` contains a question beside it, and remove that from ``extra``."""
    asked = "\n".join(turn["content"] or "" for turn in turns)
    for key in QUESTIONS:
        text = question_text(record.get(key)) or ""
        if text.strip() in asked and (text or not could_ask(key, record.get(key))):
            _drop(extra, [key] if type(record.get(key)) is str else [])
        else:
            raise BadRow(
                "unclear_prompt",
                f"{key!r} beside 'prompt' is no part of it; put both in 'prompt', or, if it is no "
                f"question, rename it with {map_flag(key, f'meta_{key}')}",
            )


def _asked(record: Row, extra: Row, answers: Sequence[list[Row]]) -> list[Row]:
    texts, chats = question_keys(record), _chats(record)
    distinct = {question_text(record[key]) for key in texts}
    if len(distinct) > 1 or len(chats) > 1:
        raise _unclear(record, [*texts, *chats])
    if not chats:
        return _text_prompt(record, texts, extra)
    turns = _unanswered(_taken(record, chats[0], extra), answers, chats[0])
    if distinct and turns[-1]["content"] not in distinct:
        raise _unclear(record, [*texts, *chats])
    _drop(extra, texts)
    _cut_fields(extra, len(turns))
    return turns


def _chats(record: Row) -> list[str]:
    return [key for key in CHATS if opens_conversation(record.get(key))]


def _text_prompt(record: Row, texts: list[str], extra: Row) -> list[Row]:
    """Earlier turns, and the question that is a text."""
    history = record.get("history")
    if not texts and type(history) is str and history.strip():
        return [text_turn("user", extra.pop("history"))]
    before = _read_history(record, extra) if history else []
    if not texts:
        if before and before[-1]["role"] == "assistant":
            raise BadRow("unclear_prompt", "'history' ends with an answer, and no question follows")
        return before
    question = question_text(record[texts[0]]) or ""
    if not before and json_turns(question):
        return _taken(record, texts[0], extra)
    beside = record.get("input")
    if texts[0] == "instruction" and type(beside) is str:
        question += _BETWEEN + beside if beside.strip() else ""
        extra.pop("input", None)
    elif "input" not in texts and type(beside) is str and beside.strip():
        raise _unclear(record, [*texts, "input"])
    _drop(extra, texts)
    return [*before, text_turn("user", question)]


def _read_history(record: Row, extra: Row) -> list[Row]:
    """Earlier turns: a list of them, or of pairs of a question and its answer."""
    turns = read_turns(record, "history", extra, texts=True)
    extra.pop("history", None)
    put_fields(extra, "prompt", extra.pop("history.fields", ()))
    return turns


def _taken(record: Row, key: str, extra: Row) -> list[Row]:
    """The turns under ``key``; their further fields become those of the prompt."""
    value = record[key]
    if type(value) is list and _is_prompt(value) and type(value[0]) is str and len(value) > 1:
        turns = read_turns(record, key, extra, texts=True)
    elif type(value) is not str and (text := question_text(value)) is not None:
        turns = [text_turn("user", text)]
        rest = value.items() if type(value) is dict else ()
        put_fields(extra, key, [{inner: item for inner, item in rest if item != text}])
    else:
        turns = read_prompt_turns(record, key, extra)
    extra.pop(key, None)
    put_fields(extra, "prompt", extra.pop(f"{key}.fields", ()))
    return turns


def _is_prompt(value: Any) -> bool:
    """Whether `read_prompt` can read a value as a prompt: a text, turns, or texts in turn."""
    if question_text(value) is not None or opens_conversation(value):
        return True
    texts = type(value) is list and all(type(item) is str for item in value)
    return texts and len(value) % 2 == 1  # the first and the last of them are a user's


def _unanswered(turns: list[Row], answers: Sequence[list[Row]], key: str) -> list[Row]:
    """The turns before a known answer, or all if they end with a question."""
    if turns[-1]["role"] != "assistant":
        return turns
    if [turns[-1]] in answers and len(turns) > 1:
        return turns[:-1]
    detail = f"{key!r} ends with an answer that is neither chosen nor rejected"
    raise BadRow("prompt_mismatch", detail)


def _cut_fields(extra: Row, count: int) -> None:
    put_fields(extra, "prompt", extra.pop("prompt.fields", [])[:count])


def _drop(extra: Row, keys: Sequence[str]) -> None:
    """Remove texts that were read from ``extra``; an object keeps its other fields."""
    for key in keys:
        if type(extra.get(key)) is not dict:
            extra.pop(key, None)


def _unclear(record: Row, keys: Sequence[str], ways: str = "") -> BadRow:
    named = " and ".join(repr(key) for key in keys)
    could = "could be the prompt" if len(keys) == 1 else "could each be the prompt"
    ways = ways or " or ".join(_only(key, keys, record) for key in keys)
    return BadRow("unclear_prompt", f"{named} {could}; choose with {ways}")


def _only(key: str, keys: Sequence[str], record: Row) -> str:
    """Flags that make one of ``keys`` the prompt, and the others facts, with an empty prompt."""
    rest = [*keys, *(["prompt"] if "prompt" in record else [])]
    others = [map_flag(other, f"meta_{other}") for other in rest if other != key]
    return " ".join([map_flag(key, "prompt"), *others])
