"""Options of steps that ask an LLM judge, the judge they name, and what it measured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import orjson

from siftune.curate.core.errors import DataError
from siftune.curate.core.progress import report_progress
from siftune.curate.core.ranges import check_ranges
from siftune.curate.core.registry import code_of
from siftune.curate.files.atomic import digest_of
from siftune.curate.judge_calls.engine_options import CallOptions, check_cap, engine_of
from siftune.curate.judge_calls.spec import (
    costs_nothing,
    judge_backend,
    judge_prices,
    named_judge,
    price_known,
)
from siftune.curate.judge_calls.spending import Prices
from siftune.curate.judge_calls.types import (
    AsyncBackend,
    Backend,
    Item,
    Question,
    Task,
    UnjudgeableError,
    Verdict,
)
from siftune.curate.judge_stats.intervals import Estimate, NotEstimableError
from siftune.curate.judging.judge_columns import TASKS, may_pass
from siftune.curate.judging.judge_task import judge_task

__all__ = ["UNSCORED", "JudgeOptions", "Outcomes", "estimated", "placeholder", "questions_of"]

UNSCORED: Final = "unscored.jsonl"
"""The items without a verdict, in the folder of a step: id, error, detail."""


@dataclass(frozen=True, kw_only=True)
class JudgeOptions(CallOptions):
    """What steps that ask a judge have in common; those of the judge are as in `siftune curate`.

    Options:
        judge: The judge: a chat model (name, folder or ``step:LABEL``), URL#MODEL of a server,
            classifier:FOLDER, scripted:FILE.py:NAME, or a name of `siftune curate judges`.
        task_options: Options of the task, such as ``{rationale: false}`` of additive.
        prices: Prices of single judges, ``{JUDGE: {input: 0.15, output: 0.6}}``; models in this
            process cost nothing unless they are named here.
    """

    judge: str
    task_options: Mapping[str, Any] = field(default_factory=dict)
    prices: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse options out of range, a text that names no judge, and a cap without prices."""
        check_ranges(self)
        named_judge(self.judge)
        check_cap(self, self._judges, self.prices)

    def verdicts(
        self, task: Task, items: Iterable[Item], ids: Sequence[str], outcomes: Outcomes
    ) -> Iterator[Verdict]:
        """The judge's verdict on each item, in order, counted; ``ids`` are the items' rows."""
        yield from self._verdicts(self.judge, self.backend, task, items, ids, outcomes)

    def _verdicts(
        self,
        judge: str,
        backend: Backend | AsyncBackend,
        task: Task,
        items: Iterable[Item],
        ids: Sequence[str],
        outcomes: Outcomes,
    ) -> Iterator[Verdict]:
        priced = self.priced(judge)
        prices = self.prices_of(judge)
        capped = not costs_nothing(judge, prices)
        engine = engine_of(self, backend, task, prices, capped=capped)
        found = zip(ids, engine.verdicts(items), strict=True)
        for done, (row, verdict) in enumerate(found, 1):
            outcomes.add(verdict, row, priced=priced)
            yield verdict
            report_progress(done, len(ids), "items")

    def prices_of(self, judge: str) -> Prices:
        """What one of the judges costs; ``prices`` may name a second judge, too."""
        judges = list(dict.fromkeys((judge, *self._judges)))
        return judge_prices(judges, self.prices, self.usual_prices)[0]

    def priced(self, judge: str) -> bool:
        """Whether it is known what one of the judges costs."""
        return price_known(judge, self.prices_of(judge), self.prices)

    def longest(self, judge: str, question: Question) -> Question:
        """A question to one of the judges with the limit of tokens that its answer has."""
        given = self.judge_options if judge == self.judge else self._second_options
        extra = named_judge(judge)[1] | dict(given)
        return replace(question, max_tokens=question.max_tokens + extra.get("extra_tokens", 0))

    def foresee(self, items: Sequence[Item]) -> tuple[list[Item], dict[str, list[Question]]]:
        """The rows that the step makes of ``items``, at most, and the questions to each judge.

        Answers that are not there yet are placeholders of the greatest length (`placeholder`).
        """
        raise NotImplementedError

    @property
    def _judges(self) -> tuple[str, ...]:
        """The texts that name the judges."""
        return (self.judge,)

    @property
    def _second_options(self) -> Mapping[str, Any]:
        """Options of a second judge."""
        return {}

    @cached_property
    def backend(self) -> Backend | AsyncBackend:
        """The judge; a model is loaded when it is first asked."""
        return judge_backend(self.judge, self.judge_options)

    def task_of(self, name: str, **options: Any) -> Task:
        """The task of that name with the ``task_options``, and ``options`` where they set none.

        Raises:
            UsageError: there is none, or an option does not fit.
        """
        return judge_task(name, {**options, **self.task_options})

    def describe(self) -> dict[str, Any]:
        """What the verdicts depend on besides the options: the judge's model."""
        return {"judge": self.backend.identity}

    def code_of_tasks(self, *names: str) -> str:
        """Hash of the code of judge tasks."""
        return digest_of([code_of(TASKS, name) for name in names])


