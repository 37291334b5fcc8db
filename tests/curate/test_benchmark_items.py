"""Benchmark files in any layout, and what `contamination` finds by them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import orjson
import polars as pl
import pytest

from siftune.curate.core.errors import DataError
from siftune.curate.core.schema import TURNS
from siftune.curate.dedup.benchmark_items import check_items, read_items
from siftune.curate.rows.chat import turn
from siftune.curate.scorers.contamination import Contamination
from siftune.curate.vectors.embed import Embedder

ASKED = "Which river is longer, the Elbe or the Weser"
CHOICES = ["the Elbe", "the Weser"]
WITH = "\n".join([ASKED, *CHOICES])

LAYOUTS: dict[str, tuple[dict[str, Any], tuple[str | None, ...]]] = {
    "question, choices": ({"question": ASKED, "choices": CHOICES, "answer": 0}, (ASKED, WITH)),
    "lettered": ({"question": ASKED, "A": CHOICES[0], "B": CHOICES[1]}, (ASKED, WITH)),
    "labelled choices": (
        {"id": "q", "question": ASKED, "choices": {"text": CHOICES, "label": ["A", "B"]}},
        (ASKED, WITH),
    ),
    "stem": (
        {"question": {"stem": ASKED, "choices": [{"text": t, "label": "x"} for t in CHOICES]}},
        (ASKED, WITH),
    ),
    "context": ({"ctx_a": "It is.", "ctx": ASKED, "endings": CHOICES, "label": 1}, (ASKED, WITH)),
    "premise": (
        {"premise": ASKED, "choice1": CHOICES[0], "choice2": CHOICES[1], "question": "cause"},
        (ASKED, WITH),
    ),
    "question_stem": ({"id": "q", "question_stem": ASKED, "answerKey": "A"}, (ASKED, None)),
    "startphrase": ({"startphrase": ASKED, "sent2": "It", "ending0": "is."}, (ASKED, None)),
    "no known key": ({"wording": ASKED, "note": "one of two"}, (ASKED, None)),
    "goal": ({"goal": ASKED, "sol1": CHOICES[0], "sol2": CHOICES[1], "label": 0}, (ASKED, WITH)),
    "problem": ({"problem": ASKED, "level": "1", "solution": "The Elbe."}, (ASKED, None)),
    "capital letters": ({"Type": "x", "Question": ASKED, "Best Answer": "Elbe"}, (ASKED, None)),
    "inside": ({"doc_id": 1, "doc": {"question": ASKED}, "target": "B"}, (ASKED, None)),
    "examples": ({"canary": "x", "examples": [{"input": ASKED, "target": "B"}]}, (ASKED, None)),
    "paragraphs": (
        {
            "version": "1",
            "data": [
                {"paragraphs": [{"context": "Rivers are long.", "qas": [{"question": ASKED}]}]}
            ],
        },
        (ASKED, None),
    ),
}


def written(path: Path, *records: dict[str, Any]) -> str:
    path.write_bytes(b"".join(orjson.dumps(one) + b"\n" for one in records))
    return str(path)


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_question_is_found_in_any_layout(name: str, tmp_path: Path) -> None:
    record, expected = LAYOUTS[name]
    path = written(tmp_path / "bench.jsonl", record)
    check_items(path)
    items, unread = read_items(path)
    assert (items.select("prompt", "with_choices").rows(), unread) == ([expected], 0)
    assert items["id"].to_list() == ["bench:1"]


def test_a_table_without_a_head_has_its_first_row_too(tmp_path: Path) -> None:
    path = tmp_path / "bench.csv"
    path.write_text(f'"{ASKED}",10,20,A\nWhat is it that both of them run into,12,24,B\n')
    check_items(str(path))
    items, unread = read_items(str(path))
    assert (items["prompt"].to_list(), unread) == (
        [ASKED, "What is it that both of them run into"],
        0,
    )
    assert items["id"].to_list() == ["bench:1.head", "bench:1"]
    assert items["with_choices"].to_list()[0] == f"{ASKED}\n10\n20\nA"


def test_each_line_of_a_text_is_an_item(tmp_path: Path) -> None:
    path = tmp_path / "bench.txt"
    path.write_text(f"{ASKED}\n\nAnd why?\n")
    check_items(str(path))
    items, _ = read_items(str(path))
    assert items.select("id", "prompt").rows() == [("bench:1", ASKED), ("bench:3", "And why?")]


def test_files_of_a_folder_may_differ_in_layout_and_kind(tmp_path: Path) -> None:
    (tmp_path / "test").mkdir()
    pl.DataFrame([LAYOUTS["question, choices"][0]]).write_parquet(tmp_path / "test" / "a.parquet")
    pl.DataFrame([LAYOUTS["lettered"][0]]).write_csv(tmp_path / "b.csv")
    written(tmp_path / "c.jsonl", {"question_id": 7, "turns": [ASKED, "And why?"]}, {"x": 1})
    items, unread = read_items(str(tmp_path))
    assert unread == 1
    assert items.select("id", "prompt", "with_choices").rows() == [
        ("b:1", None, WITH),  # two records ask this, with choices
        ("c:1.1", ASKED, None),
        ("c:1.2", "And why?", None),
        ("a:1", None, WITH),
    ]


def test_a_question_that_several_records_have_is_an_item_only_with_its_choices(
    tmp_path: Path,
) -> None:
    records = [
        {
            "question": "Which of these is true?",
            "choices": [f"Case {word} of the rivers and lakes", "No case"],
        }
        for word in ("alpha", "beta")
    ]
    path = written(tmp_path / "bench.jsonl", *records)
    messages = [[turn("user", text)] for text in ("Which of these is true?", _lettered(records[1]))]
    rows = pl.DataFrame({"messages": pl.Series(messages, dtype=TURNS)})
    found = Contamination(path)(rows)
    assert found["contamination_overlap"].to_list() == [pytest.approx(5 / 14), 1]
    assert found["contamination_item"].to_list()[1] == "bench:2"


def _lettered(record: dict[str, Any]) -> str:
    return " ".join([record["question"], *record["choices"]])


def test_files_without_a_question_are_refused_as_before(tmp_path: Path) -> None:
    path = written(tmp_path / "bench.jsonl", {"x": 1, "y": [2]})
    for read in (check_items, read_items):
        with pytest.raises(DataError, match="no format fits rows with the keys x, y"):
            read(path)


def test_the_cosine_is_that_of_the_nearest_item(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Vectors count letters a, b and c: (2, 1, 0) and (1, 2, 0) have 4 / 5."""

    class Counting:
        dimension = 3

        def encode(self, texts: list[str]) -> Any:
            vectors = [[text.count(letter) for letter in "abc"] for text in texts]
            return type("Embedded", (), {"vectors": np.array(vectors, np.float32)})

    monkeypatch.setattr(Contamination, "_embedder", Counting())
    path = written(tmp_path / "items.jsonl", *({"prompt": text} for text in ("abb", "ccc", "bba")))
    messages = [
        [turn("user", text), turn("assistant", "ccc")] for text in ("aab", "cab", "xyz")
    ] + [[]]
    rows = pl.DataFrame({"messages": pl.Series(messages, dtype=TURNS)})
    scorer = Contamination(path, model="counting")
    found = scorer(rows)
    assert list(found.schema) == list(scorer.adds)
    near = found["contamination_cosine"].to_list()
    assert near == [pytest.approx(0.8), pytest.approx(3 / 15**0.5), None, None]
    names = found["contamination_cosine_item"].to_list()
    assert names == ["items:1", "items:1", None, None]


def test_the_model_of_the_cosine_is_in_the_key(tmp_path: Path) -> None:
    path = written(tmp_path / "items.jsonl", {"prompt": ASKED})
    assert Contamination(path).describe() == {}
    assert Contamination(path, model="minilm").describe() == Embedder("minilm").describe()
