"""The outputs of a run: one last word a row whatever the stages said, and full row groups."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from siftune.curate.core.schema import schema_of
from siftune.curate.rows.table import ROW, Table
from siftune.curate.runners.results import (
    LEDGER,
    RowGroupWriter,
    read_quarantine,
    write_kept,
    write_ledger,
)

ONCE = settings(
    deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def rows_file(path: Path, height: int, row_group: int = 1000) -> Path:
    """Rows of ours, `height` of them, each with a text of its own."""
    turns = [[{"role": "user", "content": f"q{i}"}, {"role": "assistant"}] for i in range(height)]
    frame = pl.DataFrame(
        {
            "id": [f"r:{i}" for i in range(height)],
            "row": list(range(1, height + 1)),
            "digest": [f"{i:032x}" for i in range(height)],
            "messages": turns,
        },
        schema_overrides={"messages": schema_of("conversation")["messages"], "row": pl.Int64},
    ).with_columns(source=pl.lit("r"), kind=pl.lit("conversation"), extra=pl.lit(None, pl.String))
    frame.select(list(schema_of("conversation"))).write_parquet(path, row_group_size=row_group)
    return path


def stage_file(path: Path, rows: list[int], keep: list[bool]) -> Path:
    details = ["{}" if row % 2 else None for row in rows]
    columns = {ROW: rows, "id": [f"r:{row}" for row in rows], "keep": keep}
    columns |= {"reason": [f"{path.stem}-{row % 3}" for row in rows], "detail": details}
    types = {ROW: pl.Int64, "id": pl.String, "keep": pl.Boolean}
    types |= {"reason": pl.String, "detail": pl.String}
    pl.DataFrame(columns, schema=types).write_parquet(path)
    return path


@pytest.fixture
def nothing_quarantined(tmp_path: Path) -> Path:
    (tmp_path / "quarantine.jsonl").touch()
    return tmp_path / "quarantine.jsonl"


@ONCE
@given(drops=st.lists(st.lists(st.booleans(), min_size=9, max_size=9), max_size=3))
def test_the_last_word_on_a_row_is_that_of_the_last_stage_that_saw_it(
    drops, tmp_path, nothing_quarantined
):
    rows = rows_file(tmp_path / "rows.parquet", 9)
    left, decisions = list(range(9)), []
    expected = dict.fromkeys(left, ("ingest", "kept", "read", None))
    for number, dropped in enumerate(drops, 1):
        keep = [not dropped[row] for row in left]
        path = stage_file(tmp_path / f"{number}.parquet", left, keep)
        decisions.append((f"{number}:x", path))
        for row, kept in zip(left, keep, strict=True):
            word = "kept" if kept else "dropped"
            expected[row] = (f"{number}:x", word, f"{number}-{row % 3}", "{}" if row % 2 else None)
        left = [row for row in left if not dropped[row]]
    write_ledger(tmp_path / "ledger.parquet", rows, decisions, nothing_quarantined)
    ledger = pl.read_parquet(tmp_path / "ledger.parquet")
    assert ledger.schema == LEDGER
    assert ledger.rows() == [(f"r:{row}", "r", *expected[row]) for row in range(9)]


@pytest.mark.parametrize("seen", [[0, 1], [0, 1, 2, 2]])
def test_a_row_without_a_last_word_or_with_two_stops_the_ledger(
    seen, tmp_path, nothing_quarantined
):
    rows = rows_file(tmp_path / "rows.parquet", 3)
    stage = stage_file(tmp_path / "1.parquet", seen, [True] * len(seen))
    with pytest.raises(ValueError, match="one final decision"):
        write_ledger(tmp_path / "ledger.parquet", rows, [("1:x", stage)], nothing_quarantined)
    assert not (tmp_path / "ledger.parquet").exists()


@pytest.fixture(scope="module")
def many_rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return rows_file(tmp_path_factory.mktemp("rows") / "rows.parquet", 10_000)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.9, 1.0])
def test_kept_rows_are_the_rows_left_in_few_row_groups(share, many_rows, tmp_path):
    alive = np.flatnonzero(np.arange(10_000) % 10 < 10 * share)
    table = Table(many_rows, "conversation", 10_000, alive)
    write_kept(tmp_path / "kept.parquet", table)
    kept = pl.read_parquet(tmp_path / "kept.parquet")
    assert kept["row"].to_list() == (alive + 1).tolist()
    assert kept.schema == pl.read_parquet_schema(many_rows)
    assert pq.read_metadata(tmp_path / "kept.parquet").num_row_groups <= 2


def test_some_of_the_rows_are_written_without_pandas(tmp_path):
    rows_file(tmp_path / "rows.parquet", 9)
    code = """
import sys
from pathlib import Path
import numpy as np
from siftune.curate.rows.table import Table
from siftune.curate.runners.results import write_kept
rows, kept = map(Path, sys.argv[1:])
write_kept(kept, Table(rows, "conversation", 9, np.array([1, 4])))
sys.exit("pandas" in sys.modules)
"""
    paths = [str(tmp_path / name) for name in ("rows.parquet", "kept.parquet")]
    assert subprocess.run([sys.executable, "-c", code, *paths], check=False).returncode == 0
    assert pl.read_parquet(paths[1])["row"].to_list() == [2, 5]


def test_row_groups_do_not_depend_on_how_rows_came(tmp_path):
    frame = pl.DataFrame({"id": [str(i) for i in range(70_000)]})
    for size in (7_000, 29_000):
        with RowGroupWriter(tmp_path / f"{size}.parquet") as groups:
            for part in frame.iter_slices(size):
                groups.write(part)
    sizes = [7_000, 29_000]
    groups = [pq.read_metadata(tmp_path / f"{size}.parquet").num_row_groups for size in sizes]
    assert groups == [3, 3]
    written = [(tmp_path / f"{size}.parquet").read_bytes() for size in sizes]
    assert written[0] == written[1]


def test_the_quarantine_is_read_a_part_at_a_time(tmp_path, monkeypatch):
    path = tmp_path / "quarantine.jsonl"
    line = '{{"source":"r","line":{0},"id":"r:{0}","reason":"not_json","detail":"x"}}\n'
    path.write_text("".join(line.format(at) for at in range(7)))
    whole = read_quarantine(path)
    frames = []

    class Counted(pl.DataFrame):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            frames.append(self.height)

    monkeypatch.setattr("siftune.curate.runners.results._ROWS", 3)
    monkeypatch.setattr("siftune.curate.runners.results.pl.DataFrame", Counted)
    assert read_quarantine(path)["line"].to_list() == whole["line"].to_list() == [*range(7)]
    assert frames == [0, 3, 3, 1]
