"""Weights of propositions, fitted by a hinge loss on answers whose order is known."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

from siftune.curate.judge_stats.intervals import NotEstimableError

__all__ = ["fit_proposition_weights"]


def fit_proposition_weights(
    probabilities: npt.ArrayLike,
    classes: npt.ArrayLike,
    prompts: Sequence[Any],
    *,
    rewards: npt.ArrayLike | None = None,
    penalty: float = 1e-3,
) -> tuple[float, ...]:
    """The option ``weights`` of the task `propositions`, from answers of known quality.

    Mu et al. 2024, arXiv:2411.01111: of two answers to a prompt, the better should have a reward
    that is higher by 1 at least; minimised is the mean of ``max(0, 1 - r_better + r_worse)``, with
    ``r = reward + sum of w * p``. ``penalty`` times the sum of absolute weights is added, so that
    separable pairs have a finite, unique scale. Solved exactly, as a linear programme.

    ``probabilities`` is (answers, propositions), as the column of the task has them; ``classes``
    (answers,) is higher for better ones: 1 and 0 for pairs, or numbers of classes. Answers to the
    same of ``prompts`` are compared, equal classes are not. ``rewards`` (answers,) are those of a
    reward model that the rules are added to; None where there is none.

    Raises:
        NotEstimableError: no prompt has answers of different classes.
    """
    from scipy.optimize import linprog

    given, rank = np.asarray(probabilities, float), np.asarray(classes, float)
    known = np.zeros(len(rank)) if rewards is None else np.asarray(rewards, float)
    if not (np.isfinite(given).all() and np.isfinite(rank).all() and np.isfinite(known).all()):
        raise ValueError("expected probabilities, classes and rewards that are finite numbers")
    groups: dict[Any, list[int]] = {}
    for at, prompt in enumerate(prompts):
        groups.setdefault(prompt, []).append(at)
    pairs = [
        (one, other) if rank[one] > rank[other] else (other, one)
        for group in groups.values()
        for one, other in combinations(group, 2)
        if rank[one] != rank[other]
    ]
    if not pairs:
        raise NotEstimableError("no prompt has answers of different classes")
    better, worse = np.array(pairs).T
    gaps, margins = given[better] - given[worse], known[better] - known[worse]
    count, width = gaps.shape
    # Variables: positive and negative parts of the weights, then the hinge of each pair
    cost = np.concatenate([np.full(2 * width, penalty), np.full(count, 1 / count)])
    rows = np.hstack([-gaps, gaps, -np.eye(count)])
    found = linprog(cost, A_ub=rows, b_ub=margins - 1, bounds=(0, None)).x
    return tuple((found[:width] - found[width : 2 * width]).tolist())
