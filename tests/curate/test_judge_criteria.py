"""Criteria of answers for an LLM judge: propositions, checklists, rubrics and checks by code."""

import json
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from scipy.stats import spearmanr

from siftune.curate.core.errors import UsageError
from siftune.curate.core.schema import schema_of
from siftune.curate.judge_calls.engine import Judge
from siftune.curate.judge_calls.types import Answer, Question, UnjudgeableError, UnparsedError
from siftune.curate.judge_stats.intervals import NotEstimableError
from siftune.curate.judge_stats.proposition_weights import fit_proposition_weights
from siftune.curate.judging.criteria import Criterion, criteria_of
from siftune.curate.judging.row_items import items_of
from tests.curate.judge_task_cases import SINGLE, judged, refused, task_of


def test_propositions():
    task = task_of("propositions")
    verdict = judged(task, SINGLE, {"Yes": 0.75, "No": 0.25}, "yes")
    assert verdict == {"reward": 0.75 - 2, "probabilities": [0.75, 1]}
    refused(task, SINGLE, "Maybe", "Yes and no", "Yes\nNo", "Yes, it does")
    with pytest.raises(UsageError, match="propositions"):
        task_of("propositions", propositions=[])


def test_fitted_weights_of_propositions_order_answers_as_the_planted_ones_do():
    rng = np.random.default_rng(0)
    planted = np.array([3.0, 1.0, 0.0, -2.0])
    shares = rng.random((60, 4))
    quality = np.round(shares @ planted)  # classes
    prompts = np.repeat(np.arange(20), 3)
    weights = fit_proposition_weights(shares, quality, prompts)
    assert np.argsort(weights).tolist() == np.argsort(planted).tolist()
    fresh = rng.random((200, 4))
    assert spearmanr(fresh @ weights, fresh @ planted).statistic > 0.95
    known = fit_proposition_weights(shares, quality, prompts, rewards=100 * quality)
    assert known == (0, 0, 0, 0)  # a reward model that is right leaves nothing to fit
    task = task_of("propositions", propositions=["a", {"text": "b", "weight": 5}], weights=[2, -1])
    assert judged(task, SINGLE, "Yes", "Yes")["reward"] == 1
    with pytest.raises(UsageError, match="weights"):
        task_of("propositions", propositions=["a"], weights=[1, 2])
    with pytest.raises(NotEstimableError, match="different classes"):
        fit_proposition_weights(shares, np.ones(60), prompts)


ITEM_LIST = [
    {"text": "Is it a prime?", "weight": 3, "check": None},
    {"text": "Is it one word?", "weight": None, "check": "max_words: 1"},
]


@pytest.mark.parametrize("given", [ITEM_LIST, json.dumps(ITEM_LIST)])
def test_checklist_of_the_row(given):
    task, item = task_of("checklist", checklist=[]), replace(SINGLE, given={"checklist": given})
    assert judged(task, item, {"Yes": 0.5, "No": 0.5}) == {"score": 0.625, "items": [0.5, 1]}
    free = replace(SINGLE, given={"checklist": ["a", {"text": "b", "weight": 0}]})
    assert judged(task, free, "Yes", "No") == {"score": 1, "items": [1, 0]}
    percent = task_of("checklist", checklist=[], scale="percent")
    assert judged(percent, item, "80") == {"score": pytest.approx(0.85), "items": [0.8, 1]}
    assert judged(percent, item, "100/100")["score"] == 1
    refused(percent, item, "101", "80\n90")
    for bad in (
        "not a list",
        [1],
        [{"text": "x", "weight": -1}],
        [{"text": "x", "check": "run: rm"}],
    ):
        with pytest.raises(UnjudgeableError, match="checklist"):
            task.questions(replace(SINGLE, given={"checklist": bad}))


@pytest.mark.parametrize(
    ("check", "passing", "failing"),
    [
        ("contains: as: agreed", "It is as: agreed.", "As agreed"),
        ("excludes: sorry", "Fine", "so sorry"),
        ("starts_with: Dear", " Dear Ann", "Oh dear"),
        ("ends_with: Bye.", "Ok. Bye.\n", "Bye. Ok"),
        ("min_words: 2", "two words", "one"),
        ("max_words: 3", "isn't it 1,000?", "one two three four"),
        ("min_chars: 3", "abc", " ab "),
        ("max_chars: 3", " abc ", "abcd"),
        ("lines: 2", "a\n\nb\n", "a\nb\nc"),
        ("json", '{"a": [1]}', '{"a": [1}'),
    ],
)
def test_checks_by_code(check, passing, failing):
    criterion = Criterion("It is as wanted.", check=check)
    assert criterion.passes(passing)
    assert not criterion.passes(failing)


class Silent:
    """A backend that must not be asked."""

    identity = "silent"

    def answer(self, questions: Sequence[Question]) -> Sequence[Answer]:
        raise AssertionError(questions)


