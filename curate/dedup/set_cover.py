"""The cover rule on sets: compare each text with the kept texts that may reach the threshold.

Kept texts are looked up by keys (`prefix_filter`). If the chains to visit are longer than the list
of kept texts (many share all but their rarest shingles), the text is compared with every kept text,
and a bitmap filter rejects most pairs without reading the sets: the set bits in the xor of two
bitmaps, in which each shingle toggles one bit, are at most the shingles that only one text has
(Sandes et al. 2020). So time is bounded by texts times kept texts, a few ns each.
"""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from siftune.curate.comparing.shingle_sets import Sets, bits_in, shared
from siftune.curate.comparing.shingles import Hashes, Offsets
from siftune.curate.core.errors import UsageError
from siftune.curate.dedup.cover_rule import Cover
from siftune.curate.dedup.prefix_filter import Keys
from siftune.curate.dedup.row_guard import allows
from siftune.curate.dedup.row_relation import ANY_PAIR, Relation, whole_of
from siftune.curate.native.jit import compiled

__all__ = ["cover_sets"]

Ints: TypeAlias = npt.NDArray[np.int64]
_Int: TypeAlias = int | np.int64  # in compiled code they are the same
_SPREAD = np.uint64(0x9E_37_79_B9_7F_4A_7C_15)
_WORDS = 8  # of 64 bits in half a bitmap
_BITMAPS = 128  # bitmaps compared in the time of one visited entry
_MIN_VISITS = 64  # entries that are visited before all kept texts are compared instead


def cover_sets(
    sets: Sets,
    keys: Keys,
    order: Ints,
    fixed: int,
    threshold: Fraction,
    relation: Relation = ANY_PAIR,
) -> Cover:
    """Apply the cover rule at a Jaccard similarity of ``threshold``, without listing the pairs.

    Only texts with a common key are compared. The first ``fixed`` of ``order`` are always kept:
    reference rows. ``relation``: see `row_relation`.
    """
    index = _index(sets, keys, order, threshold, relation)
    survivor, common, union, guarded = _cover_sets(
        index, order, fixed, threshold.numerator, threshold.denominator
    )
    return Cover(survivor, np.where(survivor >= 0, common / union, np.nan), guarded)


class _Index(NamedTuple):
    """Hash table of the kept texts with chains by (key, size class), one entry per key.

    Only texts are visited whose size and, by the position of the key, possible overlap allow the
    threshold. ``kept`` lists the kept texts, ``bitmaps`` is filled when first needed.
    """

    values: Hashes
    offsets: Offsets
    unshared: Ints
    sizes: Ints
    keys: Hashes
    key_starts: Ints
    entries: Offsets
    ranked: bool
    classes: Ints
    heads: npt.NDArray[np.int32]
    links: npt.NDArray[np.int32]  # of each entry: next in the chain, text, half of the key
    last_compared: npt.NDArray[np.int32]
    rank: Ints
    spare: Ints  # by the sum of two sizes: most shingles that only one text may have
    kept: npt.NDArray[np.int32]  # of each kept text: its number, size and unshared shingles
    bitmaps: Hashes  # of each kept text: first halves, then second halves
    relation: Relation


