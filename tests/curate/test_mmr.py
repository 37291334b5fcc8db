"""Maximal marginal relevance: the step-by-step greedy, whatever the blocks."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest

from siftune.curate.core.errors import UsageError
from siftune.curate.core.registry import build
from siftune.curate.vectors import farthest_points
from siftune.curate.vectors.farthest_points import PickValue, farthest_first
from siftune.curate.vectors.unit_vectors import on_grid


def greedy(units: np.ndarray, score: np.ndarray, balance: float, count: int) -> list[int]:
    """The method as it is defined, in float64."""
    wide = units.astype(np.float64)
    halves = (wide * wide).sum(axis=1) / 2
    picks, gap = [int(np.argmax(score))], np.full(len(wide), np.inf)
    while len(picks) < count:
        last = picks[-1]
        gap = np.minimum(gap, halves + halves[last] - wide @ wide[last])
        worth = balance * score + (1 - balance) * gap
        worth[picks] = -np.inf
        picks.append(int(np.argmax(worth)))
    return picks


@pytest.mark.parametrize("candidates", [16, 1024])
@pytest.mark.parametrize("balance", [0.0, 0.2, 0.7, 1.0])
def test_the_picks_are_those_of_the_step_by_step_greedy(
    balance: float, candidates: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(farthest_points, "_CANDIDATES", candidates)
    rng = np.random.default_rng(5)
    vectors = rng.normal(size=(20, 16))[rng.integers(0, 20, 2000)]
    vectors += 0.3 * rng.normal(size=vectors.shape)
    vectors[:200] = vectors[200:400]
    units, score = on_grid(vectors.astype(np.float32))[0], np.round(rng.random(2000), 2)
    first = int(np.argmax(score))
    value = PickValue(balance * score, 1 - balance)
    found = farthest_first(units, first, np.ones(2000), 600, value=value)
    assert found.picks.tolist() == greedy(units, score, balance, 600)


def table() -> pl.DataFrame:
    vectors = pl.Series([[1, 0], [1, 0], [0, 1], [-1, 0], [0, 1]], dtype=pl.List(pl.Float32))
    columns = {"embedding": vectors, "judge": [5.0, 4.5, 3.0, 1.0, None]}
    return pl.DataFrame({"id": [f"f:{i}" for i in range(1, 6)], "digest": list("abcde"), **columns})


def test_a_copy_of_the_best_row_waits_behind_a_worse_one_that_differs() -> None:
    answer = build("curate.selectors", "mmr", {"rows": 2, "by": "judge"})(table())
    # Scaled scores 1, 0.875, 0.5, 0. After f:1: f:2 0.4375 - 0.5, f:3 0.25 - 0, f:4 0 + 0.5.
    assert answer["reason"].to_list() == [
        "selected", "not_picked", "not_picked", "selected", "not_scored",
    ]  # fmt: skip
    assert json.loads(answer["detail"][1]) == {"nearest": "f:1", "score": 0.875, "similarity": 1}
    assert json.loads(answer["detail"][3]) == {"order": 2, "score": 0, "similarity": -1}


def test_balance_one_is_the_score_alone() -> None:
    options = {"rows": 2, "by": "judge", "balance": 1}
    kept = build("curate.selectors", "mmr", options)(table())["keep"]
    assert kept.to_list() == [True, True, False, False, False]


def test_a_balance_outside_zero_to_one_is_refused() -> None:
    with pytest.raises(UsageError, match="balance: expected at least 0, at most 1"):
        build("curate.selectors", "mmr", {"rows": 2, "by": "judge", "balance": 2})
