"""Agreement with known answers: numbers, choices, texts and formulas; what cannot be read."""

from __future__ import annotations

import json
import sys

import polars as pl
import pytest

from siftune.curate.core.errors import UsageError
from siftune.curate.core.schema import TURNS
from siftune.curate.rows.chat import turn
from siftune.curate.scorers.known_answer import KnownAnswer

NO_PATHS = ["answer"]


def scored(answer: str | None, known: object, **options: str) -> tuple[object, ...]:
    messages = [[turn("user", "How many?"), turn("assistant", answer)]]
    table = {"messages": pl.Series(messages, dtype=TURNS), "extra": [json.dumps({"answer": known})]}
    return KnownAnswer(**options)(pl.DataFrame(table)).row(0)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("answer", "known", "given"),
    [
        ("6 + 6 = 12\n#### 12", "12", "12"),
        ("6 + 6 = 12\n#### 12", "First 6, then 6.\n#### 12", "12"),
        (r"So $x = \boxed{\frac{1}{2}}$.", "0.5", r"\frac{1}{2}"),
        ("The answer is 1,200 apples.", "1200", "1,200"),
        ("**Answer:** $18.00", "18", "$18.00"),
        ("She has 3 + 4 = 7 eggs left.", 7, "7"),
        ("It falls by -3.", "-3", "-3"),
        ("It is 50% of them.", "50", "50"),
        ("Half of it: 1/2", "0.5", "1/2"),
        ("The final answer is (B) 12 km.", "B", "B"),
        ("C) because it floats", "(c)", "C"),
        ("It must be (D), as (D) alone is even.", "D", "D"),
        ("Paris. ", "paris", "Paris."),
        ("I looked it up; the answer is Paris.", "Paris", "Paris"),
    ],
)
def test_what_agrees(answer: str, known: object, given: str) -> None:
    assert scored(answer, known) == (True, given)


@pytest.mark.parametrize(
    ("answer", "known", "given"),
    [
        ("6 + 6 = 13\n#### 13", "12", "13"),
        ("12 + 1 = 13", "12", "13"),
        ("It is 3.33.", "10/3", "3.33"),
        ("The answer is (C).", "B", "C"),
        ("It is Paris.", "Paris", "It is Paris."),
        ("The answer is 12.5", "12", "12.5"),
        ("The answer is Lyon.", "Paris", "Lyon"),
    ],
)
def test_what_does_not(answer: str, known: object, given: str) -> None:
    assert scored(answer, known) == (False, given)


@pytest.mark.parametrize(
    ("answer", "known"),
    [
        *(("I cannot say.", "12"), ("(A) or (B)", "A"), ("12", None), (None, "12"), ("12", " ")),
        ("", "Paris"),
    ],
)
def test_what_cannot_be_read_has_no_verdict(answer: str | None, known: object) -> None:
    assert scored(answer, known) == (None, None)


def test_another_column_is_named() -> None:
    messages = [[turn("user", "2+2?"), turn("assistant", "It is 4")]]
    table = pl.DataFrame({"messages": pl.Series(messages, dtype=TURNS), "answer": ["4"]})
    assert KnownAnswer("answer").needs == ("messages", "answer")
    assert KnownAnswer("answer")(table)["known_answer"].item() is True


@pytest.mark.slow  # sympy takes seconds to import
def test_formulas_agree_by_value() -> None:
    pytest.importorskip("math_verify")
    answer, known = r"Hence \boxed{(x+1)^2}.", "x^2 + 2x + 1"
    assert scored(answer, known)[0] is False
    assert scored(answer, known, compare="math_verify")[0] is True
    assert scored(answer, "x^2 + 2x + 2", compare="math_verify")[0] is False
    assert scored(r"\boxed{\sqrt{8}}", r"2\sqrt{2}", compare="math_verify")[0] is True


def test_a_library_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "math_verify", None)
    with pytest.raises(UsageError, match=r"pip install 'siftune\[math\]'"):
        KnownAnswer(compare="math_verify").describe()
