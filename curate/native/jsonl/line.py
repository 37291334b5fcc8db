"""Compiled parser of one JSON line: spans of the known fields, JSON text of the other ones."""

from __future__ import annotations

from typing import Any, TypeAlias

from siftune.curate.native.jit import compiled
from siftune.curate.native.jsonl.known_keys import (
    BOTH,
    EITHER,
    NUMBER,
    OTHER,
    REFUSED,
    SPOKEN,
    TRUE_OR_FALSE,
    TURNS,
    UNUSED,
)
from siftune.curate.native.jsonl.tokens import (
    DIGITS,
    ESCAPED,
    FREE,
    LIST,
    NULL,
    OTHER_ESCAPES,
    REAL,
    STRING,
    TRUTH,
    key,
    skip_blanks,
    value,
)
from siftune.curate.native.jsonl.turns import Buffers, one_of, put_turn, same, turns_of
from siftune.curate.native.pointers import byte, copy, put_byte, put_length, put_word, word

__all__ = ["BLANK", "FRAGMENT", "MOST_KEYS", "ODD", "PLAIN", "take_line"]

_Int: TypeAlias = Any  # Python's or numpy's: in compiled code they are the same
_Bool: TypeAlias = Any

BLANK, ODD, PLAIN, FRAGMENT = range(4)
"""Status of a line; of the ``extra`` of a `FRAGMENT` only the brackets were checked."""

MOST_KEYS = 32
"""Most keys of a plain line that are copied to ``extra``."""


@compiled()
def take_line(
    block: int, at: _Int, line: int, extra: _Int, turns: _Int, to: Buffers
) -> tuple[_Int, int, _Int, _Int]:
    """The end of the line, its status, and the ends of its ``extra`` and of its turns.

    Reading starts after the opening brace; the end is -1 if the line is odd.
    """
    status, others = PLAIN, 0
    at = skip_blanks(block, at)
    more = byte(block, at) != 0x7D
    while more:
        name, name_end, start = key(block, at)
        if start < 0:
            return -1, ODD, extra, turns
        field, expected = _field(block, name, name_end, to)
        at, kind, turns = _value(block, start, expected, field, line, turns, to)
        if at < 0:
            return -1, ODD, extra, turns
        if expected == OTHER or (expected == BOTH and kind != NULL and at - start > 2):
            if expected == BOTH:  # renamed as in the layout
                name = to.own.data + word(to.own.starts, field) - block
                name_end = to.own.data + word(to.own.starts, field + 1) - block
            if others == MOST_KEYS or _is_repeated(block, name, name_end, others, to.seen):
                return -1, ODD, extra, turns
            extra = _write_extra(block, name, name_end, start, at, others, to, extra)
            others += 1
            status = max(status, FRAGMENT if kind in (FREE, REAL, OTHER_ESCAPES) else PLAIN)
        at = skip_blanks(block, at)
        more = byte(block, at) == 0x2C
        at = skip_blanks(block, at + more)
    end = _end(block, at)
    put_byte(to.extra, extra, 0x7D)
    return end, status if end >= 0 else ODD, extra + (others > 0), turns


@compiled(inline="always")
def _field(block: int, name: _Int, name_end: _Int, to: Buffers) -> tuple[_Int, _Int]:
    """Index of the field with the name, and its expected content."""
    name_index = one_of(block, name, name_end, to.names)
    if name_index < 0:
        return -1, OTHER
    field = word(to.fields, name_index)
    return field, byte(to.expected, field)


@compiled(inline="always")
def _value(
    block: int, start: _Int, expected: _Int, field: _Int, line: int, turns: _Int, to: Buffers
) -> tuple[_Int, int, _Int]:
    """The end of a value, its kind, and the end of the turns; a known field is recorded.

    The end is -1 if the value is not what the field should hold, or the field is repeated.
    """
    before = turns
    if byte(block, start) == 0x5B and _may_be_list(expected):
        at, turns = turns_of(block, start + 1, turns, to)
        kind = LIST
    else:
        at, kind = value(block, start)
    if at < 0 or not _fits(expected, kind, byte(block, start), at - start):
        return -1, kind, turns
    if expected == OTHER:
        return at, kind, turns
    place = line * to.own.length + field
    if byte(to.kinds, place):
        return -1, kind, turns
    low, high = start + _is_text(kind), at - _is_text(kind)
    if _may_be_list(expected) or expected == SPOKEN:
        if _is_text(kind):
            put_turn(to, turns, low, high, kind != STRING)
            put_byte(to.turn_roles, turns, byte(to.field_roles, field))
            turns += 1
            kind = STRING
        low, high = before, turns
    put_length(to.spans + 8 * place, low)
    put_length(to.spans + 8 * place + 4, high)
    put_byte(to.kinds, place, ESCAPED if kind == OTHER_ESCAPES else kind)
    return at, kind, turns


@compiled(inline="always")
def _may_be_list(expected: _Int) -> _Bool:
    return expected in (TURNS, EITHER)


@compiled(inline="always")
def _end(block: int, at: _Int) -> _Int:
    """Index of the line feed after the closing brace at ``at``; -1 if there is something else."""
    end = skip_blanks(block, at + 1)
    return end if byte(block, at) == 0x7D and byte(block, end) == 10 else -1


@compiled()
def _write_extra(
    block: int,
    name: _Int,
    name_end: _Int,
    start: _Int,
    end: _Int,
    others: _Int,
    to: Buffers,
    at: _Int,
) -> _Int:
    """Write a field to ``extra`` at ``at``; the index after it."""
    put_word(to.seen, 2 * others, name)
    put_word(to.seen, 2 * others + 1, name_end)
    size = name_end - name
    put_byte(to.extra, at, 0x2C if others else 0x7B)
    put_byte(to.extra, at + 1, 0x22)
    copy(to.extra + at + 2, block + name, size)
    put_byte(to.extra, at + 2 + size, 0x22)
    put_byte(to.extra, at + 3 + size, 0x3A)
    copy(to.extra + at + 4 + size, block + start, end - start)
    return at + 4 + size + (end - start)


@compiled(inline="always")
def _is_text(kind: int) -> _Bool:
    return kind in (STRING, ESCAPED, OTHER_ESCAPES)


@compiled(inline="always")
def _fits(expected: int, kind: int, first: _Int, size: _Int) -> _Bool:
    """Whether a value that starts with the byte ``first`` is what the field should hold."""
    if expected == OTHER:
        return True
    if expected == NUMBER:
        return kind in (NULL, DIGITS) or (kind == REAL and size < 20)
    if expected == TRUE_OR_FALSE:
        return kind == TRUTH or (size == 1 and 0x30 <= first <= 0x31)
    if expected == UNUSED:
        return kind == NULL or (size == 2 and (_is_text(kind) or kind == FREE))
    if _may_be_list(expected):
        return kind in (NULL, LIST) or (expected == EITHER and _is_text(kind))
    return expected != REFUSED and (kind == NULL or _is_text(kind))


@compiled()
def _is_repeated(block: int, start: _Int, end: _Int, count: int, seen: int) -> _Bool:
    """Whether the name is one of the first ``count`` in ``seen``."""
    for other in range(count):
        first = word(seen, 2 * other)
        size = word(seen, 2 * other + 1) - first
        if size == end - start and same(block + start, block + first, size):
            return True
    return False
