"""Advice and checks of ``--map``: new names of keys with which one format reads the rows."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import combinations
from typing import Any, Final, TypeAlias

from siftune.curate.core.errors import BadRow, UsageError
from siftune.curate.core.types import Format, Row
from siftune.curate.files.source_spec import in_caller_syntax
from siftune.curate.records.field_names import (
    could_answer,
    could_ask,
    is_answer,
    is_context,
    is_fact,
    is_question,
    map_flag,
    of_role,
    words,
)
from siftune.curate.records.layout import BESIDE, refuse_media
from siftune.curate.records.prompts import CHATS, QUESTIONS
from siftune.curate.records.question_parts import TASK_WORDS, left_out
from siftune.curate.records.turn_lists import opens_conversation

__all__ = ["advice", "check_new_names", "reads", "renamed"]

_TRIED: Final = 20  # rows that a renaming is tried on
_TEXTS: Final = frozenset({"text", "content", "document", "body"})
_FIRST: Final = frozenset({"instruction", "instructions"})
_LAST: Final = frozenset({"input", "inputs", "text"})
_TWINS: Final = (("q", "a"), ("source", "target"), ("src", "tgt"))
_REFERENCE: Final = frozenset(
    ["expected", "reference", "gold", "golden", "ground", "truth", "correct", "final"]
)

Fitting: TypeAlias = Callable[[Sequence[Row]], list[tuple[str, Format, int]]]
"""The formats that most of the given rows match."""


def advice(rows: Sequence[Row], fitting: Fitting) -> dict[str, str]:
    """New names of the rows' own keys with which one format reads most of them, and reads all.

    That reading leaves no field that could be a question, a part of it or an answer. Empty where no
    such names are found.
    """
    most = Counter(key for row in rows for key, value in row.items() if value not in (None, ""))
    keys = [key for key, count in most.items() if 2 * count > len(rows)]
    values = {key: next(row[key] for row in rows if row.get(key) not in (None, "")) for key in keys}
    for ways in _renamings(keys, values):
        mapping = {key: name for name, key in ways.items() if key != name}
        if mapping and not {*mapping.values()} & ({*keys} - {*mapping}):
            moved = [renamed(row, mapping) for row in rows if _free(row, mapping)][:_TRIED]
            if _read_by_one(moved, fitting):
                return mapping
    return {}


def _free(row: Row, mapping: Mapping[str, str]) -> bool:
    return not {*mapping.values()} & ({*row} - {*mapping})


def _read_by_one(rows: Sequence[Row], fitting: Fitting) -> bool:
    found = fitting(rows) if rows else []
    return len(found) == 1 and 2 * sum(reads(found[0][1], row) for row in rows) > len(rows)


def reads(form: Format, record: Row) -> bool:
    """Whether a format reads a record without leaving a question or an answer in ``extra``."""
    with suppress(BadRow):
        refuse_media(record)
        made = list(form.read(record))
        return bool(made) and not any(_leaves(form, row) for row in made)
    return False


def _leaves(form: Format, row: Row) -> bool:
    extra = row.get("extra") or {}
    if form.kind == "text":
        others = [(key, value) for key, value in extra.items() if type(value) is str]
        return any(words(key) & _TEXTS or could_answer(key, value) for key, value in others)
    turns = [turn for name in ("messages", "prompt") for turn in row.get(name) or ()]
    if left_out(extra, turns) or any(map(opens_conversation, extra.values())):
        return True
    last = turns[-1]["role"] if turns else ""
    if form.kind != "conversation" or last == "assistant" or "answer" in row:
        return False
    return any(could_answer(key, value) for key, value in extra.items())


def _renamings(keys: Sequence[str], values: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    """Mappings of keys to our names by the words of the keys, likeliest first."""
    texts = [key for key in keys if type(values[key]) is str]
    chats = [key for key in keys if opens_conversation(values[key])]
    yield from _sides(keys, values)
    spoken = [key for key in keys if key in {*texts, *chats}]
    questions = [key for key in spoken if could_ask(key, values[key])]
    asked = of_role("question", questions)
    bodies = [key for key in texts if words(key) & _TEXTS]
    answers = [key for key in of_role("answer", spoken) if could_answer(key, values[key])]
    if not _rivals(of_role("answer", keys)) and not of_role("choices", keys):
        yield from _twins(texts)
        yield from _answered(asked, bodies, questions, sorted(answers, key=_is_reference))
    yield from _ranked(asked, keys, values)
    if "prompt" in keys:
        yield from ({"completion": key} for key in bodies)
    yield from ({"messages": key} for key in chats)
    yield from ({"text": key} for key in bodies)
    yield from ({"prompt": key} for key in asked)


def _sides(keys: Sequence[str], values: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    """A chosen and a rejected answer, and a likely question."""
    chosen, rejected = of_role("chosen", keys), of_role("rejected", keys)
    if not chosen or not rejected:
        return
    sides = {"chosen": chosen[0], "rejected": rejected[0]}
    others = [key for key in keys if key not in sides.values()]
    unknown = [key for key in others if could_ask(key, values[key])]
    bodies = [key for key in others if words(key) & _TEXTS]
    asked = [key for key in of_role("question", others) if key in unknown] or bodies or unknown
    for first, second in _pairs_of(asked + [key for key in unknown if is_context(key)]):
        yield {"instruction": first, "input": second} | sides
    yield from ({"prompt": key} | sides for key in asked)
    yield sides


def _answered(
    asked: Sequence[str], bodies: Sequence[str], questions: Sequence[str], answers: Sequence[str]
) -> Iterator[dict[str, str]]:
    """A question and its answer; a further text is an instruction's input."""
    contexts = [key for key in questions if is_context(key)]
    tasks = [key for key in questions if words(key) & TASK_WORDS]
    for answer in answers:
        parts = [
            key for key in dict.fromkeys([*tasks, *asked, *bodies, *contexts]) if key != answer
        ]
        for first, second in _pairs_of(parts):
            yield {"instruction": first, "input": second, "output": answer}
    for question in (*asked, *bodies):
        for answer in answers:
            if answer != question:
                yield {"prompt": question, "completion": answer}


