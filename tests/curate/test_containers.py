"""Files, folders and streams of raw records: nothing in them is passed over without a word."""

from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path

import polars as pl
import pytest

from siftune.curate.core.errors import DataError
from siftune.curate.files.output_marker import Marker, write_marker
from siftune.curate.io.ingest import read_rows
from siftune.curate.io.source_parts import expand


def shard(path: Path, rows: int = 2) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    made = [{"instruction": f"Say {at}.", "output": f"{at}"} for at in range(rows)]
    path.write_text("".join(json.dumps(row) + "\n" for row in made))
    return path


def own_table(path: Path) -> None:
    read_rows(shard(path.parent.parent / "raw.jsonl"))[0].write_parquet(path)


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda path: path.symlink_to("nowhere"), "b.jsonl: a link that leads nowhere"),
        (os.mkfifo, "b.jsonl: a pipe, not a file: name it by itself"),
    ],
    ids=["dead link", "pipe"],
)
def test_a_shard_that_is_no_file_is_refused(make, why, tmp_path):
    shard(tmp_path / "s/a.jsonl")
    make(tmp_path / "s/b.jsonl")
    with pytest.raises(DataError, match=why):
        read_rows(tmp_path / "s")


def test_links_to_shards_are_read_and_links_to_folders_are_named(tmp_path):
    shard(tmp_path / "s/a.jsonl")
    (tmp_path / "s/b.jsonl").symlink_to(shard(tmp_path / "elsewhere/x.jsonl"))
    (tmp_path / "s/more").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "s/README").touch()
    parts = expand(str(tmp_path / "s"))
    assert [Path(part.shown).name for part in parts] == ["a.jsonl", "b.jsonl"]
    assert [note.partition("s: ")[2] for note in parts[0].notes] == [
        "not data and left out: README",
        "links to folders are left out: more",
    ]


def test_a_folder_of_shards_that_may_not_be_read_is_refused(tmp_path, monkeypatch):
    shard(tmp_path / "s/a.jsonl")
    shard(tmp_path / "s/closed/b.jsonl")
    scandir = os.scandir

    def closed(path):
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", closed)
    with pytest.raises(DataError, match="closed cannot be read: Permission denied"):
        read_rows(tmp_path / "s")


@pytest.mark.parametrize("name", ["rows.parquet", "kept.parquet"])
def test_a_table_of_the_users_is_a_shard_whatever_its_name(name, tmp_path):
    shard(tmp_path / "s/more.jsonl", 12)
    pl.DataFrame({"instruction": ["q"], "output": ["a"]}).write_parquet(tmp_path / "s" / name)
    rows, _ = read_rows(tmp_path / "s")
    assert rows.height == 13


def test_data_beside_a_table_of_ours_is_named(tmp_path):
    (tmp_path / "run").mkdir()
    own_table(tmp_path / "run/kept.parquet")
    (tmp_path / "run/ledger.parquet").touch()
    (tmp_path / "run/train-2.parquet").touch()
    write_marker(tmp_path / "run", Marker("curate run", ("train-{number}.parquet",)))
    assert expand(str(tmp_path / "run"))[0].notes == ()
    shard(tmp_path / "run/more.jsonl")
    [note] = expand(str(tmp_path / "run"))[0].notes
    assert note.endswith("run: tables that siftune wrote are read alone, left out: more.jsonl")


def test_standard_input_that_may_never_end_is_refused(monkeypatch):
    with open("/dev/zero") as zeros:  # noqa: PTH123
        monkeypatch.setattr(sys, "stdin", zeros)
        with pytest.raises(DataError, match="standard input is a device, which may never end"):
            expand("-")


def test_a_stream_of_zeros_is_refused_before_it_fills_the_disk(monkeypatch):
    class Zeros(io.RawIOBase):
        def readable(self) -> bool:
            return True

        def readinto(self, buffer) -> int:
            buffer[:] = bytes(len(buffer))
            return len(buffer)

    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(Zeros())))
    with pytest.raises(DataError, match="stdin begins with 1,048,576 NUL bytes"):
        expand("-")


def test_empty_standard_input_is_empty_not_a_device(monkeypatch):
    with open(os.devnull) as nothing:  # noqa: PTH123
        monkeypatch.setattr(sys, "stdin", nothing)
        with pytest.raises(DataError, match="is empty"):
            expand("-")


def test_a_block_of_very_short_lines_is_read_like_any_other(tmp_path, monkeypatch):
    path = shard(tmp_path / "d.jsonl", 5)
    path.write_text(path.read_text() + "1\n\n" * 300)
    line_by_line = read_rows(path)
    monkeypatch.setattr("siftune.curate.io.reading._BLOCKS", 0)
    monkeypatch.setattr("siftune.curate.io.reading._ROWS", 100)
    rows, bad = read_rows(path)
    assert rows.equals(line_by_line[0])
    assert bad == line_by_line[1]
    assert len(bad) == 300
    assert read_rows(path, limit=17)[1] == bad[:12]
