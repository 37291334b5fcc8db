"""Held-out log-odds of preference labels: how likely each label is, judged by the other pairs.

Two stages. The first is a logistic regression on the difference of both answers' features, fitted
to the pairs of other prompts. The second is a Gaussian process within each prompt, whose mean is
the first stage: pairs that share answers, or have similar ones, inform each other. What a pair is
given does not depend on its own label, nor on that of a copy of it, but for four numbers that are
chosen on all pairs: a penalty and three strengths.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np

from siftune.curate.judge_stats.intervals import Floats

__all__ = ["FOLDS", "Blocks", "Ints", "Pairs", "beyond_length", "held_out_log_odds"]

Ints: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]

FOLDS: Final = 5
_PENALTIES: Final = (1e-2, 1e-3, 1e-4)
_LONGEST: Final = 30.0  # log-odds; larger ones are the same to a double
_LARGEST: Final = 128  # pairs of a prompt that are looked at together; time is cubic in it
_TUNED_ON: Final = 4_000  # pairs
_STEPS: Final = (0.5, 1.4, 1.4)  # of the search, in logarithms
_START: Final = (0.0, 0.0, -1.0)
_BOUND: Final = 7.0


@dataclass(frozen=True)
class Blocks:
    """Features of answers: ``style`` (answers, features), and ``words``, sparse; each scaled."""

    style: Floats
    words: Any

    def difference(self, first: Ints, second: Ints) -> Any:
        """Sparse features of ``first`` less those of ``second``."""
        from scipy.sparse import csr_matrix, hstack

        style = csr_matrix(self.style[first] - self.style[second])
        return hstack([style, self.words[first] - self.words[second]]).tocsr()


@dataclass(frozen=True)
class Pairs:
    """Pairs as numbers of answers; the first one is labelled better.

    ``prompt`` (numbers from 0) and ``fold`` are of each pair; pairs of equal ``copy`` are the same
    pair, in either order.
    """

    better: Ints
    worse: Ints
    prompt: Ints
    fold: Ints
    copy: Ints


def held_out_log_odds(pairs: Pairs, blocks: Blocks, *, within: bool = True) -> Floats:
    """Log-odds of each label, from a fit without it.

    The penalty of the first stage, its scale in the second and the strength of both kernels are
    those with the smallest log-loss on labels that were left out.
    """
    mean = _cross_fitted(pairs, blocks)
    if not within:
        return mean
    groups = list(_groups(pairs))
    if not groups:
        return mean
    tuned = _Within(pairs, blocks, _subset(groups))
    tuned.keep_kernels()
    return _Within(pairs, blocks, groups).log_odds(mean, _tune(tuned, mean))


def beyond_length(log_odds: Floats, gap: Floats) -> Floats:
    """Log-odds less what the difference of lengths predicts of them, by least squares.

    On ``gap``, the log of the chosen answer's length over the rejected one's, and its tanh at two
    scales, so that it may level off. What is left compares pairs of one difference with each other.
    """
    basis = np.stack([np.ones(len(gap)), gap, np.tanh(gap), np.tanh(3 * gap)], 1)
    fitted, *_ = np.linalg.lstsq(basis, log_odds, rcond=None)
    rest: Floats = log_odds - (basis * fitted).sum(1)
    return rest


def _cross_fitted(pairs: Pairs, blocks: Blocks) -> Floats:
    """The first stage's log-odds of each pair, from the folds without its prompt."""
    x = blocks.difference(pairs.better, pairs.worse)
    made = {penalty: np.zeros(x.shape[0]) for penalty in _PENALTIES}
    for one in range(FOLDS):
        out = pairs.fold == one
        at = np.zeros(x.shape[1])
        for penalty in _PENALTIES:  # the strongest first: each starts where the last one ended
            at = _logistic(x[~out], penalty, at)
            made[penalty][out] = x[out] @ at
    losses = [float(np.logaddexp(0, -made[one]).sum()) for one in _PENALTIES]
    return made[_PENALTIES[int(np.argmin(losses))]]


def _logistic(x: Any, penalty: float, start: Floats) -> Floats:
    from scipy.optimize import minimize

    def loss(at: Floats) -> tuple[float, Floats]:
        raw = x @ at
        wrong = 1 / (1 + np.exp(np.clip(raw, -_LONGEST, _LONGEST)))
        value = float(np.logaddexp(0, -raw).mean() + penalty / 2 * at @ at)
        return value, -(x.T @ wrong) / len(raw) + penalty * at

    found: Floats = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 80}).x
    return found


