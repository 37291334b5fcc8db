"""Every odd input again, as a user meets it: one line, the documented exit code, nothing lost.

One of each outcome and kind of file is in the quick tests; `test_bad_input` has all of them there.
"""

import json
import sys
from pathlib import Path

import polars as pl
import pytest

from siftune.pipelines.cli import _run
from tests.curate.bad_input_cases import CASES, Case


def _outcome(case: Case) -> tuple[object, ...]:
    refused = case.refused[1:2] if case.refused else ()
    return Path(case.source).suffix, bool(case.keeps), *sorted(set(case.bad.values())), *refused


FIRST = {_outcome(case): case.name for case in reversed(CASES.values())}


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, marks=() if FIRST[_outcome(case)] == name else pytest.mark.slow, id=name)
        for name, case in CASES.items()
    ],
)
def test_it_ends_with_the_documented_code_and_loses_nothing(case, tmp_path, monkeypatch, capsys):
    case.make(tmp_path)
    source, out = str(tmp_path / case.source), tmp_path / "out"
    monkeypatch.setattr(sys, "argv", ["siftune", "curate", "ingest", source, "--out", str(out)])
    code = _run()
    said = capsys.readouterr()
    assert "Traceback" not in said.err
    if case.refused:
        assert code in (2, 3)
        assert said.out == ""
        last = said.err.strip().splitlines()[-1]
        assert last.startswith("siftune: ")
        assert all(words in last for words in case.refused)
        assert not (out / "kept.parquet").exists()
        return
    assert code == (4 if case.bad else 0)
    ledger = pl.read_parquet(out / "ledger.parquet")
    decisions = ledger["decision"].value_counts()
    counted = dict(decisions.iter_rows())
    assert counted.get("kept", 0) == len(case.keeps)
    assert counted.get("quarantined", 0) == len(case.bad)
    listed = [json.loads(text) for text in (out / "quarantine.jsonl").read_text().splitlines()]
    assert {bad.get("line", bad.get("row")): bad["reason"] for bad in listed} == case.bad
