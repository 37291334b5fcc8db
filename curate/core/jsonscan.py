"""Lines of JSON objects taken apart without making Python values: where each known field stands.

A line is *plain* if it is one object, each key given once and without escapes, and each known field
holds what it is declared to hold. What a plain line means is certain: nothing of it is lost or
changed by taking the spans that are found here. Every other line is *odd*; nothing is said about it
but where it lies, and `curate.core.jsonlines` reads it with all its rules.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from numba import njit

from curate.core.blocks import Block
from curate.core.jsontokens import (
    DIGITS,
    ESCAPED,
    FREE,
    LIST,
    NULL,
    OTHER_ESCAPES,
    REAL,
    STRING,
    blank,
    key,
    string,
    value,
)
from curate.core.lanes import byte, copy, put_byte, put_length, put_word, word

__all__ = [
    "BLANK",
    "BOTH",
    "FRAGMENT",
    "NUMBER",
    "ODD",
    "PLAIN",
    "TEXT",
    "TURNS",
    "UNUSED",
    "Keys",
    "Scanned",
    "keys_of",
    "scan",
]

Bytes: TypeAlias = npt.NDArray[np.uint8]
Ints: TypeAlias = npt.NDArray[np.int32]
Starts: TypeAlias = npt.NDArray[np.int64]
_Int: TypeAlias = Any  # Python's or numpy's: in compiled code they are the same
_Bool: TypeAlias = Any

BLANK, ODD, PLAIN, FRAGMENT = range(4)
"""What a line is; the ``extra`` of a `FRAGMENT` is valid by its brackets only, to be parsed."""

TEXT, BOTH, NUMBER, TURNS, UNUSED, OTHER = range(6)
"""What a known field holds: a text; a text that stays in ``extra`` too unless it is empty; a
number; a list of turns; nothing that matters (null, or an empty text or list). And a field that is
not known."""

_MOST_KEYS = 32  # that stay in ``extra``


class Keys(NamedTuple):
    """The keys that are known: their bytes one after the other, where each starts, what it holds.

    The first two are of a turn, its role's and its content's; ``roles`` are the values of the role.
    """

    data: Bytes
    starts: Starts
    holds: Bytes
    roles: Bytes
    role_starts: Starts


class Scanned(NamedTuple):
    """What a block's lines are.

    ``starts``, ``ends``, ``status``: of each line, its end without the line feed. ``spans``
    (lines, fields, 2) and ``found`` (lines, fields): each known field. ``extra``: JSON of the other
    fields of the lines, from ``extra_starts``. ``turns`` (turns, 1, 2), ``said`` (turns, 1: what
    was found) and ``spoken`` (turns: the role) from ``turn_starts`` on.
    """

    starts: Starts
    ends: Starts
    status: Bytes
    spans: Ints
    found: Bytes
    extra: Bytes
    extra_starts: Starts
    turns: Ints
    said: Bytes
    spoken: Bytes
    turn_starts: Starts


def keys_of(known: dict[str, int], turn: tuple[str, str], roles: tuple[str, ...]) -> Keys:
    """The keys ``known`` with what each holds, and those of a turn."""
    data, starts = _joined([*turn, *known])
    role_data, role_starts = _joined(list(roles))
    return Keys(data, starts, np.array(list(known.values()), np.uint8), role_data, role_starts)


def _joined(names: list[str]) -> tuple[Bytes, Starts]:
    texts = [name.encode() for name in names]
    starts = np.cumsum([0, *map(len, texts)], dtype=np.int64)
    return np.frombuffer(b"".join(texts) + b"\0", np.uint8), starts


def scan(block: Block, keys: Keys, *, utf8: bool) -> Scanned:
    """Take apart the lines of ``block``.

    ``utf8`` says that it is valid; where it is not, lines with anything but ASCII are odd.
    """
    height, fields = block.lines, len(keys.holds)
    turns = block.size // 16 + 1 if TURNS in keys.holds else 0
    result = Scanned(
        starts=np.empty(height, np.int64),
        ends=np.empty(height, np.int64),
        status=np.empty(height, np.uint8),
        spans=np.empty((height, fields, 2), np.int32),
        found=np.zeros((height, fields), np.uint8),
        extra=np.empty(block.size + 1, np.uint8),
        extra_starts=np.zeros(height + 1, np.int64),
        turns=np.empty((turns, 1, 2), np.int32),
        said=np.empty((turns, 1), np.uint8),
        spoken=np.empty(turns, np.uint8),
        turn_starts=np.zeros(height + 1, np.int64),
    )
    _scan(block.data, keys, utf8, result)
    return result


class _Names(NamedTuple):
    """Addresses of names: their bytes, and where each starts; how many there are."""

    data: int
    starts: int
    many: int


class _Places(NamedTuple):
    """What a line is read with, as addresses: they cost nothing to pass on, as arrays do.

    The keys, what they hold, the keys of a turn, its roles, and the arrays of `Scanned`.
    """

    keys: _Names
    holds: int
    turn: _Names
    roles: _Names
    spans: int
    found: int
    extra: int
    turns: int
    said: int
    spoken: int
    seen: int


@njit(cache=True, nogil=True)
def _scan(data: Bytes, keys: Keys, utf8: bool, result: Scanned) -> None:
    block = data.ctypes.data
    seen = np.empty((_MOST_KEYS, 2), np.int64)
    names, starts = keys.data.ctypes.data, keys.starts.ctypes.data
    roles = _Names(keys.roles.ctypes.data, keys.role_starts.ctypes.data, len(keys.role_starts) - 1)
    to = _Places(
        _Names(names, starts + 16, len(keys.holds)),
        keys.holds.ctypes.data,
        _Names(names, starts, 2),
        roles,
        result.spans.ctypes.data,
        result.found.ctypes.data,
        result.extra.ctypes.data,
        result.turns.ctypes.data,
        result.said.ctypes.data,
        result.spoken.ctypes.data,
        seen.ctypes.data,
    )
    at, extra, turns = 0, 0, 0
    for line in range(len(result.status)):
        start = blank(block, at)
        end, status = -1, BLANK
        result.starts[line] = at
        if byte(block, start) == 0x7B:
            end, status, extra_end, turns_end = _line(block, start + 1, line, extra, turns, to)
        elif byte(block, start) == 10:
            end = start
        if end < 0:
            end = _line_end(block, start)
            status = ODD if _says(block, start, end) else BLANK
        if status >= PLAIN and not utf8 and _beyond_ascii(block, at, end):
            status = ODD
        if status >= PLAIN:
            extra, turns = extra_end, turns_end
        result.extra_starts[line + 1] = extra
        result.turn_starts[line + 1] = turns
        result.ends[line] = end
        result.status[line] = status
        at = end + 1


@njit(cache=True, nogil=True)
def _line(
    block: int, at: _Int, line: int, extra: _Int, turns: _Int, to: _Places
) -> tuple[_Int, int, _Int, _Int]:
    """The end of the line, its status, and where its other fields and its turns end.

    It is read on after the opening brace; the end is -1 if it is odd.
    """
    status, others = PLAIN, 0
    at = blank(block, at)
    more = byte(block, at) != 0x7D
    while more:
        name, name_end, at = key(block, at)
        if at < 0:
            return -1, ODD, extra, turns
        field = _one_of(block, name, name_end, to.keys)
        held = byte(to.holds, field) if field >= 0 else OTHER
        begin = at
        if held == TURNS and byte(block, at) == 0x5B:
            at, turns = _turns(block, at + 1, turns, to)
            what = LIST
        else:
            at, what = value(block, at)
        if at < 0 or not _found(line * to.keys.many + field, held, what, begin, at, to):
            return -1, ODD, extra, turns
        if held == OTHER or (held == BOTH and what != NULL and at - begin > 2):
            if others == _MOST_KEYS or _again(block, name, name_end, others, to.seen):
                return -1, ODD, extra, turns
            put_word(to.seen, 2 * others, name)
            put_word(to.seen, 2 * others + 1, name_end)
            extra = _keep(block, name, name_end, begin, at, others == 0, to.extra, extra)
            others += 1
            if what in (FREE, REAL, OTHER_ESCAPES):
                status = FRAGMENT
        at = blank(block, at)
        more = byte(block, at) == 0x2C
        at = blank(block, at + more)
    end = _end(block, at)
    if end < 0:
        return -1, ODD, extra, turns
    if others:
        put_byte(to.extra, extra, 0x7D)
        extra += 1
    return end, status, extra, turns


@njit(cache=True, nogil=True, inline="always")
def _end(block: int, at: _Int) -> _Int:
    """The line feed after the closing brace at ``at``; -1 if something else is there."""
    end = blank(block, at + 1)
    return end if byte(block, at) == 0x7D and byte(block, end) == 10 else -1


@njit(cache=True, nogil=True, inline="always")
def _found(field: int, held: int, what: int, begin: _Int, end: _Int, to: _Places) -> _Bool:
    """Note where a known field stands; false if it was there before, or cannot be taken."""
    if held == OTHER:
        return True
    if byte(to.found, field) or not _fits(held, what, end - begin):
        return False
    quoted = _is_text(what)
    put_length(to.spans + 8 * field, begin + quoted)
    put_length(to.spans + 8 * field + 4, end - quoted)
    put_byte(to.found, field, ESCAPED if what == OTHER_ESCAPES else what)
    return True


@njit(cache=True, nogil=True)
def _keep(
    block: int,
    name: _Int,
    name_end: _Int,
    begin: _Int,
    end: _Int,
    first_one: bool,
    extra: int,
    at: _Int,
) -> _Int:
    """Write a field to the address ``extra + at``; the place behind it."""
    put_byte(extra, at, 0x7B if first_one else 0x2C)
    size = name_end - name + 2
    copy(extra + at + 1, block + name - 1, size)
    put_byte(extra, at + 1 + size, 0x3A)
    copy(extra + at + 2 + size, block + begin, end - begin)
    return at + 2 + size + (end - begin)


@njit(cache=True, nogil=True, inline="always")
def _is_text(what: int) -> _Bool:
    return what in (STRING, ESCAPED, OTHER_ESCAPES)


@njit(cache=True, nogil=True, inline="always")
def _fits(held: int, what: int, size: _Int) -> _Bool:
    if held == NUMBER:
        return what in (NULL, DIGITS) or (what == REAL and size < 20)
    if held == TURNS:
        return what == LIST
    if held == UNUSED:
        return what == NULL or (size == 2 and (_is_text(what) or what == FREE))
    return what == NULL or _is_text(what)


@njit(cache=True, nogil=True)
def _turns(block: int, at: _Int, turns: _Int, to: _Places) -> tuple[_Int, _Int]:
    """The end of a list of turns, each with a role we know and a text and nothing else."""
    while True:
        at = _turn(block, blank(block, at), turns, to)
        if at < 0:
            return -1, turns
        turns += 1
        at = blank(block, at)
        if byte(block, at) == 0x5D:
            return at + 1, turns
        if byte(block, at) != 0x2C:
            return -1, turns
        at += 1


@njit(cache=True, nogil=True)
def _turn(block: int, at: _Int, turn: _Int, to: _Places) -> _Int:
    """The end of a turn, whose role and text are noted; -1 if it is odd."""
    role, text = -1, False
    for member in range(2):
        if byte(block, at) != (0x7B if member == 0 else 0x2C):
            return -1
        name, name_end, at = key(block, blank(block, at + 1))
        if at < 0 or byte(block, at) != 0x22:
            return -1
        which = _one_of(block, name, name_end, to.turn)
        begin = at + 1
        at, escaped = string(block, begin)
        if at < 0 or which < 0:
            return -1
        if which == 0:
            role = _one_of(block, begin, at, to.roles)
        else:
            text = True
            put_length(to.turns + 8 * turn, begin)
            put_length(to.turns + 8 * turn + 4, at)
            put_byte(to.said, turn, ESCAPED if escaped else STRING)
        at = blank(block, at + 1)
    put_byte(to.spoken, turn, max(role, 0))
    return at + 1 if role >= 0 and text and byte(block, at) == 0x7D else -1


@njit(cache=True, nogil=True, inline="always")
def _one_of(block: int, begin: _Int, end: _Int, names: _Names) -> int:
    """Which of the names the bytes are; -1 if none."""
    for name in range(names.many):
        start = word(names.starts, name)
        size = word(names.starts, name + 1) - start
        if size == end - begin and _same(block + begin, names.data + start, size):
            return name
    return -1


@njit(cache=True, nogil=True)
def _again(block: int, begin: _Int, end: _Int, count: int, seen: int) -> _Bool:
    """Whether the name is one of the ``count`` that were seen before."""
    for other in range(count):
        start = word(seen, 2 * other)
        size = word(seen, 2 * other + 1) - start
        if size == end - begin and _same(block + begin, block + start, size):
            return True
    return False


@njit(cache=True, nogil=True, inline="always")
def _same(one: _Int, other: _Int, size: _Int) -> _Bool:
    """Whether the bytes at two addresses are the same."""
    at = 0
    while at < size and byte(one, at) == byte(other, at):
        at += 1
    return at == size


@njit(cache=True, nogil=True)
def _line_end(block: int, at: _Int) -> _Int:
    while byte(block, at) != 10:
        at += 1
    return at


@njit(cache=True, nogil=True)
def _says(block: int, at: _Int, end: _Int) -> _Bool:
    """Whether there is anything but white space, as `bytes.isspace` has it."""
    while at < end and (byte(block, at) == 0x20 or 9 <= byte(block, at) <= 13):
        at += 1
    return at < end


@njit(cache=True, nogil=True)
def _beyond_ascii(block: int, at: _Int, end: _Int) -> _Bool:
    most = np.uint8(0)
    for i in range(at, end):
        most |= byte(block, i)
    return most >= 128
