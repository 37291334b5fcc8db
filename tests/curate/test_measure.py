"""`siftune curate measure`: figures of sets, against their definitions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner

import siftune
from siftune.curate.cli import curate
from siftune.curate.core.errors import DataError, UsageError
from siftune.curate.runners.measure import figures_of_tables
from siftune.curate.vectors.set_figures import set_figures


def units(*rows: list[float]) -> np.ndarray:
    given = np.array(rows, dtype=np.float64)
    found: np.ndarray = (given / np.linalg.norm(given, axis=1, keepdims=True)).astype(np.float32)
    return found


def test_orthogonal_and_equal_vectors_by_hand() -> None:
    apart = set_figures(units([1, 0, 0], [0, 1, 0], [0, 0, 1]))
    assert apart.vendi == pytest.approx(3)
    assert apart.log_det == pytest.approx(3 * np.log(2))
    assert apart.novelsum == pytest.approx(1)
    alike = set_figures(units([1, 0], [1, 0], [1, 0], [1, 0]))
    assert alike.vendi == pytest.approx(1)
    assert alike.log_det == pytest.approx(np.log(1 + 4))
    assert alike.novelsum == 0
    pool = units([1, 0], [0, 1], [-1, 0], [1, 1])
    assert set_figures(units([1, 0]), pool=pool).coverage == pytest.approx((1 + 0.5**0.5) / 4)


def test_both_matrices_give_the_figures_of_the_kernel() -> None:
    for shape in ((5, 9), (30, 4)):
        some = units(*np.random.default_rng(1).normal(size=shape).tolist())
        kernel = (some @ some.T).astype(np.float64)
        values = np.linalg.eigvalsh(kernel / len(some))
        values = values[values > 1e-9]
        found = set_figures(some)
        assert found.vendi == pytest.approx(np.exp(-(values * np.log(values)).sum()), rel=1e-5)
        logarithm = np.linalg.slogdet(np.eye(len(some)) + kernel)[1]
        assert found.log_det == pytest.approx(logarithm, rel=1e-5)


def test_densities_of_novelsum_are_those_of_the_pool() -> None:
    some, pool = units([1, 0], [0, 1]), units([1, 0], [1, 0.1], [0, 1], [-0.1, 1], [1, 1])
    gaps = 1 - pool @ pool.T
    near = [np.sort(row[row > 1e-5])[:10].mean() for row in gaps[[0, 2]]]
    expected = np.mean([1 / near[1] ** 0.5, 1 / near[0] ** 0.5])  # their distance is 1
    assert set_figures(some, pool=pool).novelsum == pytest.approx(expected, rel=1e-4)


def test_a_set_without_vectors_has_no_figures() -> None:
    nothing = set_figures(np.empty((0, 2), np.float32), 3, units([1, 0]))
    assert (nothing.vendi, nothing.novelsum, nothing.log_det, nothing.coverage) == (None,) * 4
    assert "0 (3 more have no vector)" in str(nothing)
    assert set_figures(units([1, 0])).novelsum is None


def called(*words: Any) -> Any:
    return CliRunner().invoke(curate, ["measure", *map(str, words)])


WORDS = ("sun", "sea", "tree", "house", "bird", "stone")
ROWS = [{"prompt": f"What is a {one}?", "response": f"A {one}."} for one in WORDS]


def test_a_selection_beside_its_pool(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).normal(size=(6, 3)) + 1
    table = siftune.read(ROWS).kept.with_columns(embedding=pl.Series(vectors.tolist()))
    table.write_parquet(tmp_path / "all.parquet")
    best = siftune.read(str(tmp_path / "all.parquet")).select("k_center", rows=3)
    found = siftune.measure(best, tmp_path / "all.parquet")
    printed = called(best.folder, "--pool", tmp_path / "all.parquet", "--json")
    assert json.loads(printed.output) == found.as_dict()
    assert (found.rows, found.pool_rows) == (3, 6)
    assert found.coverage is not None
    assert 0.5 < found.coverage < 1
    text = called(best.folder).output
    assert text.startswith("rows      3\nvendi     ")
    assert "coverage" not in text
    wrong = called(tmp_path / "all.parquet", "--embedding", "vec").exception
    assert "no column 'vec'" in str(wrong)
    with pytest.raises(UsageError, match="or a path, got list"):
        siftune.measure(ROWS)


@pytest.mark.slow
def test_rows_without_embeddings_are_embedded(tmp_path: Path, tiny_embedder: Path) -> None:
    model = str(tiny_embedder)
    raw = tmp_path / "raw.jsonl"
    raw.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    read = siftune.measure(siftune.read(ROWS), model=model)
    assert siftune.measure(raw, model=model) == read
    scored = siftune.read(ROWS).score("embedding", model=model)
    assert siftune.measure(scored) == read
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text('{"prompt": "p", "chosen": "a", "rejected": "b"}\n')
    wrong = called(pairs, "--model", tiny_embedder).exception
    assert "name one of chosen_embedding, rejected_embedding" in str(wrong)


def test_a_pool_of_another_model_is_refused() -> None:
    base = {"id": ["a:1"], "source": ["a"], "row": [1], "kind": ["text"], "digest": ["0" * 32]}
    tables = [
        pl.DataFrame({**base, "embedding": [[1.0] * width]}).with_columns(extra=None)
        for width in (2, 3)
    ]
    with pytest.raises(DataError, match="pool's vectors have 3 numbers"):
        figures_of_tables(tables[0], tables[1], "embedding")
