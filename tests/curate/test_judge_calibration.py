"""Contextual calibration of label probabilities."""

import math
import random
from typing import Any

import pytest

from siftune.curate.core.errors import UsageError
from siftune.curate.judge_calls.engine import Judge
from siftune.curate.judge_calls.types import Answer, Item, Question, UnjudgeableError, UnparsedError
from siftune.curate.judge_tasks.constitution_preference import ConstitutionPreference
from siftune.curate.judge_tasks.deita_quality import DeitaQuality
from siftune.curate.judge_tasks.pairwise import Pairwise
from siftune.curate.judges.scripted import Scripted
from siftune.curate.judging.calibration import Calibrated

LIKING = {"A": 9.0, "B": 1.0}


def stars(question: Question) -> dict[str, float]:
    """Likes the answer with more stars, and the letter A nine times as much as B."""
    text = question.messages[1][1]
    first, second = text.split("[BEGIN answer B")
    odds = {"A": math.exp(first.count("*")), "B": math.exp(second.count("*"))}
    return {label: value * LIKING[label] for label, value in odds.items()}


def test_a_liking_for_a_label_is_divided_out() -> None:
    rng = random.Random(0)
    pairs = [tuple(rng.sample((0, 1, 2), 2)) for _ in range(40)]
    items = [
        Item((("user", f"Question {row}"),), ("*" * one + ".", "*" * other + "."))
        for row, (one, other) in enumerate(pairs)
    ]
    task, judge = Pairwise(ties=False), Scripted(stars)
    plain = [verdict.values for verdict in Judge(judge, task).verdicts(items)]
    fair = [verdict.values for verdict in Judge(judge, Calibrated(task)).verdicts(items)]
    for (one, other), values in zip(pairs, fair, strict=True):
        assert values["preference"] == pytest.approx(1 / (1 + math.exp(other - one)))
        assert values["consistent"]
        assert (
            values["winner"] == {1: "first", 0: "tie", -1: "second"}[(one > other) - (one < other)]
        )
    assert [values["first_position"] for values in plain] == [2] * 40  # always A


def test_the_questions_without_content_are_asked_once_for_each_shape_of_row() -> None:
    asked: list[str] = []

    def counting(question: Question) -> Any:
        asked.append(question.messages[1][1])
        return dict.fromkeys(question.labels, 1.0)

    items = [Item((("user", f"q{row}"),), ("a",)) for row in range(9)]
    chats = [Item((*one.prompt, ("assistant", "x"), ("user", "y")), ("z",)) for one in items]
    verdicts = list(Judge(Scripted(counting), Calibrated(DeitaQuality())).verdicts(items + chats))
    assert [verdict.values["quality"] for verdict in verdicts] == pytest.approx([3.5] * 18)
    assert sum("N/A" in text for text in asked) == 1  # each reply of a chat is asked about alone
    assert len(asked) == 1 + 9 + 2 * 9 - 8  # x is the same for all


def test_what_cannot_be_calibrated_is_an_error() -> None:
    task, pair = Calibrated(Pairwise()), Item((("user", "q"),), ("a", "b"))
    assert (task.answers, list(task.adds)) == (2, list(Pairwise().adds))
    with pytest.raises(UnjudgeableError, match="expected a prompt"):
        task.questions(Item((), ()))
    written = list(Judge(Scripted(lambda messages: "A"), task, ask_again=0).verdicts([pair]))
    assert [verdict.error for verdict in written] == ["no_probabilities"]
    asked = []
    pairs = [Item((("user", f"q{n}"),), ("a", "b")) for n in range(200)]
    judge = Judge(Scripted(lambda messages: asked.append(1) or "A"), Calibrated(Pairwise()))
    with pytest.raises(UsageError, match="the first 20 answers of the judge are texts"):
        list(judge.verdicts(pairs))
    assert len(asked) < 200
    even, none = {"A": 0.5, "B": 0.5}, {"A": 1.0, "B": 0.0}
    for parsed in ([even], [even, none], [even, {"A": 1.0}]):
        with pytest.raises(UnparsedError):
            task.verdict(pair, parsed)
    assert task.parse(pair, 0, Answer(None, even)) == even


def test_the_questions_without_content_have_the_principle_of_the_row() -> None:
    task = Calibrated(ConstitutionPreference(tuple(f"Principle {n}." for n in range(50))))
    systems = [
        {question.messages[0][1] for question in task.questions(item)}
        for item in (Item((("user", f"q{row}"),), ("a", "b")) for row in range(5))
    ]
    assert [len(one) for one in systems] == [1] * 5
    assert len(set.union(*systems)) > 1
