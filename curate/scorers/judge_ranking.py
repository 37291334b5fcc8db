"""Ranking by an LLM judge: all answers to a prompt, the best first, in one question."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from siftune.curate.core.errors import UsageError
from siftune.curate.judge_calls.types import Task
from siftune.curate.judging.judge_columns import JudgeColumns

__all__ = ["JudgeRanking"]


@dataclass(frozen=True, kw_only=True)
class JudgeRanking(JudgeColumns):
    """``judge_ranking_ranks`` of the answers of a ranked list (1 is the best), and ``_best``.

    The answers are shown in an order that is drawn from their content.

    Not for long lists, whose end a small judge orders at random.

    Options:
        task: Task that ranks answers: listwise, or one of your own.
    """

    task: str = "listwise"

    name: ClassVar = "judge_ranking"
    content: ClassVar = ("prompt", "completions")

    def names(self) -> dict[str, str]:
        """Each value of the task has the scorer's name in front."""
        return {name: f"{self.prefix}_{name}" for name in self.made_task.adds}

    def _check(self, task: Task) -> None:
        if "ranks" not in task.adds:
            raise UsageError(f"judge_ranking: the task {self.task} ranks no answers")
