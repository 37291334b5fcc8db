"""Which format a source has: told by its first rows together, said aloud, never row by row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from shlex import quote
from typing import Any, Final

from curate.core.errors import BadRow, DataError
from curate.core.readers.jsontext import dump
from curate.core.readers.keywords import could_ask, map_flag, of_role, words
from curate.core.readers.turn_lists import holds_records, opens_conversation
from curate.core.readers.turns import type_name
from curate.core.registry import find, names
from curate.core.types import Format, Row

__all__ = ["FORMATS", "SAMPLE", "Detected", "detect", "named"]

FORMATS: Final = "curate.formats"
SAMPLE: Final = 50
"""How many good rows detection looks at."""

_ALONE: Final = {"prompt": "prompt_only", "text": "text"}
"""Keys that a format reads without regard to the fields beside them."""
_TEXTS: Final = frozenset({"text", "content", "document", "body"})

Detected = tuple[str, Format, int]
"""Name, format, and how many of the rows looked at match it."""


def named(name: str) -> Format:
    """The format called ``name``.

    Raises:
        UsageError: there is none; the text names the closest.
    """
    made: Format = find(FORMATS, name)()
    return made


def detect(source: str, rows: Sequence[Row]) -> Detected:
    """The one format that more than half of ``rows`` match.

    A format that lists others in ``over`` is preferred to them when both match.

    Raises:
        DataError: none does, or more than one; the text names the candidates and the flag to set.
    """
    counts = _count(rows)
    left = _fitting(counts, rows)
    if len(left) == 1:
        _refuse_loss(source, left[0], counts, rows)
        return left[0]
    if left:
        both = " and ".join(name for name, _, _ in left)
        raise DataError(
            f"{source}: its rows fit {both}; say which with --format {left[0][0]} "
            f"or --format {left[-1][0]}"
        )
    raise DataError(f"{source}: {_no_format(counts, rows)}")


def _refuse_loss(
    source: str, best: Detected, counts: Mapping[str, Detected], rows: Sequence[Row]
) -> None:
    """Check that no row has more for another format: a label or a rejected answer beside it.

    Raises:
        DataError: some have; the text names both formats.
    """
    name, form, _ = best
    for other, more, count in counts.values():
        if name in more.over and count and more.kind not in (form.kind, "conversation"):
            both = sum(form.matches(row) and more.matches(row) for row in rows)
            if both:
                raise DataError(
                    f"{source}: {both} of the first {len(rows)} rows fit {other} ({more.kind} "
                    f"rows) as well as {name}, the others {name} alone; say which with --format "
                    f"{other} (the others are set aside) or --format {name}"
                )


def _count(rows: Sequence[Row]) -> dict[str, Detected]:
    formats = {name: named(name) for name in names(FORMATS)}
    return {
        name: (name, made, sum(made.matches(row) for row in rows)) for name, made in formats.items()
    }


def _fitting(counts: Mapping[str, Detected], rows: Sequence[Row]) -> list[Detected]:
    """The formats that most rows match, without those that another of them is preferred to."""
    fitting = {name: made for name, made in counts.items() if 2 * made[2] > len(rows)}
    beaten = {other for _, made, _ in fitting.values() for other in made.over}
    return [made for name, made in fitting.items() if name not in beaten]


def _no_format(counts: dict[str, Detected], rows: Sequence[Row]) -> str:
    best = max(counts.values(), key=lambda made: made[2])
    keys = ", ".join(sorted({str(key)[:40] for row in rows[:5] for key in row})[:12])
    if best[2]:
        found = f"only {best[2]} of the first {len(rows)} rows fit {best[0]}, none fits more"
    else:
        found = f"no format fits rows with {f'the keys {keys}' if keys else 'no keys'}"
    if wrapped := _wrapped(rows):
        return f"{found}: {wrapped}"
    if wrong := _not_turns(rows):
        found = f"{found}: {wrong}"
    mapping = _advice(rows)
    flags = " ".join(map_flag(key, name) for key, name in mapping.items())
    rename = f"rename keys with {flags or '--map KEY=NAME (such as prompt, completion or text)'}"
    alone = [f"--format {name} ({key!r} alone)" for key, name in _ALONE.items() if key in rows[0]]
    formats = f"--format (one of {', '.join(counts)})"
    return f"{found}; {rename}, or set {' or '.join([*alone, formats])}"


def _wrapped(rows: Sequence[Row]) -> str:
    """Which key of the one record of a file holds what look like the rows themselves."""
    for key, value in rows[0].items() if len(rows) == 1 else ():
        if holds_records(value) and type(value[0]) is dict and value[0]:
            keys = ", ".join(str(name)[:40] for name in value[0])[:80]
            inside = quote(f".[{dump(key)}][]")
            return (
                f"{key!r} holds a list of {len(value):,} objects with the keys {keys}; if these "
                f"are the rows, take them out: jq -c {inside} FILE > rows.jsonl"
            )
    return ""


def _not_turns(rows: Sequence[Row]) -> str:
    """What is wrong with the turns of most rows, where they have a key of turns."""
    for key in ("messages", "conversations", "conversation"):
        values = [row[key] for row in rows if row.get(key) is not None]
        if 2 * len(values) > len(rows) and not any(map(opens_conversation, values)):
            return (
                f"{key!r} is {type_name(values[0])}; expected a list of turns with role and content"
            )
    return ""


def _advice(rows: Sequence[Row]) -> dict[str, str]:
    """New names of the rows' own keys with which one format fits them; none if none is found."""
    most = Counter(key for row in rows for key, value in row.items() if value not in (None, ""))
    keys = [key for key, count in most.items() if 2 * count > len(rows)]
    for ways in _renamings(keys, rows[0]):
        mapping = {key: name for name, key in ways.items() if key != name}
        kept = keys if mapping else ()
        if kept and not {*mapping.values()} & {*kept} - {*mapping}:
            moved = [renamed(row, mapping) for row in rows if not {*mapping.values()} & {*row}]
            if len(_fitting(_count(moved), moved)) == 1:
                return mapping
    return {}


def _renamings(keys: Sequence[str], row: Row) -> Iterator[dict[str, str]]:
    """What the keys could be by their words, likeliest first: our names and the keys for them."""
    chosen, rejected = of_role("chosen", keys), of_role("rejected", keys)
    texts = [key for key in keys if words(key) & _TEXTS]
    asked = of_role("question", keys) or texts
    answers = of_role("answer", keys)
    if chosen and rejected:
        sides = {"chosen": chosen[0], "rejected": rejected[0]}
        others = [key for key in keys if key not in sides.values()]
        unknown = [key for key in others if could_ask(key, row.get(key))]
        questions = [key for key in asked if key in others] or unknown
        yield from ({"prompt": key} | sides for key in questions[:1])
        yield sides
    for question in asked:
        if not _rivals(answers) and not of_role("choices", keys):
            yield from _answered(question, [key for key in answers if key != question], keys)
    if "prompt" in keys:
        yield from ({"completion": key} for key in texts)
    yield from ({"text": key} for key in texts)
    yield from ({"prompt": key} for key in asked)


def _answered(
    question: str, answers: Sequence[str], keys: Sequence[str]
) -> Iterator[dict[str, str]]:
    """A question and its answer; what has to be read before it is an instruction's input."""
    context = of_role("context", keys)
    for said in answers:
        if context:
            yield {"instruction": question, "input": context[0], "output": said}
        else:
            yield {"prompt": question, "completion": said}


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
