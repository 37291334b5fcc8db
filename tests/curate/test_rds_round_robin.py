"""Round robin over targets: against a brute force, ties, budgets, tasks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from siftune.curate.core.errors import DataError, UsageError
from siftune.curate.core.registry import build
from siftune.curate.core.schema import BASE, CONTENT
from siftune.curate.selectors.rds_round_robin import RdsRoundRobin

OPTIONS = [{"rows": 20, "against": "TARGETS", "embedding": "embedding"}]
NO_PATHS = ["tasks", "embedding"]


def rows(vectors: np.ndarray, name: str = "a") -> pl.DataFrame:
    count = len(vectors)
    base = {
        "id": [f"{name}:{i}" for i in range(count)],
        "source": [f"s{i % 3}" for i in range(count)],
        "row": range(count),
        "kind": ["conversation"] * count,
        "digest": [f"{(i * 7919) % 9973:032x}" for i in range(count)],
        "extra": [None] * count,
        "messages": [[]] * count,
    }
    schema = dict(BASE) | dict(CONTENT["conversation"])
    column = pl.Series(vectors.astype(np.float32), dtype=pl.Array(pl.Float32, vectors.shape[1]))
    lengths = pl.Series([1 + i % 5 for i in range(count)])
    return pl.DataFrame(base, schema=schema).with_columns(rds=column, length_tokens=lengths)


def saved(table: pl.DataFrame, path: Path) -> str:
    table.drop("length_tokens").write_parquet(path)
    return str(path)


def brute_force(table: pl.DataFrame, groups: list[pl.DataFrame], count: int) -> list[str]:
    """Each group in turn takes its best row that is left, by a full sort of all similarities."""

    def units(one: pl.DataFrame) -> np.ndarray:
        wide = one["rds"].to_numpy().astype(np.float64)
        return np.asarray(wide / np.linalg.norm(wide, axis=1, keepdims=True))

    ordered = table.sort("digest", "id")
    near = [(units(ordered) @ units(group).T).max(axis=1).round(6) for group in groups]
    taken: list[int] = []
    for turn in range(count):
        scores = near[turn % len(groups)]
        best = sorted(set(range(table.height)) - set(taken), key=lambda i: (-scores[i], i))
        taken.append(best[0])
    return [ordered["id"][i] for i in taken]


def chosen(table: pl.DataFrame, decisions: pl.DataFrame) -> list[str]:
    """The ids that are kept, in the order in which they were taken."""
    order = {
        json.loads(detail)["order"]: row
        for row, keep, detail in zip(
            table["id"], decisions["keep"], decisions["detail"], strict=True
        )
        if keep
    }
    return [order[place] for place in sorted(order)]


@pytest.mark.parametrize("targets", [1, 3, 7])
@pytest.mark.parametrize("count", [1, 20, 59, 60])
def test_it_takes_what_a_full_ranking_takes(tmp_path: Path, targets: int, count: int) -> None:
    rng = np.random.default_rng(targets)
    table = rows(np.concatenate([rng.normal(size=(40, 4)), rng.normal(size=(1, 4)).repeat(20, 0)]))
    goal = rows(rng.normal(size=(targets, 4)), "t")
    path = saved(goal, tmp_path / "t.parquet")
    decisions = RdsRoundRobin(rows=count, against=path)(table)
    ordered = goal.sort("digest", "id")
    expected = brute_force(table, [ordered[i] for i in range(targets)], count)
    assert chosen(table, decisions) == expected


def test_tasks_take_turns_by_their_nearest_target(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    table, goal = rows(rng.normal(size=(50, 4))), rows(rng.normal(size=(8, 4)), "t")
    path = saved(goal, tmp_path / "t.parquet")
    decisions = RdsRoundRobin(rows=17, against=path, tasks="source")(table)
    groups = [goal.filter(pl.col("source") == name) for name in ("s0", "s1", "s2")]
    assert chosen(table, decisions) == brute_force(table, groups, 17)
    kept = decisions.filter("keep")["detail"].str.json_path_match("$.target")
    assert kept.value_counts(sort=True)["count"].to_list() == [6, 6, 5]


def test_nearer_is_larger_and_the_detail_names_the_target(tmp_path: Path) -> None:
    table = rows(np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]))
    path = saved(rows(np.array([[2.0, 0.0]]), "t"), tmp_path / "t.parquet")
    decisions = RdsRoundRobin(rows=1, against=path)(table)
    assert decisions["keep"].to_list() == [True, False, False]
    assert decisions["reason"].to_list() == ["selected", "over_quota", "over_quota"]
    assert json.loads(decisions["detail"][0]) == {"order": 1, "similarity": 1.0, "target": "t:0"}
    assert json.loads(decisions["detail"][2])["similarity"] == -1


def test_tokens_are_spent_in_the_order_of_the_turns(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    table, goal = rows(rng.normal(size=(50, 4))), rows(rng.normal(size=(2, 4)), "t")
    path = saved(goal, tmp_path / "t.parquet")
    kept = chosen(table, RdsRoundRobin(tokens=30, against=path)(table))
    order = brute_force(table, list(goal.sort("digest").iter_slices(1)), 50)
    lengths = dict(zip(table["id"], table["length_tokens"], strict=True))
    spent = np.cumsum([lengths[one] for one in order])
    assert kept == order[: int((spent <= 30).sum())]


def test_targets_of_another_model_or_without_vectors_are_refused(tmp_path: Path) -> None:
    table = rows(np.eye(4))
    path = saved(rows(np.eye(3), "t"), tmp_path / "t.parquet")
    with pytest.raises(DataError, match="have 3 numbers, those of the rows 4: score both"):
        RdsRoundRobin(rows=1, against=path)(table)
    none = rows(np.eye(4), "t").with_columns(rds=pl.lit(None, pl.Array(pl.Float32, 4)))
    with pytest.raises(DataError, match="no target has a vector in rds"):
        RdsRoundRobin(rows=1, against=saved(none, tmp_path / "n.parquet"))(table)
    with pytest.raises(UsageError, match="needs the option 'against'"):
        build("curate.selectors", "rds_round_robin", {"rows": 1})
