"""A table of embeddings for the selectors, from a matrix: rows in order are rows in tie order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

__all__ = ["write_table"]


def write_table(vectors: np.ndarray, path: Path) -> None:
    """Columns ``id``, ``digest``, ``embedding`` and ``score``, drawn from a seed."""
    count = len(vectors)
    numbers = pl.Series([f"{row:08d}" for row in range(count)])
    pl.DataFrame(
        {
            "id": "row:" + numbers,
            "digest": numbers,
            "embedding": pl.Series(vectors, dtype=pl.Array(pl.Float32, vectors.shape[1])),
            "score": np.random.default_rng(3).permutation(count).astype(np.float64),
        }
    ).write_parquet(path)
