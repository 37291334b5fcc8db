"""Rubric reward: the weighted share of criteria that are true of an answer, each by a judge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from siftune.curate.judge_calls.types import Task
from siftune.curate.judging.answer_judge import AnswerJudge
from siftune.curate.judging.criteria import Given
from siftune.curate.judging.judge_task import judge_task

__all__ = ["RubricReward"]


@dataclass(frozen=True, kw_only=True)
class RubricReward(AnswerJudge):
    """``sum of w * met / sum of w``, 0 to 1; Rubrics as Rewards, arXiv:2507.17746.

    Criteria are texts, or mappings of ``text``, ``weight`` (a number or essential, important,
    optional, pitfall) and ``check``, which code decides instead of the judge. ``criteria`` are for
    all rows; else each row has its own in ``field``, a field of the raw row. A row without criteria
    and an answer that the judge gave no verdict on one of them have no score.

    Options:
        criteria: Criteria for all rows.
        field: Field of the raw row with its criteria, where there is no list for all.
        aggregate: Whether each criterion is a question (explicit), or all are one (implicit).
    """

    criteria: Given = ()
    field: str | None = None
    aggregate: Literal["explicit", "implicit"] = "explicit"

    def __post_init__(self) -> None:
        """Refuse a rubric that is nowhere, or in two places."""
        super().__post_init__()
        if bool(self.criteria) == bool(self.field):
            raise ValueError("criteria: expected a list of criteria, or the field that holds them")
        _ = self._task

    def __call__(
        self,
        prompts: Sequence[str],
        completions: Sequence[str],
        rows: Sequence[Mapping[str, Any]],
    ) -> list[float | None]:
        """The weighted share for each answer, or None."""
        extras = [row.get("extra") or {} for row in rows]
        given = [{"rubric": extra.get(self.field)} if self.field else {} for extra in extras]
        found = self.verdicts(self._task, self.items(completions, rows, given))
        return [None if one.values is None else one.values["score"] for one in found]

    @cached_property
    def _task(self) -> Task:
        return judge_task("rubric", {"criteria": self.criteria, "aggregate": self.aggregate})
