"""The cover rule: which rows stay when near-duplicates go, and which of those covers a dropped one.

Rows are looked at from best to worst (a rank order: score, then content, never input order). A row
is dropped if and only if a row kept before it is at or above the threshold; it names the most
similar of these, the better one if two are equally similar. So each dropped row has a survivor at
or above the threshold and better than itself, no two survivors are at or above it, and the answer
depends on the rows alone. (One row of each connected component, the usual rule, drops rows that no
survivor resembles.)
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from curate.core.compiled import compiled

__all__ = ["Cover", "cover_pairs"]

Ints: TypeAlias = npt.NDArray[np.int64]
_Floats: TypeAlias = npt.NDArray[np.floating]


class Cover(NamedTuple):
    """``survivor[i]``: the row that covers row ``i``, -1 for a kept row; and how similar it is."""

    survivor: Ints
    similarity: npt.NDArray[np.float64]


def cover_pairs(left: Ints, right: Ints, similarity: _Floats, order: Ints) -> Cover:
    """The rule on all pairs at or above the threshold.

    Args:
        left: one row of each pair.
        right: the other row; a pair is given once, in either direction.
        similarity: of each pair.
        order: row numbers, best first.
    """
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    worse, better = np.maximum(rank[left], rank[right]), np.minimum(rank[left], rank[right])
    by_worse = np.lexsort((better, -similarity, worse))
    worse, better, similarity = worse[by_worse], better[by_worse], similarity[by_worse]
    starts = np.searchsorted(worse, np.arange(len(order) + 1))
    return _unrank(_first_kept(starts, better), better, similarity, order)


def _unrank(pair: Ints, better: Ints, similarity: _Floats, order: Ints) -> Cover:
    covered = pair >= 0
    survivor = np.full(len(order), -1, np.int64)
    values = np.full(len(order), np.nan)
    survivor[order[covered]] = order[better[pair[covered]]]
    values[order[covered]] = similarity[pair[covered]]
    return Cover(survivor, values)


@compiled()
def _first_kept(starts: Ints, better: Ints) -> Ints:
    """For each rank the first of its pairs whose better row is kept; -1 where none is."""
    pair = np.full(len(starts) - 1, -1, np.int64)
    for row in range(len(pair)):
        for at in range(starts[row], starts[row + 1]):
            if pair[better[at]] < 0:
                pair[row] = at
                break
    return pair