def _is_reference(key: str) -> bool:
    """Whether a key is that of a reference answer."""
    return bool(words(key) & _REFERENCE)


def _pairs_of(keys: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Pairs of an instruction and its input, likeliest first."""
    ordered = sorted(dict.fromkeys(keys), key=_place)
    yield from combinations(ordered[:4], 2)


def _place(key: str) -> int:
    """Order of a key in a question: the task, the question, the context."""
    named = words(key)
    if named & (_FIRST | TASK_WORDS):
        return 0
    return 3 if is_context(key) else 2 if named & _LAST else 1


def _twins(texts: Sequence[str]) -> Iterator[dict[str, str]]:
    """Two keys that differ only in the word for a question and for an answer."""
    for question in texts:
        for answer in texts:
            one, other = words(question) - words(answer), words(answer) - words(question)
            if (*one, *other) in _TWINS:
                yield {"prompt": question, "completion": answer}


def _ranked(
    asked: Sequence[str], keys: Sequence[str], values: Mapping[str, Any]
) -> Iterator[dict[str, str]]:
    """A question, a list of answers, and a list of as many numbers."""
    lists = {key: values[key] for key in keys if type(values[key]) is list and values[key]}
    answer = [key for key in of_role("answer", lists) if type(lists[key][0]) in (str, list)]
    numbers = [key for key, value in lists.items() if {*map(type, value)} <= {int, float}]
    for question in asked:
        for answers in answer:
            for scores in numbers:
                yield {"prompt": question, "completions": answers, "scores": scores}


def _rivals(keys: Sequence[str]) -> bool:
    """Whether two keys differ only in a letter or a number: ``answer_a`` and ``answer_b``."""
    stems = [frozenset(word for word in words(key) if len(word) > 1) for key in keys]
    return len(set(stems)) < len(stems)


def renamed(row: Row, mapping: Mapping[str, str]) -> Row:
    """``row`` with the new keys of ``mapping``.

    Raises:
        BadRow: two keys would have one name.
    """
    result: dict[str, Any] = {}
    for key, value in row.items():
        name = mapping.get(key, key)
        if name in result:
            raise BadRow("duplicate_key", f"{key!r} is renamed to {name!r}, which is there too")
        result[name] = value
    return result


_MAIN: Final = (
    *("prompt", "completion", "chosen", "rejected", "text", "output", "response", "answer"),
    *("history", "label", "completions", "scores", "tools", "context", "inputs", "targets"),
    *("score_chosen", "score_rejected", "margin", "solution", "responses", "rejected_response"),
)
_READ: Final = tuple(sorted({*_MAIN, *QUESTIONS, *CHATS, *BESIDE}))
"""Usual new names. Others are read too: a name is refused only where no format reads it."""
_NEAR: Final = 0.75  # similarity of a name and its misspelling: promt, anwser, mesages


def check_new_names(
    mapping: Mapping[str, str], rows: Sequence[Row], form: Format | None = None
) -> None:
    """Check that no new name is misspelt, or hides a question or an answer.

    ``rows`` have the new names; ``form`` reads them, and leaves unknown fields in ``extra``.
    Without ``form`` only misspelt names are refused.

    Raises:
        UsageError: a name is wrong; the text has the closest known name.
    """
    if not mapping:
        return
    left = None if form is None else _left(form, rows)
    for key, name in mapping.items():
        if name in _READ or is_fact(name) or (left is not None and name not in left):
            continue
        near = difflib.get_close_matches(name, _READ, n=1, cutoff=_NEAR)
        if near and near[0] == key:
            problem = f"{key!r} is read as it is, leave the option out"
        elif near:
            problem = f"did you mean {map_flag(key, near[0])}?"
        elif form is not None and (is_question(key) or is_answer(key) or is_context(key)):
            problem = f"expected a name that one reads, such as {', '.join(_MAIN[:4])}"
        else:
            continue
        advice = f"to keep it as a fact in extra, {map_flag(key, f'meta_{name}')}"
        raise UsageError(
            in_caller_syntax(
                f"{map_flag(key, name)}: no layout reads a field {name!r}; {problem} ({advice})"
            )
        )


def _left(form: Format, rows: Sequence[Row]) -> set[str]:
    """The keys that the format leaves in ``extra`` of rows that it can read."""
    return {
        str(key) for row in rows for made in _made(form, row) for key in made.get("extra") or ()
    }


def _made(form: Format, row: Row) -> Iterator[Row]:
    try:
        yield from form.read(row)
    except BadRow:
        return
