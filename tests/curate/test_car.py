"""CaR: the best of all and of each cluster, by sorting."""

from __future__ import annotations

import json

import numpy as np
import polars as pl

from siftune.curate.scorers.clusters import Clusters
from siftune.curate.selectors.car import CaR

OPTIONS = [{"by": "quality", "rows": 5, "clusters": 6}]
NO_PATHS = ("by", "embedding")


def test_the_best_of_all_and_of_each_cluster_are_kept() -> None:
    draw, height = np.random.default_rng(2), 50
    table = pl.DataFrame(
        {
            "id": [f"f:{at}" for at in range(height)],
            "digest": [f"{at * 7919 % 997:032x}" for at in range(height)],
            "embedding": pl.Series(draw.normal(size=(height, 4)).tolist()),
            "score": [None if at == 9 else float(at * 37 % 50) for at in range(height)],
        }
    )
    answer = CaR(by="score", rows=8, per_cluster=2)(table)
    scored = table.filter(pl.col("score").is_not_null())
    of = scored.with_columns(Clusters()(scored))  # round(√(49 / 2)) = 5 clusters
    best = set(of.top_k(8, by="score")["id"])
    for _, own in of.group_by("clusters"):
        best |= set(own.top_k(2, by="score")["id"])
    assert of["clusters"].n_unique() == 5
    assert set(table.filter(answer["keep"])["id"]) == best
    assert answer["reason"][9] == "not_scored"
    top = json.loads(answer["detail"][int(table["score"].arg_max())])
    assert (top["place"], top["rank"]) == (1, 1)


def test_a_thousand_rows_are_kept_whatever_their_cluster() -> None:
    height = 1003
    table = pl.DataFrame(
        {
            "id": [f"f:{at:04}" for at in range(height)],
            "digest": [f"{at:032x}" for at in range(height)],
            "embedding": [[1.0, at / height] for at in range(height)],
            "score": [float(at) for at in range(height)],
        }
    )
    answer = CaR(by="score", clusters=1)(table)
    assert answer["keep"].to_list() == [False] * 3 + [True] * 1000
