"""Complexity-first diverse sampling: rounds by hand, and against a plain loop."""

from __future__ import annotations

import json
import random

import polars as pl
import pytest

from siftune.curate.core.errors import UsageError
from siftune.curate.selectors.instag import InsTag

OPTIONS = [{"rows": 20}]
NO_PATHS = ("tags",)


def table(tags: list[list[str] | None]) -> pl.DataFrame:
    ids = [f"f:{at:03}" for at in range(len(tags))]
    column = pl.Series(tags, dtype=pl.List(pl.String))
    return pl.DataFrame({"id": ids, "digest": ids, "tags": column})


def test_rounds_by_hand() -> None:
    rows = table([["a", "b"], ["a"], ["c", "b", "a"], ["d", "d"], [], None, ["b", "e"]])
    answer = InsTag(rows=4)(rows)
    # 1st round: cba, then be for e, d for d; ab and a add nothing. 2nd round: ab, then no budget.
    found = [json.loads(text) if text else None for text in answer["detail"]]
    assert found == [
        {"order": 4, "round": 2, "tags": 2},
        {"order": None, "round": None, "tags": 1},
        {"order": 1, "round": 1, "tags": 3},
        {"order": 3, "round": 1, "tags": 1},
        {"order": None, "round": None, "tags": 0},
        None,
        {"order": 2, "round": 1, "tags": 2},
    ]
    assert answer["reason"].to_list() == [
        *("selected", "over_budget", "selected", "selected", "no_tags", "not_scored", "selected"),
    ]


def test_a_null_is_no_tag() -> None:
    answer = InsTag(rows=2)(table([[None], ["a", None], ["a"]]))
    assert answer["reason"].to_list() == ["no_tags", "selected", "selected"]


def test_it_takes_the_rows_of_a_plain_loop() -> None:
    draw = random.Random(4)
    tags = [draw.choices("abcdefghij", k=draw.randint(1, 4)) for _ in range(40)]
    order: list[int] = []
    while len(order) < 25:
        seen: set[str] = set()
        for row in sorted(range(40), key=lambda at: (-len(set(tags[at])), at)):
            if row not in order and set(tags[row]) - seen:
                seen |= set(tags[row])
                order.append(row)
    answer = InsTag(rows=25)(table(list(tags)))
    assert set(answer["keep"].arg_true()) == set(order[:25])


def test_a_column_without_tags_is_refused() -> None:
    with pytest.raises(UsageError, match="expected a list of tags a row"):
        InsTag(rows=1, tags="digest")(table([["a"]]))
