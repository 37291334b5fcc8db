"""What a finished run left is taken only as it was written; what was changed is made again."""

from __future__ import annotations

import fcntl
import io
import json
import os
import shutil
from pathlib import Path

import polars as pl
import pytest

from siftune.curate.core.errors import DataError, LockedError
from siftune.curate.files.atomic import locked
from siftune.finetune.data.training_rows import load
from tests.fuzz.commands import called

ROWS = [{"prompt": f"Say {i}.", "completion": f"{i}"} for i in range(9)] + [{"prompt": 1}]
RECIPE = """
source: d.jsonl
stages:
  - score: length
  - select: random
    rows: 6
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        (folder / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
        (folder / "r.yaml").write_text(RECIPE)
        assert called("curate", "run", "r.yaml", "--out", "run").code == 4
    return folder


@pytest.fixture
def here(finished, tmp_path, monkeypatch):
    """A copy of the folder of the run."""
    shutil.copytree(finished, tmp_path / "w", ignore=shutil.ignore_patterns(".siftune_cache"))
    monkeypatch.chdir(tmp_path / "w")
    monkeypatch.setenv("SIFTUNE_STAGE_CACHE", "")
    return tmp_path / "w"


def _flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(content)


def _fewer(path):
    pl.read_parquet(path).head(2).write_parquet(path)


def _twice(path):
    pl.concat([pl.read_parquet(path)] * 2).write_parquet(path)


def _pipe(path):
    path.unlink()
    os.mkfifo(path)


EXPLAIN, EXPORT = ("curate", "explain", "run", "d:1"), ("curate", "export", "run", "--out", "ex")
REPORT, AGAIN = ("report", "run"), ("curate", "run", "r.yaml", "--out", "run")


@pytest.mark.parametrize(
    ("file", "command"),
    [
        ("kept.parquet", EXPORT),
        ("ledger.parquet", EXPORT),
        ("ledger.parquet", EXPLAIN),
        ("ledger.parquet", REPORT),
        ("quarantine.jsonl", REPORT),
        ("stages/length-*.parquet", EXPLAIN),
        ("stages/length-*.parquet", REPORT),
    ],
    ids=lambda value: value if isinstance(value, str) else value[1],
)
def test_a_changed_file_of_a_run_is_refused_until_it_is_made_again(here, file, command):
    (path,) = (here / "run").glob(file)
    whole = path.read_bytes()
    for change in (_flip, _pipe, *((_fewer, _twice) if path.suffix == ".parquet" else ())):
        change(path)
        done = called(*command)
        assert (done.code, done.problem()) == (3, None), (change, done)
        assert path.name in done.message
        assert "run the command that wrote it again" in done.message
        if change is _pipe:
            path.unlink()
        assert called(*AGAIN).code == 4
        assert path.read_bytes() == whole
    assert called(*command).code == 0


def test_a_run_is_no_source_with_rows_that_it_did_not_keep(here):
    words = ("curate", "select", "run", "random", "--rows", "2", "--out")
    assert called(*words, "whole").code == 0
    _fewer(here / "run/kept.parquet")
    done = called(*words, "new")
    assert (done.code, done.problem()) == (3, None), done
    assert "kept.parquet was damaged or changed" in done.message
    assert called("curate", "ingest", "run/kept.parquet", "--out", "own").code == 0


def test_training_takes_no_changed_rows_from_a_run(here):
    assert load("run", ["conversation"]).height == 6
    _fewer(here / "run/kept.parquet")
    with pytest.raises(DataError, match=r"kept\.parquet was damaged or changed"):
        load("run", ["conversation"])
    assert load("run/kept.parquet", ["conversation"]).height == 2  # named as a file of one's own


@pytest.mark.parametrize(
    ("stage", "facts"),
    [
        ("ingest", {"quarantined": 0}),
        ("ingest", {"rows_in": 1}),
        ("length", {"rows": 1}),
        ("length", {"columns": "x"}),
        ("random", {"reasons": "x"}),
        ("random", {"kept": 9}),
    ],
)
def test_the_note_of_a_stage_is_believed_only_as_it_was_written(here, stage, facts):
    (note,) = (here / "run/stages").glob(f"{stage}-*.json")
    manifest = here / "run/manifest.json"
    before = json.loads(manifest.read_bytes())
    content = json.loads(note.read_bytes())
    content["facts"] |= facts
    content["facts"].pop("quarantine_sha256", None)
    note.write_text(json.dumps(content))
    done = called(*AGAIN)
    assert (done.code, done.problem()) == (4, None), done
    after = json.loads(manifest.read_bytes())
    assert {**before, "clock": 0} == {**after, "clock": 0}


def _set(where, value):
    def change(manifest):
        *above, last = where
        inner = manifest
        for key in above:
            inner = inner[key]
        inner[last] = value

    return change


@pytest.mark.parametrize(
    ("where", "value"),
    [
        (["kind"], 1),
        (["kind"], "chat"),
        (["clock"], {"ingest": 1}),
        (["clock", "ingest", "seconds"], "long"),
        (["counts", "kept"], 31),
        (["counts", "rows"], None),
        (["stages"], []),
        (["stages", 0, "kept"], None),
        (["stages", 1, "key"], "../../../../x"),
        (["stages", 1, "stage"], "1:../x"),
        (["stages", 2, "reasons"], {"kept/random": "all"}),
        (["stages", 1], {"stage": "1:length", "key": "0" * 32, "sha256": "0" * 64, "rows": 9}),
        (["stages", 2, "columns"], ["x"]),
        (["inputs", 0], {"path": 1}),
        (["outputs"], {"kept.parquet": None}),
        (["recipe", "name"], None),
    ],
    ids=str,
)
def test_a_manifest_of_another_form_is_named_with_the_key(here, where, value):
    path = here / "run/manifest.json"
    manifest = json.loads(path.read_bytes())
    _set(where, value)(manifest)
    path.write_text(json.dumps(manifest))
    for command in (EXPLAIN, EXPORT, REPORT):
        done = called(*command)
        assert (done.code, done.problem()) == (3, None), done
        assert "run/manifest.json is damaged (" + where[0] in done.message
    assert called(*AGAIN).code == 4
    assert called(*EXPLAIN).code == 0


@pytest.mark.parametrize("file", ["manifest.json", "stages/length-*.json", ".siftune", ".lock"])
def test_a_pipe_in_place_of_a_small_file_is_not_waited_for(here, file):
    (path,) = (here / "run").glob(file)
    _pipe(path)
    for command in (EXPLAIN, EXPORT, REPORT, AGAIN):
        assert called(*command).problem() is None


REFUSED = {
    "no such source": ["ingest", "none.jsonl"],
    "an unknown format": ["ingest", "d.jsonl", "--format", "none"],
    "a key that is not there": ["ingest", "d.jsonl", "--map", "none=prompt"],
    "all rows set aside": ["ingest", "bad.jsonl"],
    "a column that is not there": ["select", "d.jsonl", "threshold", "--by", "x", "--min", "1"],
    "standard input without a row": ["ingest", "-"],
}


@pytest.mark.parametrize("words", REFUSED.values(), ids=REFUSED)
def test_refused_input_leaves_nothing_that_was_not_there(here, monkeypatch, words):
    Path("bad.jsonl").write_text('{"prompt": 1, "completion": 2}\n')
    Path("empty").mkdir()
    before = sorted(here.rglob("*"))
    for out in ("new", "above/new", "empty"):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b'{"prompt": 1}\n')))
        done = called("curate", *words, "--out", out)
        assert done.code in (2, 3), done
        assert done.problem() is None
        assert sorted(here.rglob("*")) == before, done
    assert called("curate", "ingest", "d.jsonl", "--out", "new").code == 4  # by another command


def test_refused_input_leaves_what_a_run_had_done(here):
    before = sorted((here / "run").rglob("*"))
    Path("d.jsonl").write_text('{"prompt": 1}\n')
    assert called(*AGAIN).code == 3
    assert set(before) <= set((here / "run").rglob("*"))


def test_a_lock_that_was_removed_by_its_holder_is_not_taken(tmp_path, monkeypatch):
    flock = fcntl.flock

    def late(lock, operation):
        (tmp_path / "out/.lock").unlink()
        flock(lock, operation)

    monkeypatch.setattr("fcntl.flock", late)
    with pytest.raises(LockedError, match="run the command again"), locked(tmp_path / "out"):
        pytest.fail("two processes may hold the folder")
