"""Tables that expand beyond their size, damaged streams, and values that Python does not have."""

from __future__ import annotations

import csv
import io
import json
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from siftune.curate.core.errors import BadRow, DataError
from siftune.curate.io import expansion_limits
from siftune.curate.io.expansion_limits import expanded, pieces
from siftune.curate.io.ingest import read_rows
from siftune.curate.io.tabular import csv_rows, parquet_batches
from siftune.curate.records.json_lines import parse

PAIRS = pa.array([[("k", 1)], [("b", 2), ("cc", 3)]], pa.map_(pa.string(), pa.int8()))
ROW = {"instruction": "q", "output": "a"}


def coded(text: str, rows: int) -> pa.DictionaryArray:
    zeros = pa.array([0] * rows, pa.int32())
    return pa.DictionaryArray.from_arrays(zeros, pa.array([text]))


def saved(folder: Path, batch: pa.RecordBatch, **options: Any) -> Path:
    """The batch as a saved dataset."""
    folder.mkdir()
    (folder / "state.json").write_text('{"_data_files": [{"filename": "d.arrow"}]}')
    with pa.ipc.new_stream(
        folder / "d.arrow", batch.schema, options=pa.ipc.IpcWriteOptions(**options)
    ) as stream:
        stream.write_batch(batch)
    return folder


def parquet(path: Path, columns: dict[str, Any], **options: Any) -> Path:
    pq.write_table(pa.table(columns), path, **options)
    return path


