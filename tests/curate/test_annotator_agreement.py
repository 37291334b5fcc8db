"""Votes on pairs: Fleiss' agreement by hand, in any of the forms that sources have."""

from __future__ import annotations

import polars as pl
import pytest

from siftune.curate.core.errors import UsageError
from siftune.curate.scorers.annotator_agreement import AnnotatorAgreement

OPTIONS = [{"votes": "votes"}]
NO_PATHS = ("votes",)


def test_agreement_by_hand() -> None:
    table = pl.DataFrame({"votes": [["first", "first", "second", "tie"], ["first"], [], None]})
    scores = AnnotatorAgreement("votes")(table)
    # two of four agree: 2·1 of 4·3 ordered pairs; for the label 2 votes and half of the tie
    assert scores["annotator_agreement"].to_list() == [2 / 12, None, None, None]
    assert scores["annotator_agreement_votes"].to_list() == [4, 1, 0, None]
    assert scores["annotator_agreement_label"].to_list() == [2.5 / 4, 1.0, None, None]


def test_numbers_words_and_json_of_raw_rows_are_votes() -> None:
    extra = ['{"votes": [2, -1, 0, 3]}', '{"votes": ["A", "model_b", "Tie"]}', '{"other": 1}', None]
    scores = AnnotatorAgreement("extra.votes")(pl.DataFrame({"extra": extra}))
    assert scores["annotator_agreement_votes"].to_list() == [4, 3, None, None]
    assert scores["annotator_agreement_label"].to_list() == [2.5 / 4, 0.5, None, None]
    assert scores["annotator_agreement"].to_list() == [2 / 12, 0.0, None, None]


@pytest.mark.parametrize("votes", [["perhaps"], [float("nan")], [{"a": 1}]])
def test_what_is_no_vote_is_named(votes: list[object]) -> None:
    with pytest.raises(UsageError, match="is no vote: expected a number"):
        AnnotatorAgreement("votes")(pl.DataFrame({"votes": [votes]}))


def test_a_column_without_lists_is_refused() -> None:
    with pytest.raises(UsageError, match="expected a list of votes a row, the column is Int64"):
        AnnotatorAgreement("votes")(pl.DataFrame({"votes": [1]}))
    with pytest.raises(UsageError, match=r"expected a list of votes, such as \[1, -1\]"):
        AnnotatorAgreement("extra.v")(pl.DataFrame({"extra": ['{"v": "yes"}']}))
