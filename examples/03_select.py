"""Select: rows that are good and unlike each other, with a score and vectors of your own."""

import numpy as np
import polars as pl

import siftune as sf


def frame(rows: int, seed: int = 0) -> pl.DataFrame:
    """Made-up rows with a quality in [0, 1] and a unit vector of 8 numbers."""
    draws = np.random.default_rng(seed)
    vectors = draws.normal(size=(rows, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return pl.DataFrame(
        {
            "prompt": [f"Question {n}?" for n in range(rows)],
            "response": [f"Answer {n}." for n in range(rows)],
            "quality": draws.uniform(size=rows),
            "embedding": pl.Series(vectors, dtype=pl.Array(pl.Float32, 8)),
        }
    )


def main() -> None:
    """Print how good the picks of four selectors are."""
    table = frame(200)
    for name, options in {
        "random": {"rows": 20},
        "top_k": {"rows": 20, "by": "quality"},
        "mmr": {"rows": 20, "by": "quality"},
        "k_center": {"rows": 20},
    }.items():
        keep = sf.selector(name, **options)(table)["keep"]
        print(f"{name}: mean quality {table.filter(keep)['quality'].mean():.2f}")


if __name__ == "__main__":
    main()
