"""Similarity to targets against a loop over pairs, in any batches and order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from siftune.curate.core.errors import DataError
from siftune.curate.core.schema import schema_of
from siftune.curate.scorers.target_similarity import TargetSimilarity

OPTIONS = [{"against": "targets.parquet"}]


def table(vectors: list[list[float] | None], name: str) -> pl.DataFrame:
    width = next((len(one) for one in vectors if one), 3)
    height = len(vectors)
    base = {
        "id": [f"{name}:{at}" for at in range(height)],
        "source": [name] * height,
        "row": range(height),
        "kind": ["text"] * height,
        "digest": [f"{at * 7919 % 997:032x}" for at in range(height)],
        "extra": [None] * height,
        "messages": [[]] * height,
    }
    return pl.DataFrame(base, schema=schema_of("text")).with_columns(
        pl.Series("embedding", vectors, dtype=pl.Array(pl.Float32, width))
    )


@pytest.fixture
def targets(tmp_path: Path) -> str:
    made = np.random.default_rng(1).normal(size=(5, 3)).tolist()
    table([*made, None], "t").write_parquet(tmp_path / "targets.parquet")
    return str(tmp_path / "targets.parquet")


def test_it_is_the_largest_and_the_mean_cosine_to_a_target(targets: str) -> None:
    vectors = [*np.random.default_rng(2).normal(size=(9, 3)).tolist(), None, [0.0, 0.0, 0.0]]
    rows, scorer = table(vectors, "r"), TargetSimilarity(against=targets)
    found = scorer(rows)
    known = [one for one in pl.read_parquet(targets)["embedding"] if one is not None]
    for at in range(9):
        cosines = [
            float(np.dot(vectors[at], one) / np.linalg.norm(vectors[at]) / np.linalg.norm(one))
            for one in known
        ]
        assert found["target_similarity"][at] == pytest.approx(max(cosines), abs=1e-6)
        assert found["target_similarity_mean"][at] == pytest.approx(np.mean(cosines), abs=1e-6)
        assert found["target_similarity_nearest"][at] == f"t:{np.argmax(cosines)}"
    assert found.tail(2).null_count().row(0) == (2, 2, 2)
    assert_frame_equal(pl.concat([scorer(row) for row in rows.iter_slices(1)]), found)
    assert_frame_equal(scorer(rows.reverse()).reverse(), found)


def test_targets_without_vectors_or_of_another_model_are_refused(
    targets: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="have 3 numbers, those of the rows 2: score both with the"):
        TargetSimilarity(against=targets)(table([[1.0, 2.0]], "r"))
    table([None], "t").write_parquet(tmp_path / "none.parquet")
    with pytest.raises(DataError, match="no row has a vector in embedding"):
        TargetSimilarity(against=str(tmp_path / "none.parquet"))(table([[1.0, 2.0, 0.0]], "r"))
