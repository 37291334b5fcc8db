"""Clusters: those of `cluster_balanced`, numbered by size, with the distance to the mean."""

from __future__ import annotations

import json

import numpy as np
import polars as pl
import pytest

from siftune.curate.scorers.clusters import Clusters
from siftune.curate.selectors.cluster_balanced import ClusterBalanced


def rows(height: int = 60) -> pl.DataFrame:
    random = np.random.default_rng(3)
    vectors = random.normal(size=(height, 4)) + 4 * np.eye(4)[random.integers(0, 3, height)]
    listed = [None if at == 7 else one.tolist() for at, one in enumerate(vectors)]
    return pl.DataFrame(
        {
            "id": [f"a:{at}" for at in range(height)],
            "digest": [f"{at * 7919 % 997:032x}" for at in range(height)],
            "embedding": pl.Series(listed, dtype=pl.Array(pl.Float32, 4)),
        }
    )


def test_they_are_the_clusters_of_the_selector_and_the_largest_is_the_first() -> None:
    table = rows()
    found = Clusters(clusters=4)(table)
    decided = ClusterBalanced(clusters=4, rows=4)(table)
    details = [json.loads(one) if one else {} for one in decided["detail"]]
    pairs = {(d["cluster"], own) for d, own in zip(details, found["clusters"], strict=True) if d}
    assert len(pairs) == len({one for one, _ in pairs}) == 4
    sizes = found["clusters"].drop_nulls().value_counts().sort("clusters")["count"].to_list()
    assert sizes == sorted(sizes, reverse=True)
    assert found["clusters_size"].drop_nulls().to_list() == [
        sizes[own] for own in found["clusters"].drop_nulls()
    ]
    assert found.row(7) == (None, None, None)


def test_the_distance_is_to_the_direction_of_the_sum() -> None:
    table = rows()
    found = Clusters(clusters=3, iterations=100)(table)
    vectors = np.array([one for one in table["embedding"] if one is not None], dtype=np.float64)
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    own = found["clusters"].drop_nulls().to_numpy()
    sums = np.stack([units[own == at].sum(axis=0) for at in range(3)])
    centres = sums / np.linalg.norm(sums, axis=1, keepdims=True)
    expected = 1 - np.sum(units * centres[own], axis=1)
    assert found["clusters_distance"].drop_nulls().to_list() == pytest.approx(expected, abs=1e-6)


def test_the_default_number_is_the_root_of_half_the_rows() -> None:
    assert Clusters()(rows(73))["clusters"].n_unique() - 1 == 6  # 72 have a vector; null is one
