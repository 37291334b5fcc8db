"""Options of scorers that ask an LLM judge, and the columns that its verdicts are."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, ClassVar, Final

import polars as pl

from siftune.curate.core.errors import UsageError
from siftune.curate.core.progress import log_metrics, report_progress
from siftune.curate.core.ranges import Count, Share
from siftune.curate.core.registry import code_of
from siftune.curate.files.atomic import digest_of, hash_file
from siftune.curate.judge_calls.engine_options import (
    CallOptions,
    cache_file,
    check_cap,
    engine_of,
    refuse_lost_cache,
)
from siftune.curate.judge_calls.spec import (
    TASKS,
    check_judge,
    costs_nothing,
    judge_backend,
    judge_prices,
    named_judge,
    price_known,
    refuse_same,
)
from siftune.curate.judge_calls.spending import Prices
from siftune.curate.judge_calls.types import AsyncBackend, Backend, Task, Verdict
from siftune.curate.judging.judge_task import judge_task
from siftune.curate.judging.panel import Panel
from siftune.curate.judging.row_items import items_of
from siftune.curate.judging.score_calibration import ScoreCalibration

if TYPE_CHECKING:
    from siftune.curate.judge_calls.engine import Judge

__all__ = [
    "TASKS",
    "JudgeColumns",
    "may_pass",
]

_BILLION: Final = 1_000_000_000
_NO_TOKENS: Final = 1 << 32  # a server states nonsense, and no column holds it
_OF_CALLS: Final = (
    *("bad_response", "connection", "not_asked", "not_in_cache", "over_budget", "redirected"),
    *("stopped", "timeout"),
)
_OF_QUESTIONS: Final = ("http_400", "http_413", "http_422")
_SPENT: Final[Mapping[str, type[pl.DataType]]] = {
    "error": pl.String,
    "input_tokens": pl.UInt32,
    "output_tokens": pl.UInt32,
    "cost": pl.Float64,
    "label_mass": pl.Float64,
}
_Columns = Mapping[str, pl.DataType | type[pl.DataType]]


def may_pass(reason: str) -> bool:
    """Whether a row's error is of the calls, and not of the row or of the judge's answer.

    >>> may_pass("http_500"), may_pass("over_budget"), may_pass("http_400"), may_pass("unparsed")
    (True, True, False, False)
    """
    return reason in _OF_CALLS or (reason.startswith("http_") and reason not in _OF_QUESTIONS)


@dataclass(frozen=True, kw_only=True)
class JudgeColumns(CallOptions):
    """What scorers that ask a judge have in common; a subclass has ``task`` and ``content``.

    Columns: those of the task; ``_error``, the reason why a row has none (null where it has);
    ``_input_tokens``, ``_output_tokens`` and ``_cost`` (dollars, by the prices given or as the
    server states it) of the answers that the row is based on, paid by any run; null where they
    are not known; and ``_label_mass``, of a judge that gives probabilities of labels: what the
    labels had of the probability of all tokens, the mean of the row's answers. A row without a
    verdict is null in all columns of the task, never 0.

    Every answer is kept in a cache, so a run that was stopped asks no answered question again. Rows
    that failed by the calls (a timeout, the cap) are asked again by the same command.

    Options:
        task: Task that the judge is given; `siftune curate judges` lists them.
        panel: Further judges, with commas between; columns are then the votes of all.
        quorum: How many judges of a panel have to give a verdict; none is more than half of them.
        task_options: Options of the task, such as ``{propositions: ["Is it short?"]}``.
        calibrate: Whether label probabilities are divided by those of the same question about N/A;
            needs a judge that gives probabilities.
        calibration: File of `siftune curate agree --calibrate`: a column with the judge's scores
            as probabilities of its gold label, ending in ``_calibrated``, beside the scores.
        min_label_mass: Rows below this label mass, 0 to 1, have the error label_mass.
        given: Columns for tasks that read more than the turns, as ``{critique: COLUMN}``.
        column: A word that names of columns end with, where several stages judge.
        max_cost: Dollars that all runs of this stage may cost together; never passed.
        prices: Prices of single judges, ``{JUDGE: {input: 0.15, output: 0.6}}``; models in this
            process cost nothing unless they are named here.
        account: What money is counted under for max_cost; by default the run folder.
    """

    task: str
    panel: tuple[str | Mapping[str, Any], ...] = ()
    quorum: Count | None = None
    task_options: Mapping[str, Any] = field(default_factory=dict)
    calibrate: bool = False
    calibration: str = ""
    min_label_mass: Share = 0.0
    given: Mapping[str, str] = field(default_factory=dict)
    column: str = ""
    prices: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    account: str = ""

    name: ClassVar[str] = ""
    example: ClassVar = (("judge", "smollm2"),)
    summed: ClassVar = ("input_tokens", "output_tokens", "cost")  # in the manifest
    content: ClassVar[tuple[str, ...]] = ()  # the columns of turns that are judged

    def __post_init__(self) -> None:
        for judge in (self.judge, *self.panel):
            kind = named_judge(judge)[0]
            if kind == "scripted":
                check_judge(judge)
            if kind == "server" and self.calibrate:
                raise UsageError("calibrate: a chat server gives no probabilities to calibrate")
        if len({str(one) for one in (self.judge, *self.panel)}) <= len(self.panel):
            raise UsageError("panel: a judge is named twice, whose answers would be the same")
        self._check(self.made_task)
        if self.column and not self.column.isidentifier():
            raise UsageError(f"column: expected a word for names of columns, got {self.column!r}")
        check_cap(self, (self.judge, *self.panel), self.prices)
        _ = self._calibration

    def _check(self, task: Task) -> None:
        """Refuse a task that this scorer has no columns for; a subclass defines which."""

    @property
    def needs(self) -> tuple[str, ...]:
        """The columns of turns, the fields of the raw row, and the columns ``given``."""
        return (*self.content, "extra", *self.given.values())

    @property
    def adds(self) -> _Columns:
        """The columns of the task, then error, tokens and cost."""
        return {**self._task_columns, **self._calibrated_columns, **self._spent_columns}

    @property
    def _calibrated_columns(self) -> _Columns:
        return {} if self._calibration is None else {self._calibration.added: pl.Float64}

    @cached_property
    def _calibration(self) -> ScoreCalibration | None:
        """The calibration of one of the columns, from its file."""
        numbers = [name for name, kind in self._task_columns.items() if kind == pl.Float64]
        return ScoreCalibration.read(self.calibration, numbers) if self.calibration else None

    @property
    def _task_columns(self) -> dict[str, pl.DataType | type[pl.DataType]]:
        names, added = self.names(), self._votes.adds if self._votes else self.made_task.adds
        return {names.get(name, f"{self.prefix}_{name}"): kind for name, kind in added.items()}

    @property
    def _spent_columns(self) -> _Columns:
        return {f"{self.prefix}_{name}": kind for name, kind in _SPENT.items()}

    @cached_property
    def _votes(self) -> Panel | None:
        """How the verdicts of several judges become one."""
        if not self.panel:
            if self.quorum is not None:
                raise UsageError("quorum: there is one judge, and a quorum is of a panel's judges")
            return None
        if self.quorum is not None and self.quorum > len(self.panel) + 1:
            raise UsageError(
                f"quorum: {self.quorum} of {len(self.panel) + 1} judges can never give a verdict: "
                f"give {len(self.panel) + 1} at most"
            )
        try:
            return Panel(self.made_task.adds, self.quorum)
        except ValueError as error:
            raise UsageError(f"panel: {error}") from None

    @property
    def prefix(self) -> str:
        """What the names of all columns begin with."""
        return f"{self.name}_{self.column}" if self.column else self.name

    def names(self) -> dict[str, str]:
        """The column of each value of the task: the first is the scorer's own name."""
        first, *rest = self.made_task.adds
        return {first: self.prefix} | {name: f"{self.prefix}_{name}" for name in rest}

    def may_pass(self, reason: str) -> bool:
        """Whether rows with this error are asked about again by the same command."""
        return may_pass(reason)

    def __call__(self, batch: pl.DataFrame) -> pl.DataFrame:
        """Judge each row."""
        found = list(self._counted(self.verdicts(batch), batch.height))
        columns = {
            column: pl.Series([one.values and one.values[name] for one in found], dtype=kind)
            for name, (column, kind) in zip(
                self._votes.adds if self._votes else self.made_task.adds,
                self._task_columns.items(),
                strict=True,
            )
        }
        if self._calibration is not None:
            columns[self._calibration.added] = self._calibration(columns)
        spent = [self.spent(one) for one in found]
        rest = {
            column: pl.Series([one[name] for one in spent], dtype=kind)
            for name, (column, kind) in zip(_SPENT, self._spent_columns.items(), strict=True)
        }
        return pl.DataFrame(columns | rest)

    def verdicts(self, batch: pl.DataFrame) -> Iterator[Verdict]:
        """The verdict on each row, in order; of a panel the vote."""
        if self._votes is None:
            yield from self.judged(0, self.engines[0], batch)
            return
        given = [self.judged(at, engine, batch) for at, engine in enumerate(self.engines)]
        for verdicts in zip(*map(list, given), strict=True):
            yield _retried(self._votes.vote(verdicts), verdicts)

    def judged(self, number: int, engine: Judge, batch: pl.DataFrame) -> Iterator[Verdict]:
        """The verdicts of the judge of that number; each answer has a cost, where it is known.

        Those whose labels were too unlikely are errors.
        """
        prices = self.judge_prices[number] if self.prices_known[number] else None
        for one in engine.verdicts(items_of(batch, self.given)):
            answers = one.answers if prices is None else tuple(map(prices.priced, one.answers))
            verdict = replace(one, answers=answers)
            mass = _label_mass(verdict)
            if verdict.values is not None and mass is not None and mass < self.min_label_mass:
                detail = f"the labels had {mass:.3g} of the probability of all tokens"
                verdict = replace(verdict, values=None, error="label_mass", detail=detail)
            yield verdict

    @cached_property
    def engines(self) -> list[Judge]:
        """What asks each judge; a server that failed for many rows is left alone later, too."""
        return [self.engine(number) for number in range(len(self.backends))]

    def engine(self, number: int) -> Judge:
        """What asks the judge of that number."""
        prices, judge = self.judge_prices[number], (self.judge, *self.panel)[number]
        return engine_of(
            self,
            self.backends[number],
            self.asked_task,
            prices,
            self.account,
            capped=not costs_nothing(judge, prices),
        )

    @cached_property
    def judge_prices(self) -> list[Prices]:
        """What each judge costs."""
        return judge_prices((self.judge, *self.panel), self.prices, self.usual_prices)

    @cached_property
    def prices_known(self) -> list[bool]:
        """Whether it is known what each judge costs, where it does not state it."""
        judges = (self.judge, *self.panel)
        priced = zip(judges, self.judge_prices, strict=True)
        return [price_known(judge, one, self.prices) for judge, one in priced]

    @cached_property
    def backends(self) -> list[Backend | AsyncBackend]:
        """The judges; a model is loaded when it is asked, once in each worker."""
        first = judge_backend(self.judge, self.judge_options)
        found = [first, *(judge_backend(one) for one in self.panel)]
        if self.panel:
            refuse_same(found)
        return found

    def __getstate__(self) -> dict[str, Any]:
        """The options, without a model that is loaded."""
        return {one.name: getattr(self, one.name) for one in fields(self)}

    def describe(self) -> dict[str, Any]:
        """What the scores depend on besides the options: models, the task's code and files."""
        if self.replay:
            refuse_lost_cache(cache_file(self.cache))  # also where the stage was finished before
        resolved: dict[str, Any] = getattr(self.made_task, "describe", dict)()
        return {
            **({"task_options": resolved} if resolved else {}),
            **({"calibration": hash_file(Path(self.calibration))} if self.calibration else {}),
            "judge": ", ".join(one.identity for one in self.backends),
            "task": digest_of(code_of(TASKS, self.task))[:16],
        }

    def notice(self) -> str:
        """The judges, and how those in this process compute, in one line for the user."""
        told = (one.notice() if hasattr(one, "notice") else one.identity for one in self.backends)
        return "; ".join(told)

    @cached_property
    def made_task(self) -> Task:
        """The task with its options."""
        return judge_task(self.task, self.task_options)

    @property
    def asked_task(self) -> Task:
        """The task as it is asked: with the questions of a calibration, if there is one."""
        from siftune.curate.judging.calibration import Calibrated

        return Calibrated(self.made_task) if self.calibrate else self.made_task

    def _counted(self, verdicts: Iterator[Verdict], total: int) -> Iterator[Verdict]:
        for done, verdict in enumerate(verdicts, 1):
            yield verdict
            report_progress(done, total, "rows")
            if verdict.error is not None and verdict.detail:
                log_metrics(**{verdict.error: verdict.detail})

    def spent(self, verdict: Verdict) -> dict[str, Any]:
        """Error, tokens and cost of a verdict; null where there is no answer, or not known."""
        answers = verdict.answers
        tokens_in = _sum([one.input_tokens for one in answers], below=_NO_TOKENS)
        tokens_out = _sum([one.output_tokens for one in answers], below=_NO_TOKENS)
        stated = _sum([one.cost for one in answers])
        return {
            "error": verdict.error,
            "input_tokens": tokens_in,
            "output_tokens": tokens_out,
            "cost": None if stated is None else stated / _BILLION,
            "label_mass": _label_mass(verdict),
        }


def _retried(vote: Verdict, verdicts: Sequence[Verdict]) -> Verdict:
    """A vote without a quorum has the error of a call that may pass, if there is one."""
    passing = (one.error for one in verdicts if one.error is not None and may_pass(one.error))
    error = next(passing, None) if vote.error is not None else None
    return replace(vote, error=error) if error is not None else vote


def _label_mass(verdict: Verdict) -> float | None:
    known = [one.label_mass for one in verdict.answers if one.label_mass is not None]
    return fmean(known) if known else None


def _sum(values: list[int | None], below: float = math.inf) -> int | None:
    known = [value for value in values if value is not None]
    total = sum(known)
    return total if values and len(known) == len(values) and total < below else None
