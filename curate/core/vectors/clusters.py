"""Near neighbours among very many vectors: looked for in the nearest of some clusters only.

The clusters are faiss's, where `curate.core.vectors.kmeans` has its own: here they only say where
to look, and every cosine is checked; there they are the answer and depend on no thread or device.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from curate.core.dedup.cover import Cover
from curate.core.dedup.shingles import threads
from curate.core.errors import UsageError
from curate.core.heard import note
from curate.core.vectors.cosine import Ints, Pairs, Products, Vectors, cover_near, pairs_above

__all__ = ["cover_clustered"]

_BLOCK = 16_384
_SAMPLE = 8_000  # rows whose true neighbours are found, to know what share the clusters find
_ROUNDS = 4
_PROBES = 8  # to begin with: fewer cost as much, since the rows gather in fewer, larger products
_POINTS = 64  # vectors a cluster is trained on


def cover_clustered(
    units: Vectors, threshold: float, engine: Products, recall: float = 0.99, fixed: int = 0
) -> tuple[Cover, float]:
    """The cover rule among vectors in near clusters, best first; and the share of pairs found.

    A row is held against the kept rows of its nearest clusters: of as many (8, 16, 32, ...) as it
    takes for ``recall`` of the true pairs of a sample of rows, which are found by comparing with
    every row; less what a sample of that size may be off by (95 %). Each dropped row has its
    survivor as in `cover_vectors`; of the pairs that should not both survive, a share of about
    1 - recall may be missed. The first ``fixed`` rows stay. The share is also noted
    (`curate.core.heard`), with the numbers of clusters, of those looked into, and of pairs sampled.
    """
    clusters = _Clusters(units)
    later, earlier, _ = pairs_above(units, threshold, engine, _spread(len(units), _SAMPLE))
    probes, share = _probes(clusters, units, (later, earlier), recall)
    found = {"pair_recall": round(share, 4), "pairs_sampled": len(later)}
    note(clusters=clusters.count, probes=probes, **found)
    return _cover(units, clusters.nearest(units, probes), threshold, engine, fixed), share


def _probes(clusters: _Clusters, units: Vectors, pairs: Pairs, recall: float) -> tuple[int, float]:
    """How many clusters a row has to look into, and the share of the pairs that it then meets."""
    some, where = np.unique(np.concatenate(pairs), return_inverse=True)
    later, earlier = np.split(where, 2)

    def met(probes: int) -> float:
        nearest = clusters.nearest(units[some], probes)
        found = (nearest[later] == nearest[earlier, :1]).any(axis=1)
        return float(found.mean()) if len(found) else 1.0

    probes = min(_PROBES, clusters.count)
    while _surely(share := met(probes), len(later)) < recall and probes < clusters.count:
        probes = min(2 * probes, clusters.count)
    return probes, share


def _surely(share: float, count: int) -> float:
    """The least that a share may be, one time in twenty apart, where ``count`` cases say it is."""
    return share - 1.645 * math.sqrt(share * (1 - share) / max(1, count))


def _spread(count: int, wanted: int) -> Ints:
    """Row numbers evenly over all: rows are in rank order, which is no order of what they say."""
    return np.unique(np.linspace(0, count - 1, min(count, wanted)).astype(np.int64))


class _Clusters:
    """Spherical k-means on evenly taken vectors, and the nearest clusters of any, by faiss.

    On processors each call has one thread, and some run at once: the last bits of a product depend
    on how many threads BLAS shares it among, and so would what is decided. On the GPUs that the
    installed faiss can use, rows about as near to one cluster as to another may fall otherwise.
    """

    def __init__(self, units: Vectors) -> None:
        self._faiss = faiss = _faiss(len(units))
        self.count = max(1, int(len(units) ** 0.5))
        self._gpus = faiss.get_num_gpus()
        self._kmeans = faiss.Kmeans(
            units.shape[1],
            self.count,
            niter=_ROUNDS,
            spherical=True,
            seed=0,
            min_points_per_centroid=1,
            max_points_per_centroid=_POINTS,
            gpu=self._gpus,  # how many; 0 is none
        )
        points = units[_spread(len(units), self.count * _POINTS)]
        with self._workers() as one:
            one.submit(self._kmeans.train, points).result()

    def nearest(self, units: Vectors, wanted: int) -> Ints:
        """The nearest clusters of each vector (n, wanted), the nearest first."""
        found = np.empty((len(units), wanted), np.int64)

        def look(start: int) -> None:
            some = slice(start, start + _BLOCK)
            _, found[some] = self._kmeans.index.search(units[some], wanted)

        with self._workers() as several:
            list(several.map(look, range(0, len(units), _BLOCK)))
        return found

    def _workers(self) -> ThreadPoolExecutor:
        """Threads in each of which faiss uses no other; one for GPUs: one call at a time there."""
        alone = self._faiss.omp_set_num_threads  # holds in the thread that calls it
        return ThreadPoolExecutor(1 if self._gpus else threads(), initializer=alone, initargs=(1,))


def _faiss(rows: int) -> Any:
    try:
        import faiss
    except ModuleNotFoundError:
        raise UsageError(
            f"looking in clusters of {rows:,} rows needs faiss: pip install 'siftune[embed]' (or "
            f"'siftune[gpu]'), or set exact_to to {rows} or more"
        ) from None
    return faiss


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
