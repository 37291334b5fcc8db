"""Options of rewards that ask an LLM judge about answers to prompts, and its verdicts on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

from siftune.curate.core.custom import name_and_options
from siftune.curate.judge_calls.engine_options import CallOptions, check_cap, engine_of
from siftune.curate.judge_calls.spec import check_judge, costs_nothing, judge_backend, judge_prices
from siftune.curate.judge_calls.types import AsyncBackend, Backend, Item, Task, Verdict

__all__ = ["AnswerJudge"]


@dataclass(frozen=True, kw_only=True)
class AnswerJudge(CallOptions):
    """What rewards that ask a judge have in common.

    Questions, parsers, retries, prices and the cache are those of the scorers that judge rows
    (`judge_columns.JudgeColumns`): what one of them asked about the same answer is not asked again.
    What cannot be judged has no score.
    """

    def __post_init__(self) -> None:
        """Name a function of Python's that is the judge; refuse a cap without prices."""
        if not isinstance(self.judge, str | Mapping):
            object.__setattr__(self, "judge", name_and_options(self.judge)[0])
        check_cap(self, (self.judge,), {})

    def load(self) -> None:
        """Refuse a judge that cannot be asked, before answers are drawn.

        Raises:
            UsageError: it is none.
        """
        check_judge(self.judge, self.judge_options)

    def describe(self) -> dict[str, Any]:
        """The judge: its model, or the code of a function."""
        return {"judge": self._backend.identity}

    def verdicts(self, task: Task, items: Sequence[Item]) -> list[Verdict]:
        """The verdict of a task on each item, in order."""
        (prices,) = judge_prices((self.judge,), {}, self.usual_prices)
        capped = not costs_nothing(self.judge, prices)
        engine = engine_of(self, self._backend, task, prices, "rewards", capped=capped)
        return list(engine.verdicts(items))

    @cached_property
    def _backend(self) -> Backend | AsyncBackend:
        """The judge; a model is loaded when it is asked."""
        return judge_backend(self.judge, self.judge_options)

    def __getstate__(self) -> dict[str, Any]:
        """The options, without a model that is loaded."""
        return {one.name: getattr(self, one.name) for one in fields(self)}

    @staticmethod
    def items(
        completions: Sequence[str],
        rows: Sequence[Mapping[str, Any]],
        given: Sequence[Mapping[str, Any]] | None = None,
    ) -> list[Item]:
        """The turns of each row with the completion for its answer; ``given`` for the task."""
        return [
            Item(
                tuple((turn["role"], turn["content"] or "") for turn in row["prompt"]),
                (completion,),
                {"id": row.get("id"), **(more or {})},
                more or {},
            )
            for completion, row, more in zip(
                completions, rows, given or [{}] * len(rows), strict=True
            )
        ]
