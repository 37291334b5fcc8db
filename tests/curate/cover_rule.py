"""The cover rule as it is stated, in plain Python: what every faster way is held to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction

import numpy as np

from siftune.curate.dedup.cover_rule import Cover

Pairs = Mapping[tuple[int, int], Fraction | float]
"""How similar rows are, both ways round; what is not there is below the threshold."""


def slow_cover(pairs: Pairs, order: Sequence[int], fixed: int = 0) -> dict[int, tuple[int, float]]:
    """The rule as it is stated: dropped row -> survivor and similarity."""
    kept: list[int] = []
    covered: dict[int, tuple[int, float]] = {}
    for place, row in enumerate(order):
        near = [(pairs[row, other], -rank, other) for rank, other in enumerate(kept)
                if (row, other) in pairs]  # fmt: skip
        if near and place >= fixed:
            similarity, _, survivor = max(near)
            covered[row] = (survivor, float(similarity))
        else:
            kept.append(row)
    return covered


def as_dict(cover: Cover) -> dict[int, tuple[int, float]]:
    rows = np.flatnonzero(cover.survivor >= 0).tolist()
    return {row: (int(cover.survivor[row]), float(cover.similarity[row])) for row in rows}
