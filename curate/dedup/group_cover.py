"""The cover rule per group of candidates: texts of different groups are no near-duplicates.

In a small group each text is compared with the kept texts of the group, nearly always one. Larger
groups are compared by keys (`set_cover`).
"""

from __future__ import annotations

from fractions import Fraction
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from siftune.curate.comparing.shingle_sets import Sets, sets_of, shared
from siftune.curate.comparing.shingles import Hashes, Offsets, ShingleSource
from siftune.curate.dedup.cover_rule import Cover
from siftune.curate.dedup.prefix_filter import prefix_keys
from siftune.curate.dedup.row_guard import allows
from siftune.curate.dedup.row_relation import ANY_PAIR, Relation, whole_of
from siftune.curate.dedup.set_cover import cover_sets
from siftune.curate.native.arrays import longest
from siftune.curate.native.jit import compiled

__all__ = ["cover_groups"]

Ints: TypeAlias = npt.NDArray[np.int64]
_Int: TypeAlias = int | np.int64  # in compiled code they are the same
_FEW = 32


def cover_groups(
    texts: ShingleSource,
    rows: Ints,
    group: Ints,
    order: Ints,
    fixed: int,
    threshold: Fraction,
    few: int = _FEW,
    relation: Relation = ANY_PAIR,
) -> Cover:
    """Apply the cover rule to some texts at a Jaccard similarity of ``threshold``.

    Args:
        texts: the source of the shingles.
        rows: numbers of the texts to compare.
        group: of each of these; only texts of one group can reach the threshold.
        order: positions in ``rows``, best first.
        fixed: the first ``fixed`` of ``order`` are always kept: reference rows.
        threshold: inclusive.
        few: largest group in which each text is compared with all.
        relation: which pairs may be near-duplicates, by positions in ``rows``, and which are.
    """
    small = np.bincount(group, minlength=1)[group] <= few
    cover = Cover(np.full(len(rows), -1), np.full(len(rows), np.nan), np.full(len(rows), -1))
    for some, rule in ((small, _cover_few), (~small, _cover_many)):
        positions = np.flatnonzero(some)
        if len(positions) == 0:
            continue
        among = np.full(len(rows), -1)
        among[positions] = np.arange(len(positions))
        fixed_here = int(some[order[:fixed]].sum())
        sets = sets_of(texts, rows[positions])
        here = relation.of(positions, among)
        found = rule(sets, group[positions], among[order[some[order]]], fixed_here, threshold, here)
        covered = found.survivor >= 0
        cover.survivor[positions[covered]] = positions[found.survivor[covered]]
        cover.similarity[positions[covered]] = found.similarity[covered]
        guarded = found.guarded >= 0
        cover.guarded[positions[guarded]] = positions[found.guarded[guarded]]
    return cover


def _cover_many(
    sets: Sets, _: Ints, order: Ints, fixed: int, threshold: Fraction, relation: Relation
) -> Cover:
    return cover_sets(*prefix_keys(sets, threshold), order, fixed, threshold, relation)


def _cover_few(
    sets: Sets, group: Ints, order: Ints, fixed: int, threshold: Fraction, relation: Relation
) -> Cover:
    is_fixed = np.zeros(len(order), np.bool_)
    is_fixed[order[:fixed]] = True
    members = order[np.argsort(group[order], kind="stable")]
    starts = np.flatnonzero(np.diff(group[members], prepend=-1, append=-1))
    survivor, common, union, guarded = _within_groups(
        sets.values,
        sets.offsets,
        members,
        starts,
        is_fixed,
        threshold.numerator,
        threshold.denominator,
        relation,
    )
    return Cover(survivor, np.where(survivor >= 0, common / union, np.nan), guarded)


@compiled()
def _within_groups(
    values: Hashes,
    offsets: Offsets,
    members: Ints,
    starts: Ints,
    is_fixed: npt.NDArray[np.bool_],
    up: _Int,
    down: _Int,
    relation: Relation,
) -> tuple[Ints, Ints, Ints, Ints]:
    """Survivor, intersection, union of each, and what the guard refused; ``members`` best first."""
    is_kept = np.zeros(len(members), np.bool_)
    survivor, guarded = np.full(len(members), -1, np.int64), np.full(len(members), -1, np.int64)
    common, union = np.zeros(len(members), np.int64), np.ones(len(members), np.int64)
    kept = np.empty(longest(starts), np.int64)
    for i in range(len(starts) - 1):
        count = 0
        for x in members[starts[i] : starts[i + 1]]:
            for y in kept[: 0 if is_fixed[x] else count]:
                both = offsets[x + 1] - offsets[x] + offsets[y + 1] - offsets[y]
                nearest = common[x] + union[x]
                needed = max(
                    (up * both + up + down - 1) // (up + down),
                    (common[x] * both + nearest - 1) // nearest,
                )
                found = shared(
                    values, offsets[x], offsets[x + 1], offsets[y], offsets[y + 1], needed
                )
                nearer = found >= 0 and found * union[x] > common[x] * (both - found)
                if nearer and allows(relation.guard, relation.rows[x], relation.rows[y]):
                    survivor[x], common[x], union[x] = y, found, both - found
                elif nearer:
                    guarded[x] = y
            if survivor[x] < 0 and not is_fixed[x]:
                survivor[x], common[x], union[x] = whole_of(relation, x, is_kept)
            if survivor[x] < 0:
                is_kept[x] = True
                kept[count] = x
                count += 1
            else:
                guarded[x] = -1
    return survivor, common, union, guarded
