"""Density and novelty of vectors, against loops over pairs."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from siftune.curate.scorers.density import Density
from siftune.curate.scorers.novelty import Novelty
from siftune.curate.vectors.neighbor_distances import density_factors

NO_PATHS = ("embedding",)


def table(vectors: list[list[float] | None]) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "id": [f"a:{at}" for at in range(len(vectors))],
            "digest": [f"{at * 7919 % 997:032x}" for at in range(len(vectors))],
            "embedding": pl.Series(vectors, dtype=pl.List(pl.Float32)),
        }
    )


def random_table(height: int = 40) -> pl.DataFrame:
    vectors: list[list[float] | None] = [
        *np.random.default_rng(3).normal(size=(height, 4)).astype(np.float32).tolist()
    ]
    vectors[7], vectors[11] = None, vectors[12]
    return table(vectors)


def cosines(rows: pl.DataFrame) -> np.ndarray:
    given = np.array(rows["embedding"].to_list(), dtype=np.float64)
    units = given / np.linalg.norm(given, axis=1, keepdims=True)
    products: np.ndarray = units @ units.T
    return products


def test_density_by_hand() -> None:
    corners = table([[1, 0], [2, 0], [0, 1], [-1, 0], None])
    found = Density(neighbours=2)(corners)
    assert found["density"].to_list() == pytest.approx([0.5, 0.5, 0, -0.5, None], abs=1e-7)
    assert found["density_nearest"].to_list() == [0, 0, 1, 1, None]
    assert found["density_farthest"].to_list() == [1, 1, 1, 2, None]
    two = Density()(corners.head(2))  # fewer others than ten
    assert two.row(0) == (1, 0, 0)
    assert Density()(corners.head(1)).row(0) == (None, None, None)


def test_density_equals_a_loop_and_the_order_of_rows_does_not_matter() -> None:
    rows = random_table()
    known = rows.filter(pl.col("embedding").is_not_null())
    found = Density(neighbours=3)(known)
    for at, row in enumerate(cosines(known)):
        near = np.sort(np.delete(row, at))[::-1][:3]
        expected = (near.mean(), 1 - near[0], 1 - near[2])
        assert found.row(at) == pytest.approx(expected, abs=1e-6)
    turned = rows.with_row_index("at").sample(fraction=1, shuffle=True, seed=2)
    for scorer in (Density(), Novelty()):
        again = scorer(turned).with_columns(turned["at"]).sort("at").drop("at")
        assert_frame_equal(again, scorer(rows), check_exact=True)


def test_novelty_by_hand() -> None:
    found = Novelty(density_power=0)(table([[1, 0], [0, 1], [-1, 0]]))["novelty"]
    # distances 1 and 2 have the weights 1 and 1/2: (1 + 2 / 2) / 1.5; from the middle all are 1
    assert found.to_list() == pytest.approx([4 / 3, 1, 4 / 3])
    near = Novelty(density_power=1, neighbours=1)(table([[1, 0], [0, 1], [-1, 0], [1, 0]]))
    # of the row in the middle: all distances 1, and densities 1 of the nearest different row
    assert near["novelty"][1] == pytest.approx(1)
    assert near["novelty"][0] == pytest.approx((0 + 1 / 2 + 2 / 3) / (11 / 6))


@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 0.5), (2.0, 1.0), (0.0, 0.25)])
def test_novelty_equals_the_formula_pair_by_pair(alpha: float, beta: float) -> None:
    rows = random_table()
    known = rows.filter(pl.col("embedding").is_not_null())
    distances = 1 - cosines(known)
    density = []
    for at, row in enumerate(distances):
        different = sorted(gap for j, gap in enumerate(row) if j != at and gap > 1e-6)
        density.append(1 / np.mean(different[:3]))
    expected = []
    for at, row in enumerate(distances):
        others = sorted((j for j in range(len(row)) if j != at), key=lambda j: row[j])
        weights = [1 / rank**alpha for rank in range(1, len(others) + 1)]
        terms = (w * density[j] ** beta * row[j] for w, j in zip(weights, others, strict=True))
        expected.append(sum(terms) / sum(weights))
    scorer = Novelty(neighbours=3, distance_power=alpha, density_power=beta)
    assert scorer(known)["novelty"].to_list() == pytest.approx(expected, abs=1e-5)
    assert scorer(rows)["novelty"][7] is None
    assert Novelty()(rows.head(1))["novelty"].to_list() == [None]


def test_vectors_that_are_all_equal_have_no_density() -> None:
    units = np.ones((3, 1), dtype=np.float32)
    assert density_factors(units, units, 2, 0.5, same=True).tolist() == [1, 1, 1]
    assert Novelty()(table([[1, 0]] * 3))["novelty"].to_list() == [0, 0, 0]
