"""Odd and broken input: every case ends as stated, and no record is lost."""

from __future__ import annotations

import json
from pathlib import Path

import orjson
import polars as pl
import pytest

from siftune.curate.core.errors import DataError
from siftune.curate.io.ingest import Ingested, ingest
from tests.curate.bad_input_cases import CASES, Case


@pytest.mark.parametrize("name", CASES)
def test_odd_input_ends_as_stated(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    case.make(folder)
    source = str(folder / case.source)
    if case.refused:
        with pytest.raises(DataError) as error:
            ingest([source], out)
        assert all(word in str(error.value) for word in case.refused), str(error.value)
        assert "\n" not in str(error.value)
        assert not list(out.glob("*"))
    else:
        _check(case, ingest([source], out), out)


def _check(case: Case, done: Ingested, out: Path) -> None:
    rows = pl.read_parquet(out / "rows.parquet")
    bad = [orjson.loads(line) for line in (out / "quarantine.jsonl").read_bytes().splitlines()]
    assert rows["row"].to_list() == list(case.keeps)
    assert {line.get("line", line.get("row")): line["reason"] for line in bad} == case.bad
    assert all(
        line["id"] == f"{line['source']}:{line.get('line', line.get('row'))}" for line in bad
    )
    assert all(line["detail"] for line in bad)
    assert done.rows_in == done.kept + done.quarantined
    assert (done.kept, done.quarantined) == (rows.height, len(bad))
    assert rows["id"].n_unique() == rows.height
    extra = dict(zip(rows["row"], rows["extra"], strict=True))
    for at, expected in case.extra.items():
        assert json.loads(extra[at]) == expected


def test_the_table_has_what_the_issue_asks_for() -> None:
    assert len(CASES) >= 80
