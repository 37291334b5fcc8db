"""The nearest neighbours of every vector: a sparse graph from blocked products, without n×n."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numba import njit

from curate.core.vectors import slices

__all__ = ["Graph", "neighbours"]

_BLOCK = 2048


@dataclass(frozen=True)
class Graph:
    """``to`` (n, k) int32, the neighbours of each row, itself among them; ``similarity`` (n, k).

    Best first, the smaller index first of equals. The similarity is the float32 cosine.
    """

    to: np.ndarray
    similarity: np.ndarray


def neighbours(units: np.ndarray, count: int, gpu: bool = False) -> Graph:
    """The ``count`` most similar rows of each of ``units`` (n, d); memory O(n · count).

    Each product of two blocks serves both: half the multiplications of n².
    """
    count = min(count, len(units))
    to = np.full((len(units), count), -1, dtype=np.int32)
    similarity = np.full((len(units), count), -np.inf, dtype=np.float32)
    if gpu:
        _fill_on_gpu(units, count, to, similarity)
        return Graph(to, similarity)
    for left in slices(len(units), _BLOCK):
        for right in slices(left.stop, _BLOCK):
            products = units[left] @ units[right].T
            _insert(products, right.start, to[left], similarity[left])
            if left != right:
                across = np.ascontiguousarray(products.T)
                _insert(across, left.start, to[right], similarity[right])
    return Graph(to, similarity)


@njit(cache=True, nogil=True)
def _insert(
    products: np.ndarray, offset: int, to: np.ndarray, similarity: np.ndarray
) -> None:  # pragma: no cover - compiled
    """Merge the products of some rows with more columns into their sorted best."""
    last = to.shape[1] - 1
    for i in range(products.shape[0]):
        worst = similarity[i, last]
        for j in range(products.shape[1]):
            value = products[i, j]
            if value < worst:
                continue
            column = offset + j
            if value == worst and column > to[i, last] >= 0:
                continue
            at = last
            while at > 0 and (
                similarity[i, at - 1] < value
                or (similarity[i, at - 1] == value and to[i, at - 1] > column)
            ):
                similarity[i, at] = similarity[i, at - 1]
                to[i, at] = to[i, at - 1]
                at -= 1
            similarity[i, at] = value
            to[i, at] = column
            worst = similarity[i, last]


def _fill_on_gpu(units: np.ndarray, count: int, to: np.ndarray, similarity: np.ndarray) -> None:
    import torch

    held = torch.from_numpy(units).cuda()
    for part in slices(len(units), max(1, min(_BLOCK, 2**29 // len(units)))):
        best, index = (held[part] @ held.T).topk(count, dim=1)
        similarity[part], to[part] = best.cpu().numpy(), index.cpu().numpy()
