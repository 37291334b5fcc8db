"""Pairwise comparison by an LLM judge: which answer of a pair is better, asked in both orders."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from siftune.curate.core.errors import UsageError
from siftune.curate.judge_calls.types import Task
from siftune.curate.judging.judge_columns import JudgeColumns

__all__ = ["JudgePairwise"]


@dataclass(frozen=True, kw_only=True)
class JudgePairwise(JudgeColumns):
    """``judge_pairwise_winner`` and ``_preference`` of pairs; ``_consistent``, ``_tie`` and more.

    The first answer is the chosen one, so a preference above 0.5 agrees with the label. Both orders
    are asked; where they disagree, the winner is a tie and ``_consistent`` false.
    ``_first_position`` counts verdicts for the answer that was shown first, ties half.

    Not for more than a few thousand pairs without a forecast: each pair is two questions.

    Options:
        task: Task that compares two answers, such as pairwise, constitution_preference or
            contrastive.
    """

    task: str = "pairwise"

    name: ClassVar = "judge_pairwise"
    content: ClassVar = ("prompt", "chosen", "rejected")

    def names(self) -> dict[str, str]:
        """Each value of the task has the scorer's name in front."""
        return {name: f"{self.prefix}_{name}" for name in self.made_task.adds}

    def _check(self, task: Task) -> None:
        if task.answers not in (None, 2) or "preference" not in task.adds:
            raise UsageError(
                f"judge_pairwise: the task {self.task} compares no pairs: take another task, or "
                "the scorer judge_rating"
            )
