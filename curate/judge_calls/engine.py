"""The engine of an LLM judge: asks questions about items, caches answers, counts and caps costs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from siftune.curate.core.errors import UsageError
from siftune.curate.judge_calls.answer_cache import AnswerCache
from siftune.curate.judge_calls.batch_calls import BatchAsker
from siftune.curate.judge_calls.calls import CallBook
from siftune.curate.judge_calls.pacing import Pacer
from siftune.curate.judge_calls.server_calls import ServerAsker
from siftune.curate.judge_calls.spending import BILLION, Prices, Totals
from siftune.curate.judge_calls.types import (
    AsyncBackend,
    Backend,
    Item,
    Task,
    Verdict,
    identity_of,
)

__all__ = ["Judge"]


@dataclass
class Judge:
    """Asks ``backend`` the questions of ``task`` about items, and gives a verdict for each.

    Answers that cannot be parsed are asked again at most ``ask_again`` times, calls that fail are
    tried ``tries`` times in all, and what fails then is a verdict with an error: nothing is
    defaulted, and no error is cached.

    ``cache``: the SQLite file of answers; a question that it holds is never asked again, whatever
    happens to the run. None keeps no answers. ``replay``: answer from the cache alone.
    ``max_cost``: dollars that ``account`` may cost in all runs with this cache: the highest price
    of a call is reserved before it is sent; ``prices`` are needed for it. Under a server that
    bills more than these allow the first such answer can pass the cap, and those in flight with it.
    ``in_flight``, ``per_minute`` and ``timeout`` (seconds for a whole answer) are of servers, and
    so is ``give_up``: after that many failed requests in a row, over 15 s at least, the rest is not
    asked, in later calls of `verdicts` either. ``batch``: items at a time for a model in this
    process, whose answers are in the cache once they all came, or one by one where the backend has
    a true ``one_by_one``; None: the model's own, else 64.
    ``clock`` and ``sleep`` are replaced in tests.

    >>> judge = Judge(backend, task, cache=Path("judge.sqlite"))  # doctest: +SKIP
    >>> [verdict.values for verdict in judge.verdicts(items)]  # doctest: +SKIP
    [{'rating': 4.0}]
    """

    backend: Backend | AsyncBackend
    task: Task
    cache: Path | None = None
    in_flight: int = 32
    per_minute: float | None = None
    timeout: float = 60.0
    tries: int = 5
    ask_again: int = 2
    max_cost: float | None = None
    prices: Prices | None = None
    replay: bool = False
    account: str = ""
    give_up: int = 20
    batch: int | None = None
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    totals: Totals = field(default_factory=Totals, init=False)
    _pacer: Pacer = field(init=False, repr=False)

    def __post_init__(self) -> None:
        for name, least in (("in_flight", 1), ("tries", 1), ("ask_again", 0), ("batch", 1)):
            if (value := getattr(self, name)) is not None and value < least:
                raise UsageError(f"{name}: expected {least} or more, got {value}")
        for name in ("timeout", "per_minute"):
            if (value := getattr(self, name)) is not None and not value > 0:
                raise UsageError(f"{name}: expected a number above 0, got {value}")
        if self.max_cost is not None:
            if not 0 <= self.max_cost < BILLION:  # NaN fails, too
                raise UsageError(f"max_cost: expected dollars, 0 to a billion, got {self.max_cost}")
            if self.prices is None:
                raise UsageError("max_cost needs prices: without them no cost is known")
        if self.replay and self.cache is None:
            raise UsageError("replay needs the cache of the run to be replayed")
        if self.replay and self.cache is not None and not self.cache.is_file():
            raise UsageError(f"replay: there is no cache {self.cache}")
        self._pacer = Pacer(self.in_flight, self.per_minute, self.give_up, self.clock, self.sleep)

    def verdicts(self, items: Iterable[Item]) -> Iterator[Verdict]:
        """One verdict for each item, in order; items are taken as they are needed.

        ``totals`` counts over all calls of this method.
        """
        model = identity_of(self.backend)
        cache = AnswerCache(self.cache, self.account, model, read_only=self.replay)
        try:
            cap = None if self.max_cost is None else int(self.max_cost * BILLION)
            extra = getattr(self.backend, "extra_tokens", 0)
            prices = self.prices or Prices()
            book = CallBook(cache, prices, cap, self.replay, self.totals, extra_tokens=extra)
            for verdict in self._asker(book).verdicts(items):
                self.totals.items += 1
                self.totals.unscored += verdict.error is not None
                yield verdict
        finally:
            cache.close()

    def _asker(self, book: CallBook) -> BatchAsker | ServerAsker:
        if not hasattr(self.backend, "ask"):
            own: int = getattr(self.backend, "batch", 64)
            batch = own if self.batch is None else self.batch
            single: bool = getattr(self.backend, "one_by_one", False)
            return BatchAsker(
                self.backend, self.task, book, batch, self.tries, self.ask_again, single
            )
        return ServerAsker(
            cast(AsyncBackend, self.backend),
            self.task,
            book,
            pacer=self._pacer,
            timeout=self.timeout,
            tries=self.tries,
            ask_again=self.ask_again,
            clock=self.clock,
            sleep=self.sleep,
        )
