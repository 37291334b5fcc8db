"""Several margins in one unit: mean, spread and agreement of signs, by hand."""

from __future__ import annotations

import polars as pl
import pytest

from siftune.curate.core.errors import UsageError
from siftune.curate.scorers.reward_spread import RewardSpread

OPTIONS = [{"margins": ("margin", "other_margin")}]
NO_PATHS = ("margins",)


def test_scores_by_hand() -> None:
    table = pl.DataFrame(
        {"a": [3.0, -4.0, None, 0.0], "b": [10.0, 10.0, 10.0, -10.0], "c": [1.0, 1.0, 1.0, 1.0]}
    )
    scores = RewardSpread(("a", "b", "c"))(table)
    size = (25 / 3) ** 0.5  # root mean square of 3, -4, 0; of b it is 10, of c 1
    rows = [[3 / size, 1, 1], [-4 / size, 1, 1], None, [0, -1, 1]]
    for name, found in (
        ("reward_spread_mean", lambda row: sum(row) / 3),
        ("reward_spread", lambda row: (sum((x - sum(row) / 3) ** 2 for x in row) / 3) ** 0.5),
        ("reward_spread_for_label", lambda row: sum((x > 0) + (x == 0) / 2 for x in row) / 3),
    ):
        expected = [None if row is None else pytest.approx(found(row)) for row in rows]
        assert scores[name].to_list() == expected
    assert scores["reward_spread_agreement"].to_list() == pytest.approx([1, 2 / 3, None, 0.5])


def test_the_scale_of_a_model_does_not_matter_but_its_sign_does() -> None:
    table = pl.DataFrame({"a": [1.0, -2.0, 3.0], "b": [0.5, 0.1, -1.0]})
    scaled = table.with_columns(pl.col("b") * 1000)
    one, other = (RewardSpread(("a", "b"))(each) for each in (table, scaled))
    for name in one.columns:
        assert one[name].to_list() == pytest.approx(other[name].to_list())


def test_one_margin_has_no_spread() -> None:
    with pytest.raises(UsageError, match="at least two columns"):
        RewardSpread(("margin",))
