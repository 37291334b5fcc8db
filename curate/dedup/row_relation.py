"""Which rows are near-duplicates besides their similarity: a guard, and answers that are parts."""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from siftune.curate.dedup.row_guard import NO_GUARD, Guard
from siftune.curate.native.jit import compiled

__all__ = ["ANY_PAIR", "Relation", "whole_of"]

Ints: TypeAlias = npt.NDArray[np.int64]
_Int: TypeAlias = int | np.int64  # in compiled code they are the same


class Relation(NamedTuple):
    """Text ``i`` is row ``rows[i]`` of the guard; pairs that it refuses are no near-duplicates.

    ``others[starts[i]:starts[i + 1]]`` are the texts that text ``i`` is a part of, or that are
    parts of it: near-duplicates without being similar; ``words`` (n, 2) are those of the part and
    of the whole.
    """

    guard: Guard
    rows: Ints
    starts: Ints
    others: Ints
    words: Ints

    @classmethod
    def of_all(cls, count: int) -> Relation:
        """Every pair of ``count`` texts is compared by similarity alone."""
        return cls(NO_GUARD, np.arange(count), *_no_parts(count))

    def of(self, positions: Ints, among: Ints) -> Relation:
        """The relation of some texts; ``among`` is the new number of each, -1 for others."""
        rows = self.rows[positions] if len(self.rows) else positions
        if not len(self.others):
            return Relation(self.guard, rows, *_no_parts(len(positions)))
        counts = np.diff(self.starts)[positions]
        starts = np.append(0, counts.cumsum())
        at = np.arange(starts[-1]) + np.repeat(self.starts[positions] - starts[:-1], counts)
        return Relation(self.guard, rows, starts, among[self.others[at]], self.words[at])


def _no_parts(count: int) -> tuple[Ints, Ints, Ints]:
    return np.zeros(count + 1, np.int64), np.empty(0, np.int64), np.empty((0, 2), np.int64)


ANY_PAIR = Relation(NO_GUARD, np.empty(0, np.int64), *_no_parts(0))


@compiled()
def whole_of(
    relation: Relation, x: _Int, is_kept: npt.NDArray[np.bool_]
) -> tuple[_Int, _Int, _Int]:
    """The kept text that ``x`` is a part of or that is a part of it, and the words of both.

    The one with the largest share in common, -1 without one; the words of the whole are negative,
    so that this share is not taken for a similarity.
    """
    found, less, more = -1, 0, 1
    for at in range(relation.starts[x], relation.starts[x + 1]):
        one, all_words = relation.words[at]
        if is_kept[relation.others[at]] and one * more > less * all_words:
            found, less, more = relation.others[at], one, all_words
    return found, less, -more
