"""Texts as sets of n-gram hashes, taken straight from the UTF-8 bytes of an Arrow buffer.

A *word* is a run of letters, digits, underscores and combining marks, case folded one character at
a time (``str.casefold`` where it gives one character, so ``ß`` stays). Scripts written without
spaces (Han, kana, Thai, Lao, Khmer, Myanmar) make every character a word. Joiners, soft hyphens and
variation selectors are as if they were not there; anything else ends a word. Texts are not
normalised: a precomposed letter and its parts differ. The classes are those of the Unicode version
of the running Python (``unicodedata.unidata_version``).

A shingle is the 64-bit hash of ``ngram`` consecutive units (words, or characters with one blank for
whatever stands between two words). A text of fewer units is one shingle: all of them. Two different
shingles of one pair of texts with ``s`` shingles share a hash with a chance of about ``s² / 2^65``
(2e-14 at 1,000), so comparing hashes is comparing shingles, unless someone builds texts against it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from siftune.curate.dedup.text_pieces import Pieces, Spoken, whole
from siftune.curate.native.char_classes import letters, look
from siftune.curate.native.jit import compiled
from siftune.curate.native.pointers import byte
from siftune.curate.native.threads import threads
from siftune.curate.native.utf8 import decode

__all__ = ["Unit", "shingle", "shingles_of"]

Unit: TypeAlias = Literal["word", "char"]
Hashes: TypeAlias = npt.NDArray[np.uint64]
Offsets: TypeAlias = npt.NDArray[np.int64]

_Int: TypeAlias = int | np.int64  # in compiled code they are the same

_CLASS, _LETTER = np.uint32(24), np.uint32(0xFFFFFF)  # of what `look` says
_START = np.uint64(0x51_7C_C1_B7_27_22_0A_95)
_TIMES = np.uint64(0x9E_37_79_B9_7F_4A_7C_15)
_BASE = np.uint64(0xD6_E8_FE_B8_66_59_FD_93)
_HALF = np.uint64(32)
_BYTES = 1 << 20  # of text at a time: its hashes stay in the cache


def shingle(
    text: pl.Series, ngram: int, unit: Unit = "word", calls: pl.Series | None = None
) -> tuple[Hashes, Offsets]:
    """Shingle hashes of each text, in text order, repeats included.

    Of texts with different ``calls`` (`content.calls_of`) no hash is the same.

    Returns the hashes one text after the other and where each text starts: text ``i`` has
    ``hashes[offsets[i]:offsets[i + 1]]``. Null, and a text without a single word, has none.
    """
    done = list(shingles_of(whole(text, calls), ngram, unit))
    if len(done) == 1:
        return done[0]
    counts = [np.diff(offsets) for _, offsets in done]
    offsets = np.concatenate([[0], *counts]).cumsum(dtype=np.int64)
    return np.concatenate([np.empty(0, np.uint64), *(values for values, _ in done)]), offsets


def shingles_of(
    texts: Spoken, ngram: int, unit: Unit, rows: Offsets | None = None
) -> Iterator[tuple[Hashes, Offsets]]:
    """The same of all texts, or of those numbered, in order, a stretch at a time."""

    def cut(some: Offsets) -> tuple[Hashes, Offsets]:
        hashes, offsets = _shingles(texts.pieces, some, letters(), ngram, unit == "char")
        if texts.calls is not None:
            hashes ^= np.repeat(texts.calls[some], np.diff(offsets))
        return hashes, offsets

    return _ahead(cut, texts.stretches(_BYTES, rows))


def _ahead(
    work: Callable[[Offsets], tuple[Hashes, Offsets]], parts: Iterable[Offsets]
) -> Iterator[tuple[Hashes, Offsets]]:
    """Results in order, made by as many threads as there are, not many before they are taken."""
    if threads() == 1:  # a thread has a heap of its own, which it hardly ever gives back
        yield from map(work, parts)
        return
    with ThreadPoolExecutor(threads()) as pool:
        waiting: deque[Future[tuple[Hashes, Offsets]]] = deque()
        for part in parts:
            waiting.append(pool.submit(work, part))
            if len(waiting) > threads():
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


@compiled()
def _words(base: int, size: _Int, table: npt.NDArray[np.uint32], out: Hashes, found: _Int) -> _Int:
    """Hash of each word of a piece into ``out`` from ``found`` on; where it ends now.

    Written without branches on ASCII: every byte stores the hash so far, a word's end moves on.
    """
    at: _Int = 0
    inside: _Int = 0
    so_far = _START
    while at < size:
        letter = byte(base, at)
        if letter < 128:
            entry = table[letter]
            at += 1
        else:
            code, length = decode(base, at)
            entry = look(table, code)
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
    """Hash of each letter of a piece, and of one blank between words, as `_words` does."""
    blank = found > 0
    at: _Int = 0
    while at < size:
        code, length = decode(base, at)
        entry = look(table, code)
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
def _roll(units: Hashes, count: _Int, ngram: _Int, out: Hashes, at: _Int) -> _Int:
    """Hash each run of ``ngram`` units (all of them where they are fewer); where ``out`` ends now.

    A run is a polynomial of its units in ``_BASE``, then mixed; the length goes in as well.
    """
    size = min(ngram, count)
    leaves = np.uint64(1)
    for _ in range(size):
        leaves *= _BASE
    rolled = np.uint64(0)
    for i in range(count):
        unit = units[i]
        units[i] = unit = (unit ^ (unit >> _HALF)) * _TIMES
        rolled = rolled * _BASE + unit
        if i >= size:
            rolled -= units[i - size] * leaves
        if i >= size - 1:
            mixed = rolled + np.uint64(size)
            mixed = (mixed ^ (mixed >> _HALF)) * _TIMES
            out[at] = mixed ^ (mixed >> _HALF)
            at += 1
    return at


@compiled()
def _shingles(
    pieces: Pieces, rows: Offsets, table: npt.NDArray[np.uint32], ngram: _Int, chars: bool
) -> tuple[Hashes, Offsets]:
    addresses, sizes, starts = pieces
    longest, total = 0, 0
    for row in rows:
        size = 0
        for at in range(starts[row], starts[row + 1]):
            size += sizes[at] + 1
        longest, total = max(longest, size), total + size
    units = np.empty(longest + 2, np.uint64)
    out = np.empty(total if chars else total // 2 + len(rows), np.uint64)
    offsets = np.zeros(len(rows) + 1, np.int64)
    for i in range(len(rows)):
        count: _Int = 0
        for at in range(starts[rows[i]], starts[rows[i] + 1]):
            if chars:
                count = _chars(addresses[at], sizes[at], table, units, count)
            else:
                count = _words(addresses[at], sizes[at], table, units, count)
        offsets[i + 1] = _roll(units, count, ngram, out, offsets[i])
    return out[: offsets[-1]].copy(), offsets
