"""Copy spans of JSON text into one Arrow buffer of strings, with escapes decoded."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from siftune.curate.native.jit import compiled
from siftune.curate.native.jsonl.tokens import ESCAPED, STRING, hex_at
from siftune.curate.native.pointers import byte, copy, copy_block, put_byte
from siftune.curate.native.simd import WIDTH, drop_bits, first_bit, in_range, low_bits

__all__ = ["BETWEEN", "gather", "numbered"]

Bytes: TypeAlias = npt.NDArray[np.uint8]
Ints: TypeAlias = npt.NDArray[np.int64]
_Int: TypeAlias = Any  # Python's or numpy's: in compiled code they are the same

BETWEEN = b"\n\n"
"""Separator of a text and the second one that is joined to it."""

_DECODED = np.zeros(256, np.uint8)
_DECODED[list(b'"\\/bfnrt')] = list(b'"\\/\b\f\n\r\t')


def gather(
    block: Bytes, spans: npt.NDArray[np.int32], kinds: Bytes, rows: Ints, texts: Ints
) -> tuple[Bytes, Ints]:
    """Copy the texts of each row in order: their bytes, and the offset of each text.

    Args:
        block: bytes of the block that was scanned.
        spans: (lines, fields, 2) start and end of each field.
        kinds: (lines, fields) kind of each value: `ESCAPED` is a string with escapes.
        rows: numbers of the lines to copy.
        texts: (texts, 2) the field of each text of a row, and the field of a second text that is
            joined to it by `BETWEEN` unless it is empty; or -1.
    """
    starts = np.zeros(len(rows) * len(texts) + 1, np.int64)
    out = np.empty(int(_max_bytes(spans, kinds, rows, texts)) + WIDTH, np.uint8)
    _gather(block, spans, kinds, rows, texts, out, starts)
    return out, starts


def numbered(prefix: Bytes, numbers: Ints) -> tuple[Bytes, Ints]:
    """``prefix`` followed by each of the positive ``numbers``: bytes, and offsets of the texts."""
    starts = np.zeros(len(numbers) + 1, np.int64)
    _measure(len(prefix), numbers, starts)
    out = np.empty(int(starts[-1]), np.uint8)
    _number(prefix, numbers, out, starts)
    return out, starts


@compiled()
def _measure(size: int, numbers: Ints, starts: Ints) -> None:
    for i in range(len(numbers)):
        left, digits = numbers[i], 0
        while left:
            left //= 10
            digits += 1
        starts[i + 1] = starts[i] + size + digits


@compiled()
def _number(prefix: Bytes, numbers: Ints, out: Bytes, starts: Ints) -> None:
    begin, to, size = np.int64(prefix.ctypes.data), np.int64(out.ctypes.data), len(prefix)
    for i in range(len(numbers)):
        copy(to + starts[i], begin, size)
        left = numbers[i]
        for at in range(starts[i + 1] - 1, starts[i] + size - 1, -1):
            out[at] = 48 + left % 10
            left //= 10


@compiled()
def _max_bytes(spans: npt.NDArray[np.int32], kinds: Bytes, rows: Ints, texts: Ints) -> int:
    """Upper bound of the bytes of the texts."""
    most = 0
    for row in rows:
        for text in range(len(texts)):
            for field in texts[text]:
                if field >= 0 and kinds[row, field] >= STRING:
                    most += spans[row, field, 1] - spans[row, field, 0] + len(BETWEEN)
    return most


@compiled()
def _gather(
    block: Bytes,
    spans: npt.NDArray[np.int32],
    kinds: Bytes,
    rows: Ints,
    texts: Ints,
    out: Bytes,
    starts: Ints,
) -> None:
    begin, to = np.int64(block.ctypes.data), np.int64(out.ctypes.data)
    at, number = to, 0
    for row in rows:
        for text in range(len(texts)):
            field, beside = texts[text, 0], texts[text, 1]
            low, high = np.int64(spans[row, field, 0]), np.int64(spans[row, field, 1])
            at = _copy_string(begin + low, begin + high, kinds[row, field] == ESCAPED, at)
            if beside >= 0 and kinds[row, beside] >= STRING:
                low, high = np.int64(spans[row, beside, 0]), np.int64(spans[row, beside, 1])
                if high > low:
                    put_byte(at, 0, 10)
                    put_byte(at, 1, 10)
                    at = _copy_string(
                        begin + low, begin + high, kinds[row, beside] == ESCAPED, at + 2
                    )
            number += 1
            starts[number] = at - to


@compiled(inline="always")
def _copy_string(low: _Int, high: _Int, escaped: bool, at: _Int) -> _Int:
    """Copy the string between two addresses to address ``at``; the address after it."""
    if escaped:
        return _decode_string(low, high, at)
    copy(at, low, high - low)
    return at + (high - low)


@compiled()
def _decode_string(low: _Int, high: _Int, at: _Int) -> _Int:
    """Copy and decode a string; up to `WIDTH` bytes past its end may be read and written."""
    while low < high:
        size = min(np.int64(WIDTH), high - low)
        slashes = in_range(low, 0, 0x5C, 1) & low_bits(size)
        begin = np.int64(0)
        while slashes:
            place = first_bit(slashes)
            copy_block(at, low + begin)
            at += place - begin
            kind = byte(low, place + 1)
            if kind == 0x75:
                after, at = _decode_unicode(low + place, at)
                begin = after - low
            else:
                put_byte(at, 0, _DECODED[kind])
                at += 1
                begin = place + 2
            slashes = drop_bits(slashes, begin)
        if begin < size:
            copy_block(at, low + begin)
            at += size - begin
        low += max(begin, size)
    return at


@compiled()
def _decode_unicode(low: _Int, at: _Int) -> tuple[_Int, _Int]:
    r"""Write one ``\u`` escape, or a surrogate pair, as UTF-8."""
    code = hex_at(low, 2)
    low += 6
    if 0xD800 <= code < 0xDC00:
        code = 0x10000 + ((code - 0xD800) << 10) + (hex_at(low, 2) - 0xDC00)
        low += 6
    if code < 0x80:
        put_byte(at, 0, code)
        return low, at + 1
    size = 2 if code < 0x800 else 3 if code < 0x10000 else 4
    for i in range(size - 1, 0, -1):
        put_byte(at, i, 0x80 | code & 63)
        code >>= 6
    put_byte(at, 0, (0xF00 >> size) & 0xFF | code)
    return low, at + size
