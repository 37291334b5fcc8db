"""Rows as stages see them: the right ones, with the right scores, whatever lies on disk."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from siftune.curate.rows.table import BATCH, ROW, Table
from tests.curate.test_outputs import rows_file

HEIGHT = 3 * BATCH


@pytest.fixture(scope="module")
def rows(tmp_path_factory) -> Path:
    return rows_file(tmp_path_factory.mktemp("table") / "rows.parquet", HEIGHT, row_group=2 * BATCH)


def every(step: int) -> np.ndarray:
    return np.arange(0, HEIGHT, step)


@pytest.mark.parametrize("step", [1, 2, 50, HEIGHT - 1])
def test_the_same_rows_come_in_batches_and_at_once(rows, step):
    table = Table(rows, "conversation", HEIGHT, every(step))
    whole = table.gather(["messages", "row"])
    assert whole[ROW].to_list() == every(step).tolist()
    assert whole["row"].to_list() == (every(step) + 1).tolist()
    assert whole["messages"].list.first().struct.field("content").to_list() == [
        f"q{row}" for row in every(step)
    ]
    batches = list(table.batches(["messages", "row"]))
    assert pl.concat(batches).equals(whole.drop("digest").select(batches[0].columns))
    assert all(np.ptp(batch[ROW].to_numpy()) < BATCH for batch in batches)
    assert all(len({row // BATCH for row in batch[ROW]}) == 1 for batch in batches)


def test_scores_stand_beside_their_rows_where_fewer_are_left(rows, tmp_path):
    scored = every(3)
    scores = pl.DataFrame({ROW: scored, "id": [f"r:{row}" for row in scored], "x": scored * 10})
    scores.write_parquet(tmp_path / "scores.parquet")
    table = Table(rows, "conversation", HEIGHT, every(6))
    found = table.with_scores(tmp_path / "scores.parquet", ["x"]).gather(["x"])
    assert found["x"].to_list() == (every(6) * 10).tolist()


def test_where_no_row_is_left_the_columns_are_still_there(rows, tmp_path):
    scores = pl.DataFrame({ROW: [0], "id": ["r:0"], "x": [1.5]})
    scores.write_parquet(tmp_path / "scores.parquet")
    table = Table(rows, "conversation", HEIGHT, every(1)[:0])
    none = table.with_scores(tmp_path / "scores.parquet", ["x"]).gather(["messages", "x"])
    assert (none.height, none.columns) == (0, [ROW, "id", "kind", "messages", "x", "digest"])
    assert none.schema["x"] == pl.Float64


def test_few_rows_left_do_not_hold_the_text_of_all_in_memory(tmp_path):
    long = rows_file(tmp_path / "rows.parquet", 100)
    texts = [[{"role": "user", "content": "x" * 100_000}]] * 100
    frame = pl.read_parquet(long)
    frame = frame.with_columns(messages=pl.Series(texts, dtype=frame.schema["messages"]))
    frame.write_parquet(long)
    found = Table(long, "conversation", 100, np.array([7])).gather(["messages"])
    text = found["messages"].explode().struct.field("content")
    _, *buffers = text.to_arrow(compat_level=pl.CompatLevel.newest()).buffers()
    assert sum(buffer.size for buffer in buffers if buffer is not None) < 300_000
