"""Bonus for goals that a model proposes for a prompt, each counted once in an answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import polars as pl

from siftune.curate.core.ranges import Count, PositiveShare
from siftune.curate.judge_calls.echoes import own_text
from siftune.curate.judge_calls.fence import as_far_as_shown
from siftune.curate.judge_calls.types import Answer, Item, Question, UnparsedError
from siftune.curate.judging.answer_judge import AnswerJudge
from siftune.curate.judging.judge_task import judge_task
from siftune.curate.judging.parsing import json_value, text
from siftune.curate.judging.prompt import MAX_CHARS, Prompt
from siftune.curate.judging.rating import prompted

__all__ = ["ProposedGoals"]

_RUBRIC = """You propose goals for the answer that an AI assistant is about to give to an \
instruction: what it could sensibly reach here, each goal different from the others, in a few \
words, so that it can be said of an answer whether it reached it."""
_REPLY = "Reply with a JSON array only, of at most {most} texts."
_LONGEST = 300  # characters of a goal


@dataclass(frozen=True, kw_only=True)
class ProposedGoals(AnswerJudge):
    """``bonus`` times the number of proposed goals that the answer reaches; ELLM, arXiv:2302.06692.

    Du et al. 2023 ask a language model for goals that make sense in the present state, and reward
    an agent that reaches one it has not reached in this episode. Here the state is the prompt, an
    episode is an answer: the judge proposes goals for each prompt once, goals that differ only in
    case or white space are one, and each counts once, however often the answer reaches it. Whether
    it does is a question to the judge, where the paper compares the embeddings of a caption and the
    goal with a threshold. So the reward is of an answer alone, not of those before it.

    A prompt without proposals, and an answer without a verdict on one of them, have no score.

    Options:
        most: Largest number of goals for a prompt.
        bonus: Reward of each goal.
        threshold: Probability of yes from which on a goal is reached; a judge that writes gives 1
            or 0.
    """

    most: Count = 5
    bonus: float = 1.0
    threshold: PositiveShare = 0.5

    def __call__(
        self,
        prompts: Sequence[str],
        completions: Sequence[str],
        rows: Sequence[Mapping[str, Any]],
    ) -> list[float | None]:
        """The sum for each answer, or None."""
        goals = self._goals(rows)
        asked = [at for at, own in enumerate(goals) if own]
        given = [{"checklist": goals[at]} for at in asked]
        items = self.items([completions[at] for at in asked], [rows[at] for at in asked], given)
        scores: list[float | None] = [None] * len(rows)
        for at, verdict in zip(
            asked, self.verdicts(judge_task("checklist", {}), items), strict=True
        ):
            if verdict.values is not None:
                reached = sum(one >= self.threshold for one in verdict.values["items"])
                scores[at] = self.bonus * reached
        return scores

    def _goals(self, rows: Sequence[Mapping[str, Any]]) -> list[list[str] | None]:
        """The goals for the prompt of each row; each prompt is asked about once."""
        items = {item.prompt: item for item in self.items([""] * len(rows), rows)}
        task = _Goals(self.most)
        found = zip(items, self.verdicts(task, [*items.values()]), strict=True)
        known = {prompt: one.values["goals"] for prompt, one in found if one.values is not None}
        return [known.get(item.prompt) for item in self.items([""] * len(rows), rows)]


@dataclass(frozen=True)
class _Goals:
    """The judge's task to propose goals for a prompt."""

    most: int

    answers: ClassVar = None
    adds: ClassVar[Mapping[str, pl.DataType | type[pl.DataType]]] = {"goals": pl.List(pl.String)}

    @property
    def _prompt(self) -> Prompt:
        reply = _REPLY.format(most=self.most)
        return Prompt("proposed_goals", _RUBRIC, reply, max_tokens=512, options=(self.most,))

    def questions(self, item: Item) -> Sequence[Question]:
        """One question."""
        return [self._prompt.question(prompted(item))]

    def parse(self, item: Item, question: int, answer: Answer) -> list[str]:
        """The goals, each once."""
        expected = f"a JSON array of 1 to {self.most} texts of at most {_LONGEST} characters"
        sections = as_far_as_shown(prompted(item), MAX_CHARS)
        found = json_value(own_text(text(self._prompt, answer), sections), expected, sections)
        texts = isinstance(found, list) and all(isinstance(one, str) for one in found)
        if not texts or not 0 < len(found) <= self.most:
            raise UnparsedError(f"expected {expected}")
        if not all(one.strip() and len(one) <= _LONGEST for one in found):
            raise UnparsedError(f"expected {expected}")
        goals: dict[str, str] = {}
        for one in found:
            goals.setdefault(" ".join(one.split()).casefold(), one)
        return [*goals.values()]

    def verdict(self, item: Item, parsed: Sequence[list[str]]) -> Mapping[str, Any]:
        """The goals."""
        return {"goals": parsed[0]}