def _index(sets: Sets, keys: Keys, order: Ints, threshold: Fraction, relation: Relation) -> _Index:
    count, entries = len(order), int(keys.offsets[-1])
    if max(count, entries) >= 2**31:
        raise UsageError(f"{entries} keys are too many to join at once; expected below 2^31")
    rank = np.empty(count, np.int64)
    rank[order] = np.arange(count)
    sizes = keys.unshared + np.diff(sets.offsets)
    both = np.arange(2 * int(sizes.max(initial=0)) + 1)
    return _Index(
        sets.values,
        sets.offsets,
        keys.unshared,
        sizes,
        keys.values,
        keys.starts,
        keys.offsets,
        keys.ranked,
        _size_classes(int(sizes.max(initial=0))),
        np.full(1 << max(8, entries.bit_length() - 1), -1, np.int32),
        np.empty((entries, 3), np.int32),
        np.full(count, -1, np.int32),
        rank,
        both - 2 * -(-threshold.numerator * both // (threshold.numerator + threshold.denominator)),
        np.empty((3, count), np.int32),
        np.empty((2, count, _WORDS), np.uint64),
        relation if len(relation.rows) else Relation.of_all(count),
    )


@compiled()
def _size_classes(longest: _Int) -> Ints:
    """Class of each set size; sizes in a class are within 1/8 of one another."""
    classes = np.zeros(longest + 1, np.int64)
    start, current = 1, 0
    for size in range(1, longest + 1):
        if size * 8 > start * 9:
            start, current = size, current + 1
        classes[size] = current
    return classes


@compiled(inline="always")
def _slot(index: _Index, key: np.uint64, group: _Int) -> _Int:
    spread = (key + np.uint64(group)) * _SPREAD
    return np.int64(spread >> np.uint64(32)) & (len(index.heads) - 1)


@compiled()
def _insert(index: _Index, x: _Int) -> None:
    group = index.classes[index.sizes[x]]
    first = index.entries[x]
    for place in range(index.entries[x + 1] - first):
        key = index.keys[index.key_starts[x] + place]
        slot = _slot(index, key, group)
        link = index.links[first + place]
        link[0], link[1], link[2] = index.heads[slot], x, np.int32(key)
        index.heads[slot] = first + place


@compiled()
def _compare(index: _Index, x: _Int, x_at: _Int, y: _Int, y_at: _Int, best: Ints, t: Ints) -> None:
    """Make ``y`` the ``best`` (text, intersection, union) if it reaches ``t`` and is more similar.

    If the guard refuses the pair, ``y`` is only noted, as ``best[3]``. The values before ``x_at``
    and ``y_at`` are known not to be in the other set.
    """
    both = index.sizes[x] + index.sizes[y]
    needed = (t[0] * both + t[0] + t[1] - 1) // (t[0] + t[1])
    as_similar = (best[1] * both + best[1] + best[2] - 1) // (best[1] + best[2])
    needed = max(needed, as_similar)
    x_end, y_end = index.offsets[x + 1], index.offsets[y + 1]
    x_start, y_start = index.offsets[x] + x_at, index.offsets[y] + y_at
    common = shared(index.values, x_start, x_end, y_start, y_end, needed)
    lead = common * best[2] - best[1] * (both - common)
    nearer = common >= 0 and (lead > 0 or index.rank[y] < index.rank[best[0]])
    relation = index.relation
    if nearer and allows(relation.guard, relation.rows[x], relation.rows[y]):
        best[0], best[1], best[2] = y, common, both - common
    elif nearer:
        best[3] = y


@compiled()
def _visit_chains(
    index: _Index, x: _Int, best: Ints, t: Ints, smallest: _Int, visits_left: _Int
) -> bool:
    """Compare with the kept texts that share a key; False after too many visited entries."""
    size = index.sizes[x]
    for place in range(index.entries[x + 1] - index.entries[x]):
        key = index.keys[index.key_starts[x] + place]
        before = index.unshared[x] + place if index.ranked else 0
        largest = min((size - before) * (t[0] + t[1]) // t[0] - size, len(index.classes) - 1)
        for group in range(index.classes[smallest], index.classes[max(smallest, largest)] + 1):
            entry = np.int64(index.heads[_slot(index, key, group)])
            while entry >= 0 and visits_left >= 0:
                visits_left -= 1
                link = index.links[entry]
                y = np.int64(link[1])
                if link[2] == np.int32(key) and index.last_compared[y] != x:
                    y_place = entry - index.entries[y]
                    same = index.keys[index.key_starts[y] + y_place] == key
                    if same and smallest <= index.sizes[y] <= largest:
                        index.last_compared[y] = x
                        at = (place, y_place) if index.ranked else (0, 0)
                        _compare(index, x, at[0], y, at[1], best, t)
                entry = np.int64(link[0])
            if visits_left < 0:
                return False
    return True


@compiled()
def _fill_bitmap(index: _Index, x: _Int, first: Hashes, second: Hashes) -> None:
    first[:], second[:] = 0, 0
    for at in range(index.offsets[x], index.offsets[x + 1]):
        bit = np.uint64(1) << (index.values[at] & np.uint64(63))
        word = np.int64(index.values[at] >> np.uint64(6)) & (2 * _WORDS - 1)
        if word < _WORDS:
            first[word] ^= bit
        else:
            second[word - _WORDS] ^= bit


@compiled(inline="always")
def _count_different(x: Hashes, y: Hashes) -> _Int:
    """Number of bits in which two half bitmaps differ."""
    total = np.int64(0)
    for word in range(_WORDS):
        total += bits_in(x[word] ^ y[word])
    return total


@compiled()
def _compare_with_all(
    index: _Index, x: _Int, best: Ints, t: Ints, smallest: _Int, count: _Int, with_bitmap: _Int
) -> None:
    """Compare with all ``count`` kept texts, of which ``with_bitmap`` have a bitmap."""
    kept, sizes, unshared = index.kept
    for i in range(with_bitmap, count):
        _fill_bitmap(index, np.int64(kept[i]), index.bitmaps[0, i], index.bitmaps[1, i])
    first, second = np.empty(_WORDS, np.uint64), np.empty(_WORDS, np.uint64)
    _fill_bitmap(index, x, first, second)
    largest = index.sizes[x] * t[1] // t[0]
    spare_of = index.spare[index.sizes[x] :]
    for i in range(count):
        if smallest <= sizes[i] <= largest:
            spare = spare_of[sizes[i]] - index.unshared[x] - unshared[i]
            spare -= _count_different(first, index.bitmaps[0, i])
            if spare >= 0 and _count_different(second, index.bitmaps[1, i]) <= spare:
                _compare(index, x, 0, np.int64(kept[i]), 0, best, t)


@compiled()
def _cover_sets(
    index: _Index, order: Ints, fixed: _Int, up: _Int, down: _Int
) -> tuple[Ints, Ints, Ints, Ints]:
    survivor, guarded = np.full(len(order), -1, np.int64), np.full(len(order), -1, np.int64)
    common, union = np.zeros(len(order), np.int64), np.ones(len(order), np.int64)
    t, best = np.empty(2, np.int64), np.empty(4, np.int64)
    t[0], t[1] = up, down
    count, with_bitmap = 0, 0
    is_kept = np.zeros(len(order), np.bool_)
    for place in range(len(order)):
        x = order[place]
        if place >= fixed:
            best[0], best[1], best[2], best[3] = -1, 0, 1, -1
            smallest = (up * index.sizes[x] + down - 1) // down
            visits_left = max(count // _BITMAPS, _MIN_VISITS)
            if not _visit_chains(index, x, best, t, smallest, visits_left):
                _compare_with_all(index, x, best, t, smallest, count, with_bitmap)
                with_bitmap = count
            survivor[x], common[x], union[x] = best[0], best[1], best[2]
            if survivor[x] < 0:
                survivor[x], common[x], union[x] = whole_of(index.relation, x, is_kept)
            guarded[x] = best[3] if survivor[x] < 0 else -1
        if survivor[x] < 0:
            is_kept[x] = True
            _insert(index, x)
            index.kept[0, count] = x
            index.kept[1, count], index.kept[2, count] = index.sizes[x], index.unshared[x]
            count += 1
    return survivor, common, union, guarded
