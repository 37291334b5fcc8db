"""Options of rewards that ask an LLM judge about answers to prompts, and its verdicts on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any

from siftune.curate.core.custom import name_and_options
from siftune.curate.core.ranges import Count, Natural, NonNegative, Positive
from siftune.curate.judge_calls.engine_options import check_cap, engine_of
from siftune.curate.judge_calls.spec import check_judge, costs_nothing, judge_backend, judge_prices
from siftune.curate.judge_calls.spending import Prices
from siftune.curate.judge_calls.types import AsyncBackend, Backend, Item, Task, Verdict

__all__ = ["AnswerJudge"]


@dataclass(frozen=True, kw_only=True)
class AnswerJudge:
    """What rewards that ask a judge have in common.

    Questions, parsers, retries, prices and the cache are those of the scorers that judge rows
    (`judge_columns.JudgeColumns`): what one of them asked about the same answer is not asked again.
    What cannot be judged has no score.

    Options:
        judge: The judge: a chat model (name or folder), URL#MODEL of a server, classifier:FOLDER,
            scripted:FILE.py:NAME, or a name of `siftune curate judges`.
        judge_options: Options of the judge, such as ``{key_variable: MY_KEY}`` of a server.
        cache: File of the judge's answers; by default judge.sqlite in .siftune_cache.
        replay: Take answers from the cache alone; what it lacks has no score.
        in_flight: Most requests to a server at a time.
        per_minute: Most requests to a server in a minute.
        timeout: Seconds for one whole answer of a server.
        tries: Most requests for one question, where a server fails.
        ask_again: How often a question is asked again whose answer cannot be parsed.
        max_cost: Dollars that all judging with this cache may cost together; never passed.
        price_input: Dollars for a million input tokens.
        price_output: Dollars for a million output tokens.
        most_per_call: Most dollars that one answer costs, where the server states the cost of each.
    """

    judge: str | Mapping[str, Any]
    judge_options: Mapping[str, Any] = field(default_factory=dict)
    cache: str = ""
    replay: bool = False
    in_flight: Count = 32
    per_minute: Positive | None = None
    timeout: Positive = 60.0
    tries: Count = 5
    ask_again: Natural = 2
    max_cost: NonNegative | None = None
    price_input: NonNegative = 0.0
    price_output: NonNegative = 0.0
    most_per_call: NonNegative | None = None

    def __post_init__(self) -> None:
        """Name a function of Python's that is the judge; refuse a cap without prices."""
        if not isinstance(self.judge, str | Mapping):
            object.__setattr__(self, "judge", name_and_options(self.judge)[0])
        check_cap(self, (self.judge,))

    @property
    def prices(self) -> Mapping[str, Mapping[str, Any]]:
        """Prices of single judges: there is one."""
        return {}

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
        usual = Prices(self.price_input, self.price_output, self.most_per_call)
        (prices,) = judge_prices((self.judge,), {}, usual)
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
