"""Search of texts for held-out items: how much of an item occurs in a text, word by word.

Of an item of `LONG` words or more, the words count that are in an n-gram of words that the text has
too (coverage, as in Tülu 3's decontamination, arXiv:2411.15124). N-grams in more than `_COMMON`
items are left out, since they are phrases and not the item. A shorter item has too few n-grams: it
counts if the text contains it whole, in order, and has at least `_INSIDE` words; or if it is all of
the text, but for one word of five or more, or two of ten or more, that the text lacks; or if the
text is a run of its words, at least half of them: five or more, or three or more that begin or end
it.
"""

from __future__ import annotations

from functools import cache
from itertools import combinations
from typing import Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from siftune.curate.comparing.shingles import Hashes, Offsets
from siftune.curate.native.arrays import enlarged, equal, first_at_least, order_of
from siftune.curate.native.jit import compiled

__all__ = ["LONG", "Items", "items_of", "overlaps"]

Ints: TypeAlias = npt.NDArray[np.int64]
_Int: TypeAlias = int | np.int64  # in compiled code they are the same

LONG: Final = 13  # words: of items with so many, parts count
_INSIDE: Final = 4  # words of the shortest item that is found inside a text
_COMMON: Final = 32  # items
_RUN: Final = 5  # words of the shortest part of a short item that is found as a text of its own
_END: Final = 3  # words of the shortest such part that begins or ends the item
_LACKS: Final = ((1, 5), (2, 10))  # words that may be missing, of an item with so many at least

_START, _TIMES = np.uint64(0x51_7C_C1_B7_27_22_0A_95), np.uint64(0x9E_37_79_B9_7F_4A_7C_15)
_HALF, _LOWER = np.uint64(32), np.uint64(0xFFFFFFFF)
_FILTER = np.uint64(40)  # the upper 24 bits of a key are its place in the filter
_BIT = np.uint64(63)


class _Keys(NamedTuple):
    """Sorted keys, each with an item (upper half) and a number (lower half); and a filter."""

    keys: Hashes
    values: Hashes
    bits: Hashes


class Items(NamedTuple):
    """Items by their n-grams, by their first words, and by all their words."""

    ngram: int
    words: Hashes
    offsets: Offsets
    parts: _Keys
    starts: _Keys
    wholes: _Keys


def items_of(words: Hashes, offsets: Offsets, ngram: int) -> Items:
    """The items with the words ``words[offsets[i]:offsets[i + 1]]``, for n-grams of ``ngram``."""
    sizes = np.diff(offsets)
    long, inside = sizes >= max(LONG, ngram), (sizes >= _INSIDE) & (sizes < max(LONG, ngram))
    parts = _without_common(*_item_grams(words, offsets, np.flatnonzero(long), ngram, True))
    starts = _item_grams(words, offsets, np.flatnonzero(inside), _INSIDE, False)
    wholes = _wholes(words, offsets, np.flatnonzero(sizes < max(LONG, ngram)))
    return Items(ngram, words, offsets, _keys(*parts), _keys(*starts), _keys(*wholes))


def _keys(keys: Hashes, values: Hashes) -> _Keys:
    order = np.lexsort((values, keys))
    bits = np.zeros(1 << 18, np.uint64)
    places = keys >> _FILTER
    np.bitwise_or.at(bits, places >> np.uint64(6), np.uint64(1) << (places & _BIT))
    return _Keys(keys[order], values[order], bits)


def _without_common(keys: Hashes, values: Hashes) -> tuple[Hashes, Hashes]:
    """The n-grams without those of too many items."""
    pairs = np.unique(np.stack([keys, values >> _HALF], axis=1), axis=0)
    found, counts = np.unique(pairs[:, 0], return_counts=True)
    rare = ~np.isin(keys, found[counts > _COMMON])
    return keys[rare], values[rare]


def _wholes(words: Hashes, offsets: Offsets, items: Ints) -> tuple[Hashes, Hashes]:
    """Keys of what a text that is only a short item may consist of; item and missing words."""
    keys, values = [], []
    for item in items[np.diff(offsets)[items] > 0].tolist():
        own = words[offsets[item] : offsets[item + 1]]
        for left in _left(len(own)):
            keys.append(_gram(own[left], 0, len(left)))
            values.append(item << 32 | len(own) - len(left))
    return np.array(keys, np.uint64), np.array(values, np.uint64)


