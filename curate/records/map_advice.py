"""New names of keys with which one format reads the rows whole: tried before they are advised."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import combinations
from typing import Any, Final, TypeAlias

from siftune.curate.core.errors import BadRow
from siftune.curate.core.types import Format, Row
from siftune.curate.records.field_names import could_answer, could_ask, is_context, of_role, words
from siftune.curate.records.question_parts import TASK_WORDS, left_out
from siftune.curate.records.side_fields import refuse_media
from siftune.curate.records.turn_lists import opens_conversation

__all__ = ["advice", "reads", "renamed"]

_TRIED: Final = 20  # rows that a renaming is tried on
_TEXTS: Final = frozenset({"text", "content", "document", "body"})
_FIRST: Final = frozenset({"instruction", "instructions"})
_LAST: Final = frozenset({"input", "inputs", "text"})
_TWINS: Final = (("q", "a"), ("source", "target"), ("src", "tgt"))
_REFERENCE: Final = frozenset(
    ["expected", "reference", "gold", "golden", "ground", "truth", "correct", "final"]
)

Fitting: TypeAlias = Callable[[Sequence[Row]], list[tuple[str, Format, int]]]
"""The formats that most of some rows fit."""


def advice(rows: Sequence[Row], fitting: Fitting) -> dict[str, str]:
    """New names of the rows' own keys with which one format reads most of them, and reads all.

    Nothing that could be a question, a part of it or an answer is left over by that reading.
    Empty where no such names are found.
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
    """Whether a format reads a record whole: no question and no answer is left over."""
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
    """What the keys could be by their words, likeliest first: our names and the keys for them."""
    texts = [key for key in keys if type(values[key]) is str]
    chats = [key for key in keys if opens_conversation(values[key])]
    yield from _sides(keys, values)
    spoken = [key for key in keys if key in {*texts, *chats}]
    told = [key for key in spoken if could_ask(key, values[key])]
    asked = of_role("question", told)
    bodies = [key for key in texts if words(key) & _TEXTS]
    answers = [key for key in of_role("answer", spoken) if could_answer(key, values[key])]
    if not _rivals(of_role("answer", keys)) and not of_role("choices", keys):
        yield from _twins(texts)
        yield from _answered(asked, bodies, told, sorted(answers, key=_is_reference))
    yield from _ranked(asked, keys, values)
    if "prompt" in keys:
        yield from ({"completion": key} for key in bodies)
    yield from ({"messages": key} for key in chats)
    yield from ({"text": key} for key in bodies)
    yield from ({"prompt": key} for key in asked)


def _sides(keys: Sequence[str], values: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    """A chosen and a rejected answer, and what could be their question."""
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
    asked: Sequence[str], bodies: Sequence[str], told: Sequence[str], answers: Sequence[str]
) -> Iterator[dict[str, str]]:
    """A question and its answer; what has to be read besides is an instruction's input."""
    contexts = [key for key in told if is_context(key)]
    tasks = [key for key in told if words(key) & TASK_WORDS]
    for said in answers:
        parts = [key for key in dict.fromkeys([*tasks, *asked, *bodies, *contexts]) if key != said]
        for first, second in _pairs_of(parts):
            yield {"instruction": first, "input": second, "output": said}
    for question in (*asked, *bodies):
        for said in answers:
            if said != question:
                yield {"prompt": question, "completion": said}


def _is_reference(key: str) -> bool:
    """Whether a key is that of an answer which others are checked by."""
    return bool(words(key) & _REFERENCE)


def _pairs_of(keys: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Pairs of an instruction and its input, likeliest first."""
    ordered = sorted(dict.fromkeys(keys), key=_place)
    yield from combinations(ordered[:4], 2)


def _place(key: str) -> int:
    """Where a key stands in a question: what is to be done, what is asked, what it is about."""
    named = words(key)
    if named & (_FIRST | TASK_WORDS):
        return 0
    return 3 if is_context(key) else 2 if named & _LAST else 1


def _twins(texts: Sequence[str]) -> Iterator[dict[str, str]]:
    """Two keys that are one but for the word for a question and that for an answer."""
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
    said = [key for key in of_role("answer", lists) if type(lists[key][0]) in (str, list)]
    numbers = [key for key, value in lists.items() if {*map(type, value)} <= {int, float}]
    for question in asked:
        for answers in said:
            for scores in numbers:
                yield {"prompt": question, "completions": answers, "scores": scores}


def _rivals(keys: Sequence[str]) -> bool:
    """Whether two keys are one but for a letter or a number: ``answer_a`` and ``answer_b``."""
    stems = [frozenset(word for word in words(key) if len(word) > 1) for key in keys]
    return len(set(stems)) < len(stems)


def renamed(row: Row, mapping: Mapping[str, str]) -> Row:
    """``row`` with its keys as ``mapping`` has them.

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
