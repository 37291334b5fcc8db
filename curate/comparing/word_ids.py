"""Word ids: equal words of several texts, and no others, have equal ids."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from siftune.curate.comparing.text_pieces import Pieces, RowTexts
from siftune.curate.native.arrays import enlarged
from siftune.curate.native.char_classes import char_table, classify
from siftune.curate.native.jit import compiled
from siftune.curate.native.utf8 import decode

__all__ = ["WordIds", "word_ids"]

Ints: TypeAlias = npt.NDArray[np.int64]
WordIds: TypeAlias = npt.NDArray[np.int32]
_Int: TypeAlias = int | np.int64  # in compiled code they are the same

_CLASS, _LETTER = np.uint32(24), np.uint32(0xFFFFFF)  # of the result of `classify`
_START, _TIMES = np.uint64(0x51_7C_C1_B7_27_22_0A_95), np.uint64(0x9E_37_79_B9_7F_4A_7C_15)
_HALF = np.uint64(32)


def word_ids(texts: RowTexts, rows: Ints) -> tuple[WordIds, Ints]:
    """The id of each word of the texts ``rows``, and the offsets of these texts.

    Words are those of `comparing.shingles`. Ids are given by first occurrence. Words are compared
    character by character; the hash is only used for lookup.
    """
    ids, offsets = _word_ids(texts.pieces, rows, char_table())
    return ids, offsets


@compiled()
def _word_ids(
    pieces: Pieces, rows: Ints, table: npt.NDArray[np.uint32]
) -> tuple[WordIds, Ints]:  # pragma: no cover - compiled
    addresses, sizes, starts = pieces
    total, longest = 0, 0
    for row in rows:
        for at in range(starts[row], starts[row + 1]):
            total += sizes[at] // 2 + 1
            longest = max(longest, sizes[at])
    ids, offsets = np.empty(total, np.int32), np.zeros(len(rows) + 1, np.int64)
    chars = np.empty(longest + 1, np.uint32)  # concatenated characters of the distinct words
    begins, slots = np.zeros(1 << 12, np.int64), np.full(1 << 13, np.int32(-1), np.int32)
    count, end = 0, 0
    for i in range(len(rows)):
        for piece in range(starts[rows[i]], starts[rows[i] + 1]):
            index: _Int = 0
            while index < sizes[piece]:
                index, size, hashed = _next(
                    addresses[piece], index, sizes[piece], table, chars[begins[count] :]
                )
                if size == 0:
                    continue
                slot = _slot(slots, hashed, chars, begins, count, size)
                ids[end] = slots[slot] if slots[slot] >= 0 else count
                end += 1
                if slots[slot] < 0:
                    slots[slot] = count
                    begins[count + 1] = begins[count] + size
                    count += 1
                    chars, begins, slots = _grow(chars, begins, slots, count, longest)
        offsets[i + 1] = end
    return ids[:end].copy(), offsets


@compiled()
def _grow(
    chars: npt.NDArray[np.uint32], begins: Ints, slots: WordIds, count: _Int, longest: _Int
) -> tuple[npt.NDArray[np.uint32], Ints, WordIds]:  # pragma: no cover - compiled
    """The arrays, enlarged if another word of ``longest`` characters might not fit."""
    if begins[count] + longest > len(chars):
        chars = enlarged(chars, 2 * len(chars) + longest)
    if count + 2 > len(begins):
        begins = enlarged(begins, 2 * len(begins))
    if 2 * count > len(slots):
        slots = _rehashed(slots, chars, begins, count)
    return chars, begins, slots


@compiled()
def _next(
    base: int, at: _Int, stop: _Int, table: npt.NDArray[np.uint32], word: npt.NDArray[np.uint32]
) -> tuple[_Int, _Int, np.uint64]:  # pragma: no cover - compiled
    """Write the characters of the next word to ``word``: its end, its length and its hash."""
    size, hashed = 0, _START
    while at < stop:
        code, length = decode(base, at)
        entry = classify(table, code)
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
    slots: WordIds,
    hashed: np.uint64,
    chars: npt.NDArray[np.uint32],
    begins: Ints,
    count: _Int,
    size: _Int,
) -> _Int:  # pragma: no cover - compiled
    """Slot of the word that follows the distinct words in ``chars``, or the free slot for it."""
    mask = len(slots) - 1
    slot = np.int64(hashed >> _HALF) & mask
    while slots[slot] >= 0:
        start, other = begins[slots[slot]], begins[count]
        same = begins[slots[slot] + 1] - start == size
        for i in range(size if same else 0):
            same = same and chars[start + i] == chars[other + i]
        if same:
            break
        slot = (slot + 1) & mask
    return slot


@compiled()
def _rehashed(
    slots: WordIds, chars: npt.NDArray[np.uint32], begins: Ints, count: _Int
) -> WordIds:  # pragma: no cover - compiled
    larger = np.full(4 * len(slots), np.int32(-1), np.int32)
    mask = len(larger) - 1
    for number in range(count):
        hashed = _START
        for i in range(begins[number], begins[number + 1]):
            hashed = (hashed ^ np.uint64(chars[i])) * _TIMES
        slot = np.int64(hashed >> _HALF) & mask
        while larger[slot] >= 0:
            slot = (slot + 1) & mask
        larger[slot] = number
    return larger