def _groups(pairs: Pairs) -> Iterator[Ints]:
    """Places of the pairs of each prompt with several pairs, in parts of a bounded size."""
    order = np.argsort(pairs.prompt, kind="stable")
    cuts = np.flatnonzero(np.diff(pairs.prompt[order])) + 1
    for one in np.split(order, cuts):
        for part in np.array_split(one, -(-len(one) // _LARGEST)):
            if len(np.unique(pairs.copy[part])) > 1:
                yield part


def _subset(groups: Sequence[Ints]) -> list[Ints]:
    """Some of the groups, spread evenly, with enough pairs to choose the strengths by."""
    total = sum(map(len, groups))
    step = max(1, -(-total // _TUNED_ON))
    return list(groups[::step])


class _Within:
    """The second stage on groups of pairs."""

    def __init__(self, pairs: Pairs, blocks: Blocks, groups: Sequence[Ints]) -> None:
        self._groups = groups
        self._copies = [_copies(pairs.copy[at]) for at in groups]
        self._pairs, self._blocks = pairs, blocks
        self._kept: list[tuple[Floats, Floats]] = []

    def keep_kernels(self) -> None:
        """Hold the products of all groups in memory, for a search."""
        self._kept = list(map(self._kernels, self._groups))

    def log_odds(self, mean: Floats, strengths: Sequence[float]) -> Floats:
        """Log-odds of every pair; of one that is in no group, the scaled first stage's."""
        scale, *kernels = np.exp(strengths)
        found: Floats = scale * mean
        products = self._kept or map(self._kernels, self._groups)
        for at, copies, made in zip(self._groups, self._copies, products, strict=True):
            words, style = made
            found[at] = _left_out(scale * mean[at], kernels[0] * words + kernels[1] * style, copies)
        return found

    def loss(self, mean: Floats, strengths: Sequence[float]) -> float:
        """Mean log-loss of the labels in the groups."""
        rows = np.concatenate(self._groups)
        return float(np.logaddexp(0, -self.log_odds(mean, strengths)[rows]).mean())

    def _kernels(self, at: Ints) -> tuple[Floats, Floats]:
        """Products of the pairs' differences, of words and of style."""
        better, worse = self._pairs.better[at], self._pairs.worse[at]
        words = self._blocks.words[better] - self._blocks.words[worse]
        style = self._blocks.style[better] - self._blocks.style[worse]
        shared: Floats = (words @ words.T).toarray()
        alike: Floats = style @ style.T
        return shared, alike


def _copies(copy: Ints) -> list[Ints]:
    """Places of pairs that are left out together: those of one copy, where there are several."""
    _, number, counts = np.unique(copy, return_inverse=True, return_counts=True)
    return [np.flatnonzero(number == one) for one in np.flatnonzero(counts > 1)]


def _left_out(mean: Floats, kernel: Floats, copies: Sequence[Ints]) -> Floats:
    """Leave-one-out log-odds of a Gaussian process with a logistic likelihood; all labels are 1.

    The likelihood is bounded by a Gaussian (Jaakkola and Jordan 2000) at the mean square that the
    log-odds have before any label is seen. Bounds, or modes, that are fitted to the labels would
    let a label reach its own prediction through those of its neighbours. The prediction without a
    pair, or without all copies of it, is that of Gaussian regression (Rasmussen and Williams 2006,
    equations 5.10 to 5.12), divided by ``√(1 + π v / 8)``: σ of it is the probability averaged over
    the variance v (MacKay 1992).
    """
    noise = _noise(mean**2 + np.diag(kernel))
    inverse = np.linalg.inv(kernel + np.diag(noise))
    solved, diagonal = inverse @ (noise / 2 - mean), np.diag(inverse)
    found, variance = noise / 2 - solved / diagonal, 1 / diagonal - noise
    for at in copies:
        block = np.linalg.inv(inverse[np.ix_(at, at)])
        found[at], variance[at] = noise[at] / 2 - block @ solved[at], np.diag(block) - noise[at]
    averaged: Floats = found / np.sqrt(1 + np.pi * np.maximum(variance, 0.0) / 8)
    return averaged


def _noise(square: Floats) -> Floats:
    """The variance of the Gaussian that bounds σ at log-odds of this mean square."""
    size = np.sqrt(np.maximum(square, 1e-12))
    width: Floats = 2 * size / np.tanh(size / 2)
    return width


def _tune(fit: _Within, mean: Floats) -> list[float]:
    """Coordinate search for the strengths (logarithms) with the smallest loss."""
    known: dict[tuple[float, ...], float] = {}

    def loss(at: list[float]) -> float:
        key = tuple(at)
        if key not in known:
            known[key] = fit.loss(mean, at)
        return known[key]

    best = list(_START)
    for _ in range(3):
        before = best
        for place, step in enumerate(_STEPS):
            for move in (step, -step):
                best = _walk(loss, best, place, move)
        if best == before:
            break
    return best


def _walk(loss: Any, best: list[float], place: int, move: float) -> list[float]:
    """Go on in one direction as long as the loss falls."""
    while True:
        following = [*best]
        following[place] += move
        if abs(following[place]) > _BOUND or loss(following) >= loss(best) - 1e-6:
            return best
        best = following
