"""Near neighbours among very many vectors: looked for in the nearest of some clusters only.

The clusters are faiss's, where `vectors.kmeans` has its own: here they only say where
to look, and every cosine is checked; there they are the answer and depend on no thread or device.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
from scipy.special import betaincinv

from siftune.curate.core.errors import UsageError
from siftune.curate.core.progress import log_metrics
from siftune.curate.dedup.cover_rule import Cover
from siftune.curate.native.threads import threads
from siftune.curate.vectors.cosine_neighbors import (
    Ints,
    Pairs,
    Products,
    Vectors,
    cover_near,
    cover_vectors,
    some_pairs_above,
)

__all__ = ["cover_clustered"]

_BLOCK = 16_384
_PRODUCTS = 2**24  # at a time
_PAIRS = 2**22  # of one block that are held at a time
_PART = 2_000  # rows whose true neighbours are found, to know what share the clusters find
_SAMPLE = 8_000  # of them, or
_SHARE = 8  # one in so many, at most
_ROUNDS = 4
_PROBES = 8  # to begin with: fewer cost as much, since the rows gather in fewer, larger products
_POINTS = 64  # vectors a cluster is trained on


def cover_clustered(
    units: Vectors, threshold: float, engine: Products, recall: float = 0.99, fixed: int = 0
) -> tuple[Cover, float]:
    """The cover rule among vectors in near clusters, best first; and the share of pairs found.

    A row is held against the kept rows of its nearest clusters: of as many (8, 16, 32, ...) as it
    takes for ``recall`` of the true pairs of a sample of rows, which are found by comparing with
    every row. The sample grows until its least share is known (see `_surely`); where pairs are too
    rare for that, or too many clusters would be looked into, every row is held against all before.
    Each dropped row has its survivor as in `cover_vectors`; of the pairs that should not both
    survive, a share of about 1 - recall may be missed. The first ``fixed`` rows stay. The share is
    also noted (`core.progress`), with the numbers of clusters, of those looked into, and of
    pairs sampled.
    """
    clusters, held = _Clusters(units), engine.hold(units)
    nearest = clusters.nearest(units, min(_PROBES, clusters.count))
    sample = _Sample(len(units), clusters.count)
    probes = sample.enough(recall)
    while probes is None and sample.can_grow():
        rows = sample.next()
        among = clusters.nearest(units[rows], clusters.count)
        pairs = some_pairs_above(units, threshold, engine, held, rows)
        sample.add(rows, among, ((later, nearest[earlier, 0]) for later, earlier, _ in pairs))
        probes = sample.enough(recall)
    probes = probes or clusters.count
    share = sample.share(probes)
    told = {"probes": probes, "pairs_sampled": sample.pairs, "pair_recall": round(share, 4)}
    log_metrics(clusters=clusters.count, **told)
    if probes == clusters.count:
        return cover_vectors(units, threshold, engine, fixed), share
    if probes > nearest.shape[1]:
        nearest = clusters.nearest(units, probes)
    return _cover(units, held, nearest, threshold, engine, fixed), share


class _Sample:
    """Rows drawn to learn what share of the near pairs is met in a row's nearest clusters."""

    def __init__(self, height: int, clusters: int) -> None:
        self._order = np.random.default_rng(0).permutation(height)
        self._drawn = 0
        self._most = min(height, max(_SAMPLE, height // _SHARE))
        self._ranks = np.zeros(clusters, np.int64)  # pairs by how near the other's cluster is
        self._rows = 0

    @property
    def pairs(self) -> int:
        """Pairs of the rows so far."""
        return int(self._ranks.sum())

    def can_grow(self) -> bool:
        """Whether more rows may be drawn: beyond, comparing all with all costs little more."""
        return self._drawn < self._most

    def next(self) -> Ints:
        """The next rows, ascending."""
        rows = self._order[self._drawn : min(self._drawn + _PART, self._most)]
        self._drawn += len(rows)
        return np.sort(rows)

    def add(self, rows: Ints, among: Ints, pairs: Iterable[Pairs]) -> None:
        """Count the pairs of ``rows``, whose clusters by nearness are ``among``.

        Of each pair, the later row, and the cluster that the earlier one belongs to.
        """
        rank = np.empty(among.shape, np.int32)
        np.put_along_axis(rank, among, np.arange(among.shape[1], dtype=np.int32)[None], axis=1)
        paired = np.zeros(len(rows), np.bool_)
        for later, homes in pairs:
            at = np.searchsorted(rows, later)
            self._ranks += np.bincount(rank[at, homes], minlength=len(self._ranks))
            paired[at] = True  # a row has pairs in several products, and is one row
        self._rows += int(paired.sum())

    def share(self, probes: int) -> float:
        """Of the pairs so far, the share that is met by looking into so many clusters."""
        return float(self._ranks[:probes].sum() / self.pairs) if self.pairs else 1.0

    def enough(self, recall: float) -> int | None:
        """The fewest clusters for ``recall``, at most a quarter of all; None: not known yet."""
        whole = self._drawn == len(self._order)
        probes = _PROBES
        while 4 * probes <= len(self._ranks):
            share = self.share(probes)
            if (share if whole else _surely(share, self._rows)) >= recall:
                return probes
            probes *= 2
        return None


def _surely(share: float, count: int) -> float:
    """The least that a share may be, one time in twenty apart (Clopper and Pearson 1934).

    ``count`` is of rows that have pairs: those of one row are found together or not.
    """
    if not count:
        return 0.0
    return float(betaincinv(share * count, (1 - share) * count + 1, 0.05)) if share else 0.0


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
        # Rows are in rank order, which is no order of what they say: evenly taken is well mixed.
        wanted = min(len(units), self.count * _POINTS)
        points = units[np.linspace(0, len(units) - 1, wanted).astype(np.int64)]
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


def _cover(
    units: Vectors, held: Any, nearest: Ints, threshold: float, engine: Products, fixed: int
) -> Cover:
    by_home = np.argsort(nearest[:, 0], kind="stable")
    edges = np.searchsorted(nearest[by_home, 0], np.arange(nearest.max() + 2))

    def close(rows: slice, since: int, before: int, survivor: Ints) -> Iterator[Pairs]:
        """Pairs of the rows with those from ``since`` up to ``before`` that are not dropped."""
        for cluster, asking in _groups(nearest[rows]):
            members = by_home[edges[cluster] : edges[cluster + 1]]
            members = members[slice(*np.searchsorted(members, (since, before)))]
            members = members[survivor[members] < 0]
            step = max(1, _PRODUCTS // max(1, len(members)))
            for start in range(0, len(asking) if len(members) else 0, step):
                some = asking[start : start + step] + rows.start
                row, column = engine.close(held[some], held[members], threshold)
                if len(row):
                    yield some[row], members[column]

    def within(start: int, stop: int, survivor: Ints) -> Iterator[Pairs]:
        found, count = [(np.empty(0, np.int64),) * 2], 0
        for left, right in close(slice(start, stop), start, stop, survivor):
            found.append((left[right < left], right[right < left]))
            count += len(found[-1][0])
            if count > _PAIRS and stop - start > 1:  # in halves: much of the second is gone then
                middle = (start + stop) // 2
                yield from within(start, middle, survivor)
                yield from after(start, middle, stop, survivor)
                return
        left, right = map(np.concatenate, zip(*found, strict=True))
        order = np.argsort(left, kind="stable")
        yield left[order], right[order]

    def after(since: int, start: int, stop: int, survivor: Ints) -> Iterator[Pairs]:
        """Pairs with rows from ``since`` on: those before the block are settled first."""
        yield from close(slice(start, stop), since, start, survivor)
        yield from within(start, stop, survivor)

    return cover_near(units, threshold, partial(after, 0), _BLOCK, fixed)


def _groups(nearest: Ints) -> Iterator[tuple[int, Ints]]:
    """Each cluster that some row looks into, and those rows."""
    asked = nearest.ravel()
    order = np.argsort(asked, kind="stable")
    clusters, starts = np.unique(asked[order], return_index=True)
    for cluster, rows in zip(clusters.tolist(), np.split(order, starts[1:]), strict=True):
        yield cluster, rows // nearest.shape[1]
