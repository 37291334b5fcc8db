"""Cases for tests of all judge tasks: an item, options and an answer that each of them accepts."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from siftune.curate.core import registry
from siftune.curate.judge_calls.types import Answer, Item, Task, UnparsedError

GROUP = "curate.judge_tasks"
PAIR = Item((("user", "Name a prime."),), ("Seven.", "Eight."))
SINGLE = replace(PAIR, answers=("Seven.",))
CHAT = Item(
    (("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello!"), ("user", "Name a prime.")),
    ("Seven.",),
)

ITEMS: dict[str, Item] = {
    "listwise": replace(PAIR, answers=("Seven.", "Eight.", "Nine.")),
    "revision": replace(SINGLE, extra={"critique": "It is too short."}),
}
"""Items of tasks that need another than one or two answers."""

OPTIONS: dict[str, dict[str, Any]] = {
    "checklist": {"checklist": ["names a number", "is a prime"]},
    "contrastive": {"samples": 2},
    "propositions": {"propositions": ["names a number", {"text": "is rude", "weight": -2}]},
    "rubric": {"criteria": [{"text": "is a prime", "weight": "essential"}]},
}
"""Options of tasks that need some."""

REPLIES: dict[str, str] = {
    "additive": "It is relevant.\nScore: 1",
    "alpagasus": "1.5\nIt is short.",
    "checklist": "No",
    "checklist_items": '[{"text": "Is it a prime?", "weight": 80, "check": null}]',
    "constitution_preference": "B",
    "contrastive": "Eight is not prime.\nVerdict: B",
    "critique": "It gives no reason.",
    "deita_complexity": "2",
    "deita_quality": "Score: 3",
    "fineweb_edu": "It has a fact.\nEducational score: 1",
    "instag": '[{"tag": "Number Theory", "explanation": "It is about primes."}]',
    "listwise": "B > A > C",
    "pairwise": "B",
    "propositions": "No",
    "refusal_class": "C",
    "revision": "Seven is a prime.",
    "rubric": "No",
    "ultrafeedback": "2",
}
"""An answer that each task accepts."""

WITHOUT_RUBRIC = {"classifier_preference", "classifier_score"}
"""Tasks whose question is the conversation itself: tested with the judge that answers them."""


def task_of(name: str, **options: Any) -> Task:
    task: Task = registry.build(GROUP, name, OPTIONS.get(name, {}) | options)
    return task


def item_of(name: str) -> Item:
    return ITEMS.get(name, PAIR if task_of(name).answers == 2 else SINGLE)


def judged(task: Task, item: Item, *answers: str | Mapping[str, float]) -> Mapping[str, Any]:
    """The verdict of answers, each a text or probabilities."""
    given = [Answer(text) if isinstance(text, str) else Answer(None, text) for text in answers]
    assert len(task.questions(item)) == len(given)
    return task.verdict(item, [task.parse(item, n, answer) for n, answer in enumerate(given)])


def refused(task: Task, item: Item, *texts: str) -> None:
    """Assert that none of the texts answers the first question of the item."""
    for text in texts:
        with pytest.raises(UnparsedError):
            task.parse(item, 0, Answer(text))
