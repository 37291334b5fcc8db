"""Reasoning traces: what is thought and what is answer, and each fault of form."""

from __future__ import annotations

import polars as pl
import pytest

from siftune.curate.core.schema import TURNS
from siftune.curate.rows.chat import turn
from siftune.curate.scorers.reasoning import Reasoning

LONG = " ".join(f"step{n}" for n in range(80))


def scored(answer: str | None, **options: float) -> tuple[object, ...]:
    rows = [[turn("user", "2 + 2?"), turn("assistant", answer)]]
    return Reasoning(**options)(pl.DataFrame({"messages": pl.Series(rows, dtype=TURNS)})).row(0)


@pytest.mark.parametrize(
    ("answer", "words", "answered", "flags"),
    [
        ("<think>Two and two.</think>\nIt is 4.", 3, 3, []),
        ("It is 4.", 0, 3, []),
        ("<think>Two and", 2, 0, ["no_answer", "unclosed"]),
        ("Two and two.</think>It is 4.", 3, 3, ["unopened"]),
        ("<think>a</think>b<think>c</think>d", 2, 2, ["several"]),
        ("<think> </think>It is 4.", 0, 3, ["empty"]),
        ("Well. <think>Two.</think>It is 4.", 1, 4, ["late"]),
        ("<think>Two.</think> \n", 1, 0, ["no_answer"]),
        ("<think>So \\boxed{4}.</think>That is it.", 3, 3, ["no_final"]),
        ("<think>So \\boxed{4}.</think>It is \\boxed{4}.", 3, 4, []),
    ],
)
def test_the_parts_are_counted_and_faults_named(
    answer: str, words: int, answered: int, flags: list[str]
) -> None:
    assert scored(answer) == (words, answered, None, flags)


def test_a_trace_that_repeats_itself_is_a_loop() -> None:
    once, twice = f"<think>{LONG}</think>4", f"<think>{LONG} {LONG}</think>4"
    assert scored(once)[2:] == (0.0, [])
    words, _, repeated, flags = scored(twice)
    assert words == 160
    assert repeated == pytest.approx(73 / 153)  # of 153 8-grams 80 are new, the last 73 are not
    assert flags == ["loop"]
    assert scored(twice, loop_share=0.5)[3] == []


def test_without_an_answer_there_is_no_score() -> None:
    assert scored(None) == (None, None, None, None)


def test_a_loop_whose_numbers_change_is_a_loop_and_sums_are_none() -> None:
    loop = " ".join(f"Check case {n}: it gives {31 * n} and that is not right." for n in range(12))
    sums = " ".join(f"{n} * {n} = {n * n}, {n} + {n} = {n + n}." for n in range(20))
    steps = " ".join(
        f"Step {n}: add {n} to the sum, which is {n * (n + 1) // 2}." for n in range(20)
    )
    flags = [scored(f"<think>{text}</think>It is 4.")[3] for text in (loop, sums, steps)]
    assert flags == [["loop"], [], []]