BOMBS = {
    "Arrow, rows of nulls": lambda d: saved(
        d / "d", pa.record_batch({"instruction": pa.nulls(200_000)})
    ),
    "Arrow, a dictionary": lambda d: saved(
        d / "d", pa.record_batch({"instruction": coded("q" * 5000, 1000)})
    ),
    "Arrow, a dictionary in a struct": lambda d: saved(
        d / "d",
        pa.record_batch({"a": pa.StructArray.from_arrays([coded("q" * 5000, 1000)], ["b"])}),
    ),
    "Arrow, packed buffers": lambda d: saved(
        d / "d", pa.record_batch({"instruction": ["q" * 9_000_000]}), compression="zstd"
    ),
    "Arrow, a list of nulls": lambda d: saved(
        d / "d",
        pa.record_batch({"a": pa.ListArray.from_arrays(pa.array([0, 500_000]), pa.nulls(500_000))}),
    ),
    "parquet, rows of nulls": lambda d: parquet(
        d / "d.parquet", {"instruction": pa.nulls(200_000)}
    ),
    "parquet, a list of nulls": lambda d: parquet(
        d / "d.parquet",
        {"a": pa.ListArray.from_arrays(pa.array([0, 500_000]), pa.nulls(500_000))},
    ),
    "parquet, a dictionary": lambda d: parquet(
        d / "d.parquet", {"instruction": ["q" * 5000] * 1000}
    ),
    "parquet, a dictionary in a struct": lambda d: parquet(
        d / "d.parquet", {"a": pa.StructArray.from_arrays([coded("q" * 5000, 1000)], ["b"])}
    ),
    "parquet, packed pages": lambda d: parquet(
        d / "d.parquet", {"instruction": ["q" * 9_000_000]}, compression="zstd"
    ),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_table_that_expands_beyond_its_size_is_refused(bomb, tmp_path, monkeypatch):
    monkeypatch.setattr(expansion_limits, "_FREE", 2 << 20)
    with pytest.raises(DataError, match=r"grows from .* to over 2,097,152 bytes"):
        read_rows(BOMBS[bomb](tmp_path))


def test_one_packed_batch_may_not_take_the_memory_of_many(tmp_path, monkeypatch):
    monkeypatch.setattr("siftune.curate.io.arrow_stream._MESSAGE_FREE", 1 << 20)
    folder = saved(
        tmp_path / "d", pa.record_batch({"instruction": ["q" * 9_000_000]}), compression="zstd"
    )
    with pytest.raises(DataError, match=r"a batch that grows from .* write it again in smaller"):
        read_rows(folder)


@pytest.mark.parametrize(
    ("values", "size"),
    [
        (pa.nulls(3), 3 * 8),
        (pa.array([1, None, 3], pa.int64()), 3 * 8 + 3 * 8 + 1),
        (coded("abcd", 3), 3 * 8 + 3 * 4),
        (pa.array(["abcd", None, "x"], pa.string_view()), 3 * 8 + 5),
        (pa.array([{"a": None}] * 3, pa.struct([("a", pa.null())])), 3 * 8 + 3 * 8),
        (pa.array([[None], [None] * 4], pa.list_(pa.null())), 2 * 8 + 5 * 8),
        (pa.array([None, [], [None] * 4], pa.list_(pa.null()))[2:], 8 + 4 * 8),
        (PAIRS[1:], 8 + (2 * 8 + 2 * 4 + 3) + (2 * 8 + 2)),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else "",
)
def test_every_value_counts_as_often_as_it_is_there(values, size):
    assert expanded(pa.record_batch({"a": values})) == 256 * len(values) + size


def test_a_batch_is_cut_into_pieces_of_a_moderate_size(monkeypatch):
    monkeypatch.setattr(expansion_limits, "PIECE", 3000)
    batch = pa.record_batch({"a": ["x"] * 20 + ["x" * 5000] + ["x"] * 20})
    cut = list(pieces(batch, 16))
    assert pa.Table.from_batches(cut)["a"].to_pylist() == batch["a"].to_pylist()
    assert all(piece.num_rows == 1 or expanded(piece) <= 3000 for piece in cut)
    assert max(piece.num_rows for piece in cut) > 4


def test_batches_are_small_where_later_rows_point_to_a_long_text(tmp_path, monkeypatch):
    monkeypatch.setattr(expansion_limits, "PIECE", 1 << 20)
    texts = ["short"] * 100 + ["x" * 100_000] * 100
    path = parquet(tmp_path / "d.parquet", {"a": texts}, row_group_size=150)
    heights = [batch.num_rows for batch in parquet_batches(path)]
    assert max(heights) <= 10
    assert sum(heights) == 200


def test_small_row_groups_come_in_whole_batches(tmp_path):
    path = parquet(tmp_path / "d.parquet", {"a": ["x"] * 3000}, row_group_size=10)
    assert [batch.num_rows for batch in parquet_batches(path)] == [1024, 1024, 952]


def test_two_parquet_files_in_one_are_refused(tmp_path):
    first = parquet(tmp_path / "a.parquet", {"instruction": ["A"] * 3, "output": ["a"] * 3})
    second = parquet(tmp_path / "b.parquet", {"instruction": ["B"] * 3, "output": ["b"] * 3})
    both = tmp_path / "ab.parquet"
    both.write_bytes(first.read_bytes() + second.read_bytes())
    with pytest.raises(DataError, match=r"ab\.parquet is several parquet files in one"):
        read_rows(both)


def test_indexes_before_the_footer_are_no_second_file(tmp_path):
    path = parquet(tmp_path / "d.parquet", {k: [v] for k, v in ROW.items()}, write_page_index=True)
    assert read_rows(path)[0].height == 1


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda stream: stream * 2, "has [0-9,]+ bytes after the end"),
        (lambda stream: stream[:-8], "cut off"),
        (lambda stream: stream[:-100], "cut off"),
    ],
    ids=["two streams", "no end mark", "cut off"],
)
def test_an_arrow_stream_that_ends_elsewhere_is_refused(change, why, tmp_path):
    folder = saved(tmp_path / "d", pa.record_batch({k: [v] for k, v in ROW.items()}))
    assert read_rows(folder)[0].height == 1
    (folder / "d.arrow").write_bytes(change((folder / "d.arrow").read_bytes()))
    with pytest.raises(DataError, match=why):
        read_rows(folder)


def test_an_arrow_stream_of_the_old_form_is_read(tmp_path):
    batch = pa.record_batch({k: [v] for k, v in ROW.items()})
    folder = saved(tmp_path / "d", batch, use_legacy_format=True)
    assert read_rows(folder)[0].height == 1


