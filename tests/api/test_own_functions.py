"""A user's own functions as scorers and selectors of rows."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

import siftune as sf

TEXT = "the cat sat on a mat and looked at the wide blue sea beyond the old town wall"
RECORDS = [
    {"prompt": f"Write {n} words.", "response": " ".join(TEXT.split()[:n])}
    for n in (2, 9, 5, 12, 5, 16, 3)
]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("raw") / "rows.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in RECORDS))
    return path


def vowels(response: str) -> int:
    """Vowels of the answer."""
    return sum(letter in "aeiou" for letter in response)


def short(table: pl.DataFrame) -> pl.Series:
    """Rows of few vowels."""
    return table["vowels"] < 10


def test_a_function_is_a_scorer_and_a_selector(file):
    rows = sf.read(file).score(vowels).select(short)
    assert rows.kept["vowels"].to_list() == [2, 5, 5, 3]
    assert set(rows.dropped["reason"]) == {"not_short"}
    assert sf.scorer(vowels)(pl.DataFrame(RECORDS[:2]))["vowels"].to_list() == [2, 11]
    assert sf.selector(short)(rows.kept)["keep"].all()
    assert sf.selector(short)(pl.DataFrame({"vowels": [3, 30]}))["keep"].to_list() == [True, False]


def test_a_function_of_texts_is_called_with_frames_of_any_layout():
    alpaca = pl.DataFrame({"instruction": ["Hi", "Ho"], "output": ["a b", "c"]})
    assert sf.scorer(vowels)(alpaca)["vowels"].to_list() == [1, 0]
    wide = sf.selector(lambda prompt, response: len(response) > len(prompt))
    assert wide(alpaca)["keep"].to_list() == [True, False]


def test_a_function_in_a_file_is_named_by_its_path(file, tmp_path):
    code = tmp_path / "mine.py"
    code.write_text("def long(response: str, least: int = 3) -> bool:\n    ")
    with code.open("a") as lines:
        lines.write("return len(response.split()) >= least\n")
    rows = sf.read(file).select(f"{code}:long", least=9)
    assert rows.kept["row"].to_list() == [2, 4, 6]
    assert sf.run(rows.recipe, tmp_path / "out").kept.equals(rows.kept)


def test_a_function_that_is_defined_anew_is_run_anew_under_its_own_name():
    rows = sf.read(RECORDS)
    least = 3

    def rule(response: str) -> bool:
        return len(response.split()) >= least

    first = rows.select(rule)
    least = 9
    assert [len(first), len(rows.select(rule))] == [6, 3]

    def rule(response: str) -> bool:
        return True

    again = rows.select(rule)
    assert len(again) == 7
    assert set(again.decisions["stage"]) == {"1:rule"}


def test_what_a_function_uses_by_name_counts_and_its_place_does_not():
    rows = sf.read(RECORDS)
    wanted = {9}

    def rule(response: str) -> bool:
        return len(response.split()) in wanted

    assert len(rows.select(rule)) == 1
    wanted.add(12)
    two = rows.select(rule)
    assert len(two) == 2
    both = rows.select(lambda response: "sea" in response).select(
        lambda response: "old" in response
    )
    assert len(both) == 1

    def rule(response: str) -> bool:  # the same again, as a cell that is run once more
        return len(response.split()) in wanted

    assert rows.select(rule).recipe == two.recipe
