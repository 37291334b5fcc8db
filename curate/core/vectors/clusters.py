"""Near neighbours among very many vectors: looked for in the nearest of some clusters only."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from curate.core.dedup.cover import Cover
from curate.core.heard import note
from curate.core.vectors.cosine import Ints, Pairs, Products, Vectors, cover_near, pairs_above
from curate.core.vectors.multiply import Columns

__all__ = ["cover_clustered"]

_BLOCK = 16_384
_SAMPLE = 8_000  # rows whose true neighbours are found, to know what share the clusters find
_ROUNDS = 4
_POINTS = 64  # vectors a cluster is trained on


def cover_clustered(
    units: Vectors, threshold: float, engine: Products, recall: float = 0.99, fixed: int = 0
) -> tuple[Cover, float]:
    """The cover rule among vectors in near clusters, best first; and the share of pairs found.

    A row is held against the kept rows of its nearest clusters: of as many (2, 4, 8, ...) as it
    takes for ``recall`` of the true pairs of a sample of rows, which are found by comparing with
    every row; less what a sample of that size may be off by (95 %). Each dropped row has its
    survivor as in `cover_vectors`; of the pairs that should not both survive, a share of about
    1 - recall may be missed. The first ``fixed`` rows stay. The share is also noted
    (`curate.core.heard`), with the numbers of clusters, of those looked into, and of pairs sampled.
    """
    centres = _centres(units, max(1, int(len(units) ** 0.5)))
    later, earlier, _ = pairs_above(units, threshold, engine, _spread(len(units), _SAMPLE))
    probes, share = 1, 0.0
    while _surely(share, len(later)) < recall and probes < len(centres):
        probes = min(2 * probes, len(centres))
        nearest = _nearest(units, centres, probes)
        met = (nearest[later] == nearest[earlier, :1]).any(axis=1)
        share = float(met.mean()) if len(met) else 1.0
    note(clusters=len(centres), probes=probes, pair_recall=round(share, 4), pairs_sampled=len(met))
    return _cover(units, nearest, threshold, engine, fixed), share


def _surely(share: float, count: int) -> float:
    """The least that a share may be, one time in twenty apart, where ``count`` cases say it is."""
    return share - 1.645 * math.sqrt(share * (1 - share) / max(1, count))


def _spread(count: int, wanted: int) -> Ints:
    """Row numbers evenly over all: rows are in rank order, which is no order of what they say."""
    return np.unique(np.linspace(0, count - 1, min(count, wanted)).astype(np.int64))


def _centres(units: Vectors, count: int) -> Vectors:
    """Unit centres by a few rounds of spherical k-means on evenly taken vectors."""
    points = units[_spread(len(units), count * _POINTS)]
    centres = points[_spread(len(points), count)]
    for _ in range(_ROUNDS):
        home = _nearest(points, centres, 1)[:, 0]
        by_home = np.argsort(home, kind="stable")
        starts = np.searchsorted(home[by_home], np.arange(len(centres)))
        alone = np.diff(np.append(starts, len(home))) == 0
        sums = np.add.reduceat(points[by_home], np.minimum(starts, len(points) - 1), axis=0)
        sums[alone] = centres[alone]
        lengths = np.linalg.norm(sums, axis=1, keepdims=True)
        centres = np.where(lengths > 0, sums / np.maximum(lengths, 1e-12), centres)
    return centres


def _nearest(units: Vectors, centres: Vectors, probes: int) -> Ints:
    """The nearest centres of each vector, the nearest first."""
    found, columns = np.empty((len(units), probes), np.int64), Columns(centres)
    for start in range(0, len(units), _BLOCK):
        near = columns.of(units[start : start + _BLOCK])
        some = np.argpartition(-near, probes - 1, axis=1)[:, :probes]
        order = np.argsort(-np.take_along_axis(near, some, axis=1), axis=1, kind="stable")
        found[start : start + _BLOCK] = np.take_along_axis(some, order, axis=1)
    return found


def _cover(units: Vectors, nearest: Ints, threshold: float, engine: Products, fixed: int) -> Cover:
    held = engine.hold(units)
    by_home = np.argsort(nearest[:, 0], kind="stable")
    edges = np.searchsorted(nearest[by_home, 0], np.arange(nearest.max() + 2))

    def near(start: int, stop: int, survivor: Ints) -> Iterator[Pairs]:
        rows, columns = [], []
        for cluster, asking in _groups(nearest[start:stop]):
            members = by_home[edges[cluster] : edges[cluster + 1]]
            members = members[: np.searchsorted(members, stop)]
            members = members[survivor[members] < 0]
            row, column = engine.close(held[asking + start], held[members], threshold)
            rows.append(asking[row] + start)
            columns.append(members[column])
        left, right = np.concatenate(rows), np.concatenate(columns)
        left, right = left[right < left], right[right < left]
        order = np.argsort(left, kind="stable")
        yield left[order], right[order]

    return cover_near(units, threshold, near, _BLOCK, fixed)


def _groups(nearest: Ints) -> Iterator[tuple[int, Ints]]:
    """Each cluster that some row looks into, and those rows."""
    asked = nearest.ravel()
    order = np.argsort(asked, kind="stable")
    clusters, starts = np.unique(asked[order], return_index=True)
    for cluster, rows in zip(clusters.tolist(), np.split(order, starts[1:]), strict=True):
        yield cluster, rows // nearest.shape[1]
