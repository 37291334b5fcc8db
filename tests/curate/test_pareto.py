"""Pareto fronts and crowding distances against their definitions."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import polars as pl
import pytest

from siftune.curate.core.errors import UsageError
from siftune.curate.core.registry import build
from siftune.curate.selectors.pareto import Pareto, _crowding, _fronts
from tests.fuzz.commands import called

OPTIONS = [{"by": ["ifd", "-quality"], "rows": 20}]
NO_PATHS = ("by",)


def peeled(points: np.ndarray) -> list[int]:
    """Fronts as they are defined: again and again what no row that is left dominates."""
    front, left, number = [-1] * len(points), set(range(len(points))), 0
    while left:
        best = {
            i
            for i in left
            if not any(
                (points[j] >= points[i]).all() and (points[j] > points[i]).any() for j in left
            )
        }
        for i in best:
            front[i] = number
        left, number = left - best, number + 1
    return front


def crowded(points: np.ndarray, fronts: list[int]) -> list[float]:
    """Crowding distances as NSGA-II has them, for points without equal values."""
    total = [0.0] * len(points)
    for number in set(fronts):
        own = [i for i in range(len(points)) if fronts[i] == number]
        for values in points.T:
            own.sort(key=lambda i: values[i])
            width = values[own[-1]] - values[own[0]]
            total[own[0]] = total[own[-1]] = math.inf
            for low, middle, high in zip(own, own[1:], own[2:], strict=False):
                total[middle] += (values[high] - values[low]) / width
    return total


@pytest.mark.parametrize("columns", [1, 2, 3, 4])
def test_fronts_are_those_of_peeling_ties_too(columns: int) -> None:
    rng = np.random.default_rng(columns)
    for levels in (3, 50):
        points = np.unique(rng.integers(0, levels, (60, columns)).astype(float), axis=0)
        assert _fronts(points).tolist() == peeled(points)


def test_crowding_is_that_of_nsga_2() -> None:
    points = np.random.default_rng(0).normal(size=(60, 3))
    fronts = _fronts(points)
    assert _crowding(points, fronts) == pytest.approx(crowded(points, fronts.tolist()))


def table(**columns: Any) -> pl.DataFrame:
    height = len(next(iter(columns.values())))
    ids = [f"f:{at:02}" for at in range(height)]
    return pl.DataFrame({"id": ids, "digest": ids, **columns})


def test_a_front_that_is_cut_keeps_its_ends_and_what_is_least_crowded() -> None:
    # Front 1: (0, 10), (1, 8), (2, 7), (10, 0); front 2: (0, 9), dominated by the first of these.
    rows = table(
        good=[0.0, 1.0, 2.0, 10.0, 0.0, None, math.inf], short=[-10, -8, -7, 0, -9, -1, -1]
    )
    answer = Pareto(by=("good", "-short"), rows=3)(rows)
    # of (1, 8): (2 - 0) / 10 + (10 - 7) / 10 = 0.5; of (2, 7): (10 - 1) / 10 + (8 - 0) / 10 = 1.7
    assert [json.loads(text) for text in answer["detail"]] == [
        {"front": 1, "crowding": None},
        {"front": 1, "crowding": pytest.approx(0.5)},
        {"front": 1, "crowding": pytest.approx(1.7)},
        {"front": 1, "crowding": None},
        {"front": 2, "crowding": None},
        {"front": None, "crowding": None},
        {"front": None, "crowding": None},
    ]
    assert answer["reason"].to_list() == [
        *("selected", "over_budget", "selected", "selected", "dominated"),
        *("not_scored", "not_scored"),
    ]


def test_of_rows_of_equal_scores_that_of_the_smaller_digest_comes_before_the_rest() -> None:
    rows = table(a=[1.0, 1.0, 1.0, 0.0], b=[1.0, 1.0, 1.0, 2.0])
    answer = Pareto(by=("a", "b"), rows=3)(rows)
    assert answer["keep"].to_list() == [True, True, False, True]
    assert json.loads(answer["detail"][1]) == {"front": 1, "crowding": 0.0}
    assert Pareto(by=("a",), rows=1)(rows)["keep"].to_list() == [True, False, False, False]


def test_scores_come_with_commas_on_the_command_line(tmp_path: Any, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [
        f'{{"prompt": "q", "completion": "a", "n": {n}, "m": {m}}}' for n, m in ((1, 1), (2, 0))
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(rows))
    words = ("curate", "select", "rows.jsonl", "pareto", "--rows", "1", "--out", "run", "--by")
    assert called(*words, "-extra.n, max(extra.m, extra.n - 9)").code == 0
    assert pl.read_parquet("run/kept.parquet")["row"].to_list() == [1]
    assert "pareto: by: character 3: expected a column" in called(*words, "n,m*").message
    with pytest.raises(UsageError, match="expected one score or more, got none"):
        build("curate.selectors", "pareto", {"by": [], "rows": 1})