@pytest.mark.parametrize("form", ["parquet", "Arrow"])
def test_a_column_given_twice_is_refused(form, tmp_path):
    table = pa.table([["q"], ["a"], ["b"]], names=["instruction", "output", "output"])
    if form == "parquet":
        path = tmp_path / "d.parquet"
        pq.write_table(table, path)
    else:
        path = saved(tmp_path / "d", table.to_batches()[0])
    with pytest.raises(DataError, match="has the column output twice"):
        read_rows(path)


def test_types_whose_growth_is_unknown_are_refused(tmp_path):
    column = pa.RunEndEncodedArray.from_arrays([2], ["q"])
    folder = saved(tmp_path / "d", pa.record_batch({"instruction": column}))
    with pytest.raises(DataError, match="column instruction is of the Arrow type run_end_encoded"):
        read_rows(folder)


NO_VALUES = {
    "a date before year 1": (pa.array([0, -(2**62)], pa.timestamp("us")), "out of range"),
    "a time beyond a day": (pa.array([0, 10**15], pa.time64("us")), "beyond 24 hours"),
    "one in a list": (pa.array([[0], [-1]], pa.list_(pa.time32("s"))), "beyond 24 hours"),
    "a struct with a name twice": (
        pa.StructArray.from_arrays(
            [pa.array([1, 1])] * 2, ["a", "a"], mask=pa.array([True, False])
        ),
        "two of its fields have one name",
    ),
    "a time zone nobody knows": (
        pa.array([None, 0], pa.timestamp("us", "Mars/X")),
        "time zone is not known",
    ),
}


@pytest.mark.parametrize("case", NO_VALUES)
def test_a_row_with_a_value_that_cannot_be_read_is_set_aside_alone(case, tmp_path):
    column, why = NO_VALUES[case]
    path = parquet(tmp_path / "d.parquet", {**{k: [v] * 2 for k, v in ROW.items()}, "x": column})
    rows, bad = read_rows(path)
    assert rows["row"].to_list() == [1]
    assert [(line["row"], line["reason"]) for line in bad] == [(2, "no_value")]
    assert "'x'" in bad[0]["detail"]
    assert why in bad[0]["detail"]


def test_times_leave_as_iso_8601(tmp_path):
    table = pa.table(
        {
            **{k: [v] for k, v in ROW.items()},
            "zoned": pa.array([0], pa.timestamp("us", "America/New_York")),
            "fine": pa.array([1], pa.timestamp("ns")),
            "span": pa.array([90_000_000_001], pa.duration("us")),
            "back": pa.array([-1], pa.duration("ns")),
        }
    )
    pq.write_table(table, tmp_path / "d.parquet")
    assert json.loads(read_rows(tmp_path / "d.parquet")[0]["extra"].item()) == {
        "zoned": "1969-12-31T19:00:00-05:00",
        "fine": "1970-01-01T00:00:00.000000001",
        "span": "P1DT3600.000001S",
        "back": "-P0DT0.000000001S",
    }


def test_keys_and_columns_cost_no_more_than_their_number():
    names = [f"c{at}" for at in range(20_000)]
    begun = time.process_time()
    text = io.StringIO()
    csv.writer(text).writerows([names, names])
    [(_, row)] = csv_rows(io.BytesIO(text.getvalue().encode()), "d.csv")
    assert len(row) == 20_000
    with pytest.raises(BadRow, match="'c19999' is given more than once"):
        parse(json.dumps(dict.fromkeys(names, 1)).replace("}", ', "c19999": 2}').encode())
    assert time.process_time() - begun < 2


def test_a_cell_that_is_too_long_says_so(monkeypatch):
    monkeypatch.setattr("siftune.curate.io.tabular.MAX_LINE", 100)
    with pytest.raises(DataError, match="line 2: a cell is longer than 100 bytes; is a quote"):
        list(csv_rows(io.BytesIO(b"a,b\nx," + b"y" * 200 + b"\n"), "d.csv"))
    csv.field_size_limit(64 << 20)
