"""The survivor of a duplicate may be a row of a reference: it is told from the table's own rows."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner

import siftune as sf
from siftune.pipelines.cli import siftune as command
from siftune.pipelines.reports.selection_data import Selection

LONG = (
    "The river {} rises in the hills, crosses the wide plain, and reaches the sea by the harbour."
)
OLD = ["nothing that anyone else would say", LONG.format("B")]
NEW = [LONG.format("A"), "a row of the new file that is like no other", LONG.format("B")]


def written(path: Path, answers: list[str]) -> Path:
    path.parent.mkdir(exist_ok=True)
    rows = [{"prompt": "Tell me.", "response": answer} for answer in answers]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """Two files of one name, so that their rows have the same ids."""
    return written(tmp_path / "old/t.jsonl", OLD), written(tmp_path / "new/t.jsonl", NEW)


def explained(run: Path, row: str) -> str:
    return CliRunner().invoke(command, ["curate", "explain", str(run), row]).stdout


@pytest.mark.parametrize("how", [["exact_dedup"], ["minhash_dedup", "--threshold", "0.9"]])
def test_a_survivor_in_the_reference_is_shown_with_its_file(files, tmp_path, how):
    old, new = files
    run = tmp_path / "run"
    call = ["curate", "dedup", str(new), *how, "--against", str(old), "--out", str(run)]
    assert CliRunner().invoke(command, call).exit_code == 0
    text = explained(run, "t:3")
    assert f"survivor t:2 of {old}:" in text
    assert text.count("The river B rises") == 2
    assert "like no other" not in text
    (group,) = Selection(run).duplicates()
    assert group["survivor"]["id"] == f"t:2 of {old}"
    assert "The river B rises" in group["survivor"]["text"]


def test_a_reference_that_changed_or_is_gone_is_named_and_not_read(files, tmp_path):
    old, new = files
    rows = sf.read(new).dedup("exact", against=old)
    later = (rows.folder / "manifest.json").stat().st_mtime + 5
    written(old, NEW)
    os.utime(old, (later, later))
    told = f"survivor t:2 is a row of {old}, whose text cannot be read now"
    assert told in repr(rows.explain("t:3"))
    old.unlink()
    assert told in repr(rows.explain("t:3"))
    assert rows.explain("t:3").survivor is None
    (group,) = Selection(rows.folder).duplicates()
    assert group["survivor"]["text"] == "(its text cannot be read now)"


def test_survivors_among_rows_in_memory_have_their_text(files):
    _, new = files
    earlier = sf.read([{"prompt": "Tell me.", "response": LONG.format("A")}], name="t")
    rows = sf.read(new).dedup("exact", against=earlier)
    assert rows.dropped["reference"].to_list() == ["rows"]  # no temporary path
    why = rows.explain("t:1")
    assert why.survivor["messages"][-1]["content"] == LONG.format("A")
    assert "survivor t:1 of rows:" in repr(why)


def test_a_survivor_of_an_earlier_run_is_a_row_of_the_index(files, tmp_path):
    old, new = files
    index = tmp_path / "index"
    sf.read(old).dedup("minhash", index=str(index))
    rows = sf.read(new).dedup("minhash", threshold=0.99, index=str(index))
    assert rows.explain("t:3").detail["reference"] == str(index)
    assert "text cannot be read now" in repr(rows.explain("t:3"))
