"""The words of texts as numbers: equal words, and no others, have equal ones."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from siftune.curate.dedup.text_pieces import Pieces, Spoken
from siftune.curate.native.char_classes import letters, look
from siftune.curate.native.jit import compiled
from siftune.curate.native.utf8 import decode

__all__ = ["Numbers", "word_numbers"]

Ints: TypeAlias = npt.NDArray[np.int64]
Numbers: TypeAlias = npt.NDArray[np.int32]
_Int: TypeAlias = int | np.int64  # in compiled code they are the same

_CLASS, _LETTER = np.uint32(24), np.uint32(0xFFFFFF)  # of what `look` says
_START, _TIMES = np.uint64(0x51_7C_C1_B7_27_22_0A_95), np.uint64(0x9E_37_79_B9_7F_4A_7C_15)
_HALF = np.uint64(32)


def word_numbers(texts: Spoken, rows: Ints) -> tuple[Numbers, Ints]:
    """A number for each word of the texts ``rows``, and where each of these texts starts.

    Words are those of `dedup.shingles`. They are numbered as they first occur, and
    compared letter by letter: a hash only says where to look.
    """
    numbers, offsets = _numbered(texts.pieces, rows, letters())
    return numbers, offsets


@compiled()
def _numbered(
    pieces: Pieces, rows: Ints, table: npt.NDArray[np.uint32]
) -> tuple[Numbers, Ints]:  # pragma: no cover - compiled
    addresses, sizes, starts = pieces
    total, longest = 0, 0
    for row in rows:
        for at in range(starts[row], starts[row + 1]):
            total += sizes[at] // 2 + 1
            longest = max(longest, sizes[at])
    numbers, offsets = np.empty(total, np.int32), np.zeros(len(rows) + 1, np.int64)
    known = np.empty(longest + 1, np.uint32)  # letters of one word after the other
    begins, slots = np.zeros(1 << 12, np.int64), np.full(1 << 13, np.int32(-1), np.int32)
    count, end = 0, 0
    for i in range(len(rows)):
        for piece in range(starts[rows[i]], starts[rows[i] + 1]):
            place: _Int = 0
            while place < sizes[piece]:
                place, size, hashed = _next(
                    addresses[piece], place, sizes[piece], table, known[begins[count] :]
                )
                if size == 0:
                    continue
                slot = _slot(slots, hashed, known, begins, count, size)
                numbers[end] = slots[slot] if slots[slot] >= 0 else count
                end += 1
                if slots[slot] < 0:
                    slots[slot] = count
                    begins[count + 1] = begins[count] + size
                    count += 1
                    known, begins, slots = _room(known, begins, slots, count, longest)
        offsets[i + 1] = end
    return numbers[:end].copy(), offsets


@compiled()
def _room(
    known: npt.NDArray[np.uint32], begins: Ints, slots: Numbers, count: _Int, longest: _Int
) -> tuple[npt.NDArray[np.uint32], Ints, Numbers]:  # pragma: no cover - compiled
    """The same with room for one word more, however long."""
    if begins[count] + longest > len(known):
        known = np.concatenate((known, np.empty(len(known) + longest, np.uint32)))
    if count + 2 > len(begins):
        begins = np.concatenate((begins, np.zeros(len(begins), np.int64)))
    if 2 * count > len(slots):
        slots = _larger(slots, known, begins, count)
    return known, begins, slots


@compiled()
def _next(
    base: int, at: _Int, stop: _Int, table: npt.NDArray[np.uint32], word: npt.NDArray[np.uint32]
) -> tuple[_Int, _Int, np.uint64]:  # pragma: no cover - compiled
    """The next word's letters into ``word``: where it ends, how many they are, and a hash."""
    size, hashed = 0, _START
    while at < stop:
        code, length = decode(base, at)
        entry = look(table, code)
        kind = entry >> _CLASS
        if size and (kind == 0 or kind == 2):
            break
        at += length
        if kind == 1 or kind == 2:
            word[size] = entry & _LETTER
            hashed = (hashed ^ np.uint64(entry & _LETTER)) * _TIMES
            size += 1
            if kind == 2:
                break
    return at, size, hashed


@compiled()
def _slot(
    slots: Numbers,
    hashed: np.uint64,
    known: npt.NDArray[np.uint32],
    begins: Ints,
    count: _Int,
    size: _Int,
) -> _Int:  # pragma: no cover - compiled
    """Where the word is that lies behind all known ones, or where it may be put."""
    mask = len(slots) - 1
    slot = np.int64(hashed >> _HALF) & mask
    while slots[slot] >= 0:
        start, other = begins[slots[slot]], begins[count]
        same = begins[slots[slot] + 1] - start == size
        for i in range(size if same else 0):
            same = same and known[start + i] == known[other + i]
        if same:
            break
        slot = (slot + 1) & mask
    return slot


@compiled()
def _larger(
    slots: Numbers, known: npt.NDArray[np.uint32], begins: Ints, count: _Int
) -> Numbers:  # pragma: no cover - compiled
    larger = np.full(4 * len(slots), np.int32(-1), np.int32)
    mask = len(larger) - 1
    for number in range(count):
        hashed = _START
        for i in range(begins[number], begins[number + 1]):
            hashed = (hashed ^ np.uint64(known[i])) * _TIMES
        slot = np.int64(hashed >> _HALF) & mask
        while larger[slot] >= 0:
            slot = (slot + 1) & mask
        larger[slot] = number
    return larger
