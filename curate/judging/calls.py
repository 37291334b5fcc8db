"""Calls of a judge: recalled from the cache, paid within the cap, recorded when they end."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from siftune.curate.judging.answer_cache import AnswerCache, Receipt, key_of
from siftune.curate.judging.asking import Outcome
from siftune.curate.judging.spending import Prices, Totals
from siftune.curate.judging.types import Answer, BackendError, Question

__all__ = ["OVER_BUDGET", "Call", "CallBook"]

OVER_BUDGET = BackendError(
    "over_budget",
    "the highest price of this question does not fit what is left of max_cost",
    permanent=True,
)
_NOT_IN_CACHE = BackendError(
    "not_in_cache", "replay answers from the cache alone, which lacks this one", permanent=True
)


@dataclass(frozen=True)
class Call:
    """A question that may be sent now; ``amount`` of the money is reserved for it."""

    key: bytes
    question: Question
    attempt: int
    number: int | None = None
    amount: int = 0


@dataclass
class CallBook:
    """What all calls of one run have in common: the cache, prices, the cap, and the counts.

    ``cap`` is in billionths of a dollar; the highest price of a call is reserved before it is
    sent, so that the cap holds whatever the calls in flight turn out to cost. Where one costs more
    than its bound, as where a server bills more than its stated cost, later bounds grow as much.
    """

    cache: AnswerCache
    prices: Prices
    cap: int | None
    replay: bool
    totals: Totals = field(default_factory=Totals)
    in_flight: int = 0  # calls of this process that have a reservation
    excess: float = 1.0  # by what the dearest answer passed its bound

    def key(self, question: Question, attempt: int) -> bytes:
        """The cache's key of a question."""
        return key_of(self.cache.model, question, attempt)

    def recall(self, key: bytes) -> Outcome | None:
        """The answer of the cache; in a replay, the error where it has none."""
        answer = self.cache.get(key)
        if answer is not None:
            self.totals.cached += 1
            return Outcome(answer, cached=1)
        return Outcome(error=_NOT_IN_CACHE) if self.replay else None

    def reserve(self, key: bytes, question: Question, attempt: int) -> Call | None:
        """A call that may be sent; None where it does not fit the cap now.

        It may fit once a call in flight has ended, which costs at most what is reserved for it.
        Call it in a transaction of the cache.
        """
        if self.cap is None:
            return Call(key, question, attempt)
        amount = math.ceil(self.prices.bound(question) * self.excess)
        number = self.cache.reserve(key, amount, self.cap)
        if number is None:
            return None
        self.in_flight += 1
        return Call(key, question, attempt, number, amount)

    def settle(self, call: Call, result: Answer | BackendError, seconds: float) -> Outcome:
        """Record how a call ended; call it in a transaction of the cache."""
        error = result if isinstance(result, BackendError) else None
        billed = result.billed if isinstance(result, BackendError) else result
        cost = 0 if billed is None else self.prices.of(call.question, billed)
        tokens_in = (billed.input_tokens or 0) if billed else 0
        tokens_out = (billed.output_tokens or 0) if billed else 0
        answer = self.cache.settle(
            Receipt(
                call.key,
                "answered" if error is None else error.reason,
                answer=None if isinstance(result, BackendError) else result,
                version=call.question.version,
                attempt=call.attempt,
                input_tokens=tokens_in,
                output_tokens=tokens_out,
                cost=cost,
                seconds=seconds,
                call=call.number,
                reserved=call.amount,
                unsettled=error is not None and error.maybe_billed,
            )
        )
        if call.number is not None:
            self.in_flight -= 1
            if cost > call.amount > 0:  # what the user or the server gave as the most was less
                self.excess *= cost / call.amount
        self._count(error is not None, call.attempt > 0, tokens_in, tokens_out, cost)
        failed = int(error is not None)
        return Outcome(answer, error, 1, 0, failed, tokens_in, tokens_out, cost)

    def _count(self, failed: bool, again: bool, tokens_in: int, tokens_out: int, cost: int) -> None:
        totals = self.totals
        totals.asked += 1
        totals.failed += failed
        totals.asked_again += again
        totals.input_tokens += tokens_in
        totals.output_tokens += tokens_out
        totals.cost += cost
