"""Robust z scores of sources by hand."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from siftune.curate.core.schema import TURNS
from siftune.curate.rows.chat import turn
from siftune.curate.scorers.source_outlier import SourceOutlier

NO_PATHS = ["by", "group_by"]

LENGTHS = {"a": (2, 4), "b": (4,), "c": (5, 5), "d": (6,), "e": (30,)}  # means 3 4 5 6 30


def scored(**options: Any) -> dict[str, dict[str, Any]]:
    rows = [
        (source, " ".join(f"{source}{at}w{n}" for n in range(size)))
        for source, sizes in LENGTHS.items()
        for at, size in enumerate(sizes)
    ]
    rows[4] = ("c", rows[3][1].upper())  # both answers of c are the same
    messages = [[turn("user", "Go on"), turn("assistant", text)] for _, text in rows]
    table = pl.DataFrame(
        {
            "messages": pl.Series([*messages, []], dtype=TURNS),
            "source": [*(source for source, _ in rows), "e"],
            "quality": [1.0, 3.0, 2.0, 2.0, None, None, 9.0, 1.0],
        }
    )
    found = SourceOutlier(**options)(table).with_columns(table["source"])
    assert set(found.drop("source").row(7)) == {None}  # it has no answer
    return {row["source"]: row for row in found.head(7).to_dicts()}


def test_z_scores_by_hand() -> None:
    found = scored()  # words: median 5, deviations 2 1 0 1 25, MAD 1
    words = {source: row["source_outlier_words"] for source, row in found.items()}
    expected = {"a": -2, "b": -1, "c": 0, "d": 1, "e": 25}
    assert words == pytest.approx({key: value / 1.4826 for key, value in expected.items()})
    copies = {source: row["source_outlier_copies"] for source, row in found.items()}
    mean = 1 / 5  # of the deviations; their median is 0
    assert copies == pytest.approx({**dict.fromkeys("abde", 0), "c": 1 / (1.2533 * mean)})
    flags = {source: row["source_outlier_flags"] for source, row in found.items()}
    assert flags == {"a": [], "b": [], "c": ["copies"], "d": [], "e": ["words"]}
    assert [found[key]["source_outlier_rows"] for key in "abcde"] == [2, 1, 2, 1, 2]


def test_the_limit_is_on_either_side() -> None:
    flags = {key: row["source_outlier_flags"] for key, row in scored(limit=1.3).items()}
    assert flags["a"] == ["words"]
    assert flags["d"] == []


def test_a_score_is_compared_where_a_source_has_it() -> None:
    by = {key: row["source_outlier_by"] for key, row in scored(by="quality").items()}
    assert by == dict.fromkeys("abcde")  # four sources have it: too few


def test_few_sources_have_no_score() -> None:
    messages = pl.Series([[turn("assistant", "So.")]] * 4, dtype=TURNS)
    found = SourceOutlier()(pl.DataFrame({"messages": messages, "source": list("abcd")}))
    assert found.drop("source_outlier_rows").null_count().row(0) == (4, 4, 4, 4)
    assert found["source_outlier_rows"].to_list() == [1] * 4
