"""Runs of words that stand in several texts: which, where, and in how many other texts."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from siftune.curate.core.growable_array import Grown
from siftune.curate.dedup.count_sketch import Bytes, Halves, distinct_halves, tally
from siftune.curate.dedup.shingle_stream import Texts
from siftune.curate.dedup.shingles import Hashes, Offsets
from siftune.curate.dedup.text_pieces import spoken
from siftune.curate.dedup.word_ids import Numbers, word_numbers
from siftune.curate.native.char_classes import letters, look
from siftune.curate.native.jit import compiled
from siftune.curate.native.utf8 import decode, utf8
from siftune.curate.rows.chat import text_of

__all__ = ["SPANS", "Ints", "repeated_spans"]

Ints: TypeAlias = npt.NDArray[np.int64]
_Int: TypeAlias = int | np.int64  # in compiled code they are the same
_MOST = 15  # that the table of counts can tell
_ROWS = 1 << 12

SPANS = {"row": pl.Int64, "start": pl.Int64, "length": pl.Int64, "others": pl.Int64}
"""A span of row number ``row``: its first character, how many it has, and of how many other rows
each of its windows is a part at least."""


def repeated_spans(texts: Texts, rows: int) -> tuple[pl.DataFrame, Ints]:
    """The longest spans of which each window of ``texts.ngram`` words is in ``rows`` other texts.

    So a run of at least that many words that stands in that many other texts is part of a span
    (ExactSubstr of Lee et al. 2022, arXiv:2107.06499, on words rather than tokens), and no other
    character is. Windows are looked for by hashes of 64 bits (`dedup.shingles`); those
    that fall together are compared word by word.

    Returns a table of `SPANS`, ordered, and the length of each text in characters, from its first
    word to its last; the texts are read twice, of the first reading half of each hash is held.
    """
    windows = _repeated(texts, rows)
    spans = [pl.DataFrame(schema=SPANS)]
    extents = np.zeros(len(texts), np.int64)
    for some in _by_rows(windows):
        numbers, counts = np.unique(some["row"].to_numpy(), return_counts=True)
        data, offsets = utf8(text_of(texts.table[numbers], texts.part))
        at, others = some["at"].to_numpy(), some["others"].to_numpy()
        firsts = np.append(0, counts.cumsum())
        found, extents[numbers] = _spans(
            *(data, offsets, letters(), firsts, at, others, texts.ngram)
        )
        made = pl.DataFrame(found, schema=SPANS, orient="row")
        spans.append(made.with_columns(row=numbers[made["row"].to_numpy()]))
    return pl.concat(spans), extents


def _repeated(texts: Texts, rows: int) -> pl.DataFrame:
    """Windows (``row``, ``at``, ``others``) that are in so many other texts, ordered."""
    found, counts = Grown(np.uint32), Grown(np.int64)
    for values, offsets in texts.parts():
        halves, sizes = distinct_halves(values, offsets)
        found.add(halves)
        counts.add(sizes)
    ends = np.append(0, counts.take().cumsum())
    held, least = found.take(), min(rows + 1, _MOST)
    table, shift = tally(held)
    hopeful = np.flatnonzero(_any(held, ends, table, shift, least))
    del held
    kept = [(np.empty(0, np.uint64), np.empty(0, np.int64), np.empty(0, np.int64))]
    before = 0
    for values, offsets in texts.parts(hopeful):
        places = np.flatnonzero(_often(values, table, shift, least))
        text = np.searchsorted(offsets, places, side="right") - 1
        kept.append((values[places], hopeful[before + text], places - offsets[text]))
        before += len(offsets) - 1
    hashes, row, at = (np.concatenate([one[i] for one in kept]) for i in range(3))
    heads = _heads(hashes, np.argsort(hashes, kind="stable"))
    some = _others(heads, row) >= rows
    heads, row, at = (some.cumsum() - 1)[heads[some]], row[some], at[some]
    others = _others(_verified(texts, heads, row, at), row)
    frame = pl.DataFrame({"row": row, "at": at, "others": others})
    return frame.filter(pl.col("others") >= rows)


def _verified(texts: Texts, heads: Ints, row: Ints, at: Ints) -> Ints:
    """For each window the first that has the same words; ``heads`` are the first of the same hash.

    So if two different windows fell together, each counts for itself. A text of too few words is no
    window: -1.
    """
    held, place = np.unique(row, return_inverse=True)
    numbers, offsets = word_numbers(spoken(texts.table, texts.part), held)
    first = offsets[place] + at
    whole = first + texts.ngram <= offsets[place + 1]
    return _firsts(heads, first, whole, numbers, texts.ngram)


def _by_rows(windows: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """Windows of some thousand rows at a time."""
    row = windows["row"].to_numpy()
    heads = np.flatnonzero(np.diff(row, prepend=-1))[::_ROWS].tolist()
    for start, stop in pairwise([*heads, windows.height]):
        yield windows[start:stop]


@compiled()
def _heads(hashes: Hashes, order: Ints) -> Ints:  # pragma: no cover - compiled
    """The first of equal hashes, for each of them; ``order`` sorts them and keeps theirs."""
    found = np.empty(len(hashes), np.int64)
    for at in range(len(order)):
        same = at > 0 and hashes[order[at]] == hashes[order[at - 1]]
        found[order[at]] = found[order[at - 1]] if same else order[at]
    return found


@compiled()
def _others(firsts: Ints, row: Ints) -> Ints:  # pragma: no cover - compiled
    """In how many other rows there is a window of the same first one; rows are in order."""
    last, rows = np.full(len(row), -1, np.int64), np.zeros(len(row), np.int64)
    for i in range(len(row)):
        if firsts[i] >= 0 and last[firsts[i]] != row[i]:
            last[firsts[i]] = row[i]
            rows[firsts[i]] += 1
    found = np.full(len(row), -1, np.int64)
    for i in range(len(row)):
        if firsts[i] >= 0:
            found[i] = rows[firsts[i]] - 1
    return found


@compiled()
def _firsts(
    heads: Ints, first: Ints, whole: npt.NDArray[np.bool_], numbers: Numbers, ngram: _Int
) -> Ints:  # pragma: no cover - compiled
    """See `_verified`; ``first`` is where in ``numbers`` the words of a window begin."""
    found, later = np.full(len(heads), -1, np.int64), np.full(len(heads), -1, np.int64)
    for i in range(len(heads)):
        if not whole[i]:
            continue
        other, same = heads[i], False
        while not same:
            same = whole[other]
            for k in range(ngram if same else 0):
                same = same and numbers[first[i] + k] == numbers[first[other] + k]
            if not same:
                if later[other] < 0:
                    later[other] = i
                other = later[other]
        found[i] = other
    return found


@compiled()
def _often(values: Hashes, table: Bytes, shift: np.uint32, least: _Int) -> npt.NDArray[np.bool_]:
    found = np.zeros(len(values), np.bool_)
    for i in range(len(values)):
        slot = np.int64(np.uint32(values[i] >> np.uint64(32)) >> shift)
        found[i] = ((table[slot >> 1] >> ((slot & 1) * 4)) & 15) >= least
    return found


@compiled()
def _any(
    halves: Halves, ends: Offsets, table: Bytes, shift: np.uint32, least: _Int
) -> npt.NDArray[np.bool_]:
    found = np.zeros(len(ends) - 1, np.bool_)
    for i in range(len(found)):
        for at in range(ends[i], ends[i + 1]):
            slot = np.int64(halves[at] >> shift)
            found[i] |= ((table[slot >> 1] >> ((slot & 1) * 4)) & 15) >= least
    return found


@compiled()
def _places(
    data: Bytes, at: _Int, end: _Int, table: npt.NDArray[np.uint32], begins: Ints, ends: Ints
) -> _Int:
    """First character of each word, and the one after its last; the number of words."""
    found, place, inside = 0, 0, 0
    while at < end:
        code, length = decode(data.ctypes.data, at)
        kind = look(table, code) >> np.uint32(24)
        if kind != 3:
            if inside and kind != 1:
                found += 1
                inside = 0
            if kind != 0:
                if not inside:
                    begins[found] = place
                ends[found] = place + 1
                found += kind == 2
                inside = kind == 1
        place += 1
        at += length
    return found + inside


@compiled()
def _spans(
    data: Bytes,
    offsets: Offsets,
    table: npt.NDArray[np.uint32],
    firsts: Ints,
    at: Ints,
    others: Ints,
    ngram: _Int,
) -> tuple[Ints, Ints]:
    """Windows that overlap or touch as one span; and the extent of each text."""
    longest = 0
    for i in range(len(offsets) - 1):
        longest = max(longest, offsets[i + 1] - offsets[i])
    begins, ends = np.empty(longest + 1, np.int64), np.empty(longest + 1, np.int64)
    spans, extents = np.empty((len(at), 4), np.int64), np.zeros(len(offsets) - 1, np.int64)
    count = 0
    for i in range(len(extents)):
        words = _places(data, offsets[i], offsets[i + 1], table, begins, ends)
        extents[i] = ends[words - 1] - begins[0]
        if words < ngram:  # one window of all its words: too short to be a span
            continue
        reach = -1  # of the words that the last span has
        for j in range(firsts[i], firsts[i + 1]):
            if at[j] > reach:
                spans[count, 0], spans[count, 1], spans[count, 3] = i, begins[at[j]], others[j]
                count += 1
            reach = at[j] + ngram
            spans[count - 1, 2] = ends[reach - 1] - spans[count - 1, 1]
            spans[count - 1, 3] = min(spans[count - 1, 3], others[j])
    return spans[:count], extents
