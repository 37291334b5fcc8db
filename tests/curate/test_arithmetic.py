"""Equations in an answer: which are read, and which of them are wrong."""

from __future__ import annotations

import polars as pl
import pytest

from siftune.curate.core.schema import TURNS
from siftune.curate.rows.chat import turn
from siftune.curate.scorers.arithmetic import Arithmetic


def scored(answer: str | None) -> tuple[object, ...]:
    messages = [[turn("user", "How many?"), turn("assistant", answer)]]
    return Arithmetic()(pl.DataFrame({"messages": pl.Series(messages, dtype=TURNS)})).row(0)


@pytest.mark.parametrize(
    "right",
    [
        "He has 48 + 24 = 72 clips.",
        "<<48/2=24>>24 clips",
        "It costs (3 + 4) * $2.50 = $17.50.",
        "1,200 - 200 = 1,000",
        "10 / 3 = 3.33, rounded",
        "20 / 3 = 6.66",
        "0.469 * 5 = 2.35",  # 2.345, rounded up
        "2^20 = 1,048,576",
        "7 / 2 = 3",
        "50% * 30 = 15 and .5*30 = 15",
        "2 × 3 ÷ 4 = 1.5",
        "-3 + 5 = 2",
        "2*3 = 6+1 = 7",
        "1/4 = 25%",
        "1/2 + 1/4 = 3/4",
        "2^3 + 1 = 9 and 3 × 10^2 = 300",
        "3 x $4 = $12",
        "50% of 80 = 40",
        "-3 - 5 = -8",
        "5 * 7/3 = 11",
    ],
)
def test_what_is_right_is_not_wrong(right: str) -> None:
    equations, wrong, share, first = scored(right)
    assert equations >= 1
    assert (wrong, share, first) == (0, 0.0, None)


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("So 48 + 24 = 73 clips.", "48 + 24 = 73"),
        ("<<3*15=46>>46", "3*15 = 46"),
        ("2 + 3 * 4 = 20", "2 + 3 * 4 = 20"),
        ("10 / 4 = 2.4", "10 / 4 = 2.4"),
        ("1/3 = 0.4", "1/3 = 0.4"),
        ("5/8 = 2/3", "5/8 = 2/3"),
        ("1/2 + 1/4 = 2/6", "1/2 + 1/4 = 2/6"),
        ("3 + 1/2 = 4", "3 + 1/2 = 4"),
        ("2^10 = 1000", "2^10 = 1000"),
        ("3 x $4 = $13", "3 x $4 = $13"),
        ("50% of 80 = 45", "50% of 80 = 45"),
        ("-3 + 5 = -2", "-3 + 5 = -2"),
        ("Then 9 - 4 = 5 and 5 * 2 = 11, 1 + 1 = 3.", "5 * 2 = 11"),
    ],
)
def test_what_is_wrong_is_named(text: str, first: str) -> None:
    _, wrong, share, named = scored(text)
    assert wrong >= 1
    assert share > 0
    assert named == first


def test_the_share_is_of_the_equations() -> None:
    assert scored("1 + 1 = 2, 2 + 2 = 5, 3 + 3 = 6, 4 + 4 = 8") == (4, 1, 0.25, "2 + 2 = 5")


@pytest.mark.parametrize(
    "other",
    [
        "x + 3 = 5",
        "2^0.5 = 1",
        "9^9^9 = 1",
        "3 of 5 = 60%",
        "f(2) + 3 = 11",
        "a = 3 + 4",
        "1 / 0 = 0",
        "2 + 2",
        "v1.2-3=4",
        "",
    ],
)
def test_what_is_no_equation_of_numbers_is_not_read(other: str) -> None:
    assert scored(other) == (0, 0, None, None)


def test_without_an_answer_there_is_no_score() -> None:
    assert scored(None) == (None, None, None, None)
