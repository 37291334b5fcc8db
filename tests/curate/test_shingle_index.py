"""The index of shingles: later rows against all that was kept before, and nothing believed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from siftune.curate.core.errors import DataError, UsageError
from siftune.curate.runners.run import run
from siftune.curate.runs.recipe import parse
from tests.curate.test_dedup import BASE, chats, kept, near_copies, told


@pytest.mark.parametrize("candidates", ["exact", "minhash"])
def test_an_index_keeps_what_one_run_keeps_that_ranks_earlier_rows_first(
    tmp_path: Path, candidates: str
) -> None:
    rows = near_copies(240)
    rows = rows.with_columns(id="x" + pl.col("id"), turn=pl.Series([0.0] * 140 + [-1.0] * 100))
    options = {"of": "response", "ngram": 2, "candidates": candidates}
    whole = told("minhash_dedup", rows, by="turn", **options)
    index = str(tmp_path / "index")
    first = told("minhash_dedup", rows[:140], index=index, **options)
    second = told("minhash_dedup", rows[140:], index=index, **options)
    assert kept(first) | kept(second) == kept(whole)
    assert 0 < len(kept(second)) < 100
    of_first = [detail for reason, detail in second.values() if reason.endswith("_of_reference")]
    assert of_first
    assert {detail["survivor"] for detail in of_first} <= kept(first)
    for part, answer in ((rows[:140], first), (rows[140:], second)):
        assert told("minhash_dedup", part.reverse(), index=index, **options) == answer


def test_an_index_of_other_shingles_is_refused(tmp_path: Path) -> None:
    index = str(tmp_path / "index")
    told("minhash_dedup", chats([BASE]), index=index, ngram=3)
    with pytest.raises(UsageError, match=r"is an index of .*'ngram': 3"):
        told("minhash_dedup", chats([BASE]), index=index, ngram=4)


_NOTE = "expected the settings and the segments of an index"


@pytest.mark.parametrize(
    ("note", "said"),
    [
        (lambda facts: {}, _NOTE),
        (lambda facts: [], _NOTE),
        (lambda facts: facts | {"stretches": ["../../etc/passwd"]}, _NOTE),
        (lambda facts: facts | {"stretches": [{"key": "../x", "sha256": "0"}]}, _NOTE),
        (lambda facts: facts | {"stretches": facts["stretches"][::-1]}, None),
        (
            lambda facts: (
                facts
                | {
                    "stretches": [
                        one | {"sha256": other["sha256"]}
                        for one, other in zip(
                            facts["stretches"], facts["stretches"][::-1], strict=True
                        )
                    ]
                }
            ),
            "found other bytes than were written",
        ),
    ],
)
def test_what_is_not_an_index_is_refused_in_a_line(tmp_path: Path, note: Any, said: Any) -> None:
    index = tmp_path / "index"
    for rows in (["a b c d"], ["e f g h", "i j k l", "m n o p"]):  # one segment each
        told("minhash_dedup", chats(rows), index=str(index), ngram=2)
    facts = note(json.loads((index / "index.json").read_text()))
    (index / "index.json").write_text(json.dumps(facts))
    if said is None:  # another order of whole segments is an index too
        told("minhash_dedup", chats(["x y z", "u v w"]), index=str(index), ngram=2)
        return
    with pytest.raises(DataError, match=said):
        told("minhash_dedup", chats(["x y z", "u v w"]), index=str(index), ngram=2)


@pytest.mark.parametrize("damage", ["gone", "cut", "changed", "other"])
def test_a_damaged_segment_of_an_index_is_refused(tmp_path: Path, damage: str) -> None:
    index = tmp_path / "index"
    told("minhash_dedup", chats([BASE]), index=str(index), ngram=2)
    (segment,) = index.glob("*.parquet")
    whole = segment.read_bytes()
    middle = len(whole) // 2
    if damage == "gone":
        segment.unlink()
    elif damage == "other":
        pl.DataFrame({"id": ["x"], "hashes": [[1]]}).write_parquet(segment)
    else:
        changed = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
        segment.write_bytes(whole[:middle] if damage == "cut" else changed)
    with pytest.raises(DataError, match="expected a segment of the index, found"):
        told("minhash_dedup", chats(["x y z", "u v w"]), index=str(index), ngram=2)


def test_a_run_whose_index_is_gone_makes_it_again(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"prompt": "q", "completion": BASE}) + "\n")
    index = tmp_path / "index"
    stage = {"select": "minhash_dedup", "index": str(index)}
    recipe = parse({"name": "a", "source": str(rows), "stages": [stage]})
    run(recipe, tmp_path / "out")
    names = {path.name for path in index.iterdir()}
    shutil.rmtree(index)
    run(recipe, tmp_path / "out")
    assert {path.name for path in index.iterdir()} == names
