"""Calls of a judge: recalled from the cache, paid within the cap, recorded when they end."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Final

from siftune.curate.core.errors import UsageError
from siftune.curate.judge_calls.answer_cache import AnswerCache, Receipt, key_of
from siftune.curate.judge_calls.asking import Outcome
from siftune.curate.judge_calls.spending import BILLION, Prices, Totals
from siftune.curate.judge_calls.types import Answer, BackendError, Question

__all__ = ["Call", "CallBook"]

_OVER_BUDGET: Final = "the highest price of this question does not fit what is left of max_cost"
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

    ``cap`` is in billionths of a dollar; the highest price of a call, by the prices of its tokens
    or ``most_per_call``, is reserved before it is sent. The cap holds if no call costs more than
    that, however many are in flight and however late they become expensive. A server may bill
    more, so under a cap one call is sent alone, and then twice as many as cost no more
    than their bound. After one that costs more, in this run or an earlier one, later bounds grow as
    much, to that cost at least, and one is sent alone again: the cap is then passed by no more than
    the calls that were in flight cost above their bounds.
    """

    cache: AnswerCache
    prices: Prices
    cap: int | None
    replay: bool
    totals: Totals = field(default_factory=Totals)
    in_flight: int = 0  # calls of this process that have a reservation
    extra_tokens: int = 0  # of an answer, beyond what its question asks for
    excess: float = 1.0  # by what the dearest answer passed its bound
    dearest: int = 0  # what an answer cost that passed its bound; 0: none did
    _within: int = 0  # answers within their bounds, since one was not

    def __post_init__(self) -> None:
        """Learn from earlier runs."""
        if self.cap is not None:
            self.dearest = self.cache.dearest()

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

    @property
    def full(self) -> bool:
        """Whether a call has to end before another is sent: what calls cost is hardly known."""
        return self.cap is not None and self.in_flight >= max(1, 2 * self._within)

    def over_budget(self) -> BackendError:
        """The error of a question that does not fit the cap."""
        detail = _OVER_BUDGET
        if self.dearest:
            detail += (
                f"; an answer cost ${self.dearest / BILLION:g}, more than its prices allow: state "
                "most_per_call, the most that one answer costs"
            )
        return BackendError("over_budget", detail, permanent=True)

    def reserve(self, key: bytes, question: Question, attempt: int) -> Call | None:
        """A call that may be sent; None where it does not fit the cap now.

        It may fit once a call in flight has ended, which costs at most what is reserved for it.
        Call it in a transaction of the cache.
        """
        if self.cap is None:
            return Call(key, question, attempt)
        if self.full:
            return None
        amount = max(math.ceil(self._bound(question) * self.excess), self.dearest)
        number = self.cache.reserve(key, amount, self.cap)
        if number is None:
            return None
        self.in_flight += 1
        return Call(key, question, attempt, number, amount)

    def settle(self, call: Call, result: Answer | BackendError, seconds: float) -> Outcome:
        """Record how a call ended; call it in a transaction of the cache.

        Raises:
            UsageError: a judge of the user's own gave something else.
        """
        if not isinstance(result, Answer | BackendError):
            raise UsageError(
                f"the judge gave {type(result).__name__} where an Answer or a BackendError of "
                "siftune.curate.judge_calls.types is expected: return Answer(text)"
            )
        if isinstance(result, Answer) and result.truncated is None:
            at_limit = result.output_tokens == call.question.max_tokens > 0
            result = replace(result, truncated=at_limit)
        error = result if isinstance(result, BackendError) else None
        billed = result.billed if isinstance(result, BackendError) else result
        cost = 0 if billed is None else self.prices.of(self._longest(call.question), billed)
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
            if cost > call.amount:  # what the user or the server gave as the most was less
                self.excess = max(self.excess, cost / max(1, self._bound(call.question)))
                self.dearest = max(self.dearest, cost)
                self._within = 0
            elif billed is not None:
                self._within += 1
        self._count(error is not None, call.attempt > 0, tokens_in, tokens_out, cost)
        failed = int(error is not None)
        first = error is not None or answer is result
        return Outcome(answer, error, 1, 0, failed, tokens_in, tokens_out, cost, not first)

    def _longest(self, question: Question) -> Question:
        """The question with the limit of tokens that its answer has."""
        return replace(question, max_tokens=question.max_tokens + self.extra_tokens)

    def _bound(self, question: Question) -> int:
        return self.prices.bound(self._longest(question))

    def _count(self, failed: bool, again: bool, tokens_in: int, tokens_out: int, cost: int) -> None:
        totals = self.totals
        totals.asked += 1
        totals.failed += failed
        totals.asked_again += again
        totals.input_tokens += tokens_in
        totals.output_tokens += tokens_out
        totals.cost += cost
