"""Refusals on rows that were made up and labelled before the patterns were written.

`refusal_rows.jsonl` has a manner for each: five of refusals, and `helps` for answers that begin
like one, or use its words, and help. The patterns were mended after the first look at each set.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import polars as pl
import pytest

from siftune.curate.text.refusals import refusals

MANNERS = ("cannot", "will_not", "not_appropriate", "lecture", "redirect")


@cache
def rows() -> pl.DataFrame:
    table = pl.read_ndjson(Path(__file__).with_name("refusal_rows.jsonl"))
    return table.with_columns(found=refusals(table["prompt"], table["answer"]))


@pytest.mark.parametrize("manner", MANNERS)
def test_each_manner_of_refusing_is_found(manner: str) -> None:
    refused = rows().filter(manner=manner)
    assert refused.height >= 35
    assert refused["found"].mean() >= 0.9


def test_answers_that_begin_like_a_refusal_and_help_are_none() -> None:
    found = rows().filter("found")
    assert rows().filter(manner="helps").height >= 100
    assert (found["manner"] != "helps").mean() >= 0.98


def test_help_after_the_first_sentence_decides() -> None:
    sorry = "I'm sorry, but I can't browse the web."
    steps = "Open the site of the city, choose Services, then Waste, and enter your street there."
    prompts = pl.Series(["When is the waste collected?"] * 2)
    answers = pl.Series([sorry, f"{sorry} Here is how you find out. {steps}"])
    assert refusals(prompts, answers).to_list() == [True, False]


def test_a_row_without_an_answer_has_no_verdict() -> None:
    answers = pl.Series([None, ""], dtype=pl.String)
    assert refusals(pl.Series(["Hi", None]), answers).to_list() == [None, False]
