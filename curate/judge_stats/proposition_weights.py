"""Weights of propositions, fitted by a hinge loss on answers whose order is known."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from siftune.curate.judge_stats.intervals import Estimate, NotEstimableError, share

__all__ = ["fit_proposition_weights", "ordered_pairs"]

_FOLDS: Final = 5


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

    As in the paper are the sum of a reward and weighted probabilities, and the hinge on pairs of
    answers to one prompt. The penalty and the solver are ours. Not compared with the authors' own
    fitter and its published data: weights there may differ by the penalty, the order of the
    propositions' classes, and the few hundred synthetic answers that they are fitted on.

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
    pairs = _pairs(rank, prompts)
    if not pairs:
        raise NotEstimableError(
            "no prompt has answers of different classes: judge several answers to each prompt, of "
            "which the gold labels prefer one"
        )
    better, worse = np.array(pairs).T
    gaps, margins = given[better] - given[worse], known[better] - known[worse]
    count, width = gaps.shape
    # Variables: positive and negative parts of the weights, then the hinge of each pair
    cost = np.concatenate([np.full(2 * width, penalty), np.full(count, 1 / count)])
    rows = np.hstack([-gaps, gaps, -np.eye(count)])
    found = linprog(cost, A_ub=rows, b_ub=margins - 1, bounds=(0, None)).x
    return tuple((found[:width] - found[width : 2 * width]).tolist())


def _pairs(rank: npt.NDArray[np.float64], prompts: Sequence[Any]) -> list[tuple[int, int]]:
    """Answers to one prompt of different classes, the better one first."""
    groups: dict[Any, list[int]] = {}
    for at, prompt in enumerate(prompts):
        groups.setdefault(prompt, []).append(at)
    return [
        (one, other) if rank[one] > rank[other] else (other, one)
        for group in groups.values()
        for one, other in combinations(group, 2)
        if rank[one] != rank[other]
    ]


def ordered_pairs(
    probabilities: npt.ArrayLike, classes: npt.ArrayLike, prompts: Sequence[Any]
) -> Estimate:
    """Share of pairs whose better answer has the higher reward, ties half.

    The weights of each pair are fitted without its prompt, in five folds.

    Raises:
        NotEstimableError: fewer than five prompts, or a fold without answers of two classes.
    """
    given, rank = np.asarray(probabilities, float), np.asarray(classes, float)
    names = list(dict.fromkeys(prompts))
    if len(names) < _FOLDS:
        raise NotEstimableError(f"{_FOLDS} prompts at least are needed, got {len(names)}")
    order = np.random.default_rng(0).permutation(len(names)) % _FOLDS
    fold = np.array([order[names.index(prompt)] for prompt in prompts])
    right, of = [], []
    for one in range(_FOLDS):
        rest = np.flatnonzero(fold != one).tolist()
        fitted = fit_proposition_weights(given[rest], rank[rest], [prompts[at] for at in rest])
        reward = given @ np.array(fitted)
        for better, worse in _pairs(rank, prompts):
            if fold[better] == one:
                right.append((np.sign(reward[better] - reward[worse]) + 1) / 2)
                of.append(prompts[better])
    return share(right, of)
