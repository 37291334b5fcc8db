"""Pace of requests to a server: how many at once, how many a minute, and when to give up.

As in TCP, the number in flight begins at 4 and doubles with each full round of answers (slow
start); from the first failure on, each failure halves it and each full round adds one. It does not
grow on answers that took more than half of the timeout: twice as many at once would not come in
time from a server that answers one after the other. A server that is overloaded or down gets fewer
and fewer requests, then one after pauses of 1, 2, 4 and 8 s, and in the end none.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from hashlib import blake2b
from typing import Final

from siftune.curate.judge_calls.types import BackendError

__all__ = ["LONGEST_WAIT", "Pacer", "backoff"]

LONGEST_WAIT: Final = 600.0  # seconds; a server that wants a longer pause is not waited for
_MOST_BACKOFF: Final = 60.0
_MINUTE: Final = 60.0
_MOST_PAUSE: Final = 8.0
_FIRST: Final = 4  # requests in flight at the start
_PATIENCE: Final = 15.0  # seconds, about as long as the tries of one question
_OF_ONE_QUESTION: Final = ("http_400", "http_413", "http_422", "refused")


def backoff(key: bytes, tries: int) -> float:
    """Seconds before try ``tries + 1``: 1, 2, 4 … at most 60, less up to half by the key's hash.

    >>> [round(backoff(b"key", tries), 1) for tries in (1, 2, 3)]
    [0.7, 1.5, 3.0]
    """
    spread = int.from_bytes(blake2b(key + bytes([tries]), digest_size=2).digest()) / 0xFFFF
    return min(_MOST_BACKOFF, 2.0 ** (tries - 1)) * (0.5 + spread / 2)


class Pacer:
    """Slots for requests to one server; used in one event loop at a time.

    At most ``in_flight`` questions are begun, and at most ``limit`` requests are open. ``stopped``
    is why no more are sent: ``give_up`` requests in a row failed, over 15 s at least where the
    failure is one that may pass, or the server wants a pause that is too long.
    """

    def __init__(
        self,
        in_flight: int,
        per_minute: float | None,
        give_up: int,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        self.most = in_flight
        self.limit = float(min(in_flight, _FIRST))
        self.stopped: BackendError | None = None
        self._give_up = give_up
        self._spacing = 0.0 if per_minute is None else _MINUTE / per_minute
        self._clock, self._sleep = clock, sleep
        self._next_start = 0.0
        self._not_before = 0.0
        self._cut_at = float("-inf")
        self._has_failed = False
        self._answered = 0  # within half of their time, in this round
        self._round_at = float("-inf")
        self._failed_in_a_row = 0
        self._failed_since = 0.0
        self._alone = 0  # failures in a row of requests that were the only one
        self.begin()

    def begin(self) -> None:
        """Begin in another event loop, with the rate and the failures so far."""
        self.begun = asyncio.Semaphore(self.most)
        self._active = 0
        self._freed = asyncio.Condition()
        self._turn = asyncio.Lock()  # its waiters are served in the order in which they came

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Wait until one request more may be open, and hold its place; first come, first served."""
        async with self._turn, self._freed:
            await self._freed.wait_for(lambda: self._active < int(self.limit))
            self._active += 1
        try:
            yield
        finally:
            self._active -= 1
            async with self._freed:
                self._freed.notify()

    async def start(self) -> float:
        """Wait until a request may start, by the rate and the pause that the server wants."""
        while (wait := max(self._next_start, self._not_before) - self._clock()) > 0:
            await self._sleep(wait)
        now = self._clock()
        self._next_start = now + self._spacing
        return now

    def succeeded(self, started: float = 0.0, slow: bool = False) -> None:
        """Note the answer to a request that began at ``started``.

        ``slow``: it took more than half of the time that an answer has.
        """
        self._failed_in_a_row = self._alone = 0
        if started < self._round_at:  # it tells of fewer requests at once
            return
        self._answered = 0 if slow else self._answered + 1
        if self._answered >= int(self.limit):
            self.limit = min(float(self.most), self.limit + (1 if self._has_failed else self.limit))
            self._begin_round()

    def _begin_round(self) -> None:
        """Count the answers to what is sent from now on."""
        self._answered, self._round_at = 0, self._clock()

    def failed(self, started: float, error: BackendError) -> None:
        """Note that a request failed that began at ``started``."""
        if error.permanent and error.reason in _OF_ONE_QUESTION:
            return
        now = self._clock()
        if not self._failed_in_a_row:
            self._failed_since = now
        self._failed_in_a_row += 1
        self._has_failed = True
        if not error.permanent and started >= self._cut_at:  # earlier ones are of the rate before
            self._alone = self._alone + 1 if self.limit == 1 else 0
            self.limit = max(1.0, self.limit / 2)
            self._cut_at = now
            self._begin_round()
        wanted = error.retry_after or 0.0
        if wanted > LONGEST_WAIT:
            self._stop(f"the server wants a pause of {wanted:,.0f} s ({error})")
        own = min(_MOST_PAUSE, 2.0 ** (self._alone - 1)) if self._alone else 0.0
        self._not_before = max(self._not_before, now + min(max(wanted, own), LONGEST_WAIT))
        lasts = error.permanent or now - self._failed_since >= _PATIENCE
        if lasts and self._failed_in_a_row >= self._give_up:
            self._stop(f"{self._failed_in_a_row} requests in a row failed, the last with {error}")

    def _stop(self, cause: str) -> None:
        if self.stopped is None:
            advice = "run the same command again once the server works"
            self.stopped = BackendError("not_asked", f"{cause}; {advice}", permanent=True)
