"""Cluster-balanced sampling, and the k-means below it."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import polars as pl
import pytest

from siftune.curate.core.errors import UsageError
from siftune.curate.core.registry import build
from siftune.curate.vectors.kmeans import kmeans
from siftune.curate.vectors.unit_vectors import exact_products, on_grid

SIZES = [40, 12, 3]


def units() -> np.ndarray:
    rng = np.random.default_rng(3)
    corners = np.repeat(np.eye(3), SIZES, axis=0)
    return on_grid((corners + 0.05 * rng.normal(size=corners.shape)).astype(np.float32))[0]


def table(**columns: Any) -> pl.DataFrame:
    height = sum(SIZES)
    base = {
        "id": [f"f:{i}" for i in range(height)],
        "digest": [f"{i:02}" for i in range(height)],
        "embedding": pl.Series(units().tolist(), dtype=pl.List(pl.Float32)),
        "corner": np.repeat([0, 1, 2], SIZES),
    }
    return pl.DataFrame({**base, **columns})


def balanced(table: pl.DataFrame, /, **options: Any) -> pl.DataFrame:
    selector = build("curate.selectors", "cluster_balanced", {"clusters": 9, **options})
    return table.hstack(selector(table))


def test_kmeans_finds_the_corners_and_settles_on_their_means() -> None:
    vectors = units()
    cluster, centres = kmeans(vectors, np.array([0, 45, 54]), 25)
    assert cluster.tolist() == np.repeat([0, 1, 2], SIZES).tolist()
    for corner in range(3):
        mean = vectors[cluster == corner].astype(np.float64).sum(axis=0)
        assert np.abs(centres[corner] - mean / np.linalg.norm(mean)).max() < 1e-7


def test_a_settled_clustering_has_every_row_at_its_nearest_centre() -> None:
    rng = np.random.default_rng(8)
    vectors = on_grid(rng.normal(size=(500, 6)).astype(np.float32))[0]
    cluster, centres = kmeans(vectors, np.arange(12), 500)
    gaps = (centres.astype(float) ** 2).sum(axis=1) / 2 - exact_products(vectors, centres)
    assert cluster.tolist() == gaps.argmin(axis=1).tolist()
    again, _ = kmeans(vectors, np.arange(12), 5000)
    assert again.tolist() == cluster.tolist()


def test_a_centre_without_rows_stays() -> None:
    vectors = on_grid(np.array([[1, 0], [1, 0], [0, 1]], dtype=np.float32))[0]
    cluster, centres = kmeans(vectors, np.array([0, 1, 2]), 5)
    assert cluster.tolist() == [0, 0, 2]
    assert centres.tolist() == [[1, 0], [1, 0], [0, 1]]


def test_clusters_take_turns_and_the_small_are_kept_whole() -> None:
    # Nine clusters in three corners do not cross from one corner to another.
    kept = balanced(table(), rows=27, seed=4).filter("keep")
    told = [json.loads(text) for text in kept["detail"]]
    by_cluster: dict[int, list[dict[str, int]]] = {}
    for item in told:
        by_cluster.setdefault(item["cluster"], []).append(item)
    rounds = max(item["rank"] for item in told)
    for items in by_cluster.values():
        assert sorted(item["rank"] for item in items) == list(range(1, len(items) + 1))
        assert len(items) >= min(rounds - 1, items[0]["size"])


def test_the_best_of_each_cluster_is_kept() -> None:
    rows = table(judge=np.random.default_rng(0).permutation(sum(SIZES)) / 10)
    answer = balanced(rows, rows=3, clusters=3, by="judge", seed=2)
    cluster = answer["detail"].str.json_path_match("$.cluster")
    best = answer.with_columns(cluster=cluster).group_by("cluster").agg(pl.col("judge").max())
    assert sorted(answer.filter("keep")["judge"]) == sorted(best["judge"])
    assert set(answer.filter(~pl.col("keep"))["reason"]) == {"over_quota"}


def test_another_seed_is_another_sample() -> None:
    samples = {tuple(balanced(table(), rows=10, seed=seed)["keep"]) for seed in range(3)}
    assert len(samples) == 3


def test_no_clusters_is_refused() -> None:
    with pytest.raises(UsageError, match="at least 1"):
        balanced(table(), rows=3, clusters=0)
