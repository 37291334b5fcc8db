"""LIM against its formula in plain numbers."""

from __future__ import annotations

import polars as pl
import pytest

from siftune.curate.core.errors import UsageError
from siftune.curate.scorers.lim import LIM
from tests.curate.test_pass_rate import rates

OPTIONS = [{"samples": ("siftune/no-such-samples", "siftune/no-other-samples")}]


def test_the_score_by_hand_and_a_missing_rate_is_that_before(tmp_path):
    """Curves (0, .5), (.5, 1), (.1, .1): the mean is (.2, .5333...)."""
    files = (
        rates(tmp_path / "1.jsonl", [("a", 0.0), ("b", 0.5), ("c", 0.1)]),
        rates(tmp_path / "2.jsonl", [("b", 1.0), ("a", 0.5), ("late", 0.9)]),  # c keeps its .1
    )
    found = LIM(files)(pl.DataFrame({"id": ["b", "c", "late", "a", "other"]}))["lim"]
    mean = (0.2, 1.6 / 3)
    largest = 0.8**2 + (1.4 / 3) ** 2
    slow = {
        name: 1 - sum((r - m) ** 2 for r, m in zip(curve, mean, strict=True)) / largest
        for name, curve in {"a": (0, 0.5), "b": (0.5, 1), "c": (0.1, 0.1)}.items()
    }
    assert slow["a"] == pytest.approx(1 - (0.04 + 1 / 900) / (0.64 + 196 / 900))
    expected = [slow["b"], slow["c"], None, slow["a"], None]
    assert found.to_list() == pytest.approx(expected)
    alone = LIM(files)(pl.DataFrame({"id": ["a"]}))["lim"]
    assert alone.to_list() == pytest.approx([slow["a"]])  # whatever other rows there are


def test_where_all_always_passed_nothing_can_be_scored(tmp_path):
    file = rates(tmp_path / "1.jsonl", [("a", 1.0), ("b", 1.0)])
    assert LIM((file, file))(pl.DataFrame({"id": ["a"]}))["lim"].to_list() == [None]
    with pytest.raises(UsageError, match="two checkpoints or more"):
        LIM((file,))