@dataclass
class Outcomes:
    """How many items were kept, and why the others were left out; with what the calls cost.

    ``unscored`` are the items that a judge gave no verdict on, with the reason. ``cost`` is in
    billionths of a dollar, None from the first answer on whose cost is not known.
    """

    kept: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    to_retry: int = 0  # verdicts that failed by calls, such as a timeout
    asked: int = 0
    cached: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost: int | None = 0
    unscored: list[dict[str, str]] = field(default_factory=list)

    def add(self, verdict: Verdict, row: str, *, priced: bool) -> None:
        """Count the calls of a verdict on an item of ``row``, and whether asking again may help.

        ``priced``: what the judge's tokens cost is known.
        """
        if verdict.error is not None:
            self.to_retry += may_pass(verdict.error)
            self.unscored.append({"id": row, "error": verdict.error, "detail": verdict.detail})
        for name in ("asked", "cached", "input_tokens", "output_tokens"):
            setattr(self, name, getattr(self, name) + getattr(verdict, name))
        known = priced or not verdict.asked or all(one.cost is not None for one in verdict.answers)
        self.cost = None if self.cost is None or not known else self.cost + verdict.cost

    def facts(self) -> dict[str, Any]:
        """All counts; the cost in dollars, of the items without a verdict the reasons."""
        counts = {one.name: getattr(self, one.name) for one in fields(self)}
        return {
            **counts,
            "cost": None if self.cost is None else self.cost / 1e9,
            "left_out": dict(sorted(self.left_out.items())),
            "unscored": dict(sorted(Counter(one["error"] for one in self.unscored).items())),
        }

    def write_unscored(self, folder: Path) -> None:
        """Write a line for each item without a verdict to ``unscored.jsonl``, if there are any."""
        if self.unscored:
            lines = (orjson.dumps(one, option=orjson.OPT_APPEND_NEWLINE) for one in self.unscored)
            (folder / UNSCORED).write_bytes(b"".join(lines))

    def refuse_none(self, rows: Any, what: str, advice: str = "") -> None:
        """Refuse to go on where nothing was kept.

        Raises:
            DataError: nothing was.
        """
        if not self.kept:
            left = {why: count for why, count in self.left_out.items() if count}
            counted = ", ".join(f"{count:,} {why}" for why, count in left.items())
            why = counted or "there was nothing to do"
            raise DataError(f"{rows}: no {what} came of it: {why}{advice}")


def questions_of(task: Task, items: Iterable[Item]) -> list[Question]:
    """The questions of a task about items; none about those that it cannot judge."""
    found: list[Question] = []
    for item in items:
        with suppress(UnjudgeableError):
            found += task.questions(item)
    return found


def placeholder(tokens: int) -> str:
    """A text of about so many tokens, in place of one that a model will write."""
    return ("text " * tokens).strip()


def estimated(measures: Mapping[str, Callable[[], Estimate | None]]) -> dict[str, Any]:
    """The figures with their intervals, and of the others why there is none."""
    figures: dict[str, Any] = {}
    without: dict[str, str] = {}
    for name, measure in measures.items():
        try:
            found = measure()
        except NotEstimableError as error:
            without[name] = str(error)
        else:
            if found is not None:
                figures[name] = asdict(found)
    return {"figures": figures, "not_measured": without}
