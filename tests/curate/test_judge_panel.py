"""Panel of judges: what several verdicts on one item come to."""

import polars as pl
import pytest

from siftune.curate.judge_calls.types import Verdict
from siftune.curate.judging.panel import Panel
from tests.curate.judge_task_cases import task_of


def verdicts(*values, **others):
    return [Verdict(each, asked=1, cost=5, input_tokens=7, **others) for each in values]


def pair(winner, preference, first_position=1):
    return {
        "winner": winner,
        "preference": preference,
        "consistent": winner != "tie",
        "tie": winner == "tie",
        "first_position": first_position,
    }


def test_a_majority_wins_and_probabilities_are_averaged():
    panel = Panel(task_of("pairwise").adds)
    vote = panel.vote(verdicts(pair("first", 0.75), pair("second", 0.25), pair("first", 1.0)))
    assert vote.values == {
        **pair("first", pytest.approx(2 / 3)),
        "votes": ["first", "second", "first"],
        "agreement": pytest.approx(2 / 3),
        "spread": None,
        "judges": 3,
    }
    assert (vote.asked, vote.cost, vote.input_tokens) == (3, 15, 21)
    frame = pl.DataFrame([vote.values], schema=dict(panel.adds), strict=True)
    assert frame.columns == list(panel.adds)


def test_an_even_split_is_a_tie():
    vote = Panel(task_of("pairwise").adds).vote(verdicts(pair("first", 1.0), pair("second", 0.0)))
    assert (vote.values["winner"], vote.values["preference"]) == ("tie", 0.5)
    assert vote.values["agreement"] == 0.5
    assert vote.values["tie"]


def test_ratings_are_averaged_with_their_spread():
    vote = Panel({"rating": pl.Float64}).vote(
        verdicts({"rating": 4.0}, {"rating": 4.0}, {"rating": 1.0})
    )
    assert vote.values == {
        "rating": 3.0,
        "votes": [4.0, 4.0, 1.0],
        "agreement": None,  # of numbers, such as expected scores, hardly two are equal
        "spread": pytest.approx(2**0.5),
        "judges": 3,
    }


def test_lists():
    tags = Panel(task_of("instag").adds).vote(
        verdicts(*({"tags": [*each], "tag_count": len(each)} for each in ("ab", "cb", "ba")))
    )
    assert (tags.values["tags"], tags.values["tag_count"]) == (["a", "b"], 2)
    ranks = Panel(task_of("listwise").adds).vote(
        verdicts(
            {"ranks": [1, 2, 3], "best": 0},
            {"ranks": [2, 1, 3], "best": 1},
            {"ranks": [3, 1, 2], "best": 1},
        )
    )
    assert (ranks.values["ranks"], ranks.values["best"]) == ([2, 1, 3], 1)
    spread = Panel(task_of("instag").adds).vote(
        verdicts(*({"tags": [*each], "tag_count": 2} for each in ("ab", "ac", "ad")))
    )
    assert (spread.values["tags"], spread.values["tag_count"]) == (["a"], 1)
    split = Panel(task_of("listwise").adds).vote(
        verdicts({"ranks": [3, 2, 1, 4], "best": 2}, {"ranks": [1, 2, 3, 4], "best": 0})
    )
    assert (split.values["ranks"], split.values["best"]) == ([1, 1, 1, 4], None)
    cycle = Panel(task_of("listwise").adds).vote(
        verdicts(
            {"ranks": [1, 2, 3], "best": 0},
            {"ranks": [3, 1, 2], "best": 1},
            {"ranks": [2, 3, 1], "best": 2},
        )
    )
    assert (cycle.values["ranks"], cycle.values["best"]) == ([1, 1, 1], None)
    items = Panel(task_of("checklist").adds)
    vote = items.vote(verdicts(*({"score": s, "items": [s, 1.0]} for s in (0.0, 0.5))))
    assert (vote.values["score"], vote.values["items"]) == (0.25, [0.25, 1.0])


def test_judges_without_a_verdict_do_not_vote():
    panel = Panel({"class": pl.String, "probability": pl.Float64})
    one = {"class": "refusal", "probability": None}
    failed = Verdict(None, "unparsed", asked=3)
    vote = panel.vote([*verdicts(one, one), failed])
    assert (vote.values["class"], vote.values["probability"]) == ("refusal", None)
    assert (vote.values["judges"], vote.asked, vote.error) == (2, 5, None)
    none = panel.vote([*verdicts(one), failed, failed])
    assert (none.values, none.error, none.detail) == (None, "no_quorum", "2 unparsed")
    assert (
        Panel(panel.columns, quorum=1).vote([*verdicts(one), failed, failed]).values["judges"] == 1
    )


def test_records_are_no_votes():
    with pytest.raises(ValueError, match="checklist"):
        Panel(task_of("checklist_items").adds)
