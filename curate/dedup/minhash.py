"""MinHash signatures of shingle sets, and LSH band keys under which similar sets are compared.

Broder 1997. Position ``j`` of a signature is the least ``((x ^ b_j) · a_j) mod 2^32`` over the
upper halves ``x`` of a text's shingle hashes, with ``a_j`` odd: the share of equal positions of two
signatures estimates their Jaccard similarity. Signatures are split into bands of ``r`` positions;
texts of similarity ``s`` share one of ``b`` bands with a probability of ``1 - (1 - s^r)^b``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

from siftune.curate.comparing.count_sketch import Bytes, Halves, count_sketch, upper_halves
from siftune.curate.comparing.shingles import Hashes, Offsets
from siftune.curate.core.growable_array import Grown
from siftune.curate.dedup.prefix_filter import Keys
from siftune.curate.native.jit import compiled

if TYPE_CHECKING:
    import torch

__all__ = ["Signatures", "band_candidates", "band_keys", "signatures", "signatures_on"]

Ints: TypeAlias = npt.NDArray[np.int64]
Signatures: TypeAlias = npt.NDArray[np.uint32]
_TIMES = np.uint64(0x9E_37_79_B9_7F_4A_7C_15)
_HALF = np.uint64(32)
_EMPTY = np.uint32(0xFFFFFFFF)
_LOWER = 0xFFFFFFFF
_CPU_CELLS, _DEVICE_CELLS = 1 << 22, 1 << 28  # products that torch computes at a time


def signatures(values: Hashes, offsets: Offsets, permutations: int, seed: int) -> Signatures:
    """Signature of each text (texts, permutations); all ones for a text without a shingle."""
    return _signatures(values, offsets, *_coefficients(permutations, seed))


def signatures_on(
    device: str, values: Hashes, offsets: Offsets, permutations: int, seed: int
) -> Signatures:
    """Signatures by torch on any device, bit for bit those of `signatures`.

    Products of 32-bit numbers are computed in int64: they overflow, but their lower halves are
    correct.
    """
    import torch

    times, salt = (_long(part, device) for part in _coefficients(permutations, seed))
    counts = np.diff(offsets)
    found = np.full((len(counts), permutations), _LOWER, np.uint32)
    cells = _CPU_CELLS if torch.device(device).type == "cpu" else _DEVICE_CELLS
    for start, stop in _text_ranges(offsets, max(1, cells // permutations)):
        batch = values[offsets[start] : offsets[stop]]
        upper = _long(batch >> np.uint64(32), device)[:, None]
        hashes = ((upper ^ salt) * times) & _LOWER
        text = _long(np.repeat(np.arange(stop - start), counts[start:stop]), device)
        least = torch.full((stop - start, permutations), _LOWER, device=device)
        least.scatter_reduce_(0, text[:, None].expand_as(hashes), hashes, "amin")
        found[start:stop] = least.cpu().numpy().astype(np.uint32)
    return found


def _text_ranges(offsets: Offsets, size: int) -> list[tuple[int, int]]:
    """Ranges of texts with about ``size`` shingles each, at least one text."""
    ranges, start = [], 0
    while start < len(offsets) - 1:
        stop = int(np.searchsorted(offsets, offsets[start] + size, side="right")) - 1
        ranges.append((start, max(start + 1, stop)))
        start = ranges[-1][1]
    return ranges


def _long(numbers: np.ndarray, device: str) -> torch.Tensor:
    import torch

    return torch.from_numpy(numbers.astype(np.int64)).to(device)


def _coefficients(permutations: int, seed: int) -> tuple[Signatures, Signatures]:
    """The factors ``a_j``, odd, and the ``b_j`` of the permutations."""
    raw = np.random.PCG64(seed).random_raw(permutations)
    return (raw >> _HALF).astype(np.uint32) | np.uint32(1), raw.astype(np.uint32)


def band_keys(found: Signatures, bands: int, rows: int) -> Keys:
    """A 64-bit key per band of each text: hash of the band's number and its positions."""
    texts = len(found)
    keys = _band_keys(found, bands, rows)
    starts = np.arange(texts + 1, dtype=np.int64) * bands
    return Keys(keys, starts[:-1], starts, np.zeros(texts, np.int64), False)


def band_candidates(found: Iterable[Signatures], bands: int, rows: int) -> tuple[Ints, Ints, Keys]:
    """Texts that share a band with another, texts without a shingle, and the keys of the former."""
    all_keys, is_empty = Grown(np.uint64), Grown(np.bool_)
    for some in found:
        all_keys.add(band_keys(some, bands, rows).values)
        is_empty.add((some == _EMPTY).all(axis=1))
    keys, empty = all_keys.take(), is_empty.take()
    upper = upper_halves(keys)
    near = np.flatnonzero(_has_shared_key(upper.reshape(-1, bands), *count_sketch(upper)) & ~empty)
    starts = np.arange(len(near) + 1, dtype=np.int64) * bands
    chosen = keys.reshape(-1, bands)[near].ravel()
    return (
        near,
        np.flatnonzero(empty),
        Keys(chosen, starts[:-1], starts, np.zeros(len(near), np.int64), False),
    )


@compiled()
def _has_shared_key(keys: Halves, table: Bytes, shift: np.uint32) -> npt.NDArray[np.bool_]:
    """Mask of the texts of which a key seems to occur in another text; none is missed."""
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
