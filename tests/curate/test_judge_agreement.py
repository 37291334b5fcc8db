"""Pairs that a judge confirms, contradicts, or is not sure of."""

import polars as pl
import pytest

from siftune.curate.core.errors import UsageError
from siftune.curate.selectors.judge_agreement import JudgeAgreement

PAIRS = pl.DataFrame(
    {
        "judge_pairwise_winner": ["first", "second", "tie", "tie", None],
        "judge_pairwise_consistent": [True, True, True, False, None],
    }
)


@pytest.mark.parametrize(
    ("drop", "kept"),
    [
        ("unconfirmed", [True, False, False, False, False]),
        ("contradicted", [True, False, True, True, False]),
    ],
)
def test_a_pair_is_kept_by_what_the_judge_says_in_both_orders(drop, kept):
    decided = JudgeAgreement(drop=drop)(PAIRS)
    assert decided["keep"].to_list() == kept
    reasons = ["confirmed", "contradicted", "tie", "inconsistent", "not_scored"]
    assert decided["reason"].to_list() == reasons


def test_columns_of_another_type_are_refused():
    wrong = pl.DataFrame({"judge_pairwise_winner": [1], "judge_pairwise_consistent": [True]})
    name, read = JudgeAgreement().reads[0]
    with pytest.raises(UsageError, match="expected a column of the scorer judge_pairwise"):
        read(wrong, name)
