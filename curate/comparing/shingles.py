"""Shingles: hashes of the word or character n-grams of texts, read from UTF-8 bytes in memory.

A *word* is a run of letters, digits, underscores and combining marks, case folded one character at
a time (``str.casefold`` where it gives one character, so ``ß`` stays). In scripts without spaces
(Han, kana, Thai, Lao, Khmer, Myanmar) every character is a word. Joiners, soft hyphens and
variation selectors are ignored; anything else ends a word. Texts are not Unicode-normalised: a
precomposed letter and its parts differ. The classes are those of the Unicode version
of the running Python (``unicodedata.unidata_version``).

A shingle is the 64-bit hash of ``ngram`` consecutive units (words, or characters with one blank
between words). A text of fewer units is one shingle. With the unit ``auto``, shingles are 3-grams
of words for a text of more than `SHORT` words; else the words of up to three letters and the halves
of longer ones, of which a typing error changes only one. Two different shingles in a pair of texts
with ``s`` shingles share a hash with a probability of about ``s² / 2^65`` (2e-14 at 1,000), so
hashes are compared instead of shingles; texts can be constructed that collide.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from siftune.curate.comparing.text_pieces import Pieces, RowTexts, column_texts, row_texts
from siftune.curate.core.schema import content_columns, kind_of
from siftune.curate.native.char_classes import char_table, classify
from siftune.curate.native.jit import compiled, threads
from siftune.curate.native.pointers import byte
from siftune.curate.native.utf8 import decode
from siftune.curate.rows.chat import Part

__all__ = [
    "SHORT",
    "ChainedShingles",
    "ShingleSource",
    "Shingles",
    "TextShingles",
    "Unit",
    "shingle",
    "shingles_of",
]

Unit: TypeAlias = Literal["word", "char"]
AnyUnit: TypeAlias = Literal["word", "char", "auto"]
Hashes: TypeAlias = npt.NDArray[np.uint64]
Offsets: TypeAlias = npt.NDArray[np.int64]
Ints: TypeAlias = npt.NDArray[np.int64]
Shingles: TypeAlias = tuple[Hashes, Offsets]
"""Concatenated hashes of several rows, and the offset of each row."""

_Int: TypeAlias = int | np.int64  # in compiled code they are the same

_CLASS, _LETTER = np.uint32(24), np.uint32(0xFFFFFF)  # of the result of `classify`
_START = np.uint64(0x51_7C_C1_B7_27_22_0A_95)
_TIMES = np.uint64(0x9E_37_79_B9_7F_4A_7C_15)
_BASE = np.uint64(0xD6_E8_FE_B8_66_59_FD_93)
_HALF = np.uint64(32)
_LONG_NGRAM = 3  # words, with the unit ``auto``
SHORT = 60  # words: longest text that is compared by halves of words with the unit ``auto``
_BATCH_BYTES = 1 << 20  # of text: its hashes fit in the cache


class ShingleSource(Protocol):
    """Rows whose shingles can be read more than once; those of all rows are never held at once."""

    def __len__(self) -> int:
        """Number of rows."""

    def estimate(self) -> int:
        """About how many shingles there are in all, usually not too few."""

    def batches(self, rows: Ints | None = None) -> Iterator[Shingles]:
        """The shingles of all rows, or of the numbers ``rows``, in order, in batches of rows."""


@dataclass(frozen=True)
class TextShingles:
    """The shingles of the texts of a table, computed at each reading."""

    table: pl.DataFrame
    part: Part
    ngram: int
    unit: AnyUnit
    keys: Hashes | None = None

    @classmethod
    def of(
        cls,
        table: pl.DataFrame,
        part: Part,
        ngram: int,
        unit: AnyUnit,
        keys: Hashes | None = None,
    ) -> TextShingles:
        """A source that holds only the columns with text; texts of other ``keys`` share nothing."""
        columns = content_columns(kind_of(table))
        return cls(table.select("kind", *columns), part, ngram, unit, keys)

    def __len__(self) -> int:
        return self.table.height

    def estimate(self) -> int:
        """By the usual length of a word or letter; see `ShingleSource`."""
        size = int(self._row_texts.pieces.sizes.sum())
        return size if self.unit == "char" else size // (5 if self.unit == "word" else 2)

    def batches(self, rows: Ints | None = None) -> Iterator[Shingles]:
        """See `ShingleSource`."""
        return shingles_of(self._row_texts, self.ngram, self.unit, rows)

    @cached_property
    def _row_texts(self) -> RowTexts:
        texts = row_texts(self.table, self.part)
        if self.keys is None:
            return texts
        return replace(texts, calls=self.keys if texts.calls is None else texts.calls ^ self.keys)


@dataclass(frozen=True)
class ChainedShingles:
    """The rows of several sources, concatenated."""

    sources: Sequence[ShingleSource]

    def __len__(self) -> int:
        return sum(map(len, self.sources))

    def estimate(self) -> int:
        """See `ShingleSource`."""
        return sum(source.estimate() for source in self.sources)

    def batches(self, rows: Ints | None = None) -> Iterator[Shingles]:
        """See `ShingleSource`."""
        start = 0
        for source in self.sources:
            if rows is None:
                yield from source.batches()
            else:
                low, high = np.searchsorted(rows, [start, start + len(source)])
                yield from source.batches(rows[low:high] - start)
            start += len(source)


def shingle(
    text: pl.Series, ngram: int, unit: Unit = "word", calls: pl.Series | None = None
) -> tuple[Hashes, Offsets]:
    """Shingle hashes of each text, in text order, repeats included.

    Texts with different ``calls`` (`content.calls_of`) have no common hash.

    Returns the concatenated hashes and the offsets of the texts: text ``i`` has
    ``hashes[offsets[i]:offsets[i + 1]]``. Null, and a text without a word, has none.
    """
    batches = list(shingles_of(column_texts(text, calls), ngram, unit))
    if len(batches) == 1:
        return batches[0]
    counts = [np.diff(offsets) for _, offsets in batches]
    offsets = np.concatenate([[0], *counts]).cumsum(dtype=np.int64)
    return np.concatenate([np.empty(0, np.uint64), *(values for values, _ in batches)]), offsets


def shingles_of(
    texts: RowTexts, ngram: int, unit: AnyUnit, rows: Offsets | None = None
) -> Iterator[tuple[Hashes, Offsets]]:
    """Shingle hashes of all texts, or of the numbers ``rows``, in order, in batches of texts."""

    def shingle_batch(some: Offsets) -> tuple[Hashes, Offsets]:
        size, short = (_LONG_NGRAM, SHORT) if unit == "auto" else (ngram, 0)
        hashes, offsets = _shingles(texts.pieces, some, char_table(), size, unit == "char", short)
        if texts.calls is not None:
            hashes ^= np.repeat(texts.calls[some], np.diff(offsets))
        return hashes, offsets

    return _prefetched(shingle_batch, texts.batches(_BATCH_BYTES, rows))


def _prefetched(
    work: Callable[[Offsets], tuple[Hashes, Offsets]], parts: Iterable[Offsets]
) -> Iterator[tuple[Hashes, Offsets]]:
    """Results of ``work`` in order, computed by all threads a few parts ahead."""
    if threads() == 1:  # a thread has its own heap, which it rarely returns to the system
        yield from map(work, parts)
        return
    with ThreadPoolExecutor(threads()) as pool:
        pending: deque[Future[tuple[Hashes, Offsets]]] = deque()
        for part in parts:
            pending.append(pool.submit(work, part))
            if len(pending) > threads():
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


@compiled()
def _words(base: int, size: _Int, table: npt.NDArray[np.uint32], out: Hashes, found: _Int) -> _Int:
    """Write the hash of each word of a piece to ``out[found:]``; the new end.

    Branchless on ASCII: every byte stores the hash so far, the end of a word advances ``found``.
    """
    at: _Int = 0
    inside: _Int = 0
    so_far = _START
    while at < size:
        code = byte(base, at)
        if code < 128:
            entry = table[code]
            at += 1
        else:
            code, length = decode(base, at)
            entry = classify(table, code)
            at += length
            if entry >> _CLASS >= 2:
                if entry >> _CLASS == 2:
                    out[found] = so_far
                    found += inside
                    out[found] = (_START ^ np.uint64(entry & _LETTER)) * _TIMES
                    found += 1
                    inside = 0
                    so_far = _START
                continue
        out[found] = so_far
        more = (_START if inside == 0 else so_far) ^ np.uint64(entry & _LETTER)
        word = np.int64(entry >> _CLASS)
        found += inside & (1 - word)
        so_far = more * _TIMES
        inside = word
    out[found] = so_far
    return found + inside


@compiled()
def _chars(base: int, size: _Int, table: npt.NDArray[np.uint32], out: Hashes, found: _Int) -> _Int:
    """Write the hash of each character of a piece, and of one blank between words; see `_words`."""
    blank = found > 0
    at: _Int = 0
    while at < size:
        code, length = decode(base, at)
        entry = classify(table, code)
        at += length
        if entry >> _CLASS == 0:
            blank = found > 0
        elif entry >> _CLASS != 3:
            if blank:
                out[found] = (_START ^ np.uint64(32)) * _TIMES
                found += 1
                blank = False
            out[found] = (_START ^ np.uint64(entry & _LETTER)) * _TIMES
            found += 1
    return found


@compiled()
def _halves(base: int, size: _Int, table: npt.NDArray[np.uint32], out: Hashes, found: _Int) -> _Int:
    """Write the hash of each half of a word of a piece, or of a word of three letters or fewer.

    The hashes of all beginnings of a word (polynomials in ``_BASE``) are kept in ``out`` until it
    ends: that of the second half follows from two of them.
    """
    at: _Int = 0
    letters: _Int = 0
    so_far, power = np.uint64(1), np.uint64(1)  # ``power`` is ``_BASE ** (letters // 2)``
    while at < size:
        code = byte(base, at)
        if code < 128:
            entry = table[code]
            at += 1
        else:
            code, length = decode(base, at)
            entry = classify(table, code)
            at += length
        kind = entry >> _CLASS
        if kind != 1 and kind != 3:
            found = _write_halves(out, found, letters, power)
            letters, so_far, power = 0, np.uint64(1), np.uint64(1)
        if kind == 1 or kind == 2:
            so_far = so_far * _BASE + np.uint64(entry & _LETTER)
            power *= _BASE if letters & 1 else np.uint64(1)
            out[found + letters] = so_far
            letters += 1
        if kind == 2:
            found = _write_halves(out, found, letters, power)
            letters, so_far, power = 0, np.uint64(1), np.uint64(1)
    return _write_halves(out, found, letters, power)


@compiled(inline="always")
def _write_halves(out: Hashes, found: _Int, letters: _Int, power: np.uint64) -> _Int:
    """Replace the hashes of the beginnings of a word at ``out[found:]`` by one or two; the new end.

    Words, first halves and second halves of the same letters have different hashes.
    """
    if letters == 0:
        return found
    if letters < 4:
        out[found] = out[found + letters - 1]
        return found + 1
    first, whole = out[found + (letters + 1) // 2 - 1], out[found + letters - 1]
    out[found] = (first ^ _START) * _TIMES
    out[found + 1] = (whole - (first - np.uint64(1)) * power) * _TIMES
    return found + 2


@compiled()
def _roll(units: Hashes, count: _Int, ngram: _Int, out: Hashes, at: _Int) -> _Int:
    """Write the hash of each run of ``ngram`` units (of all, if fewer) to ``out``; the new end.

    The hash is a polynomial in ``_BASE`` over the units, mixed with the length (a rolling hash).
    """
    size = min(ngram, count)
    leaving = np.uint64(1)
    for _ in range(size):
        leaving *= _BASE
    rolled = np.uint64(0)
    for i in range(count):
        unit = units[i]
        units[i] = unit = (unit ^ (unit >> _HALF)) * _TIMES
        rolled = rolled * _BASE + unit
        if i >= size:
            rolled -= units[i - size] * leaving
        if i >= size - 1:
            mixed = rolled + np.uint64(size)
            mixed = (mixed ^ (mixed >> _HALF)) * _TIMES
            out[at] = mixed ^ (mixed >> _HALF)
            at += 1
    return at


@compiled()
def _shingles(
    pieces: Pieces,
    rows: Offsets,
    table: npt.NDArray[np.uint32],
    ngram: _Int,
    chars: bool,
    short: _Int,
) -> tuple[Hashes, Offsets]:
    addresses, sizes, starts = pieces
    longest: _Int = 0
    total: _Int = 0
    for row in rows:
        size: _Int = 0
        for at in range(starts[row], starts[row + 1]):
            size += sizes[at] + 1
        longest, total = max(longest, size), total + size
    units = np.empty(longest + 2, np.uint64)
    out = np.empty(total if chars or short else total // 2 + len(rows), np.uint64)
    offsets = np.zeros(len(rows) + 1, np.int64)
    for i in range(len(rows)):
        count = _units(pieces, rows[i], table, chars, units)
        size = ngram
        if 0 < count <= short:
            count, size = 0, 1
            for at in range(starts[rows[i]], starts[rows[i] + 1]):
                count = _halves(addresses[at], sizes[at], table, units, count)
        offsets[i + 1] = _roll(units, count, size, out, offsets[i])
    return out[: offsets[-1]].copy(), offsets


@compiled(inline="always")
def _units(
    pieces: Pieces, row: _Int, table: npt.NDArray[np.uint32], chars: bool, units: Hashes
) -> _Int:
    """Write the hashes of the words or characters of a text to ``units``; their number."""
    addresses, sizes, starts = pieces
    count: _Int = 0
    for at in range(starts[row], starts[row + 1]):
        if chars:
            count = _chars(addresses[at], sizes[at], table, units, count)
        else:
            count = _words(addresses[at], sizes[at], table, units, count)
    return count
