"""UltraFeedback: means of aspects, and the fault that made an overall score of 1 to 10."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

import siftune
from siftune.curate.formats.ultrafeedback import UltraFeedback


def answer(overall: float, *ratings: str) -> dict[str, Any]:
    named = zip(("helpfulness", "honesty", "truthfulness"), ratings, strict=False)
    given = {aspect: {"Rating": rating} for aspect, rating in named}
    text = f"Answer {overall} {' '.join(ratings)}"
    return {"response": text, "annotations": given, "overall_score": overall}


RECORD = {
    "instruction": "Why?",
    "completions": [
        answer(10, "1", "2", "1"),  # the worst, turned to the best
        answer(10, "5", "5", "4"),
        answer(6.5, "3", "N/A", "2"),
        answer(10, "N/A"),
    ],
}


def test_an_overall_score_that_was_one_is_marked_and_does_not_count() -> None:
    (row,) = UltraFeedback().read(RECORD)
    assert row["scores"] == [pytest.approx(4 / 3), pytest.approx(14 / 3), 2.5, None]
    marked = ["overall_score_was_1" in {one["name"] for one in of} for of in row["attributes"]]
    assert marked == [True, False, False, False]


def test_the_record_is_written_without_the_mark() -> None:
    (row,) = UltraFeedback().read(RECORD)
    again = UltraFeedback().write(row)
    assert again["completions"][0] == RECORD["completions"][0]


def test_it_is_said_when_a_file_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (
        UltraFeedback().notes([{"instruction": "x", "completions": RECORD["completions"][1:]}])
        == []
    )
    (line,) = UltraFeedback().notes([RECORD, {"instruction": "x", "completions": []}])
    assert "of the first 4 answers 1 have an overall_score of 10 and aspects of 2 or less" in line
    (tmp_path / "uf.jsonl").write_bytes(orjson.dumps(RECORD))
    (pair,) = siftune.read(tmp_path / "uf.jsonl", pairs="best_worst")
    assert pair["chosen"][0]["content"] == RECORD["completions"][1]["response"]
    assert pair["rejected"][0]["content"] == RECORD["completions"][0]["response"]
