"""Judge tasks: a contract for all of them, and fixed answers with the values they give."""

import pickle
import random
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import polars as pl
import pytest

from siftune.curate.core import registry
from siftune.curate.judging.types import Answer, Item, Question, Task, UnparsedError

GROUP = "curate.judge_tasks"
PAIR = Item((("user", "Name a prime."),), ("Seven.", "Eight."))
SINGLE = replace(PAIR, answers=("Seven.",))
CHAT = Item(
    (("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello!"), ("user", "Name a prime.")),
    ("Seven.",),
)

ITEMS: dict[str, Item] = {}
"""Items of tasks that need more than prompt and answers."""

OPTIONS: dict[str, dict[str, Any]] = {}
"""Options of tasks that cannot do without."""

REPLIES: dict[str, str] = {
    "alpagasus": "4.5\nIt is right.",
    "deita_complexity": "2",
    "deita_quality": "Score: 3",
    "pairwise": "A",
}
"""An answer that each task accepts."""


def task_of(name: str, **options: Any) -> Task:
    return registry.build(GROUP, name, OPTIONS.get(name, {}) | options)


def item_of(name: str) -> Item:
    return ITEMS.get(name, PAIR if task_of(name).answers == 2 else SINGLE)


def judged(task: Task, item: Item, *answers: str | Mapping[str, float]) -> Mapping[str, Any]:
    """The verdict of answers, each a text or probabilities."""
    given = [Answer(text) if isinstance(text, str) else Answer(None, text) for text in answers]
    assert len(task.questions(item)) == len(given)
    return task.verdict(item, [task.parse(item, n, answer) for n, answer in enumerate(given)])


def column_types(task: Task) -> dict[str, Any]:
    return dict(task.adds)


WITHOUT_RUBRIC = {"classifier_score"}
"""Tasks whose question is the conversation itself: tested with the judge that answers them."""


@pytest.fixture(params=[name for name in registry.names(GROUP) if name not in WITHOUT_RUBRIC])
def name(request):
    return request.param


def test_questions_are_the_same_each_time_and_are_versioned(name):
    task = task_of(name)
    questions = task.questions(item_of(name))
    assert questions
    assert list(pickle.loads(pickle.dumps(task)).questions(item_of(name))) == list(questions)
    assert all(question.version.startswith(f"{name}-") for question in questions)
    assert all(len(set(question.labels)) == len(question.labels) for question in questions)


def test_data_are_in_the_user_turn_only_and_cut_at_max_chars(name):
    item = item_of(name)
    long = replace(item, prompt=(("user", "q" * 50 + "zzz"),))
    for question in task_of(name, max_chars=50).questions(long):
        assert [role for role, _ in question.messages] == ["system", "user"]
        assert "qqq" not in question.messages[0][1]
        assert "zzz" not in question.messages[1][1]


def test_verdicts_have_the_columns_that_are_declared(name):
    task, item = task_of(name), item_of(name)
    values = judged(task, item, *[REPLIES[name]] * len(task.questions(item)))
    assert list(values) == list(task.adds)
    frame = pl.DataFrame([values], schema=column_types(task), strict=True)
    assert frame.schema == pl.Schema(column_types(task))


def test_labels_are_read_from_texts_and_from_probabilities(name):
    task, item = task_of(name), item_of(name)
    for position, question in enumerate(task.questions(item)):
        if question.labels:
            certain = {name: float(name == question.labels[0]) for name in question.labels}
            line = f"{question.prefix}{question.labels[0]}"
            written = task.parse(item, position, Answer(line))
            assert task.parse(item, position, Answer(None, certain)) == written
            with pytest.raises(UnparsedError):
                task.parse(item, position, Answer(None, {question.labels[0]: 1.0}))


def test_an_answer_without_a_verdict_is_refused(name):
    task, item = task_of(name), item_of(name)
    for text in ("", " \n"):
        with pytest.raises(UnparsedError):
            task.parse(item, 0, Answer(text))


def test_what_cannot_be_judged_has_no_questions(name):
    task = task_of(name)
    assert not task.questions(Item((), ()))
    assert not task.questions(Item((("user", " "),), ("",) * len(item_of(name).answers)))


