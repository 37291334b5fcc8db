"""The balanced filter: as far from 0 as from 1."""

from __future__ import annotations

import polars as pl
import pytest

from siftune.curate.core.errors import DataError, UsageError
from siftune.curate.selectors.balanced_difficulty import BalancedDifficulty

OPTIONS = [{"by": "ifd", "rows": 20}]


def table(values):
    ids = [f"q:{at}" for at in range(len(values))]
    digests = [f"{at:032x}" for at in range(len(values))]
    return pl.DataFrame({"id": ids, "digest": digests, "pass_rate": values})


def test_both_sides_are_cut_alike_bounds_kept():
    found = BalancedDifficulty()(table([0.0, 0.125, 0.2, 0.5, 0.8, 0.875, 1.0, None, float("nan")]))
    hard, easy, unknown = ["too_hard"] * 2, ["too_easy"] * 2, ["not_scored"] * 2
    assert found["reason"].to_list() == [*hard, *["balanced"] * 3, *easy, *unknown]
    assert found["keep"].to_list() == [one == "balanced" for one in found["reason"]]
    assert found["detail"][2] == '{"by":"pass_rate","margin":0.2,"value":0.2}'


def test_with_rows_the_nearest_to_half_are_kept_ties_by_digest():
    found = BalancedDifficulty(margin=0, rows=3)(table([1.0, 0.75, 0.5, 0.25, None, 0.4]))
    assert found["reason"].to_list() == [
        *("not_nearest", "balanced", "balanced", "not_nearest", "not_scored", "balanced")
    ]


def test_what_is_no_rate_and_a_margin_beyond_half_are_refused():
    with pytest.raises(DataError, match=r"pass_rate: expected pass rates from 0 to 1, got 7"):
        BalancedDifficulty()(table([0.5, 7.0]))
    with pytest.raises(UsageError, match=r"margin: expected at most 0.5, got 0.6"):
        BalancedDifficulty(margin=0.6)