@cache
def _left(size: int) -> list[list[int]]:
    """The words of a short item, by number, that a text may consist of: most of them, or a run."""
    every = range(size)
    found = {tuple(every)}
    for lacking, least in _LACKS:
        found |= set(combinations(every, size - lacking)) if size >= least else set()
    for run in range(max(_END, (size + 1) // 2), size):
        starts = range(size - run + 1) if run >= _RUN else (0, size - run)
        found |= {tuple(every[at : at + run]) for at in starts}
    return [list(left) for left in sorted(found)]


@compiled()
def _gram(words: Hashes, at: _Int, size: _Int) -> np.uint64:
    """The key of ``size`` words."""
    key = _START + np.uint64(size)
    for i in range(size):
        key = (key ^ words[at + i]) * _TIMES
        key ^= key >> _HALF
    return key


@compiled()
def _item_grams(
    words: Hashes, offsets: Offsets, items: Ints, size: _Int, every: bool
) -> tuple[Hashes, Hashes]:
    """Keys of all n-grams, or of the first one only, of the items; item and place of each."""
    total = 0
    for item in items:
        total += offsets[item + 1] - offsets[item] - size + 1 if every else 1
    keys, values = np.empty(total, np.uint64), np.empty(total, np.uint64)
    end = 0
    for item in items:
        last = offsets[item + 1] - size if every else offsets[item]
        for at in range(offsets[item], last + 1):
            keys[end] = _gram(words, at, size)
            values[end] = np.uint64(item) << _HALF | np.uint64(at - offsets[item])
            end += 1
    return keys, values


@compiled()
def _first(index: _Keys, key: np.uint64) -> _Int:
    """The first place of a key, or the end of all."""
    place = key >> _FILTER
    if index.bits[place >> np.uint64(6)] >> (place & _BIT) & np.uint64(1):
        at = first_at_least(index.keys, key)
        if at < len(index.keys) and index.keys[at] == key:
            return at
    return len(index.keys)


@compiled()
def overlaps(words: Hashes, offsets: Offsets, items: Items) -> tuple[npt.NDArray[np.float64], Ints]:
    """The largest share of an item's words that each text has, and the item; -1 without one."""
    shares, found = np.zeros(len(offsets) - 1), np.full(len(offsets) - 1, -1, np.int64)
    hits, order, spare = np.empty(1 << 10, np.uint64), np.empty(0, np.int64), np.empty(0, np.int64)
    for row in range(len(found)):
        at, end = offsets[row], offsets[row + 1]
        shares[row], found[row] = _as_whole(words[at:end], items)
        share, item = _inside(words[at:end], items)
        shares[row], found[row] = _better(shares[row], found[row], share, item)
        count, hits = _hits(words[at:end], items, hits)
        if count > len(order):
            order, spare = np.empty(len(hits), np.int64), np.empty(len(hits), np.int64)
        order_of(hits[:count], order[:count], spare[:count])
        share, item = _covered(hits, order[:count], items)
        shares[row], found[row] = _better(shares[row], found[row], share, item)
    return shares, found


@compiled(inline="always")
def _better(share: float, item: _Int, other_share: float, other: _Int) -> tuple[float, _Int]:
    if other_share > share or (other_share == share and 0 <= other < item):
        return other_share, other
    return share, item


@compiled()
def _as_whole(text: Hashes, items: Items) -> tuple[float, _Int]:
    """An item that is all of the text, but for words that the text lacks."""
    best = 0.0
    found: _Int = np.int64(-1)
    if 0 < len(text) < max(LONG, items.ngram):
        key = _gram(text, 0, len(text))
        at = _first(items.wholes, key)
        while at < len(items.wholes.keys) and items.wholes.keys[at] == key:
            lacking = np.int64(items.wholes.values[at] & _LOWER)
            item = np.int64(items.wholes.values[at] >> _HALF)
            best, found = _better(best, found, len(text) / (len(text) + lacking), item)
            at += 1
    return best, found


@compiled()
def _inside(text: Hashes, items: Items) -> tuple[float, _Int]:
    """A short item that occurs in the text."""
    best = 0.0
    found: _Int = np.int64(-1)
    if len(items.starts.keys) == 0:
        return best, found
    for place in range(len(text) - _INSIDE + 1):
        key = _gram(text, place, _INSIDE)
        at = _first(items.starts, key)
        while at < len(items.starts.keys) and items.starts.keys[at] == key:
            item = np.int64(items.starts.values[at] >> _HALF)
            own = items.words[items.offsets[item] : items.offsets[item + 1]]
            part = text[place : place + len(own)]
            if equal(part, own):
                best, found = _better(best, found, 1.0, item)
            at += 1
    return best, found


@compiled()
def _hits(text: Hashes, items: Items, hits: Hashes) -> tuple[_Int, Hashes]:
    """Item and place of each n-gram of an item that the text has: their number, and an array."""
    count = 0
    if len(items.parts.keys):
        for place in range(len(text) - items.ngram + 1):
            key = _gram(text, place, items.ngram)
            at = _first(items.parts, key)
            while at < len(items.parts.keys) and items.parts.keys[at] == key:
                if count == len(hits):
                    hits = enlarged(hits, 2 * len(hits))
                hits[count] = items.parts.values[at]
                count += 1
                at += 1
    return count, hits


@compiled()
def _covered(hits: Hashes, order: Ints, items: Items) -> tuple[float, _Int]:
    """The item of which the ``hits`` in ``order`` cover the largest share, and the share."""
    best = 0.0
    found: _Int = np.int64(-1)
    item: _Int = np.int64(-1)
    covered, end = np.int64(0), np.int64(0)
    for at in order:
        hit = hits[at]
        place = np.int64(hit & _LOWER)
        if np.int64(hit >> _HALF) != item:
            item, covered, end = np.int64(hit >> _HALF), np.int64(0), np.int64(0)
        covered += place + items.ngram - max(place, end)
        end = place + items.ngram
        size = items.offsets[item + 1] - items.offsets[item]
        best, found = _better(best, found, covered / size, item)
    return best, found
