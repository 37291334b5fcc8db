"""Approximate near neighbours by an inverted file (IVF): only near clusters are searched.

The clusters are those of faiss: they only restrict the search, and every cosine is exact. Those of
`vectors.kmeans` are a result and depend on no thread or device.
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
from siftune.curate.native.jit import threads
from siftune.curate.vectors.cosine_neighbors import (
    Allowed,
    Ints,
    Near,
    Pairs,
    Products,
    Vectors,
    cover_near,
    cover_vectors,
    some_pairs_above,
)

__all__ = ["cover_clustered"]

_BLOCK = 16_384
_PRODUCTS = 2**24  # computed at a time
_PAIRS = 2**22  # of one block that are stored at a time
_PART = 2_000  # rows per step of the sample whose true neighbours are found
_SAMPLE = 8_000  # largest sample, or
_SHARE = 8  # one row in so many
_ROUNDS = 4
_PROBES = 8  # at first: fewer cost as much, since rows share fewer, larger products
_POINTS = 64  # vectors a cluster is trained on


def cover_clustered(
    units: Vectors,
    threshold: float,
    engine: Products,
    recall: float = 0.99,
    fixed: int = 0,
    allowed: Allowed | None = None,
) -> tuple[Cover, float]:
    """The cover rule among vectors in near clusters, best first; and the recall of pairs.

    A row is compared with the kept rows of its nearest clusters: of as many (8, 16, 32, ...) as
    give ``recall`` of the true pairs of a sample of rows, which are found by comparing with every
    row. The sample grows until the lower confidence bound is high enough (`_lower_bound`); if pairs
    are too rare, or too many clusters would be probed, every row is compared with all before it.
    Each dropped row has its survivor as in `cover_vectors`; of the pairs that should not both
    survive, a share of about 1 - recall may be missed. The first ``fixed`` rows are always kept.
    Pairs that are not ``allowed`` are no near-duplicates.
    The recall is also logged (`core.progress`), with the numbers of clusters, of probed clusters
    and of sampled pairs.
    """
    clusters, converted = _Clusters(units), engine.convert(units)
    nearest = clusters.nearest(units, min(_PROBES, clusters.count))
    sample = _Sample(len(units), clusters.count)
    probes = sample.enough(recall)
    while probes is None and sample.can_grow():
        rows = sample.next()
        among = clusters.nearest(units[rows], clusters.count)
        pairs = some_pairs_above(units, threshold, engine, converted, rows)
        sample.add(rows, among, ((later, nearest[earlier, 0]) for later, earlier, _ in pairs))
        probes = sample.enough(recall)
    probes = probes or clusters.count
    share = sample.share(probes)
    facts = {"probes": probes, "pairs_sampled": sample.pairs, "pair_recall": round(share, 4)}
    log_metrics(clusters=clusters.count, **facts)
    if probes == clusters.count:
        return cover_vectors(units, threshold, engine, fixed, allowed), share
    if probes > nearest.shape[1]:
        nearest = clusters.nearest(units, probes)
    near = _near(converted, nearest, threshold, engine)
    return cover_near(units, threshold, near, _BLOCK, fixed, allowed), share


class _Sample:
    """Sample of rows to estimate the share of near pairs in a row's nearest clusters."""

    def __init__(self, height: int, clusters: int) -> None:
        self._order = np.random.default_rng(0).permutation(height)
        self._drawn = 0
        self._most = min(height, max(_SAMPLE, height // _SHARE))
        self._ranks = np.zeros(clusters, np.int64)  # pairs by rank of the other row's cluster
        self._rows = 0

    @property
    def pairs(self) -> int:
        """Number of pairs so far."""
        return int(self._ranks.sum())

    def can_grow(self) -> bool:
        """Whether more rows may be drawn; beyond, comparing all rows costs little more."""
        return self._drawn < self._most

    def next(self) -> Ints:
        """The next rows, ascending."""
        rows = self._order[self._drawn : min(self._drawn + _PART, self._most)]
        self._drawn += len(rows)
        return np.sort(rows)

    def add(self, rows: Ints, among: Ints, pairs: Iterable[Pairs]) -> None:
        """Count the pairs of ``rows``, whose clusters in order of distance are ``among``.

        A pair is the later row and the cluster of the earlier row.
        """
        rank = np.empty(among.shape, np.int32)
        np.put_along_axis(rank, among, np.arange(among.shape[1], dtype=np.int32)[None], axis=1)
        paired = np.zeros(len(rows), np.bool_)
        for later, homes in pairs:
            at = np.searchsorted(rows, later)
            self._ranks += np.bincount(rank[at, homes], minlength=len(self._ranks))
            paired[at] = True  # counted once for pairs in several products
        self._rows += int(paired.sum())

    def share(self, probes: int) -> float:
        """Share of the pairs so far that are found in the ``probes`` nearest clusters."""
        return float(self._ranks[:probes].sum() / self.pairs) if self.pairs else 1.0

    def enough(self, recall: float) -> int | None:
        """The fewest probes for ``recall``, up to a quarter of all; None if not known yet."""
        whole = self._drawn == len(self._order)
        probes = _PROBES
        while 4 * probes <= len(self._ranks):
            share = self.share(probes)
            if (share if whole else _lower_bound(share, self._rows)) >= recall:
                return probes
            probes *= 2
        return None


def _lower_bound(share: float, count: int) -> float:
    """Lower 95 % confidence bound of a share (Clopper and Pearson 1934).

    ``count`` is the number of rows that have pairs: the pairs of one row are not independent.
    """
    if not count:
        return 0.0
    return float(betaincinv(share * count, (1 - share) * count + 1, 0.05)) if share else 0.0


class _Clusters:
    """Spherical k-means on evenly spaced vectors, and the nearest clusters of any vector, by faiss.

    On CPUs each call has one thread, and several run at once: the last bits of a BLAS product
    depend on its number of threads, and so would the result. On GPUs that the installed faiss can
    use, rows about equally near to two clusters may be assigned differently.
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
        # Rows are in rank order, which is unrelated to content: evenly spaced rows are well mixed.
        wanted = min(len(units), self.count * _POINTS)
        points = units[np.linspace(0, len(units) - 1, wanted).astype(np.int64)]
        with self._workers() as one:
            one.submit(self._kmeans.train, points).result()

    def nearest(self, units: Vectors, wanted: int) -> Ints:
        """The nearest clusters of each vector (n, wanted), the nearest first."""
        found = np.empty((len(units), wanted), np.int64)

        def search(start: int) -> None:
            some = slice(start, start + _BLOCK)
            _, found[some] = self._kmeans.index.search(units[some], wanted)

        with self._workers() as several:
            list(several.map(search, range(0, len(units), _BLOCK)))
        return found

    def _workers(self) -> ThreadPoolExecutor:
        """Threads in which faiss uses one thread; a single one for GPUs: one call at a time."""
        alone = self._faiss.omp_set_num_threads  # holds in the thread that calls it
        return ThreadPoolExecutor(1 if self._gpus else threads(), initializer=alone, initargs=(1,))


def _faiss(rows: int) -> Any:
    try:
        import faiss
    except ModuleNotFoundError:
        raise UsageError(
            f"a search in clusters of {rows:,} rows needs faiss: pip install 'siftune[embed]' (or "
            f"'siftune[gpu]'), or set exact_to to {rows} or more"
        ) from None
    return faiss


def _near(converted: Any, nearest: Ints, threshold: float, engine: Products) -> Near:
    """The pairs in near clusters."""
    by_home = np.argsort(nearest[:, 0], kind="stable")
    edges = np.searchsorted(nearest[by_home, 0], np.arange(nearest.max() + 2))

    def close(rows: slice, since: int, before: int, survivor: Ints) -> Iterator[Pairs]:
        """Pairs of the rows with rows from ``since`` up to ``before`` that are not dropped."""
        for cluster, asking in _groups(nearest[rows]):
            members = by_home[edges[cluster] : edges[cluster + 1]]
            members = members[slice(*np.searchsorted(members, (since, before)))]
            members = members[survivor[members] < 0]
            step = max(1, _PRODUCTS // max(1, len(members)))
            for start in range(0, len(asking) if len(members) else 0, step):
                some = asking[start : start + step] + rows.start
                row, column = engine.candidates(converted[some], converted[members], threshold)
                if len(row):
                    yield some[row], members[column]

    def within(start: int, stop: int, survivor: Ints) -> Iterator[Pairs]:
        found, count = [(np.empty(0, np.int64),) * 2], 0
        for left, right in close(slice(start, stop), start, stop, survivor):
            found.append((left[right < left], right[right < left]))
            count += len(found[-1][0])
            if (
                count > _PAIRS and stop - start > 1
            ):  # in halves: much of the second is dropped by then
                middle = (start + stop) // 2
                yield from within(start, middle, survivor)
                yield from after(start, middle, stop, survivor)
                return
        left, right = map(np.concatenate, zip(*found, strict=True))
        order = np.argsort(left, kind="stable")
        yield left[order], right[order]

    def after(since: int, start: int, stop: int, survivor: Ints) -> Iterator[Pairs]:
        """Pairs with rows from ``since`` on: those before the block first."""
        yield from close(slice(start, stop), since, start, survivor)
        yield from within(start, stop, survivor)

    return partial(after, 0)


def _groups(nearest: Ints) -> Iterator[tuple[int, Ints]]:
    """Each probed cluster, and the rows that probe it."""
    asked = nearest.ravel()
    order = np.argsort(asked, kind="stable")
    clusters, starts = np.unique(asked[order], return_index=True)
    for cluster, rows in zip(clusters.tolist(), np.split(order, starts[1:]), strict=True):
        yield cluster, rows // nearest.shape[1]
