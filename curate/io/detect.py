"""Format detection of a source, by its first rows together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from shlex import quote
from typing import Final

from siftune.curate.core.errors import DataError
from siftune.curate.core.registry import find, usable
from siftune.curate.core.types import Format, Row
from siftune.curate.files.json_text import dump
from siftune.curate.records.field_names import map_flag, of_role
from siftune.curate.records.map_advice import advice, reads
from siftune.curate.records.turn_lists import holds_records, opens_conversation
from siftune.curate.records.turns import type_name

__all__ = ["FORMATS", "SAMPLE", "Detected", "detect", "named"]

FORMATS: Final = "curate.formats"
SAMPLE: Final = 50
"""Most good rows that detection reads."""

_ALONE: Final = {"prompt": "prompt_only", "text": "text"}
"""Keys of formats that match whatever the other fields are."""
_CHECKED: Final = "prompts with a reference answer"

Detected = tuple[str, Format, int]
"""Name, format, and how many of the sampled rows match it."""


def named(name: str) -> Format:
    """The format called ``name``.

    Raises:
        UsageError: there is none; the text names the closest one.
    """
    made: Format = find(FORMATS, name)()
    return made


def detect(source: str, rows: Sequence[Row], usual: str | None = None) -> Detected:
    """The one format that more than half of ``rows`` match.

    A format that lists others in ``over`` is preferred to them when both match. ``usual`` is the
    format of the neighbouring files: it is taken where several match, or where none does and some
    row matches it.

    Raises:
        DataError: none does, or more than one; the text names the candidates and the flag to set.
    """
    counts = _count(rows)
    left = _fitting(counts, rows)
    if usual is not None and len(left) != 1 and counts[usual][2]:
        left = [counts[usual]]
    if len(left) == 1:
        _refuse_loss(source, left[0], counts, rows)
        return left[0]
    if left:
        both = " and ".join(name for name, _, _ in left)
        raise DataError(
            f"{source}: its rows fit {both}; choose with --format {left[0][0]} "
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
                    f"rows) as well as {name}, the others {name} alone; choose with --format "
                    f"{other} (the others are set aside) or --format {name}"
                )


def _count(rows: Sequence[Row]) -> dict[str, Detected]:
    formats = {name: named(name) for name in usable(FORMATS)}
    return {
        name: (name, made, sum(made.matches(row) for row in rows)) for name, made in formats.items()
    }


def _fitting(counts: Mapping[str, Detected], rows: Sequence[Row]) -> list[Detected]:
    """The formats that most rows match, without those that another one is preferred to."""
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
    mapping = advice(rows, lambda moved: _fitting(_count(moved), moved))
    if not mapping and (wrapped := _wrapped(rows)):
        return f"{found}: {wrapped}"
    if wrong := _not_turns(rows):
        found = f"{found}: {wrong}"
    flags = " ".join(map_flag(key, name) for key, name in mapping.items())
    rename = f"rename keys with {flags or '--map KEY=NAME (such as prompt, completion or text)'}"
    alone = [f"--format question_answer ({_CHECKED})"] * _checked(rows)
    alone += [f"--format {name} ({key!r} alone)" for key, name in _ALONE.items() if key in rows[0]]
    formats = f"--format (one of {', '.join(counts)})"
    return f"{found}; {rename}, or set {' or '.join([*alone, formats])}"


def _wrapped(rows: Sequence[Row]) -> str:
    """A key whose value looks like the rows: of one record, or the only key of several."""
    several = any(len(row) > 1 for row in rows[1:])
    for key, value in () if several else rows[0].items():
        if holds_records(value) and type(value[0]) is dict and value[0]:
            keys = ", ".join(str(name)[:40] for name in value[0])[:80]
            inside = quote(f".[{dump(key)}][]")
            return (
                f"{key!r} is a list of {len(value):,} objects with the keys {keys}; if these "
                f"are the rows, take them out: jq -c {inside} FILE > rows.jsonl"
            )
    return ""


def _checked(rows: Sequence[Row]) -> bool:
    """Whether most rows are questions with a reference answer."""
    form = named("question_answer")
    return not of_role("choices", rows[0]) and 2 * sum(reads(form, row) for row in rows) > len(rows)


def _is_turn(row: Row) -> bool:
    return type(row.get("role")) is str and {"text", "content"} & row.keys() != set()


def _not_turns(rows: Sequence[Row]) -> str:
    """The error in the turns of most rows, where they have a key of turns or are turns."""
    if 2 * sum(_is_turn(row) for row in rows) > len(rows):
        return "each is one turn; put the turns of a conversation in a list under 'messages'"
    for key in ("messages", "conversations", "conversation"):
        values = [row[key] for row in rows if row.get(key) is not None]
        if 2 * len(values) > len(rows) and not any(map(opens_conversation, values)):
            return (
                f"{key!r} is {type_name(values[0])}; expected a list of turns with role and content"
            )
    return ""
