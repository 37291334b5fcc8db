"""Pairs compared by their texts: worked values, and distances beside a slow reference."""

from __future__ import annotations

import itertools
import random

import numpy as np
import polars as pl
import pytest

from siftune.curate.core.schema import TURNS
from siftune.curate.rows.chat import turn
from siftune.curate.scorers.pair_text import PairText, edit_distance


def scored(prompt: str, chosen: str | None, rejected: str) -> dict[str, object]:
    sides = {"prompt": ("user", prompt), "chosen": ("assistant", chosen)}
    sides["rejected"] = ("assistant", rejected)
    table = pl.DataFrame(
        {name: pl.Series([[turn(*one)]], dtype=TURNS) for name, one in sides.items()}
    )
    row = PairText()(table).row(0, named=True)
    return {name.removeprefix("pair_text_"): value for name, value in row.items()}


def test_values_by_hand() -> None:
    row = scored("Name a city.", "Paris is a nice old city.", "Paris is a city!")
    assert row["gap_words"] == 2
    assert row["longer_won"] is True
    assert row["edit"] == 2 / 6  # nice and old are left out
    assert row["overlap"] == 4 / 6
    assert row["equal"] is False
    assert row["both_refuse"] is False


def test_equal_but_for_case_and_punctuation() -> None:
    row = scored("Q?", "Yes, it is.", "yes it is")
    assert (row["equal"], row["edit"], row["overlap"], row["gap_words"]) == (True, 0.0, 1.0, 0)
    assert row["longer_won"] is None


def test_a_prompt_inside_an_answer() -> None:
    asked = "Why is the sky so blue?"
    row = scored(asked, f"{asked.upper()} It scatters light.", "The sky is blue because it is so.")
    assert (row["prompt_in_chosen"], row["prompt_in_rejected"]) == (True, False)
    short = scored("Why?", "Why? Because.", "No.")
    assert (short["prompt_in_chosen"], short["prompt_in_rejected"]) == (None, None)


def test_both_refuse() -> None:
    no = "I'm sorry, but I can't help with that request."
    assert scored("Do it.", no, "I cannot assist with this.")["both_refuse"] is True
    assert scored("Do it.", no, "Sure, here it is.")["both_refuse"] is False


def test_a_missing_answer_scores_null() -> None:
    assert set(scored("Why is the sky so blue?", None, "It is.").values()) == {None}


def slow(one: list[int], other: list[int]) -> int:
    """Levenshtein's table, cell by cell."""
    cost = {(0, 0): 0}
    for i, j in itertools.product(range(len(one) + 1), range(len(other) + 1)):
        ways = []
        if i:
            ways.append(cost[i - 1, j] + 1)
        if j:
            ways.append(cost[i, j - 1] + 1)
        if i and j:
            ways.append(cost[i - 1, j - 1] + (one[i - 1] != other[j - 1]))
        cost[i, j] = min(ways, default=0)
    return cost[len(one), len(other)]


def test_the_edit_distance_equals_a_slow_one() -> None:
    draw = random.Random(4)
    for _ in range(60):
        one, other = ([draw.randrange(4) for _ in range(draw.randrange(9))] for _ in range(2))
        found = edit_distance(np.array(one, np.uint64), np.array(other, np.uint64))
        longest = max(len(one), len(other))
        assert found == pytest.approx(slow(one, other) / longest if longest else 0.0)
