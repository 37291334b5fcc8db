"""What an LLM judge writes or decides on each conversation: a critique, a revision, a class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from siftune.curate.core.errors import UsageError
from siftune.curate.judge_calls.types import Task
from siftune.curate.judging.judge_columns import JudgeColumns

__all__ = ["Judgement"]


@dataclass(frozen=True, kw_only=True)
class Judgement(JudgeColumns):
    """The values of any task about one conversation, such as ``judgement_critique``.

    Not for ranking: what it adds is text or a class.

    Options:
        task: Task about one conversation, such as critique, revision, refusal_class or
            checklist_items.
    """

    task: str = "critique"

    name: ClassVar = "judgement"
    content: ClassVar = ("messages",)

    def names(self) -> dict[str, str]:
        """Each value of the task has the scorer's name in front."""
        return {name: f"{self.prefix}_{name}" for name in self.made_task.adds}

    def _check(self, task: Task) -> None:
        if task.answers not in (None, 1):
            raise UsageError(f"judgement: the task {self.task} is not about one conversation")
