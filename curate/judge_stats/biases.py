"""Biases of a pairwise judge: position, length, self-preference; consistency of each pair.

Verdicts are the score of the first of two answers, A: 1 where A wins, 0.5 for a tie (or a
probability between), 0 where B wins. ``forward`` is the verdict with A shown first, ``swapped``
the one with B shown first, still as the score of A.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from siftune.curate.judge_stats.intervals import Estimate, Floats, NotEstimableError, share
from siftune.curate.judge_stats.logistic import fit_logistic, length_feature

__all__ = [
    "PositionBias",
    "SelfPreference",
    "consistency",
    "length_bias",
    "position_bias",
    "self_preference",
]

Prompts: TypeAlias = Sequence[Any] | npt.NDArray[Any] | None


def consistency(forward: npt.ArrayLike, swapped: npt.ArrayLike) -> Floats:
    """1 where both orders agree on a pair, 0 where they contradict, between where one is a tie.

    NaN where an order was not judged.

    >>> consistency([1, 1, 0.5], [1, 0, 1])
    array([1. , 0. , 0.5])
    """
    agreed: Floats = 1 - np.abs(np.asarray(forward, float) - np.asarray(swapped, float))
    return agreed


@dataclass(frozen=True)
class PositionBias:
    """What the order of two answers does to a verdict.

    ``bias``: wins of the first position less those of the second, -1 … 1. Of a judge that answers
    "the first" without reading in a share b of its calls, it is b. ``inconsistent``: the share of
    pairs whose two orders do not agree. ``first_twice``, ``second_twice``: the shares whose both
    orders name the same position.
    """

    bias: Estimate
    inconsistent: Estimate
    first_twice: Estimate
    second_twice: Estimate


def position_bias(
    forward: npt.ArrayLike, swapped: npt.ArrayLike, prompts: Prompts = None
) -> PositionBias:
    """Measure the bias on pairs that were judged in both orders."""
    first, second = np.asarray(forward, float), np.asarray(swapped, float)
    known = np.isfinite(first) & np.isfinite(second)
    if not known.any():
        raise NotEstimableError("no pair was judged in both orders")
    first, second = first[known], second[known]
    kept = None if prompts is None else np.asarray(prompts)[known]
    return PositionBias(
        share(first - second, kept, (-1.0, 1.0)),
        share(first != second, kept),
        share((first > 0.5) & (second < 0.5), kept),
        share((first < 0.5) & (second > 0.5), kept),
    )


def length_bias(
    wins: npt.ArrayLike,
    lengths: npt.ArrayLike,
    other_lengths: npt.ArrayLike,
    gold: npt.ArrayLike | None = None,
    prompts: Prompts = None,
) -> Estimate:
    """Log-odds that a judge adds for length: the coefficient of `length_feature`.

    ``σ(φ tanh(gap / sd) + γ (2 gold - 1))`` without an intercept, because which answer is A means
    nothing. ``gold`` (the true score of A) takes out that longer answers may be better; without it
    the coefficient has that in it too. Give verdicts that are consistent in both orders, or the
    mean of both, so that the position is not in it. exp(0.76 φ) is the odds ratio of an answer
    that is one standard deviation longer.
    """
    y = np.asarray(wins, float)
    columns = [length_feature(lengths, other_lengths)]
    known = np.isfinite(y)
    if gold is not None:
        truth = 2 * np.asarray(gold, float) - 1
        known &= np.isfinite(truth)
        columns.append(truth)
    kept = None if prompts is None else np.asarray(prompts)[known]
    return fit_logistic(np.stack(columns, 1)[known], y[known], kept).estimate(0)


@dataclass(frozen=True)
class SelfPreference:
    """A judge's preference for answers of its own model, or one of its kin.

    ``bias``: on pairs of equal quality, wins of its own answers less those of the others,
    -1 … 1. ``excess``: its own answers' win rate with this judge less the gold one, on all pairs.
    ``ability``: share of the pairs of unequal quality that it judges right (ties half): near 0.5
    it cannot distinguish answers at all. None where there are no such pairs.
    """

    bias: Estimate
    excess: Estimate
    ability: Estimate | None


def self_preference(
    own_wins: npt.ArrayLike, gold: npt.ArrayLike, prompts: Prompts = None
) -> SelfPreference:
    """Self-preference apart from ability, by pairs of equal quality; arXiv:2604.22891.

    ``own_wins`` is the score of the answer of the judge's own model against another's, averaged
    over both orders; ``gold`` the same by people, or by judges of other families: 0.5 marks a pair
    of equal quality.

    Raises:
        NotEstimableError: no pair is of equal quality.
    """
    wins, truth = np.asarray(own_wins, float), np.asarray(gold, float)
    known = np.isfinite(wins) & np.isfinite(truth)
    wins, truth = wins[known], truth[known]
    kept = None if prompts is None else np.asarray(prompts)[known]
    equal = truth == 0.5
    if not equal.any():
        raise NotEstimableError("no pair has equal answers (gold 0.5)")

    def part(rows: npt.NDArray[np.bool_]) -> Prompts:
        return None if kept is None else kept[rows]

    right = np.where(wins == 0.5, 0.5, (wins > 0.5) == (truth > 0.5))[~equal]
    return SelfPreference(
        share(2 * wins[equal] - 1, part(equal), (-1.0, 1.0)),
        share(wins - truth, kept, (-1.0, 1.0)),
        share(right, part(~equal)) if right.size > 1 else None,
    )
