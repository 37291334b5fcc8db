"""Rows of every range of a value, in equal or given shares."""

from __future__ import annotations

import json
from typing import Any

import polars as pl
import pytest

from siftune.curate.core.errors import UsageError
from siftune.curate.core.registry import build

OPTIONS = [{"value": "ifd", "bins": 4, "rows": 20}, {"value": "ifd", "edges": [0.3], "tokens": 200}]
NO_PATHS = ("by", "value")


def table(**columns: Any) -> pl.DataFrame:
    height = len(next(iter(columns.values())))
    ids = [f"f:{at:02}" for at in range(height)]
    return pl.DataFrame({"id": ids, "digest": ids, **columns})


def stratified(table: pl.DataFrame, /, **options: Any) -> pl.DataFrame:
    answer: pl.DataFrame = build("curate.selectors", "stratified", options)(table)
    return answer


ROWS = table(n=[0, 1, 2, 3, 4, 5, 6, 10, 11, 12, 20, None], s=[*range(11), 11])


def test_bins_of_equal_width_have_equal_shares_and_their_best_rows() -> None:
    # Width 20 / 4 = 5: 0..4 | 5, 6 | 10, 11, 12 | 20 (the largest is in the last bin).
    answer = stratified(ROWS, value="n", bins=4, rows=7, by="s")
    kept = ROWS.filter(answer["keep"])["n"].to_list()
    assert kept == [3, 4, 5, 6, 11, 12, 20]  # two each, one where there is no second
    assert json.loads(answer["detail"][3]) == {"bin": 1, "rank": 2, "size": 5, "value": 3.0}
    assert answer["reason"].to_list() == [
        *("over_quota", "over_quota", "over_quota", "selected", "selected", "selected"),
        *("selected", "over_quota", "selected", "selected", "selected", "not_scored"),
    ]


def test_edges_belong_to_the_range_above_and_shares_are_followed() -> None:
    answer = stratified(ROWS, value="n", edges=[2, 10], shares=[0, 2, 1], rows=6, by="-s")
    assert ROWS.filter(answer["keep"])["n"].to_list() == [2, 3, 4, 5, 10, 11]  # 4 to 2
    assert answer["reason"].to_list()[:2] == ["no_share", "no_share"]


def test_ranks_make_bins_of_equal_numbers() -> None:
    rows = table(n=[2.0**at for at in range(20)])
    answer = stratified(rows, value="rank(n)", bins=4, rows=4)
    bins = [json.loads(text) for text in answer["detail"]]
    assert [one["size"] for one in bins] == [5] * 20
    kept = rows.filter(answer["keep"])["n"].log(2).to_list()
    assert [int(at // 5) for at in kept] == [0, 1, 2, 3]
    others = [stratified(rows, value="rank(n)", bins=4, rows=4, seed=seed) for seed in range(4)]
    assert len({tuple(one["keep"]) for one in others}) > 1


def test_shares_are_of_tokens_where_the_budget_counts_them() -> None:
    rows = table(n=[0] * 20 + [1] * 20, length_tokens=[1] * 20 + [4] * 20)
    answer = stratified(rows, value="n", bins=2, tokens=24)
    spent = rows.filter(answer["keep"]).group_by("n").agg(pl.sum("length_tokens")).sort("n")
    assert spent["length_tokens"].to_list() == [12, 12]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"edges": [2, 1]}, "edges must ascend"),
        ({"edges": [2], "shares": [1]}, "expected a share of each of the 2 ranges, got 1"),
        ({"bins": 2, "shares": [0, 0]}, "expected a share above 0"),
        ({"bins": 2, "shares": [1, -1]}, "shares: expected at least 0, got -1"),
        ({"bins": 0}, "bins: expected at least 1"),
    ],
)
def test_wrong_options_are_explained(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        stratified(ROWS, value="n", rows=1, **options)
