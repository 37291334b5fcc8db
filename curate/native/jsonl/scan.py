"""Compiled scan of JSON lines: spans of the known fields, without making Python objects.

A line is *plain* if it is one object, each key occurs once and without escapes, and each known
field has its expected content: the spans found here then hold all of it, unchanged. Every other
line is *odd*: only its span is recorded, and `records.json_lines` reads it with all its rules.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from siftune.curate.native.jit import compiled
from siftune.curate.native.jsonl.blocks import Block
from siftune.curate.native.jsonl.known_keys import BOTH, Keys
from siftune.curate.native.jsonl.line import BLANK, MOST_KEYS, ODD, PLAIN, take_line
from siftune.curate.native.jsonl.tokens import skip_blanks
from siftune.curate.native.jsonl.turns import Buffers, Names
from siftune.curate.native.pointers import byte

__all__ = ["Scanned", "scan"]

Bytes: TypeAlias = npt.NDArray[np.uint8]
Ints: TypeAlias = npt.NDArray[np.int32]
Starts: TypeAlias = npt.NDArray[np.int64]
_Int: TypeAlias = Any  # Python's or numpy's: in compiled code they are the same
_Bool: TypeAlias = Any

_MIN_TURN = 16  # bytes of a turn in a list


class Scanned(NamedTuple):
    """The scan of a block.

    ``starts``, ``ends``, ``status`` of each line, the end without the line feed. ``spans`` (lines,
    fields, 2) and ``kinds`` (lines, fields) of each known field; for a field of turns the span is a
    range of turn numbers and the kind a list or a text. ``extra`` is the JSON of the other fields
    of each line, from ``extra_starts`` on. Of each turn ``turns`` (turns, 1, 2) is the span,
    ``turn_kinds`` (turns, 1) the kind, ``turn_roles`` (turns,) the index of the role.
    """

    starts: Starts
    ends: Starts
    status: Bytes
    spans: Ints
    kinds: Bytes
    extra: Bytes
    extra_starts: Starts
    turns: Ints
    turn_kinds: Bytes
    turn_roles: Bytes


def scan(block: Block, keys: Keys, *, utf8: bool) -> Scanned:
    """Scan the lines of ``block``; unless it is valid ``utf8``, lines beyond ASCII are odd."""
    height, fields = block.lines, len(keys.expected)
    turns = block.size // _MIN_TURN + (height + 1) * fields + 2
    renamed = int(
        np.diff(keys.own_starts)[2:][keys.expected == BOTH].sum()
    )  # longest growth by a new name
    result = Scanned(
        starts=np.empty(height, np.int64),
        ends=np.empty(height, np.int64),
        status=np.empty(height, np.uint8),
        spans=np.empty((height, fields, 2), np.int32),
        kinds=np.zeros((height, fields), np.uint8),
        extra=np.empty(block.size + 1 + (height + 1) * renamed, np.uint8),
        extra_starts=np.zeros(height + 1, np.int64),
        turns=np.empty((turns, 1, 2), np.int32),
        turn_kinds=np.empty((turns, 1), np.uint8),
        turn_roles=np.empty(turns, np.uint8),
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
    to = Buffers(
        Names(own, own_starts + 16, len(keys.expected)),
        names,
        keys.fields.ctypes.data,
        keys.expected.ctypes.data,
        keys.roles_of.ctypes.data,
        Names(own, own_starts, 2),
        roles,
        result.spans.ctypes.data,
        result.kinds.ctypes.data,
        result.extra.ctypes.data,
        result.turns.ctypes.data,
        result.turn_kinds.ctypes.data,
        result.turn_roles.ctypes.data,
        seen.ctypes.data,
    )
    at, extra, turns = 0, 0, 0
    for line in range(len(result.status)):
        start = skip_blanks(block, at)
        end, status = -1, BLANK
        result.starts[line] = at
        if byte(block, start) == 0x7B:
            end, status, extra_end, turns_end = take_line(block, start + 1, line, extra, turns, to)
        elif byte(block, start) == 10:
            end = start
        if end < 0:
            end = _line_end(block, start)
            status = ODD if _has_text(block, start, end) else BLANK
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
def _has_text(block: int, at: _Int, end: _Int) -> _Bool:
    """Whether there is anything but white space, as defined by `bytes.isspace`."""
    while at < end and (byte(block, at) == 0x20 or 9 <= byte(block, at) <= 13):
        at += 1
    return at < end


@compiled()
def _beyond_ascii(block: int, at: _Int, end: _Int) -> _Bool:
    most = np.uint8(0)
    for i in range(at, end):
        most |= byte(block, i)
    return most >= 128
