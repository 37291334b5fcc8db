"""Runs of words that occur in several texts: position, length, and number of other texts."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from siftune.curate.comparing.count_sketch import (
    Bytes,
    Halves,
    count_sketch,
    distinct_upper_halves,
)
from siftune.curate.comparing.shingles import Hashes, Offsets, TextShingles
from siftune.curate.comparing.text_pieces import row_texts
from siftune.curate.comparing.word_ids import WordIds, word_ids
from siftune.curate.core.growable_array import Grown
from siftune.curate.native.char_classes import char_table, classify
from siftune.curate.native.jit import compiled
from siftune.curate.native.utf8 import decode, utf8_buffer
from siftune.curate.rows.chat import text_of

__all__ = ["SPANS", "Ints", "repeated_spans"]

Ints: TypeAlias = npt.NDArray[np.int64]
_Int: TypeAlias = int | np.int64  # in compiled code they are the same
_MAX_COUNT = 15  # of the count sketch
_BATCH_ROWS = 1 << 12

SPANS = {"row": pl.Int64, "start": pl.Int64, "length": pl.Int64, "others": pl.Int64}
"""A span in row number ``row``: first character, length in characters, and the least number of
other rows that contain one of its windows."""


def repeated_spans(texts: TextShingles, rows: int) -> tuple[pl.DataFrame, Ints]:
    """The longest spans of which each window of ``texts.ngram`` words is in ``rows`` other texts.

    So exactly the runs of at least that many words that occur in that many other texts are part of
    a span (ExactSubstr of Lee et al. 2022, arXiv:2107.06499, on words rather than tokens). Windows
    are found by 64-bit hashes (`comparing.shingles`), and compared word by word if these are equal.

    Returns a sorted table of `SPANS`, and the length of each text in characters, from its first
    word to its last. The texts are read twice; the first time, half of each hash is stored.
    """
    windows = _repeated(texts, rows)
    spans = [pl.DataFrame(schema=SPANS)]
    extents = np.zeros(len(texts), np.int64)
    for some in _by_rows(windows):
        numbers, counts = np.unique(some["row"].to_numpy(), return_counts=True)
        data, offsets = utf8_buffer(text_of(texts.table[numbers], texts.part))
        at, others = some["at"].to_numpy(), some["others"].to_numpy()
        firsts = np.append(0, counts.cumsum())
        found, extents[numbers] = _spans(
            *(data, offsets, char_table(), firsts, at, others, texts.ngram)
        )
        batch = pl.DataFrame(found, schema=SPANS, orient="row")
        spans.append(batch.with_columns(row=numbers[batch["row"].to_numpy()]))
    return pl.concat(spans), extents


def _repeated(texts: TextShingles, rows: int) -> pl.DataFrame:
    """Windows (``row``, ``at``, ``others``) that occur in ``rows`` other texts or more, sorted."""
    found, counts = Grown(np.uint32), Grown(np.int64)
    for values, offsets in texts.batches():
        halves, sizes = distinct_upper_halves(values, offsets)
        found.add(halves)
        counts.add(sizes)
    ends = np.append(0, counts.take().cumsum())
    all_halves, least = found.take(), min(rows + 1, _MAX_COUNT)
    table, shift = count_sketch(all_halves)
    candidates = np.flatnonzero(_any_frequent(all_halves, ends, table, shift, least))
    del all_halves
    kept = [(np.empty(0, np.uint64), np.empty(0, np.int64), np.empty(0, np.int64))]
    before = 0
    for values, offsets in texts.batches(candidates):
        places = np.flatnonzero(_frequent(values, table, shift, least))
        text = np.searchsorted(offsets, places, side="right") - 1
        kept.append((values[places], candidates[before + text], places - offsets[text]))
        before += len(offsets) - 1
    hashes, row, at = (np.concatenate([one[i] for one in kept]) for i in range(3))
    heads = _first_of_hash(hashes, np.argsort(hashes, kind="stable"))
    some = _count_other_rows(heads, row) >= rows
    heads, row, at = (some.cumsum() - 1)[heads[some]], row[some], at[some]
    others = _count_other_rows(_verified(texts, heads, row, at), row)
    frame = pl.DataFrame({"row": row, "at": at, "others": others})
    return frame.filter(pl.col("others") >= rows)


def _verified(texts: TextShingles, heads: Ints, row: Ints, at: Ints) -> Ints:
    """For each window the first one with the same words; ``heads`` are the first of the same hash.

    Different windows with equal hashes are so counted separately. A text of too few words is no
    window: -1.
    """
    rows, place = np.unique(row, return_inverse=True)
    ids, offsets = word_ids(row_texts(texts.table, texts.part), rows)
    first = offsets[place] + at
    whole = first + texts.ngram <= offsets[place + 1]
    return _first_of_words(heads, first, whole, ids, texts.ngram)


def _by_rows(windows: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """Batches of windows, of some thousand rows each."""
    row = windows["row"].to_numpy()
    heads = np.flatnonzero(np.diff(row, prepend=-1))[::_BATCH_ROWS].tolist()
    for start, stop in pairwise([*heads, windows.height]):
        yield windows[start:stop]


@compiled()
def _first_of_hash(hashes: Hashes, order: Ints) -> Ints:  # pragma: no cover - compiled
    """Index of the first equal hash, for each hash; ``order`` is a stable sort."""
    found = np.empty(len(hashes), np.int64)
    for at in range(len(order)):
        same = at > 0 and hashes[order[at]] == hashes[order[at - 1]]
        found[order[at]] = found[order[at - 1]] if same else order[at]
    return found


@compiled()
def _count_other_rows(firsts: Ints, row: Ints) -> Ints:  # pragma: no cover - compiled
    """Number of other rows with a window of the same first one; rows are sorted."""
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
def _first_of_words(
    heads: Ints, first: Ints, whole: npt.NDArray[np.bool_], ids: WordIds, ngram: _Int
) -> Ints:  # pragma: no cover - compiled
    """See `_verified`; ``first`` is the index in ``ids`` of the first word of a window."""
    found, later = np.full(len(heads), -1, np.int64), np.full(len(heads), -1, np.int64)
    for i in range(len(heads)):
        if not whole[i]:
            continue
        other, same = heads[i], False
        while not same:
            same = whole[other]
            for k in range(ngram if same else 0):
                same = same and ids[first[i] + k] == ids[first[other] + k]
            if not same:
                if later[other] < 0:
                    later[other] = i
                other = later[other]
        found[i] = other
    return found


@compiled()
def _frequent(values: Hashes, table: Bytes, shift: np.uint32, least: _Int) -> npt.NDArray[np.bool_]:
    found = np.zeros(len(values), np.bool_)
    for i in range(len(values)):
        slot = np.int64(np.uint32(values[i] >> np.uint64(32)) >> shift)
        found[i] = ((table[slot >> 1] >> ((slot & 1) * 4)) & 15) >= least
    return found


@compiled()
def _any_frequent(
    halves: Halves, ends: Offsets, table: Bytes, shift: np.uint32, least: _Int
) -> npt.NDArray[np.bool_]:
    found = np.zeros(len(ends) - 1, np.bool_)
    for i in range(len(found)):
        for at in range(ends[i], ends[i + 1]):
            slot = np.int64(halves[at] >> shift)
            found[i] |= ((table[slot >> 1] >> ((slot & 1) * 4)) & 15) >= least
    return found


@compiled()
def _word_positions(
    data: Bytes, at: _Int, end: _Int, table: npt.NDArray[np.uint32], begins: Ints, ends: Ints
) -> _Int:
    """Write the first character of each word and the one after its last; the number of words."""
    found, place, inside = 0, 0, 0
    while at < end:
        code, length = decode(data.ctypes.data, at)
        kind = classify(table, code) >> np.uint32(24)
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
    """Merge windows that overlap or touch into spans; and the extent of each text."""
    longest = 0
    for i in range(len(offsets) - 1):
        longest = max(longest, offsets[i + 1] - offsets[i])
    begins, ends = np.empty(longest + 1, np.int64), np.empty(longest + 1, np.int64)
    spans, extents = np.empty((len(at), 4), np.int64), np.zeros(len(offsets) - 1, np.int64)
    count = 0
    for i in range(len(extents)):
        words = _word_positions(data, offsets[i], offsets[i + 1], table, begins, ends)
        extents[i] = ends[words - 1] - begins[0]
        if words < ngram:  # too short: its one shingle is all its words
            continue
        reach = -1  # end of the last span, in words
        for j in range(firsts[i], firsts[i + 1]):
            if at[j] > reach:
                spans[count, 0], spans[count, 1], spans[count, 3] = i, begins[at[j]], others[j]
                count += 1
            reach = at[j] + ngram
            spans[count - 1, 2] = ends[reach - 1] - spans[count - 1, 1]
            spans[count - 1, 3] = min(spans[count - 1, 3], others[j])
    return spans[:count], extents
