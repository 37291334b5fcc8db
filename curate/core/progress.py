"""What a person sees while a long command works; on stderr, so that stdout stays data."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, Protocol, TextIO

from siftune.curate.core.terminal import hidden, printable

__all__ = ["Progress", "Quiet", "Telling", "announcing", "duration", "if_slow"]

_EVERY_SECONDS = 10.0
_SLOW_SECONDS = 2.0
_LISTENERS: Final[list[Callable[[str], None]]] = []  # of this process: any thread may load a model
_RATE_SECONDS = 3.0  # of counting, before its rate is believed


class Telling(Protocol):
    """Something that is told how the work goes."""

    def __call__(self, line: str) -> None:
        """A line that stays."""

    def count(self, label: str, done: int, total: int | None = None, unit: str = "rows") -> None:
        """A count that moves."""


class Quiet:
    """Tells nobody."""

    def __call__(self, line: str) -> None:
        """Do nothing."""

    def count(self, label: str, done: int, total: int | None = None, unit: str = "rows") -> None:
        """Do nothing."""


@dataclass
class Progress:
    """Lines that stay, and a count that moves.

    On a terminal the count is rewritten in place; elsewhere it is a line every ten seconds. It has
    the time left, by the rate since the first count of its label, where the total is known.
    """

    stream: TextIO = field(default_factory=lambda: sys.stderr)
    clock: Callable[[], float] = time.monotonic
    _shown: float = 0.0
    _moving: bool = False
    _began: tuple[str, int, float] = ("", 0, 0.0)  # label, count and time of its first count

    def __call__(self, line: str) -> None:
        """Print a line that stays."""
        self._clear()
        print(printable(hidden(line)), file=self.stream, flush=True)

    def count(self, label: str, done: int, total: int | None = None, unit: str = "rows") -> None:
        """Show how far ``label`` is; a count of 0 only starts its clock."""
        if label != self._began[0] or done < self._began[1]:
            self._began = (label, done, self.clock())
        if not done:
            return
        line = f"{label}: {done:,}{f' of {total:,}' if total else ''} {unit}"
        line += self._time_left(done, total)
        if self.stream.isatty():
            print(f"\r\x1b[2K{printable(line)}", end="", file=self.stream, flush=True)
            self._moving = True
        elif self.clock() - self._shown > _EVERY_SECONDS:
            self._shown = self.clock()
            self(line)

    def _time_left(self, done: int, total: int | None) -> str:
        _, first, since = self._began
        seconds = self.clock() - since
        if total is None or done <= first or done >= total or seconds < _RATE_SECONDS:
            return ""
        return f", about {duration((total - done) * seconds / (done - first))} left"

    def _clear(self) -> None:
        if self._moving:
            print("\r\x1b[2K", end="", file=self.stream)
            self._moving = False


@contextmanager
def announcing(say: Callable[[str], None]) -> Iterator[None]:
    """Pass on to ``say`` what `if_slow` has to tell inside, on any thread."""
    _LISTENERS.append(say)
    try:
        yield
    finally:
        _LISTENERS.pop()


@contextmanager
def if_slow(line: str, after: float = _SLOW_SECONDS) -> Iterator[None]:
    """Announce ``line`` where what is done inside takes longer than ``after`` seconds."""
    if not _LISTENERS:
        yield
        return
    timer = threading.Timer(after, _LISTENERS[-1], [line])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def duration(seconds: float) -> str:
    """A time in its largest units.

    >>> duration(41.6), duration(200), duration(7500)
    ('42 s', '3 min', '2 h 5 min')
    """
    if round(seconds) < 60:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
