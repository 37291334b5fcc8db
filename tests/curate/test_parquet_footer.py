"""What is read of a Parquet footer is what pyarrow reads, and no footer ends the process."""

from __future__ import annotations

import datetime as dt
import random
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from siftune.curate.core.errors import DataError
from siftune.curate.io.parquet_footer import Chunk, chunks_of
from siftune.curate.io.tabular import parquet_batches

ROWS: list[dict[str, Any]] = [
    {
        "text": f"row {i} " * 3,
        "turns": [{"role": "user", "content": "Hi"}] * (i % 3),
        "score": i / 7,
        "good": i % 2 == 0,
        "nothing": None,
        "when": dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
        "price": Decimal("1.25"),
        "map": [("a", 1)],
    }
    for i in range(50)
]
SCHEMA = pa.schema(
    [
        ("text", pa.string()),
        ("turns", pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))),
        ("score", pa.float64()),
        ("good", pa.bool_()),
        ("nothing", pa.null()),
        ("when", pa.timestamp("us", "UTC")),
        ("price", pa.decimal128(9, 2)),
        ("map", pa.map_(pa.string(), pa.int32())),
    ]
)


def of_pyarrow(path: Path) -> list[list[Chunk]]:
    known = pq.ParquetFile(path).metadata
    groups = [known.row_group(at) for at in range(known.num_row_groups)]
    return [[_chunk(group.column(at)) for at in range(group.num_columns)] for group in groups]


def _chunk(known: pq.ColumnChunkMetaData) -> Chunk:
    return Chunk(
        path=known.path_in_schema,
        is_text=known.physical_type == "BYTE_ARRAY",
        packed=known.compression != "UNCOMPRESSED",
        values=known.num_values,
        unpacked_size=known.total_uncompressed_size,
        size=known.total_compressed_size,
        data_at=known.data_page_offset,
        dictionary_at=known.dictionary_page_offset if known.has_dictionary_page else None,
    )


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"compression": "none", "use_dictionary": False, "row_group_size": 7},
        {"compression": "zstd", "version": "1.0", "write_page_index": True},
        {"data_page_version": "2.0", "write_statistics": False, "row_group_size": 1},
        {"store_schema": False, "write_page_checksum": True, "sorting_columns": None},
    ],
)
def test_it_says_what_pyarrow_says(tmp_path: Path, options: dict[str, Any]) -> None:
    path = tmp_path / "d.parquet"
    pq.write_table(pa.Table.from_pylist(ROWS, SCHEMA), path, **options)
    assert chunks_of(path) == of_pyarrow(path)


def test_a_table_without_rows_has_no_chunks(tmp_path: Path) -> None:
    path = tmp_path / "d.parquet"
    pq.write_table(SCHEMA.empty_table(), path)
    assert chunks_of(path) == of_pyarrow(path)


READ = """
import sys
from pathlib import Path
from siftune.curate.core.errors import DataError
from siftune.curate.io.tabular import parquet_batches
try:
    print(sum(batch.num_rows for batch in parquet_batches(Path(sys.argv[1]))))
except DataError as error:
    print("refused:", error)
"""


def test_a_codec_that_nobody_knows_is_refused_and_ends_no_process(tmp_path: Path) -> None:
    path = tmp_path / "d.parquet"
    pq.write_table(pa.table({"a": ["x"] * 9}), path, compression="snappy")
    content = bytearray(path.read_bytes())
    size = int.from_bytes(content[-8:-4], "little")
    footer = content[-8 - size : -8]
    # ``path_in_schema`` (a list of one text, "a"), and behind it the codec: 1, which is 2 in zigzag
    at = footer.index(b"\x19\x18\x01a\x15\x02")
    footer[at + 5] = 0x7A
    path.write_bytes(content[: -8 - size] + footer + content[-8:])
    done = subprocess.run(
        [sys.executable, "-c", READ, path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"refused: {path}")


def test_damaged_footers_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "d.parquet"
    pq.write_table(pa.Table.from_pylist(ROWS, SCHEMA), path)
    content = path.read_bytes()
    size = int.from_bytes(content[-8:-4], "little")
    draw = random.Random(0)
    for _ in range(300):
        damaged = bytearray(content)
        damaged[len(content) - 8 - draw.randrange(1, size)] = draw.randrange(256)
        path.write_bytes(damaged)
        try:
            chunks_of(path)
        except pa.ArrowInvalid as error:
            assert "the footer is damaged" in str(error)  # noqa: PT017 - most of them are whole
    path.write_bytes(content[:-8] + b"\xff\xff\xff\x7fPAR1")
    with pytest.raises(DataError, match=str(path)):
        next(parquet_batches(path))
