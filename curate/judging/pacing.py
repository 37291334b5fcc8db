"""When the next request to a server may start: how many at once, how many a minute, how soon again.

The number in flight is halved when the server fails and grows by one for each full round that it
answers (additive increase, multiplicative decrease, as in TCP), so a server that is overloaded or
down gets fewer and fewer requests; a run of failed questions ends the asking.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from hashlib import blake2b
from typing import Final

from siftune.curate.judging.types import BackendError

__all__ = ["LONGEST_WAIT", "Pacer", "backoff"]

LONGEST_WAIT: Final = 600.0  # seconds; a server that wants a longer pause is not waited for
_MOST_BACKOFF: Final = 60.0
_MINUTE: Final = 60.0


def backoff(key: bytes, tries: int) -> float:
    """Seconds before try ``tries + 1``: 1, 2, 4 … at most 60, less up to half by the key's hash.

    >>> [round(backoff(b"key", tries), 1) for tries in (1, 2, 3)]
    [0.7, 1.5, 3.0]
    """
    spread = int.from_bytes(blake2b(key + bytes([tries]), digest_size=2).digest()) / 0xFFFF
    return min(_MOST_BACKOFF, 2.0 ** (tries - 1)) * (0.5 + spread / 2)


class Pacer:
    """Slots for requests to one server; used in one event loop at a time."""

    def __init__(
        self,
        in_flight: int,
        per_minute: float | None,
        give_up: int,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        self.most = in_flight
        self.limit = float(in_flight)
        self.give_up = give_up
        self._spacing = 0.0 if per_minute is None else _MINUTE / per_minute
        self._clock, self._sleep = clock, sleep
        self._next_start = 0.0
        self._not_before = 0.0
        self._cut_at = float("-inf")
        self._failed_in_a_row = 0
        self.stopped: BackendError | None = None
        self.begin()

    def begin(self) -> None:
        """Begin in another event loop, with the rate and the failures so far."""
        self._active = 0
        self._freed = asyncio.Condition()

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Wait for one of the slots in flight, and hold it.

        It is held between the tries of a question, too, so that no further ones are begun while a
        server fails.
        """
        async with self._freed:
            await self._freed.wait_for(lambda: self._active < int(self.limit))
            self._active += 1
        try:
            yield
        finally:
            self._active -= 1
            async with self._freed:
                self._freed.notify(2)  # the limit may have grown by one

    async def start(self) -> float:
        """Wait until a request may start, by the rate and the pause that the server wants."""
        start = max(self._clock(), self._next_start)
        self._next_start = start + self._spacing
        while (wait := max(start, self._not_before) - self._clock()) > 0:
            await self._sleep(wait)
        return self._clock()

    def succeeded(self) -> None:
        """Note that the server answered."""
        self._failed_in_a_row = 0
        self.limit = min(float(self.most), self.limit + 1 / self.limit)

    def failed(self, started: float, retry_after: float | None) -> None:
        """Note that a request that began at ``started`` failed for a cause that may pass."""
        if started >= self._cut_at:  # those sent before the last cut say nothing new
            self.limit = max(1.0, self.limit / 2)
            self._cut_at = self._clock()
        if retry_after is not None:
            self._not_before = max(self._not_before, self._clock() + retry_after)

    def question_failed(self, error: BackendError) -> None:
        """Note a question without an answer after all its tries."""
        self._failed_in_a_row += 1
        if self._failed_in_a_row >= self.give_up and self.stopped is None:
            self.stopped = BackendError(
                "not_asked",
                f"the server failed for {self.give_up} questions in a row, the last with {error}; "
                "run the same command again once it works",
                permanent=True,
            )
