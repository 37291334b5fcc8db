"""Coverage of prompts by those that a reward model was trained on: clusters, gaps, distances."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from siftune.curate.judge_stats.intervals import Floats
from siftune.curate.vectors.kmeans import kmeans
from siftune.curate.vectors.unit_vectors import on_grid

__all__ = ["Cluster", "Coverage", "coverage_of", "nearest_similarity", "rare_by_chance"]

_LEVEL: Final = 0.05
_RATIO: Final = 0.5
_ROUNDS: Final = 30
_WORDS: Final = 5
_WORD: Final = re.compile(r"[^\W\d_]{3,}")


@dataclass(frozen=True)
class Cluster:
    """Prompts that resemble each other: how many of each set, and what they are about.

    ``is_gap``: the trained prompts have fewer of them than chance explains, and less than half of
    the share that the asked prompts have.
    """

    number: int
    trained: int
    asked: int
    chance: float
    is_gap: bool
    words: tuple[str, ...]
    examples: tuple[int, ...]  # numbers of asked prompts, the nearest to the centre first


@dataclass(frozen=True)
class Coverage:
    """Clusters, gaps first and then by size, and how alike each asked prompt is to a trained one.

    ``similarity`` (asked,) is the cosine to the nearest trained prompt, ``limit`` the 5 % quantile
    of the cosine of a trained prompt to the nearest other one: below it a prompt is ``far``.
    """

    clusters: tuple[Cluster, ...]
    of: Any  # (asked,) the cluster of each asked prompt
    similarity: Floats
    limit: float

    @property
    def far(self) -> Any:
        """Whether each asked prompt is farther from the trained ones than these from each other."""
        return self.similarity < self.limit

    @property
    def gaps(self) -> tuple[Cluster, ...]:
        """The clusters that the trained prompts lack."""
        return tuple(one for one in self.clusters if one.is_gap)


def coverage_of(
    trained: Floats,
    asked: Floats,
    texts: Sequence[str],
    clusters: int | None = None,
    examples: int = 3,
    seed: int = 0,
) -> Coverage:
    """Compare ``asked`` prompts (m, d) with the ``trained`` ones (n, d); ``texts`` are the asked.

    Both are clustered together (spherical k-means; by default √((n + m) / 2) clusters, at most 50).
    A cluster with k prompts, a of them trained, is a gap where so few trained ones are unlikely
    by chance: the hypergeometric probability of at most a among k is below 5 %, divided by the
    number of clusters (Bonferroni), and ``a / n`` is below half of ``(k - a) / m``.
    """
    n, m = len(trained), len(asked)
    units, _ = on_grid(np.concatenate([trained, asked]).astype(np.float64))
    count = min(n + m, clusters or max(2, min(50, round(math.sqrt((n + m) / 2)))))
    starts = np.random.default_rng(seed).permutation(n + m)[:count]
    cluster, centres = kmeans(units, starts, _ROUNDS)
    words = [frozenset(_WORD.findall(text.lower())) for text in texts]
    everywhere = Counter(word for own in words for word in own)
    found = []
    for number in range(count):
        inside = np.flatnonzero(cluster == number)
        own = inside[inside >= n] - n
        a, b = len(inside) - len(own), len(own)
        if not len(inside):
            continue
        chance = rare_by_chance(a, len(inside), n, m)
        near = own[np.argsort(-(units[own + n] @ centres[number]), kind="stable")]
        found.append(
            Cluster(
                number,
                a,
                b,
                chance,
                chance < _LEVEL / count and a / n < _RATIO * b / m,
                tuple(_telling([words[at] for at in own], everywhere, m)),
                tuple(near[:examples].tolist()),
            )
        )
    found.sort(key=lambda one: (not one.is_gap, -one.asked, one.number))
    similarity = nearest_similarity(units[n:], units[:n])
    return Coverage(
        tuple(found),
        cluster[n:],
        similarity,
        float(np.quantile(_nearest_other(units[:n]), _LEVEL)) if n > 1 else -1.0,
    )


def rare_by_chance(few: int, size: int, trained: int, asked: int) -> float:
    """Probability that of ``size`` prompts, drawn of all, at most ``few`` are trained ones.

    >>> round(rare_by_chance(0, 2, trained=2, asked=2), 4)  # 2/4 · 1/3: both are asked ones
    0.1667
    """
    whole = _log_choose(trained + asked, size)
    return math.fsum(
        math.exp(_log_choose(trained, at) + _log_choose(asked, size - at) - whole)
        for at in range(max(0, size - asked), min(few, trained, size) + 1)
    )


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def nearest_similarity(units: Floats, others: Floats) -> Floats:
    """The largest cosine of each of ``units`` with one of ``others``, in blocks."""
    blocks = [(part @ others.T).max(1) for part in _parts(units)]
    return np.concatenate(blocks).astype(float) if blocks else np.empty(0)


def _nearest_other(units: Floats) -> Floats:
    """The largest cosine of each of ``units`` with another one of them."""
    found, start = [], 0
    for part in _parts(units):
        near = part @ units.T
        near[np.arange(len(part)), np.arange(start, start + len(part))] = -2.0
        found.append(near.max(1))
        start += len(part)
    return np.concatenate(found).astype(float)


def _parts(units: Floats) -> Iterator[Floats]:
    for start in range(0, len(units), 1024):
        yield units[start : start + 1024]


def _telling(
    inside: Sequence[frozenset[str]], everywhere: Mapping[str, int], total: int
) -> Iterator[str]:
    """Words of most weight ``p log(p / q)``: p of the cluster's prompts have it, q of all."""
    counts = Counter(word for own in inside for word in own)
    weight = {
        word: -count / len(inside) * math.log(count / len(inside) / (everywhere[word] / total))
        for word, count in counts.items()
        if count > 1 and count * total > 2 * everywhere[word] * len(inside)
    }
    yield from sorted(weight, key=lambda word: (weight[word], word))[:_WORDS]
