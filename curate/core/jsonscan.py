"""Lines of JSON objects taken apart without making Python values: where each known field stands.

A line is *plain* if it is one object, each key given once and without escapes, and each known field
holds what it is declared to hold. What a plain line means is certain: nothing of it is lost or
changed by taking the spans that are found here. Every other line is *odd*; nothing is said about it
but where it lies, and `curate.core.jsonlines` reads it with all its rules.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from numba import njit

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
from curate.core.lanes import WIDTH, byte

__all__ = [
    "BLANK",
    "BOTH",
    "FRAGMENT",
    "NUMBER",
    "ODD",
    "PAD",
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
_Int: TypeAlias = Any  # Python's or numpy's: in compiled code they are the same
_Bool: TypeAlias = Any

PAD: Final = 2 * WIDTH
"""Zero bytes that must follow the text of a block."""

BLANK, ODD, PLAIN, FRAGMENT = range(4)
"""What a line is; the ``extra`` of a `FRAGMENT` is valid by its brackets only, to be parsed."""

TEXT, BOTH, NUMBER, TURNS, UNUSED = range(5)
"""What a known field holds: a text; a text that stays in ``extra`` too unless it is empty; a
number; a list of turns; nothing that matters (null, or an empty text or list)."""

_MOST_KEYS = 32  # that stay in ``extra``


class Keys(NamedTuple):
    """The keys that are known: their bytes one after the other, where each starts, what it holds.

    The first two are of a turn, its role's and its content's; ``roles`` are the values of the role.
    """

    data: Bytes
    starts: Ints
    holds: Bytes
    roles: Bytes
    role_starts: Ints


class Scanned(NamedTuple):
    """What a block's lines are.

    ``starts``, ``ends``, ``status``: of each line, its end without the line feed. ``spans``
    (lines, fields, 2) and ``found`` (lines, fields): each known field. ``extra``: JSON of the other
    fields of the lines, from ``extra_starts``. ``turns`` (turns, 2) and ``said`` (turns, 2: role,
    what was found) from ``turn_starts``; those of an odd line are not to be used.
    """

    starts: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]
    status: Bytes
    spans: Ints
    found: Bytes
    extra: Bytes
    extra_starts: npt.NDArray[np.int64]
    turns: Ints
    said: Bytes
    turn_starts: npt.NDArray[np.int64]


def keys_of(known: dict[str, int], turn: tuple[str, str], roles: tuple[str, ...]) -> Keys:
    """The keys ``known`` with what each holds, and those of a turn."""
    data, starts = _joined([*turn, *known])
    role_data, role_starts = _joined(list(roles))
    return Keys(data, starts, np.array(list(known.values()), np.uint8), role_data, role_starts)


def _joined(names: list[str]) -> tuple[Bytes, Ints]:
    texts = [name.encode() for name in names]
    starts = np.cumsum([0, *map(len, texts)], dtype=np.int32)
    return np.frombuffer(b"".join(texts) + b"\0", np.uint8), starts


def scan(block: Bytes, size: int, keys: Keys, *, utf8: bool) -> Scanned:
    """Take apart the lines of ``block[:size]``, whose last byte is a line feed.

    ``block`` has `PAD` zeros behind ``size``. ``utf8`` says that it is valid; where it is not,
    lines with anything but ASCII are odd.
    """
    height, fields = int(np.count_nonzero(block[:size] == 10)), len(keys.holds)
    listed = TURNS in keys.holds
    result = Scanned(
        starts=np.empty(height, np.int64),
        ends=np.empty(height, np.int64),
        status=np.empty(height, np.uint8),
        spans=np.empty((height, fields, 2), np.int32),
        found=np.zeros((height, fields), np.uint8),
        extra=np.empty(size + PAD, np.uint8),
        extra_starts=np.zeros(height + 1, np.int64),
        turns=np.empty((size // 16 + 1 if listed else 0, 2), np.int32),
        said=np.empty((size // 16 + 1 if listed else 0, 2), np.uint8),
        turn_starts=np.zeros(height + 1, np.int64),
    )
    _scan(block, keys, utf8, result)
    return result


@njit(cache=True, nogil=True)
def _scan(data: Bytes, keys: Keys, utf8: bool, result: Scanned) -> None:
    block = data.ctypes.data
    seen = np.empty((_MOST_KEYS, 2), np.int64)
    at = 0
    for line in range(len(result.status)):
        start = blank(block, at)
        end = -1
        status = BLANK
        result.starts[line] = at
        if byte(block, start) == 0x7B:
            end, status = _line(block, start + 1, keys, line, result, seen)
        elif byte(block, start) == 10:
            end = start
        if end < 0:
            end = _line_end(block, start)
            status = ODD if _says(block, start, end) else BLANK
        if status >= PLAIN and not utf8 and _beyond_ascii(block, at, end):
            status = ODD
        if status < PLAIN:
            result.extra_starts[line + 1] = result.extra_starts[line]
            result.turn_starts[line + 1] = result.turn_starts[line]
        result.ends[line] = end
        result.status[line] = status
        at = end + 1


@njit(cache=True, nogil=True)
def _line(
    block: int, at: _Int, keys: Keys, line: int, result: Scanned, seen: npt.NDArray[np.int64]
) -> tuple[_Int, int]:
    """The end of the line and its status, reading on after the opening brace; -1 if it is odd."""
    extra = result.extra_starts[line]
    turns = result.turn_starts[line]
    status, others = PLAIN, 0
    at = blank(block, at)
    more = byte(block, at) != 0x7D
    while more:
        name, name_end, at = key(block, at)
        if at < 0:
            return -1, ODD
        field = _one_of(block, name, name_end, keys.data, keys.starts, 2, len(keys.holds))
        held = TEXT if field < 0 else keys.holds[field]
        begin = at
        if held == TURNS and byte(block, at) == 0x5B:
            at, turns = _turns(block, at + 1, keys, turns, result)
            what = LIST
        else:
            at, what = value(block, at)
        if at < 0 or not _found(field, held, what, begin, at, line, result):
            return -1, ODD
        if field < 0 or (held == BOTH and what != NULL and at - begin > 2):
            if others == _MOST_KEYS or _again(block, name, name_end, seen, others):
                return -1, ODD
            seen[others, 0], seen[others, 1] = name, name_end
            extra = _keep(block, name, name_end, begin, at, others == 0, result.extra, extra)
            others += 1
            if what in (FREE, REAL, OTHER_ESCAPES):
                status = FRAGMENT
        at = blank(block, at)
        more = byte(block, at) == 0x2C
        at = blank(block, at + more)
    return _line_end_of(block, at, line, extra, turns, others > 0, status, result)


@njit(cache=True, nogil=True)
def _line_end_of(
    block: int,
    at: _Int,
    line: int,
    extra: _Int,
    turns: _Int,
    has_extra: bool,
    status: int,
    result: Scanned,
) -> tuple[_Int, int]:
    """Check that the object and the line end here, and note where its parts end."""
    if byte(block, at) != 0x7D:
        return -1, ODD
    at = blank(block, at + 1)
    if byte(block, at) != 10:
        return -1, ODD
    if has_extra:
        result.extra[extra] = 0x7D
        extra += 1
    result.extra_starts[line + 1] = extra
    result.turn_starts[line + 1] = turns
    return at, status


@njit(cache=True, nogil=True, inline="always")
def _found(
    field: int, held: int, what: int, begin: _Int, end: _Int, line: int, result: Scanned
) -> _Bool:
    """Note where a known field stands; false if it was there before, or cannot be taken."""
    if field < 0:
        return True
    if result.found[line, field] or not _fits(held, what, end - begin):
        return False
    quoted = _is_text(what)
    result.spans[line, field, 0] = begin + quoted
    result.spans[line, field, 1] = end - quoted
    result.found[line, field] = ESCAPED if what == OTHER_ESCAPES else what
    return True


@njit(cache=True, nogil=True)
def _keep(
    block: int,
    name: _Int,
    name_end: _Int,
    begin: _Int,
    end: _Int,
    first_one: bool,
    extra: Bytes,
    at: _Int,
) -> _Int:
    """Write a field to ``extra``."""
    extra[at] = 0x7B if first_one else 0x2C
    at = _put(block, name - 1, name_end + 1, extra, at + 1)
    extra[at] = 0x3A
    return _put(block, begin, end, extra, at + 1)


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
def _turns(block: int, at: _Int, keys: Keys, turns: _Int, result: Scanned) -> tuple[_Int, _Int]:
    """The end of a list of turns, each with a role we know and a text and nothing else."""
    while True:
        at = _turn(block, blank(block, at), keys, turns, result)
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
def _turn(block: int, at: _Int, keys: Keys, turn: _Int, result: Scanned) -> _Int:
    """The end of a turn, whose role and text are noted; -1 if it is odd."""
    role, text = -1, False
    for member in range(2):
        if byte(block, at) != (0x7B if member == 0 else 0x2C):
            return -1
        name, name_end, at = key(block, blank(block, at + 1))
        if at < 0 or byte(block, at) != 0x22:
            return -1
        which = _one_of(block, name, name_end, keys.data, keys.starts, 0, 2)
        begin = at + 1
        at, escaped = string(block, begin)
        if at < 0 or which < 0:
            return -1
        if which == 0:
            count = len(keys.role_starts) - 1
            role = _one_of(block, begin, at, keys.roles, keys.role_starts, 0, count)
        else:
            text = True
            result.turns[turn, 0], result.turns[turn, 1] = begin, at
            result.said[turn, 1] = ESCAPED if escaped else STRING
        at = blank(block, at + 1)
    result.said[turn, 0] = max(role, 0)
    return at + 1 if role >= 0 and text and byte(block, at) == 0x7D else -1


@njit(cache=True, nogil=True, inline="always")
def _one_of(
    block: int, begin: _Int, end: _Int, data: Bytes, starts: Ints, skipped: int, count: int
) -> int:
    """Which of the names from number ``skipped`` on the bytes are; -1 if none."""
    for name in range(count):
        start = starts[skipped + name]
        if starts[skipped + name + 1] - start == end - begin:
            same = True
            for i in range(end - begin):
                same &= data[start + i] == byte(block, begin + i)
            if same:
                return name
    return -1


@njit(cache=True, nogil=True)
def _again(block: int, begin: _Int, end: _Int, seen: npt.NDArray[np.int64], count: int) -> _Bool:
    for other in range(count):
        start = seen[other, 0]
        if seen[other, 1] - start == end - begin:
            same = True
            for i in range(end - begin):
                same &= byte(block, start + i) == byte(block, begin + i)
            if same:
                return True
    return False


@njit(cache=True, nogil=True, inline="always")
def _put(block: int, begin: _Int, end: _Int, out: Bytes, at: _Int) -> _Int:
    for i in range(end - begin):
        out[at + i] = byte(block, begin + i)
    return at + (end - begin)


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