def test_a_checklist_that_code_decides_asks_nothing():
    item = replace(SINGLE, given={"checklist": [{"text": "One word?", "check": "max_words: 1"}]})
    (verdict, unjudged) = Judge(Silent(), task_of("checklist", checklist=[])).verdicts(
        [item, replace(item, answers=("",))]
    )
    assert verdict.values == {"score": 1, "items": [1]}
    assert (verdict.asked, verdict.error) == (0, None)
    assert (unjudged.values, unjudged.error) == (None, "no_answer")


def test_wrong_options_of_criteria_are_named():
    for name, option in (("checklist", "checklist"), ("rubric", "criteria")):
        for bad in ([{"text": ""}], [{"text": "a", "check": "exec: x"}], [{"txt": "a"}]):
            with pytest.raises(UsageError):
                task_of(name, **{option: bad})
    for wrong in (
        *({"weight": "huge"}, {"weight": True}, {"weight": math.inf}, {"check": 5}, {"score": 5}),
        *({"check": "json: x"}, {"check": "contains:"}, {"check": "lines: two"}),
        *({"weight": [1]}, {"weight": 10**400}, {"weight": 1e308}),
        {"check": "max_words: " + "9" * 4_500},
    ):
        with pytest.raises(ValueError, match=r"weight|check|score"):
            criteria_of([{"text": "a", **wrong}])


def test_rubric():
    criteria = [{"text": "a", "weight": "essential"}, {"text": "b", "weight": "optional"}]
    explicit = task_of("rubric", criteria=criteria)
    assert judged(explicit, SINGLE, "Yes", "No")["score"] == pytest.approx(1 / 1.3)
    implicit = task_of("rubric", criteria=criteria, aggregate="implicit")
    assert judged(implicit, SINGLE, "10") == {"score": 1, "items": None}
    assert "- b (weight 0.3)" in implicit.questions(SINGLE)[0].messages[1][1]
    refused(implicit, SINGLE, "0", "11")
    with pytest.raises(UnjudgeableError, match="rubric"):
        task_of("rubric", criteria=[]).questions(SINGLE)


@pytest.mark.parametrize(
    ("name", "option", "column"),
    [("checklist", "checklist", "checklist"), ("rubric", "criteria", "rubric")],
)
def test_a_row_brings_no_criteria_of_its_own(name, option, column):
    """A field of the raw row is not read, and the option wins over a column that was given."""
    own = [{"text": "Anything?", "check": "min_chars: 0"}]
    turns = [{"role": role, "content": role} for role in ("user", "assistant")]
    frame = pl.DataFrame({"extra": [json.dumps({column: own})], "listed": [json.dumps(own)]})
    turned = pl.Series("messages", [turns], schema_of("conversation")["messages"], strict=False)
    table = frame.with_columns(turned)
    (item,) = items_of(table)
    asked = task_of(name, **{option: ["is a prime"]})
    assert judged(asked, item, "No")["score"] == 0
    (with_column,) = items_of(table, {column: "listed"})
    assert judged(asked, with_column, "No")["score"] == 0
    bare = task_of(name, **{option: []})
    assert judged(bare, with_column)["score"] == 1
    with pytest.raises(UnjudgeableError, match="given"):
        bare.questions(item)


def test_checklist_items_feed_the_checklist():
    task = task_of("checklist_items")
    drafted = [
        {"text": "Prime?", "weight": 100, "check": None},
        {"text": "Short?", "weight": 25, "check": "max_words: 1"},
    ]
    verdict = judged(task, SINGLE, json.dumps(drafted))
    frame = pl.DataFrame([verdict], schema=dict(task.adds), strict=True)
    assert frame["checklist"].to_list() == [drafted]
    item = replace(SINGLE, given=frame.row(0, named=True))
    assert judged(task_of("checklist", checklist=[]), item, "No")["score"] == pytest.approx(0.2)
    shown = task_of("checklist_items", with_answers=True).questions(SINGLE)[0].messages[1][1]
    assert ("Seven." in shown, "Seven." in task.questions(SINGLE)[0].messages[1][1]) == (
        True,
        False,
    )
    refused(
        task,
        SINGLE,
        *(
            "[]",
            '["a", "a"]',
            '[{"text": "a", "weight": 0}]',
            '[{"text": "a", "check": "exec: x"}]',
        ),
        *(json.dumps([f"item {n}" for n in range(11)]), json.dumps(["a" * 501]), '{"text": "a"}'),
    )


def test_a_checklist_that_a_judge_wrote_wrongly_is_no_verdict():
    task = task_of("checklist_items")
    for wrong in ('"weight": [1]', '"weight": 1' + "0" * 400, '"check": "lines: ' + "9" * 99 + '"'):
        with pytest.raises(UnparsedError):
            task.parse(SINGLE, 0, Answer(f'[{{"text": "x", {wrong}}}]'))
