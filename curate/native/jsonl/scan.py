"""Lines of JSON objects taken apart without making Python values: where each known field stands.

A line is *plain* if it is one object, each key given once and without escapes, and each known field
holds what it is declared to hold. What a plain line means is certain: nothing of it is lost or
changed by taking the spans that are found here. Every other line is *odd*; nothing is said about it
but where it lies, and `records.json_lines` reads it with all its rules.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from siftune.curate.native.jit import compiled
from siftune.curate.native.jsonl.blocks import Block
from siftune.curate.native.jsonl.known_keys import BOTH, Keys
from siftune.curate.native.jsonl.line import BLANK, MOST_KEYS, ODD, PLAIN, take_line
from siftune.curate.native.jsonl.tokens import blank
from siftune.curate.native.jsonl.turns import Names, Places
from siftune.curate.native.pointers import byte

__all__ = ["Scanned", "scan"]

Bytes: TypeAlias = npt.NDArray[np.uint8]
Ints: TypeAlias = npt.NDArray[np.int32]
Starts: TypeAlias = npt.NDArray[np.int64]
_Int: TypeAlias = Any  # Python's or numpy's: in compiled code they are the same
_Bool: TypeAlias = Any

_LEAST = 16  # bytes of a turn in a list


class Scanned(NamedTuple):
    """What a block's lines are.

    ``starts``, ``ends``, ``status``: of each line, its end without the line feed. ``spans``
    (lines, fields, 2) and ``found`` (lines, fields): each known field; of turns the span is that of
    their numbers, and what is found is a list or a text. ``extra``: JSON of the other fields of the
    lines, from ``extra_starts``. ``turns`` (turns, 1, 2), ``said`` (turns, 1: what was found) and
    ``spoken`` (turns: the role).
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


def scan(block: Block, keys: Keys, *, utf8: bool) -> Scanned:
    """Take apart the lines of ``block``.

    ``utf8`` says that it is valid; where it is not, lines with anything but ASCII are odd.
    """
    height, fields = block.lines, len(keys.holds)
    turns = block.size // _LEAST + (height + 1) * fields + 2
    grown = int(np.diff(keys.own_starts)[2:][keys.holds == BOTH].sum())  # if it is renamed
    result = Scanned(
        starts=np.empty(height, np.int64),
        ends=np.empty(height, np.int64),
        status=np.empty(height, np.uint8),
        spans=np.empty((height, fields, 2), np.int32),
        found=np.zeros((height, fields), np.uint8),
        extra=np.empty(block.size + 1 + (height + 1) * grown, np.uint8),
        extra_starts=np.zeros(height + 1, np.int64),
        turns=np.empty((turns, 1, 2), np.int32),
        said=np.empty((turns, 1), np.uint8),
        spoken=np.empty(turns, np.uint8),
    )
    _scan(block.data, keys, utf8, result)
    return result


@compiled()
def _scan(data: Bytes, keys: Keys, utf8: bool, result: Scanned) -> None:
    block = data.ctypes.data
    seen = np.empty((MOST_KEYS, 2), np.int64)
    own, own_starts = keys.own.ctypes.data, keys.own_starts.ctypes.data
    names = Names(keys.names.ctypes.data, keys.name_starts.ctypes.data, len(keys.fields))
    roles = Names(keys.roles.ctypes.data, keys.role_starts.ctypes.data, len(keys.role_starts) - 1)
    to = Places(
        Names(own, own_starts + 16, len(keys.holds)),
        names,
        keys.fields.ctypes.data,
        keys.holds.ctypes.data,
        keys.speaks.ctypes.data,
        Names(own, own_starts, 2),
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
            end, status, extra_end, turns_end = take_line(block, start + 1, line, extra, turns, to)
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
        result.ends[line] = end
        result.status[line] = status
        at = end + 1


@compiled()
def _line_end(block: int, at: _Int) -> _Int:
    while byte(block, at) != 10:
        at += 1
    return at


@compiled()
def _says(block: int, at: _Int, end: _Int) -> _Bool:
    """Whether there is anything but white space, as `bytes.isspace` has it."""
    while at < end and (byte(block, at) == 0x20 or 9 <= byte(block, at) <= 13):
        at += 1
    return at < end


@compiled()
def _beyond_ascii(block: int, at: _Int, end: _Int) -> _Bool:
    most = np.uint8(0)
    for i in range(at, end):
        most |= byte(block, i)
    return most >= 128
