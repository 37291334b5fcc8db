"""Judge reward: the number that an LLM judge gives an answer, by the rubric of a task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import polars as pl

from siftune.curate.core.errors import UsageError
from siftune.curate.judge_calls.types import Task
from siftune.curate.judging.answer_judge import AnswerJudge
from siftune.curate.judging.judge_task import judge_task

__all__ = ["JudgeReward"]


@dataclass(frozen=True, kw_only=True)
class JudgeReward(AnswerJudge):
    """``(rating - low) / (high - low)`` of the first number that the task gives.

    The rating is a reward as in RLAIF, Lee et al. 2023, arXiv:2309.00267, who take it from 1 to 10
    to 0 to 1; a judge in this process gives the expected rating under its probabilities, as theirs
    does. ``low`` 0 and ``high`` 1 leave it as it is. An answer that the judge gave no rating has no
    score: it is not a bad one.

    Options:
        task: Task that gives a number of one answer, such as alpagasus (0 to 5), ultrafeedback,
            deita_quality, fineweb_edu or classifier_score; `siftune curate judges` lists them.
        task_options: Options of the task, such as ``{dimension: helpfulness}``.
        low: Rating whose reward is 0.
        high: Rating whose reward is 1.
    """

    task: str = "alpagasus"
    task_options: Mapping[str, Any] = field(default_factory=dict)
    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        """Refuse a task that gives no number of one answer."""
        super().__post_init__()
        column, kind = next(iter(self._task.adds.items()))
        if self._task.answers not in (None, 1) or kind != pl.Float64:
            raise UsageError(f"judge: the task {self.task} gives no number of an answer ({column})")
        if not self.high > self.low:
            raise ValueError(f"high: expected a number above low, {self.low:g}, got {self.high:g}")

    def __call__(
        self,
        prompts: Sequence[str],
        completions: Sequence[str],
        rows: Sequence[Mapping[str, Any]],
    ) -> list[float | None]:
        """The rating of each answer, or None."""
        name = next(iter(self._task.adds))
        found = self.verdicts(self._task, self.items(completions, rows))
        return [None if one.values is None else self._scaled(one.values[name]) for one in found]

    def _scaled(self, rating: float | None) -> float | None:
        return None if rating is None else (rating - self.low) / (self.high - self.low)

    @cached_property
    def _task(self) -> Task:
        return judge_task(self.task, self.task_options)
