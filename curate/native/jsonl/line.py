"""One line of JSON taken apart: where each known field stands, and what the others are."""

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
    blank,
    key,
    value,
)
from siftune.curate.native.jsonl.turns import Places, one_of, put_turn, same, turns_of
from siftune.curate.native.pointers import byte, copy, put_byte, put_length, put_word, word

__all__ = ["BLANK", "FRAGMENT", "MOST_KEYS", "ODD", "PLAIN", "take_line"]

_Int: TypeAlias = Any  # Python's or numpy's: in compiled code they are the same
_Bool: TypeAlias = Any

BLANK, ODD, PLAIN, FRAGMENT = range(4)
"""What a line is; the ``extra`` of a `FRAGMENT` is valid by its brackets only, to be parsed."""

MOST_KEYS = 32
"""Keys of a plain line that stay in ``extra``."""


@compiled()
def take_line(
    block: int, at: _Int, line: int, extra: _Int, turns: _Int, to: Places
) -> tuple[_Int, int, _Int, _Int]:
    """The end of the line, its status, and where its other fields and its turns end.

    It is read on after the opening brace; the end is -1 if it is odd.
    """
    status, others = PLAIN, 0
    at = blank(block, at)
    more = byte(block, at) != 0x7D
    while more:
        name, name_end, begin = key(block, at)
        if begin < 0:
            return -1, ODD, extra, turns
        field, held = _field(block, name, name_end, to)
        at, what, turns = _value(block, begin, held, field, line, turns, to)
        if at < 0:
            return -1, ODD, extra, turns
        if held == OTHER or (held == BOTH and what != NULL and at - begin > 2):
            if held == BOTH:  # by the name that it has for us
                name = to.own.data + word(to.own.starts, field) - block
                name_end = to.own.data + word(to.own.starts, field + 1) - block
            if others == MOST_KEYS or _again(block, name, name_end, others, to.seen):
                return -1, ODD, extra, turns
            extra = _keep(block, name, name_end, begin, at, others, to, extra)
            others += 1
            status = max(status, FRAGMENT if what in (FREE, REAL, OTHER_ESCAPES) else PLAIN)
        at = blank(block, at)
        more = byte(block, at) == 0x2C
        at = blank(block, at + more)
    end = _end(block, at)
    put_byte(to.extra, extra, 0x7D)
    return end, status if end >= 0 else ODD, extra + (others > 0), turns


@compiled(inline="always")
def _field(block: int, name: _Int, name_end: _Int, to: Places) -> tuple[_Int, _Int]:
    """Which field has the name, and what it holds."""
    called = one_of(block, name, name_end, to.names)
    if called < 0:
        return -1, OTHER
    field = word(to.fields, called)
    return field, byte(to.holds, field)


@compiled(inline="always")
def _value(
    block: int, begin: _Int, held: _Int, field: _Int, line: int, turns: _Int, to: Places
) -> tuple[_Int, int, _Int]:
    """The end of a value, what it is, and where the turns end; a known field is noted.

    The end is -1 if the value is not what the field holds, or the field was there before.
    """
    before = turns
    if byte(block, begin) == 0x5B and _listed(held):
        at, turns = turns_of(block, begin + 1, turns, to)
        what = LIST
    else:
        at, what = value(block, begin)
    if at < 0 or not _fits(held, what, byte(block, begin), at - begin):
        return -1, what, turns
    if held == OTHER:
        return at, what, turns
    place = line * to.own.many + field
    if byte(to.found, place):
        return -1, what, turns
    low, high = begin + _is_text(what), at - _is_text(what)
    if _listed(held) or held == SPOKEN:
        if _is_text(what):
            put_turn(to, turns, low, high, what != STRING)
            put_byte(to.spoken, turns, byte(to.speaks, field))
            turns += 1
            what = STRING
        low, high = before, turns
    put_length(to.spans + 8 * place, low)
    put_length(to.spans + 8 * place + 4, high)
    put_byte(to.found, place, ESCAPED if what == OTHER_ESCAPES else what)
    return at, what, turns


@compiled(inline="always")
def _listed(held: _Int) -> _Bool:
    return held in (TURNS, EITHER)


@compiled(inline="always")
def _end(block: int, at: _Int) -> _Int:
    """The line feed after the closing brace at ``at``; -1 if something else is there."""
    end = blank(block, at + 1)
    return end if byte(block, at) == 0x7D and byte(block, end) == 10 else -1


@compiled()
def _keep(
    block: int,
    name: _Int,
    name_end: _Int,
    begin: _Int,
    end: _Int,
    others: _Int,
    to: Places,
    at: _Int,
) -> _Int:
    """Write a field to ``extra`` at ``at``; the place behind it."""
    put_word(to.seen, 2 * others, name)
    put_word(to.seen, 2 * others + 1, name_end)
    size = name_end - name
    put_byte(to.extra, at, 0x2C if others else 0x7B)
    put_byte(to.extra, at + 1, 0x22)
    copy(to.extra + at + 2, block + name, size)
    put_byte(to.extra, at + 2 + size, 0x22)
    put_byte(to.extra, at + 3 + size, 0x3A)
    copy(to.extra + at + 4 + size, block + begin, end - begin)
    return at + 4 + size + (end - begin)


@compiled(inline="always")
def _is_text(what: int) -> _Bool:
    return what in (STRING, ESCAPED, OTHER_ESCAPES)


@compiled(inline="always")
def _fits(held: int, what: int, first: _Int, size: _Int) -> _Bool:
    """Whether a value that begins with the byte ``first`` is what the field holds."""
    if held == OTHER:
        return True
    if held == NUMBER:
        return what in (NULL, DIGITS) or (what == REAL and size < 20)
    if held == TRUE_OR_FALSE:
        return what == TRUTH or (size == 1 and 0x30 <= first <= 0x31)
    if held == UNUSED:
        return what == NULL or (size == 2 and (_is_text(what) or what == FREE))
    if _listed(held):
        return what in (NULL, LIST) or (held == EITHER and _is_text(what))
    return held != REFUSED and (what == NULL or _is_text(what))


@compiled()
def _again(block: int, begin: _Int, end: _Int, count: int, seen: int) -> _Bool:
    """Whether the name is one of the ``count`` that were seen before."""
    for other in range(count):
        start = word(seen, 2 * other)
        size = word(seen, 2 * other + 1) - start
        if size == end - begin and same(block + begin, block + start, size):
            return True
    return False
