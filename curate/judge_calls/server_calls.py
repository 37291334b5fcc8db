"""Asking a server: many questions in flight, tried again after failures, verdicts in order."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Final

from siftune.curate.judge_calls.asking import Asking, ItemAsking, Outcome, summed
from siftune.curate.judge_calls.calls import Call, CallBook
from siftune.curate.judge_calls.pacing import Pacer, backoff
from siftune.curate.judge_calls.types import (
    Answer,
    AsyncBackend,
    BackendError,
    Item,
    Question,
    Task,
    Verdict,
)

__all__ = ["ServerAsker"]

_AHEAD: Final = (
    4  # items begun for each request in flight, so that a slow one does not hold up the rest
)


@dataclass
class ServerAsker:
    """Asks an `AsyncBackend` in an event loop of its own thread.

    At most ``4 * in_flight`` items are in memory. Two equal questions that are in flight at once
    are asked once.
    """

    backend: AsyncBackend
    task: Task
    book: CallBook
    pacer: Pacer
    timeout: float
    tries: int
    ask_again: int
    clock: Callable[[], float]
    sleep: Callable[[float], Awaitable[None]]
    _shared: dict[bytes, asyncio.Task[Outcome]] = field(default_factory=dict)

    def verdicts(self, items: Iterable[Item]) -> Iterator[Verdict]:
        """One verdict for each item, in order."""
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever, name="siftune judge", daemon=True)
        thread.start()
        waiting: deque[Future[Verdict]] = deque()
        try:
            asyncio.run_coroutine_threadsafe(self._begin(), loop).result()
            for item in items:
                waiting.append(asyncio.run_coroutine_threadsafe(self._judge(item), loop))
                if len(waiting) >= _AHEAD * self.pacer.most:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            if not sys.is_finalizing():  # or the thread is gone, and would be waited for
                asyncio.run_coroutine_threadsafe(self._end(), loop).result()
                loop.call_soon_threadsafe(loop.stop)
                thread.join()
                loop.close()

    async def _begin(self) -> None:
        self.pacer.begin()
        self._ended = asyncio.Event()  # set, and replaced, whenever a call ends
        self._turn = asyncio.Lock()

    async def _end(self) -> None:
        """Cancel what is left, where the caller wants no more verdicts; close connections."""
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.backend.close()
        await asyncio.get_running_loop().shutdown_asyncgens()
        await asyncio.get_running_loop().shutdown_default_executor()

    async def _judge(self, item: Item) -> Verdict:
        asked = ItemAsking(self.task, item, self.ask_again)
        await asyncio.gather(*map(self._settle, asked.askings))
        return asked.verdict()

    async def _settle(self, asking: Asking) -> None:
        while not asking.settle(await self._outcome(asking.question, asking.attempt)):
            pass

    async def _outcome(self, question: Question, attempt: int) -> Outcome:
        """The outcome of a question; of one that is being asked already, that one's."""
        key = self.book.key(question, attempt)
        if (running := self._shared.get(key)) is not None:
            return (await asyncio.shield(running)).shared()
        task = asyncio.ensure_future(self._recall_or_ask(key, question, attempt))
        self._shared[key] = task
        try:
            return await task
        finally:
            del self._shared[key]

    async def _recall_or_ask(self, key: bytes, question: Question, attempt: int) -> Outcome:
        if (known := self.book.recall(key)) is not None:
            return known
        async with self.pacer.begun:
            return await self._tried(key, question, attempt)

    async def _tried(self, key: bytes, question: Question, attempt: int) -> Outcome:
        """The outcome after at most ``tries`` requests, with a pause before each further one."""
        total = Outcome()
        for number in range(1, self.tries + 1):
            async with self.pacer.slot():
                outcome = await self._once(key, question, attempt)
            if outcome.error is self.pacer.stopped is not None and total.error is not None:
                break  # the failure that was its own says more
            total = summed(total, outcome)
            error = total.error
            if error is None or error.permanent:
                break
            if number < self.tries and self.pacer.stopped is None:
                await self.sleep(max(backoff(key, number), error.retry_after or 0.0))
        return total

    async def _once(self, key: bytes, question: Question, attempt: int) -> Outcome:
        """One request, once its highest price fits the cap."""
        if self.pacer.stopped is not None:
            return Outcome(error=self.pacer.stopped)
        if (connect := getattr(self.backend, "connect", None)) is not None:
            await connect()  # before money is reserved: a mistake in its options costs nothing
        call = await self._reserved(key, question, attempt)
        if call is None:
            return Outcome(error=self.book.over_budget())
        started = self.clock()  # as for a call that is stopped while it waits
        result: Answer | BackendError = BackendError("stopped")
        try:
            started = await self.pacer.start()
            result = BackendError("stopped", maybe_billed=True)
            async with asyncio.timeout(self.timeout):
                result = await self.backend.ask(question)
        except TimeoutError:
            text = f"no whole answer within {self.timeout:g} s"
            result = BackendError("timeout", text, maybe_billed=True)
        except BackendError as error:
            result = error
        finally:
            with self.book.cache.transaction():
                outcome = self.book.settle(call, result, self.clock() - started)
            self._ended.set()
            self._ended = asyncio.Event()
        if isinstance(result, BackendError):
            self.pacer.failed(started, result)
        else:
            self.pacer.succeeded(started, slow=self.clock() - started > self.timeout / 2)
        return outcome

    async def _reserved(self, key: bytes, question: Question, attempt: int) -> Call | None:
        """A call whose highest price fits the cap, perhaps after others have ended.

        First come, first served: what is left of a budget goes to the first questions.
        """
        if self.book.cap is None:
            return self.book.reserve(key, question, attempt)
        async with self._turn:
            while True:
                if not self.book.full:
                    with self.book.cache.transaction():
                        call = self.book.reserve(key, question, attempt)
                    if call is not None or not self.book.in_flight:
                        return call
                await self._ended.wait()
