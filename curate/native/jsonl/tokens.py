"""Compiled JSON tokenizer: the end and the kind of each value, without making Python objects.

``block`` is the address of text that ends in zero bytes, ``at`` an index into it. A returned index
of -1 means that the text is not what is expected, or cannot be copied as it is.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from siftune.curate.native.jit import compiled
from siftune.curate.native.pointers import byte
from siftune.curate.native.simd import WIDTH, drop_bits, first_bit, special

__all__ = [
    "DIGITS",
    "ESCAPED",
    "FREE",
    "LIST",
    "NULL",
    "OTHER_ESCAPES",
    "REAL",
    "STRING",
    "hex_at",
    "key",
    "line_feeds",
    "skip_blanks",
    "string",
    "value",
]

_Int: TypeAlias = Any  # Python's or numpy's: in compiled code they are the same
_Bool: TypeAlias = Any

NULL, STRING, ESCAPED, DIGITS, LIST, REAL = range(1, 7)
"""Kinds of values: null, string, string with escapes, integer, list of turns, other number."""

FREE, OTHER_ESCAPES, TRUTH = range(7, 10)
"""Kinds of values: one of which only the brackets were checked, or an integer that `orjson` writes
differently; a string with escapes that `orjson` writes differently; a boolean."""

_SIMPLE, _OTHER, _CODE = 1, 2, 6  # escapes as `orjson` writes them, others, and \uXXXX
_ESCAPES = np.zeros(256, np.uint8)
_ESCAPES[list(b'"\\bfnrt')] = _SIMPLE
_ESCAPES[ord("/")], _ESCAPES[ord("u")] = _OTHER, _CODE


@compiled()
def key(block: int, at: _Int) -> tuple[_Int, _Int, _Int]:
    """Start and end of a key without escapes, and the start of its value."""
    if byte(block, at) != 0x22:
        return -1, -1, -1
    end, escaped = string(block, at + 1)
    if end < 0 or escaped:
        return -1, -1, -1
    after = skip_blanks(block, end + 1)
    if byte(block, after) != 0x3A:
        return -1, -1, -1
    return at + 1, end, skip_blanks(block, after + 1)


@compiled()
def value(block: int, at: _Int) -> tuple[_Int, int]:
    """The end of a value and its kind; the end is -1 if the line has to be read row-wise."""
    code = byte(block, at)
    if code == 0x22:
        at, escaped = string(block, at + 1)
        kind = OTHER_ESCAPES if escaped & _OTHER else ESCAPED if escaped else STRING
        return (at + 1 if at >= 0 else at), kind
    if code == 0x7B or code == 0x5B:
        return _nested(block, at), FREE
    if code == 0x6E:
        return _literal(block, at, 0x6C6C75, 4), NULL
    if code == 0x74:
        return _literal(block, at, 0x657572, 4), TRUTH
    if code == 0x66:
        return (_literal(block, at + 1, 0x65736C, 4) if byte(block, at + 1) == 0x61 else -1), TRUTH
    return _number(block, at)


@compiled(inline="always")
def _literal(block: int, at: _Int, rest: int, size: int) -> _Int:
    """The end of a literal of ``size`` bytes whose last three are those of ``rest``, or -1."""
    for i in range(3):
        if byte(block, at + 1 + i) != (rest >> (8 * i)) & 255:
            return -1
    return at + size


@compiled()
def _number(block: int, at: _Int) -> tuple[_Int, int]:
    """The end of a number and its kind; integers of up to 18 digits are as `orjson` writes them."""
    negative = byte(block, at) == 0x2D
    begin = at + negative
    at = _digits(block, begin)
    if at == begin or (at - begin > 1 and byte(block, begin) == 0x30):
        return -1, FREE
    kind = DIGITS if at - begin < 19 and not (negative and byte(block, begin) == 0x30) else FREE
    if byte(block, at) == 0x2E:
        begin, kind = at + 1, REAL
        at = _digits(block, begin)
        if at == begin:
            return -1, FREE
    if byte(block, at) | 0x20 == 0x65:
        begin, kind = at + 1, REAL
        begin += byte(block, begin) == 0x2B or byte(block, begin) == 0x2D
        at = _digits(block, begin)
        if at == begin:
            return -1, FREE
    return at, kind


@compiled(inline="always")
def _digits(block: int, at: _Int) -> _Int:
    while 0x30 <= byte(block, at) <= 0x39:
        at += 1
    return at


@compiled()
def _nested(block: int, at: _Int) -> _Int:
    """The end of a list or object, found by its brackets."""
    depth = 0
    while True:
        code = byte(block, at)
        if code == 0x22:
            at, _ = string(block, at + 1)
            if at < 0:
                return -1
        elif code == 0x7B or code == 0x5B:
            depth += 1
        elif code == 0x7D or code == 0x5D:
            depth -= 1
            if depth == 0:
                return at + 1
        elif code == 10 or code == 0:
            return -1
        at += 1


@compiled()
def string(block: int, at: _Int) -> tuple[_Int, int]:
    """The closing quote of a string that starts at ``at``, and its escapes; -1 if it is invalid."""
    escaped = 0
    while True:
        mask = special(block, at)
        after = at + WIDTH
        while mask:
            place = at + first_bit(mask)
            if byte(block, place) == 0x22:
                return place, escaped
            escape = _ESCAPES[byte(block, place + 1)] if byte(block, place) == 0x5C else 0
            if escape == 0:
                return -1, escaped
            escaped |= escape
            size = _unicode(block, place) if escape == _CODE else 2
            if size == 0:
                return -1, escaped
            after = max(at + WIDTH, place + size)
            mask = drop_bits(mask, place + size - at)
        at = after


@compiled()
def _unicode(block: int, at: _Int) -> int:
    r"""Length of the ``\u`` escape at ``at``, a surrogate pair included; 0 if it is invalid."""
    code = hex_at(block, at + 2)
    if code < 0 or 0xDC00 <= code < 0xE000:
        return 0
    if 0xD800 <= code < 0xDC00:
        if byte(block, at + 6) != 0x5C or byte(block, at + 7) != 0x75:
            return 0
        low = hex_at(block, at + 8)
        return 12 if 0xDC00 <= low < 0xE000 else 0
    return 6


@compiled()
def hex_at(block: int, at: _Int) -> int:
    """The value of four hex digits; -1 if they are not hex digits."""
    value = 0
    for i in range(4):
        code = byte(block, at + i)
        if 0x30 <= code <= 0x39:
            digit = code - 0x30
        elif 0x61 <= code | 0x20 <= 0x66:
            digit = (code | 0x20) - 0x57
        else:
            return -1
        value = value * 16 + digit
    return value


@compiled(inline="always")
def skip_blanks(block: int, at: _Int) -> _Int:
    """Index of the first byte from ``at`` on that is no space, tab or carriage return."""
    while byte(block, at) == 0x20 or byte(block, at) == 9 or byte(block, at) == 13:
        at += 1
    return at


@compiled()
def line_feeds(data: npt.NDArray[np.uint8], size: int) -> int:
    """Number of line feeds in the first ``size`` bytes."""
    count = 0
    for i in range(size):
        count += data[i] == 10
    return count
