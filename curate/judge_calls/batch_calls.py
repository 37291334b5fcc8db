"""Asking a model or a function in this process: the questions of a batch of items, in rounds."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from time import perf_counter

from siftune.curate.core.errors import UsageError
from siftune.curate.judge_calls.asking import Asking, ItemAsking, Outcome, summed
from siftune.curate.judge_calls.calls import Call, CallBook
from siftune.curate.judge_calls.types import (
    Backend,
    Item,
    Task,
    Verdict,
    WrongAnswerError,
)

__all__ = ["BatchAsker"]


@dataclass(frozen=True)
class BatchAsker:
    """Asks a `Backend` the questions of ``batch`` items at a time, in the order of the items.

    They are one list for the backend, whose answers are committed in one transaction, or with
    ``one_by_one`` lists of one question each: a run that ends amid them, for whatever reason, has
    committed all answers that it received. Where another run with this cache turns out to ask the
    same just now, the rest of a batch is asked in a random order, so that both share it.
    """

    backend: Backend
    task: Task
    book: CallBook
    batch: int
    tries: int
    ask_again: int
    one_by_one: bool = False

    def verdicts(self, items: Iterable[Item]) -> Iterator[Verdict]:
        """One verdict for each item, in order."""
        rest = iter(items)
        while batch := list(islice(rest, self.batch)):
            asked = [ItemAsking(self.task, item, self.ask_again) for item in batch]
            pending = [asking for item in asked for asking in item.askings]
            while pending:
                pending = self._round(pending)
            yield from (item.verdict() for item in asked)

    def _round(self, pending: Sequence[Asking]) -> list[Asking]:
        """Ask what is pending; those that have to be asked once more, with another text."""
        keys = [self.book.key(asking.question, asking.attempt) for asking in pending]
        first: dict[bytes, Asking] = {}
        for key, asking in zip(keys, pending, strict=True):
            first.setdefault(key, asking)
        outcomes = self._outcomes(first)
        again = []
        for key, asking in zip(keys, pending, strict=True):
            outcome = outcomes[key] if first[key] is asking else outcomes[key].shared()
            if not asking.settle(outcome):
                again.append(asking)
        return again

    def _outcomes(self, askings: dict[bytes, Asking]) -> dict[bytes, Outcome]:
        """The outcome of each distinct question: from the cache, or asked, at most ``tries`` times.

        What does not fit the cap now waits for the next round, when the cost of this one is known.
        """
        found = {key: self.book.recall(key) for key in askings}
        outcomes = {key: outcome for key, outcome in found.items() if outcome is not None}
        left = {key: asking for key, asking in askings.items() if key not in outcomes}
        sofar: dict[bytes, Outcome] = {}
        while left:
            if self.one_by_one:
                self._take_answered(left, outcomes, sofar)
            calls = self._reserved(left)
            if not calls:
                error = self.book.over_budget()
                over = {key: replace(sofar.get(key, Outcome()), error=error) for key in left}
                return outcomes | over
            for call, outcome in zip(calls, self._asked(calls, left), strict=True):
                total = summed(sofar.get(call.key, Outcome()), outcome)
                sofar[call.key] = total
                asking, failure = left.pop(call.key), outcome.error
                if failure is None or failure.permanent or total.asked >= self.tries:
                    outcomes[call.key] = total
                else:
                    left[call.key] = asking  # after the others
            if self.one_by_one and any(sofar[call.key].elsewhere for call in calls):
                left = dict(random.sample([*left.items()], len(left)))
        return outcomes

    def _take_answered(
        self, left: dict[bytes, Asking], outcomes: dict[bytes, Outcome], sofar: dict[bytes, Outcome]
    ) -> None:
        """Take the next questions out that another run with this cache has answered meanwhile."""
        for key in [*left]:
            if (known := self.book.recall(key)) is None:
                return
            outcomes[key] = summed(sofar.get(key, Outcome()), known)
            del left[key]

    def _reserved(self, askings: dict[bytes, Asking]) -> list[Call]:
        """Calls of all questions that fit the cap, or of the first one."""
        calls = []
        with self.book.cache.transaction():
            for key, asking in askings.items():
                call = self.book.reserve(key, asking.question, asking.attempt)
                calls += [call] if call is not None else []
                if calls and self.one_by_one:
                    break
        return calls

    def _asked(self, calls: Sequence[Call], askings: Mapping[bytes, Asking]) -> list[Outcome]:
        started = perf_counter()
        try:
            results = self.backend.answer([call.question for call in calls])
        except WrongAnswerError as error:
            keys = (call.key for call in calls if call.question is error.question)
            if (key := next(keys, None)) is None:  # a judge that wraps another asks a copy
                raise
            raise UsageError(f"{error}; it is about {askings[key].item.place}") from error
        if not isinstance(results, list | tuple) or len(results) != len(calls):
            many = len(results) if isinstance(results, list | tuple) else type(results).__name__
            raise UsageError(f"the judge gave {many} for {len(calls)} questions: expected a list")
        seconds = (perf_counter() - started) / len(calls)
        with self.book.cache.transaction():
            return [
                self.book.settle(call, result, seconds)
                for call, result in zip(calls, results, strict=True)
            ]
