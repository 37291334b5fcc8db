"""MinHash signatures by torch, on any device, equal to `minhash.signatures`."""

from __future__ import annotations

import numpy as np
import torch

from siftune.curate.dedup.minhash import Signatures, drawn
from siftune.curate.dedup.shingles import Hashes, Offsets

__all__ = ["signatures_on"]

_LOW = 0xFFFFFFFF
_CELLS = {"cpu": 1 << 22}  # products at a time: elsewhere there is more room
_CELLS_ELSEWHERE = 1 << 28


def signatures_on(
    device: str, values: Hashes, offsets: Offsets, permutations: int, seed: int
) -> Signatures:
    """Signature of each text, (texts, permutations), bit for bit those of `signatures`.

    Products of 32-bit numbers are taken in 64 bits with a sign: they wrap around, and their lower
    halves are right all the same.
    """
    times, salt = (_long(part, device) for part in drawn(permutations, seed))
    counts = np.diff(offsets)
    found = np.full((len(counts), permutations), _LOW, np.uint32)
    cells = _CELLS.get(torch.device(device).type, _CELLS_ELSEWHERE)
    for start, stop in _stretches(offsets, max(1, cells // permutations)):
        some = values[offsets[start] : offsets[stop]]
        upper = _long(some >> np.uint64(32), device)[:, None]
        hashed = ((upper ^ salt) * times) & _LOW
        text = _long(np.repeat(np.arange(stop - start), counts[start:stop]), device)
        least = torch.full((stop - start, permutations), _LOW, device=device)
        least.scatter_reduce_(0, text[:, None].expand_as(hashed), hashed, "amin")
        found[start:stop] = least.cpu().numpy().astype(np.uint32)
    return found


def _stretches(offsets: Offsets, size: int) -> list[tuple[int, int]]:
    """Ranges of texts of about ``size`` shingles each, at least one text."""
    ranges, start = [], 0
    while start < len(offsets) - 1:
        stop = int(np.searchsorted(offsets, offsets[start] + size, side="right")) - 1
        ranges.append((start, max(start + 1, stop)))
        start = ranges[-1][1]
    return ranges


def _long(numbers: np.ndarray, device: str) -> torch.Tensor:
    return torch.from_numpy(numbers.astype(np.int64)).to(device)
