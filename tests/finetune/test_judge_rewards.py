"""Rewards that ask a judge: the numbers by hand, from judges whose answers are known."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from siftune.curate.core.errors import UsageError
from siftune.curate.judge_calls.types import BackendError, Question
from siftune.finetune.rewards.goal import Goal
from siftune.finetune.rewards.judge import JudgeReward
from siftune.finetune.rewards.proposed_goals import ProposedGoals
from siftune.finetune.rewards.refusal import Refusal
from siftune.finetune.rewards.rubric import RubricReward
from siftune.finetune.rewards.rule_based import RuleBased


class Judge:
    """Answers by the last line of data that a question shows, and counts what it is asked."""

    def __init__(self, answer: Callable[[str, Question], Any]) -> None:
        self.answer, self.asked = answer, 0

    def __call__(self, question: Question) -> Any:
        self.asked += 1
        return self.answer(question.messages[1][1], question)


@pytest.fixture
def judged(tmp_path: Path) -> Callable[[Judge], dict[str, Any]]:
    def options(judge: Judge) -> dict[str, Any]:
        backend: Mapping[str, Any] = {"backend": "scripted", "function": judge}
        return {"judge": backend, "cache": str(tmp_path / "judge.sqlite")}

    return options


def rows(*extras: dict[str, Any]) -> list[dict[str, Any]]:
    turns = [{"role": "user", "content": "Say it."}]
    return [{"id": f"r:{at}", "prompt": turns, "extra": one} for at, one in enumerate(extras)]


def yes_if(word: str, yes: float | str, no: float | str) -> Callable[[str, Question], Any]:
    def answer(text: str, question: Question) -> Any:
        found = yes if word in text else no
        if isinstance(found, str):
            return found
        return {"Yes": found, "No": 1 - found}

    return answer


SAID = ["kind words", "rude words", ""]


def test_a_rating_is_the_reward(judged: Callable[[Judge], dict[str, Any]]) -> None:
    judge = Judge(lambda text, question: "4.5" if "kind" in text else "none of it")
    reward = JudgeReward(**judged(judge), task="alpagasus", low=2.5, high=5, ask_again=0)
    assert reward(SAID, SAID, rows({}, {}, {})) == [0.8, None, None]  # unread, and nothing to read
    assert reward(SAID[:1], SAID[:1], rows({})) == [0.8]
    assert judge.asked == 2  # the answer was kept; what could not be read is asked again
    with pytest.raises(UsageError, match="gives no number of an answer"):
        JudgeReward(**judged(judge), task="refusal_class")
    with pytest.raises(ValueError, match="high: expected a number above low"):
        JudgeReward(**judged(judge), low=5, high=0)


def test_a_failed_call_is_no_score(judged: Callable[[Judge], dict[str, Any]]) -> None:
    def fails(text: str, question: Question) -> Any:
        raise BackendError("http_500", "down")

    reward = JudgeReward(**judged(Judge(fails)), tries=1)
    assert reward(["?"], ["x"], rows({})) == [None]


def test_a_rubric_is_a_weighted_share(judged: Callable[[Judge], dict[str, Any]]) -> None:
    criteria = [
        {"text": "it is kind", "weight": 3},
        {"text": "it is short", "weight": 1, "check": "max_words: 2"},
    ]
    judge = Judge(yes_if("kind words", 0.8, 0.0))
    by_option = RubricReward(**judged(judge), criteria=criteria)
    assert by_option(SAID, SAID, rows({}, {}, {})) == pytest.approx([0.85, 0.25, None])
    own = {"criteria": criteria}
    by_row = RubricReward(**judged(judge), field="criteria")
    assert by_row(SAID, SAID, rows(own, {}, own)) == [pytest.approx(0.85), None, None]
    assert judge.asked == 2 + 1  # code checks the words, an empty answer is not asked about
    for wrong in ({}, {"criteria": criteria, "field": "criteria"}):
        with pytest.raises(ValueError, match="criteria: expected a list of criteria, or the field"):
            RubricReward(**judged(judge), **wrong)


def test_rules_have_weights_by_what_the_prompt_asks_for(
    judged: Callable[[Judge], dict[str, Any]], tmp_path: Path
) -> None:
    def answer(text: str, question: Question) -> Any:
        is_true = ("apologises" in text) == ("sorry" in text)
        return {"Yes": 0.75, "No": 0.25} if is_true else {"Yes": 0.5, "No": 0.5}

    rules = ["the answer apologises", "the answer helps"]
    said = ["sorry, no", "here it is"]
    judge = Judge(answer)
    fixed = RuleBased(**judged(judge), propositions=rules, weights=(2.0, -1.0))
    assert fixed(said, said, rows({}, {})) == [2 * 0.75 - 0.5, 2 * 0.5 - 0.75]
    assert judge.asked == 4
    file = tmp_path / "weights.json"
    file.write_text(json.dumps({"weights": [1, 4]}))
    fitted = RuleBased(**judged(judge), propositions=rules, weights_file=str(file))
    assert fitted(said, said, rows({}, {})) == [0.75 + 2, 0.5 + 3]
    by_kind = {"refuse": (1.0, -1.0), "comply": (-1.0, 1.0)}
    chosen = RuleBased(**judged(judge), propositions=rules, by_kind=by_kind, kind_field="kind")
    kinds = rows({"kind": "refuse"}, {"kind": "comply"}, {"kind": "other"}, {})
    four = [*said, *said]
    assert chosen(four, four, kinds) == [0.25, 0.25, None, None]
    keys = {True: (1.0, -1.0), False: (-1.0, 1.0)}
    chosen = RuleBased(**judged(judge), propositions=rules, by_kind=keys, kind_field="kind")
    assert chosen(said, said, rows({"kind": True}, {"kind": False})) == [0.25, 0.25]
    with pytest.raises(ValueError, match="exactly where kind_field is set"):
        RuleBased(**judged(judge), propositions=rules, by_kind=by_kind)
    with pytest.raises(ValueError, match=r"by_kind: a: expected 2 numbers, got \(1.0,\)"):
        RuleBased(**judged(judge), propositions=rules, by_kind={"a": (1.0,)}, kind_field="kind")
    with pytest.raises(ValueError, match="expected one of weights, weights_file and by_kind"):
        RuleBased(**judged(judge), propositions=rules, weights=(1.0, 1.0), weights_file=str(file))


def test_fitted_rules_order_held_out_answers(judged: Callable[[Judge], dict[str, Any]]) -> None:
    """Weights of ranked answers, found again: the better of two has a reward higher by 1."""
    from siftune.curate.judge_stats.proposition_weights import fit_proposition_weights

    ranked = [("sorry, no", 1), ("here it is", 0)]
    judge = Judge(yes_if("sorry", 0.9, 0.1))
    asked = rows({}, {})
    said = [text for text, _ in ranked]
    probe = RuleBased(**judged(judge), propositions=["the answer declines"], weights=(1.0,))
    shares = [[one] for one in probe(said, said, asked)]
    weights = fit_proposition_weights(shares, [rank for _, rank in ranked], ["p", "p"])
    assert weights == pytest.approx((1 / 0.8,))  # the hinge is 0 where w (0.9 - 0.1) is 1
    fitted = RuleBased(**judged(judge), propositions=["the answer declines"], weights=weights)
    better, worse = fitted(said, said, asked)
    assert better is not None
    assert worse is not None
    assert better - worse == pytest.approx(1)


def test_the_class_of_a_refusal_is_worth_what_the_prompt_asks_for(
    judged: Callable[[Judge], dict[str, Any]],
) -> None:
    letters = {"sorry": "A", "never ever": "B", "do it so": "C", "here": "D"}

    def answer(text: str, question: Question) -> str:
        return next(letter for said, letter in letters.items() if said in text)

    reward = Refusal(**judged(Judge(answer)))
    said = [*letters, *letters, "here", "here"]
    kinds = rows(
        *[{"harmful": True}] * 3,
        {"harmful": 1.0},
        {"harmful": 0.0},
        *[{"harmful": "no"}] * 3,
        {},
        {"harmful": "perhaps"},
    )
    assert reward(said, said, kinds) == [1, 0.5, -1, 0, -1, -1, -1, 1, None, None]
    with pytest.raises(ValueError, match="harmless: expected a number for each of disallowed"):
        Refusal(**judged(Judge(answer)), harmless={"refusal": 1.0})


def test_a_goal_in_words_is_a_probability(judged: Callable[[Judge], dict[str, Any]]) -> None:
    judge = Judge(yes_if("kind words", 0.7, 0.2))
    reward = Goal(**judged(judge), goal="it is kind")
    assert reward(SAID, SAID, rows({}, {}, {})) == [0.7, 0.2, None]
    writes = Goal(**judged(Judge(yes_if("kind words", "Yes", "No."))), goal="it is warm")
    assert writes(SAID, SAID, rows({}, {}, {})) == [1.0, 0.0, None]
    own = Goal(**judged(judge), field="goal")
    assert own(SAID[:2], SAID[:2], rows({"goal": "it is kind"}, {"goal": 3})) == [0.7, None]
    assert pickle.loads(pickle.dumps(Goal(judge="smollm2", goal="x"))).goal == "x"
    with pytest.raises(ValueError, match="expected a goal in words"):
        Goal(**judged(judge), goal=" ")


def agrees(messages: Any) -> str:
    return "Yes"


def test_a_function_may_be_the_judge(tmp_path: Path) -> None:
    function: Any = agrees
    reward = Goal(judge=function, goal="it is kind", cache=str(tmp_path / "judge.sqlite"))
    assert reward(["?"], ["a"]) == [1.0]  # type: ignore[call-arg]  # rows are made of the prompts


def test_each_proposed_goal_counts_once(judged: Callable[[Judge], dict[str, Any]]) -> None:
    proposals = json.dumps(["Greet", "greet ", "thank"])
    asked = []

    def answer(text: str, question: Question) -> Any:
        if not question.labels:
            asked.append(text)
            return proposals if "Say it." in text else "[]"
        goal = "hello" if "Greet" in text else "thanks"
        return {"Yes": 0.9, "No": 0.1} if goal in text else {"Yes": 0.4, "No": 0.6}

    reward = ProposedGoals(**judged(Judge(answer)), bonus=0.5, ask_again=0)
    said = ["hello hello", "hello, thanks", "nothing"]
    assert reward(said, said, rows({}, {}, {})) == [0.5, 1.0, 0.0]
    assert len(asked) == 1  # one prompt
    other = [{"id": "r:9", "prompt": [{"role": "user", "content": "No."}], "extra": {}}]
    assert reward(["?"], ["hello"], other) == [None]
    eager = ProposedGoals(**judged(Judge(answer)), threshold=0.4)
    assert eager(said, said, rows({}, {}, {})) == [2.0, 2.0, 2.0]


def test_a_judge_that_is_none_is_refused_before_answers_are_drawn(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="judge: "):
        JudgeReward(judge="scripted:none.py:f").load()
    with pytest.raises(UsageError, match="max_cost needs price_input"):
        JudgeReward(judge="https://host/v1#m", max_cost=1.0)
