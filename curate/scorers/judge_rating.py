"""Rating by an LLM judge: a number for each conversation, by the rubric of a task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import polars as pl

from siftune.curate.core.errors import UsageError
from siftune.curate.judge_calls.types import Task
from siftune.curate.judging.judge_columns import JudgeColumns

__all__ = ["JudgeRating"]


@dataclass(frozen=True, kw_only=True)
class JudgeRating(JudgeColumns):
    """``judge_rating``, the number of a task, and its other values, such as aspects.

    The last answer of each conversation is judged; of a pair both sides are, of a ranked list each
    answer. A row that got no rating is null, and ``judge_rating_error`` is the reason.

    Not for picking an exact number of rows: many rows share a rating.

    Options:
        task: Task that gives a number, such as alpagasus, ultrafeedback, additive, deita_quality,
            checklist or classifier_score; `siftune curate judges` lists them.
    """

    task: str = "alpagasus"

    name: ClassVar = "judge_rating"
    content: ClassVar = ("messages",)

    def _check(self, task: Task) -> None:
        first, kind = next(iter(task.adds.items()))
        if task.answers not in (None, 1) or kind != pl.Float64:
            raise UsageError(
                f"judge_rating: the task {self.task} gives no number of one answer ({first}): "
                "take another task, or the scorer judge_pairwise, judge_ranking, tags or judgement"
            )
