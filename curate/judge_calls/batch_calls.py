"""Asking a model in this process: questions of a batch of items, in rounds, in a fixed order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from time import perf_counter

from siftune.curate.judge_calls.asking import Asking, ItemAsking, Outcome, summed
from siftune.curate.judge_calls.calls import Call, CallBook
from siftune.curate.judge_calls.types import Backend, Item, Task, Verdict

__all__ = ["BatchAsker"]


@dataclass(frozen=True)
class BatchAsker:
    """Asks a `Backend`: ``batch`` items at a time, each batch in one transaction of the cache."""

    backend: Backend
    task: Task
    book: CallBook
    batch: int
    tries: int
    ask_again: int

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
            calls = self._reserved(left)
            if not calls:
                error = self.book.over_budget()
                over = {key: replace(sofar.get(key, Outcome()), error=error) for key in left}
                return outcomes | over
            for call, outcome in zip(calls, self._asked(calls), strict=True):
                total = summed(sofar.get(call.key, Outcome()), outcome)
                sofar[call.key] = total
                failure = outcome.error
                if failure is None or failure.permanent or total.asked >= self.tries:
                    outcomes[call.key] = total
                    del left[call.key]
        return outcomes

    def _reserved(self, askings: dict[bytes, Asking]) -> list[Call]:
        with self.book.cache.transaction():
            calls = [
                self.book.reserve(key, asking.question, asking.attempt)
                for key, asking in askings.items()
            ]
        return [call for call in calls if call is not None]

    def _asked(self, calls: Sequence[Call]) -> list[Outcome]:
        started = perf_counter()
        results = self.backend.answer([call.question for call in calls])
        if len(results) != len(calls):
            raise ValueError(f"the judge gave {len(results)} answers to {len(calls)} questions")
        seconds = (perf_counter() - started) / len(calls)
        with self.book.cache.transaction():
            return [
                self.book.settle(call, result, seconds)
                for call, result in zip(calls, results, strict=True)
            ]
