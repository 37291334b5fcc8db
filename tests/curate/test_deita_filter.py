"""DEITA's filter: the kept set of comparing one row at a time."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest

from siftune.curate.core.registry import build
from siftune.curate.vectors import similarity_filter
from siftune.curate.vectors.similarity_filter import filter_similar
from siftune.curate.vectors.unit_vectors import on_grid


def one_by_one(units: np.ndarray, threshold: float, budget: int) -> list[int]:
    """The method as it is defined, in float64."""
    wide, kept = units.astype(np.float64), list[int]()
    for row, vector in enumerate(wide):
        if len(kept) == budget:
            break
        apart = wide[kept] - vector
        if not (1 - (apart * apart).sum(axis=1) / 2 > threshold).any():
            kept.append(row)
    return kept


def units(height: int, seed: int, spread: float) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(height // 10, 24))[rng.integers(0, height // 10, height)]
    vectors = centres + spread * rng.normal(size=(height, 24))
    vectors[-20:] = vectors[:20]
    return on_grid(vectors.astype(np.float32))[0]


@pytest.mark.parametrize("threshold", [0.5, 0.8, 0.9, 0.99])
@pytest.mark.parametrize("spread", [0.05, 0.3, 2.0])
def test_the_kept_rows_are_those_of_one_at_a_time(
    threshold: float, spread: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(similarity_filter, "_KEPT", 100)
    vectors = units(1200, 1, spread)
    found = filter_similar(vectors, threshold, np.ones(1200), 1200)
    assert found.kept.tolist() == one_by_one(vectors, threshold, 1200)
    assert 0 < len(found.kept) < 1200


def test_each_dropped_row_names_the_most_similar_row_kept_before_it() -> None:
    vectors = units(800, 2, 0.3)
    found = filter_similar(vectors, 0.8, np.ones(800), 800)
    wide = vectors.astype(np.float64)
    dropped = np.setdiff1d(np.arange(800), found.kept)
    assert len(dropped) > 100
    for row in dropped:
        before = found.kept[found.kept < row]
        similar = 1 - ((wide[before] - wide[row]) ** 2).sum(axis=1) / 2
        assert found.survivor[row] == before[np.argmax(similar)]
        assert found.similarity[row] == similar.max() > 0.8


def test_equal_vectors_are_similar_at_any_threshold_below_one() -> None:
    vectors = np.repeat(units(10, 3, 1.0)[:1], 600, axis=0)
    assert filter_similar(vectors, 0.9999999, np.ones(600), 600).kept.tolist() == [0]
    assert len(filter_similar(vectors, 1.0, np.ones(600), 600).kept) == 600


def test_the_budget_stops_the_walk() -> None:
    vectors = units(900, 4, 0.3)
    found = filter_similar(vectors, 0.8, np.ones(900), 50)
    assert found.kept.tolist() == one_by_one(vectors, 0.8, 50)
    assert found.stopped > found.kept[-1]
    assert (found.survivor[found.stopped :] == -1).all()


def test_a_better_row_stands_for_a_similar_one_and_the_budget_ends_the_rest() -> None:
    vectors = [[1, 0], [1, 0.1], [0, 1], [-1, 0], [0, -1]]
    table = pl.DataFrame(
        {
            "id": ["f:1", "f:2", "f:3", "f:4", "f:5"],
            "digest": list("abcde"),
            "embedding": pl.Series(vectors, dtype=pl.List(pl.Float32)),
            "judge": [0.5, 0.9, 0.7, None, 0.1],
        }
    )
    answer = build("curate.selectors", "deita_filter", {"rows": 2, "by": "judge"})(table)
    assert answer["reason"].to_list() == [
        "too_similar", "selected", "selected", "not_scored", "over_budget",
    ]  # fmt: skip
    detail = json.loads(answer["detail"][0])
    assert detail["survivor"] == "f:2"
    assert detail["similarity"] == pytest.approx(1 / 1.01**0.5, abs=1e-6)
    assert (detail["rank"], detail["value"]) == (3, 0.5)