def refused(task: Task, item: Item, *texts: str) -> None:
    for text in texts:
        with pytest.raises(UnparsedError):
            task.parse(item, 0, Answer(text))


def test_alpagasus():
    task = task_of("alpagasus", dimension="helpfulness")
    assert "helpfulness of the answer" in task.questions(SINGLE)[0].messages[0][1]
    assert judged(task, SINGLE, "4.5\nAlmost perfect.") == {"rating": 4.5}
    assert judged(task, SINGLE, {"0": 0, "1": 0, "2": 0, "3": 0, "4": 0.5, "5": 0.5}) == {
        "rating": 4.5
    }
    refused(task, SINGLE, "Almost perfect.\n4.5", "9\nGood", "Score of 4\n")
    short = task_of("alpagasus", explanation=False)
    assert judged(short, SINGLE, "4") == {"rating": 4}
    refused(short, SINGLE, "4\nGood.")


@pytest.mark.parametrize(
    ("name", "column"), [("deita_complexity", "complexity"), ("deita_quality", "quality")]
)
def test_deita(name, column):
    task = task_of(name)
    even = {str(k): 1 / 6 for k in range(1, 7)}
    verdict = judged(task, CHAT, even, "6")
    assert verdict[f"{column}_turns"] == pytest.approx([3.5, 6])
    assert verdict[column] == pytest.approx(4.75)
    first, second = (question.messages[1][1] for question in task.questions(CHAT))
    assert "Hi" in first
    assert "Name a prime." in second
    assert ("Hello!" in first, "Seven." in second) == ((name == "deita_quality"),) * 2
    refused(task, CHAT, "7", "0", "3 of 6", "Score: 3\nScore: 4")


def test_pairwise():
    task = task_of("pairwise")
    first, second = (question.messages[1][1] for question in task.questions(PAIR))
    assert first.index("Seven.") < first.index("Eight.")
    assert second.index("Eight.") < second.index("Seven.")
    for answers, expected in (
        (("A", "B"), ("first", 1, True, False, 1)),
        (("B", "A"), ("second", 0, True, False, 1)),
        (("A", "A"), ("tie", 0.5, False, True, 2)),
        (("B", "B"), ("tie", 0.5, False, True, 0)),
        (("C", "tie"), ("tie", 0.5, True, True, 0)),
        (("A", "C"), ("tie", 0.75, False, True, 1)),
    ):
        assert tuple(judged(task, PAIR, *answers).values()) == expected
    likely = judged(task, PAIR, {"A": 0.5, "B": 0.25, "C": 0.25}, {"A": 0.0, "B": 1.0, "C": 0.0})
    assert likely["preference"] == pytest.approx((0.625 + 1) / 2)
    assert likely["winner"] == "first"
    refused(task, PAIR, "A and B", "A\nB", "Seven.", "The first")
    refused(task_of("pairwise", ties=False), PAIR, "C", "tie")


def biased(rng: random.Random, question: Question, noise: float, shown_first: bool) -> str:
    """A judge that prefers the answer with more stars, with noise, or always the first shown."""
    text = question.messages[1][1]
    right = "A" if text.index("***") < text.index("[BEGIN answer B") else "B"
    if shown_first:
        return "A"
    return right if rng.random() >= noise else rng.choice("AB")


def test_planted_preferences_come_back_and_planted_inconsistency_is_found():
    """1,000 pairs, half of them swapped, with a noise of 1 in 200 and 1 in 10 by position alone."""
    rng, task = random.Random(5), task_of("pairwise", ties=False)
    right = decided = 0
    for row in range(1000):
        better_first, inconsistent = rng.random() < 0.5, row % 10 == 0
        answers = (f"Text {row} ***", f"Text {row} *")
        item = Item((("user", f"Question {row}"),), answers if better_first else answers[::-1])
        replies = [biased(rng, each, 0.005, inconsistent) for each in task.questions(item)]
        verdict = judged(task, item, *replies)
        if inconsistent:
            assert not verdict["consistent"]
            assert verdict["winner"] == "tie"
        elif verdict["consistent"]:
            decided += 1
            right += verdict["winner"] == ("first" if better_first else "second")
            assert (verdict["preference"] > 0.5) == (verdict["winner"] == "first")
    assert decided >= 0.98 * 900
    assert right >= 0.99 * 900
