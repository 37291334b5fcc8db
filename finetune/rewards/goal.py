"""Goal reward: a judge's probability of yes to whether an answer reaches a goal given in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from siftune.curate.judging.answer_judge import AnswerJudge
from siftune.curate.judging.judge_task import judge_task

__all__ = ["Goal"]

_STATEMENT = "The answer reaches this goal: {goal}"


@dataclass(frozen=True, kw_only=True)
class Goal(AnswerJudge):
    """The probability of yes, 0 to 1; Kwon et al. 2023, Reward Design with Language Models.

    arXiv:2303.00001: a user describes what the policy should do, a language model reads an episode
    and answers yes or no, which is the reward 1 or 0. A judge in this process gives the
    probability of yes among yes and no, so near misses score higher than far ones; one that writes
    gives 1 or 0. The paper gives examples beside the description: write them into the goal.

    Options:
        goal: The goal, such as "it persuades without pressure".
        field: Field of the raw row with its goal, where there is none for all.
    """

    goal: str = ""
    field: str | None = None

    def __post_init__(self) -> None:
        """Refuse a goal that is nowhere, or in two places."""
        super().__post_init__()
        if bool(self.goal.strip()) == bool(self.field):
            raise ValueError("goal: expected a goal in words, or the field of rows that has it")

    def __call__(
        self,
        prompts: Sequence[str],
        completions: Sequence[str],
        rows: Sequence[Mapping[str, Any]],
    ) -> list[float | None]:
        """The probability for each answer; None without a goal or a verdict."""
        goals = [self._goal(row) for row in rows]
        scores: list[float | None] = [None] * len(rows)
        for goal in dict.fromkeys(goal for goal in goals if goal):
            task = judge_task("propositions", {"propositions": [_STATEMENT.format(goal=goal)]})
            places = [at for at, own in enumerate(goals) if own == goal]
            items = self.items([completions[at] for at in places], [rows[at] for at in places])
            for at, verdict in zip(places, self.verdicts(task, items), strict=True):
                scores[at] = None if verdict.values is None else verdict.values["reward"]
        return scores

    def _goal(self, row: Mapping[str, Any]) -> str | None:
        given = self.goal if self.field is None else (row.get("extra") or {}).get(self.field)
        return given.strip() or None if isinstance(given, str) else None
