"""The survivor of a duplicate may be a row of a reference: it is told from the table's own rows."""

from __future__ import annotations

import gc
import json
import os
from pathlib import Path

import polars as pl
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
    (name,) = rows.dropped["reference"]  # no temporary path
    assert name.startswith("references/against-")
    why = rows.explain("t:1")
    assert why.survivor["messages"][-1]["content"] == LONG.format("A")
    assert f"survivor t:1 of {name}:" in repr(why)


def test_a_saved_run_keeps_the_rows_in_memory_that_it_was_compared_with(files, tmp_path):
    _, new = files
    earlier = [{"prompt": "Tell me.", "response": LONG.format("A")}]
    rows = sf.read(new).dedup("exact", against=earlier)
    assert "source_help" in rows.recipe
    saved = rows.save(tmp_path / "a")
    assert "source_help" not in saved.recipe
    assert saved.dropped.equals(rows.dropped)
    (name,) = saved.dropped["reference"]
    assert rows.save(tmp_path / "a").counts == saved.counts  # the same again
    other = sf.read(new).dedup("exact", against=[*earlier, *earlier])
    with pytest.raises(sf.UsageError, match="has another run"):
        other.save(tmp_path / "a")
    recipe, temporary = saved.recipe, Path(rows.recipe["stages"][0]["against"])
    del rows, other, saved
    gc.collect()
    assert not temporary.exists()  # as at the end of the process
    assert sf.run(recipe, tmp_path / "b").dropped["reference"].to_list() == [name]
    (tmp_path / "a").rename(tmp_path / "c")
    moved = sf.open_run(tmp_path / "c")
    assert len(moved.select("random", rows=1).save(tmp_path / "d")) == 1
    assert moved.explain("t:1").survivor is not None


@pytest.mark.parametrize("none", [[], (), pl.DataFrame(), pl.LazyFrame({"a": []})])
def test_nothing_earlier_drops_nothing(files, none):
    rows = sf.read(files[1])
    found = rows.dedup("exact", against=none)
    assert found.counts["dropped"] == 0
    nothing = rows.select(lambda response: False)
    assert rows.dedup("exact", against=nothing).counts == found.counts
    with pytest.raises(sf.UsageError, match=r"^against: it has no rows"):
        rows.score("contamination", against=none)
    with pytest.raises(sf.DataError, match=r"^against: "):
        rows.dedup("exact", against=[{"nonsense": 1}])


def test_rows_are_saved_as_they_are_or_not_at_all(tmp_path):
    file, code = tmp_path / "w.jsonl", tmp_path / "mine.py"
    record = json.dumps({"prompt": "Say", "response": "It is so."}) + "\n"
    file.write_text(record)
    code.write_text("def size(response: str) -> int:\n    return len(response)\n")
    rows = sf.read(file).score(f"{code}:size")
    code.write_text(code.read_text() + "\n\nMORE = 1\n")
    assert rows.save(tmp_path / "a").kept["size"].to_list() == [9]
    code.write_text(code.read_text().replace("len(response)", "2"))
    with pytest.raises(sf.DataError, match="has changed and gives others now"):
        rows.save(tmp_path / "b")
    counted = sf.read(file).score(f"{code}:size")
    file.write_text(record * 2)
    with pytest.raises(sf.DataError, match="has changed and gives others now"):
        counted.save(tmp_path / "b")
    assert not (tmp_path / "b").exists()


def test_a_survivor_of_an_earlier_run_is_a_row_of_the_index(files, tmp_path):
    old, new = files
    index = tmp_path / "index"
    sf.read(old).dedup("minhash", index=str(index))
    rows = sf.read(new).dedup("minhash", threshold=0.99, index=str(index))
    assert rows.explain("t:3").detail["reference"] == str(index)
    assert "text cannot be read now" in repr(rows.explain("t:3"))
