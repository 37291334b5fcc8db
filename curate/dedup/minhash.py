"""MinHash signatures of shingle sets, and the band keys under which similar sets meet.

Broder 1997. Position ``j`` of a signature is the least ``((x ^ b_j) · a_j) mod 2^32`` over the
upper halves ``x`` of a text's shingle hashes, with ``a_j`` odd: the share of equal positions of two
signatures estimates their Jaccard similarity. Signatures are cut in bands of ``r`` positions; two
texts of similarity ``s`` have one of ``b`` bands in common with a chance of ``1 - (1 - s^r)^b``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from siftune.curate.core.growable_array import Grown
from siftune.curate.dedup.count_sketch import Bytes, Halves, halves, tally
from siftune.curate.dedup.jaccard import Keys
from siftune.curate.dedup.shingles import Hashes, Offsets
from siftune.curate.native.jit import compiled

__all__ = ["Signatures", "band_keys", "banded", "drawn", "signatures"]

Ints: TypeAlias = npt.NDArray[np.int64]
Signatures: TypeAlias = npt.NDArray[np.uint32]
_TIMES = np.uint64(0x9E_37_79_B9_7F_4A_7C_15)
_HALF = np.uint64(32)
_NONE = np.uint32(0xFFFFFFFF)


def signatures(values: Hashes, offsets: Offsets, permutations: int, seed: int) -> Signatures:
    """Signature of each text, (texts, permutations); all ones for a text without a shingle."""
    return _signatures(values, offsets, *drawn(permutations, seed))


def drawn(permutations: int, seed: int) -> tuple[Signatures, Signatures]:
    """The factors ``a_j``, odd, and the ``b_j`` of so many permutations."""
    raw = np.random.PCG64(seed).random_raw(permutations)
    return (raw >> _HALF).astype(np.uint32) | np.uint32(1), raw.astype(np.uint32)


def band_keys(found: Signatures, bands: int, rows: int) -> Keys:
    """One key a band for each text: the band's number and its positions, hashed to 64 bits."""
    texts = len(found)
    keys = _band_keys(found, bands, rows)
    starts = np.arange(texts + 1, dtype=np.int64) * bands
    return Keys(keys, starts[:-1], starts, np.zeros(texts, np.int64), False)


def banded(found: Iterable[Signatures], bands: int, rows: int) -> tuple[Ints, Ints, Keys]:
    """Which texts share a band with another, which have no shingle, and the keys of the former."""
    made, lacking = Grown(np.uint64), Grown(np.bool_)
    for some in found:
        made.add(band_keys(some, bands, rows).values)
        lacking.add((some == _NONE).all(axis=1))
    keys, empty = made.take(), lacking.take()
    upper = halves(keys)
    near = np.flatnonzero(_meeting(upper.reshape(-1, bands), *tally(upper)) & ~empty)
    starts = np.arange(len(near) + 1, dtype=np.int64) * bands
    chosen = keys.reshape(-1, bands)[near].ravel()
    return (
        near,
        np.flatnonzero(empty),
        Keys(chosen, starts[:-1], starts, np.zeros(len(near), np.int64), False),
    )


@compiled()
def _meeting(keys: Halves, table: Bytes, shift: np.uint32) -> npt.NDArray[np.bool_]:
    """Whether one of a text's keys seems to be another's too; if it is, this is never missed."""
    found = np.zeros(len(keys), np.bool_)
    for i in range(len(keys)):
        for j in range(keys.shape[1]):
            slot = np.int64(keys[i, j] >> shift)
            found[i] |= ((table[slot >> 1] >> ((slot & 1) * 4)) & 15) > 1
    return found


@compiled()
def _signatures(
    values: Hashes, offsets: Offsets, times: npt.NDArray[np.uint32], salt: npt.NDArray[np.uint32]
) -> Signatures:
    found = np.full((len(offsets) - 1, len(times)), 0xFFFFFFFF, np.uint32)
    for i in range(len(found)):
        best = found[i]
        for at in range(offsets[i], offsets[i + 1]):
            x = np.uint32(values[at] >> _HALF)
            for j in range(len(times)):
                best[j] = min(best[j], np.uint32((x ^ salt[j]) * times[j]))
    return found


@compiled()
def _band_keys(found: Signatures, bands: int, rows: int) -> Hashes:
    keys = np.empty(len(found) * bands, np.uint64)
    for i in range(len(found)):
        for band in range(bands):
            key = np.uint64(band + 1) * _TIMES
            for j in range(band * rows, band * rows + rows):
                key = (key ^ np.uint64(found[i, j])) * _TIMES
                key ^= key >> _HALF
            keys[i * bands + band] = key
    return keys
