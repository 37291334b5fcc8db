"""Progress of long commands on stderr, metrics of a run, and silence of other libraries."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from logging import ERROR
from typing import Any, Final, Protocol, TextIO, TypeAlias

from siftune.curate.core.redact import hidden
from siftune.curate.core.terminal import printable

__all__ = [
    "NoProgress",
    "Pace",
    "Prefixed",
    "Progress",
    "ProgressReporter",
    "RunContext",
    "announce",
    "announcing",
    "duration",
    "hiding_lines",
    "if_slow",
    "lines_hidden",
    "log_metrics",
    "no_dataset_bars",
    "no_kernel_note",
    "quiet_transformers",
    "report_progress",
    "run_context",
]

_EVERY_SECONDS = 10.0
_SLOW_SECONDS = 2.0
_LISTENERS: Final[list[Callable[[str], None]]] = []  # of this process: any thread may load a model
_RATE_SECONDS = 3.0  # of counting, before the time left is computed


class ProgressReporter(Protocol):
    """Receiver of progress: lines, and counts of a label."""

    def __call__(self, line: str) -> None:
        """Print a line."""

    def count(self, label: str, done: int, total: int | None = None, unit: str = "rows") -> None:
        """Show a count."""


class NoProgress:
    """Drops all progress."""

    def __call__(self, line: str) -> None:
        """Do nothing."""

    def count(self, label: str, done: int, total: int | None = None, unit: str = "rows") -> None:
        """Do nothing."""


@dataclass
class Progress:
    """Prints lines, and one count that is updated.

    On a terminal the count is rewritten in place; elsewhere it is a line every ten seconds. It has
    the time left, by the rate since the first count of its label, where the total is known.
    """

    stream: TextIO = field(default_factory=lambda: sys.stderr)
    clock: Callable[[], float] = time.monotonic
    _shown: float = 0.0
    _moving: bool = False
    _began: tuple[str, int, float] = ("", 0, 0.0)  # label, count and time of its first count

    def __call__(self, line: str) -> None:
        """Print a line."""
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


@dataclass(frozen=True)
class Prefixed:
    """A reporter of progress that puts ``prefix`` before each line and count of another one.

    >>> Prefixed(print, "pairs: ")("ingest")
    pairs: ingest
    """

    say: ProgressReporter
    prefix: str

    def __call__(self, line: str) -> None:
        """Pass a line on."""
        self.say(f"{self.prefix}{line}")

    def count(self, label: str, done: int, total: int | None = None, unit: str = "rows") -> None:
        """Pass a count on."""
        self.say.count(f"{self.prefix}{label}", done, total, unit)


@contextmanager
def announcing(say: Callable[[str], None]) -> Iterator[None]:
    """Call ``say`` with each line of `if_slow` while the block runs, from any thread."""
    _LISTENERS.append(say)
    try:
        yield
    finally:
        _LISTENERS.pop()


def announce(line: str) -> None:
    """Print a line for the user: by the innermost `announcing`, else on stderr."""
    (_LISTENERS[-1] if _LISTENERS else Progress())(line)


_LINES_HIDDEN: ContextVar[bool] = ContextVar("lines_hidden", default=False)


@contextmanager
def hiding_lines(hide: bool) -> Iterator[None]:
    """Print no progress of trainings in the block where ``hide``; warnings are printed."""
    token = _LINES_HIDDEN.set(hide)
    try:
        yield
    finally:
        _LINES_HIDDEN.reset(token)


def lines_hidden() -> bool:
    """Whether `hiding_lines` is in force."""
    return _LINES_HIDDEN.get()


@contextmanager
def if_slow(line: str, after: float = _SLOW_SECONDS) -> Iterator[None]:
    """Print ``line`` if the block takes longer than ``after`` seconds."""
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
    """A duration in its largest units.

    >>> duration(41.6), duration(200), duration(7500)
    ('42 s', '3 min', '2 h 5 min')
    """
    if round(seconds) < 60:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


@dataclass
class Pace:
    """Tokens per second since the last call, and the time left by the mean rate since `begin`."""

    clock: Callable[[], float] = time.monotonic
    _began: tuple[int, float] = (0, 0.0)  # step and time
    _last: tuple[float, float] = (0.0, 0.0)  # tokens and time
    _begun: bool = field(default=False)

    def begin(self, step: int, tokens: float = 0.0) -> None:
        """Start the clock; ``step`` steps and ``tokens`` tokens were done before."""
        now = self.clock()
        self._began, self._last, self._begun = (step, now), (tokens, now), True

    def __call__(self, step: int, total: int, tokens: float | None = None) -> str:
        """What to append to a line on ``step`` of ``total``; empty where no time has passed.

        >>> times = iter([0.0, 10.0])
        >>> pace = Pace(clock=lambda: next(times))
        >>> pace.begin(0)
        >>> pace(5, 20, 12_345)
        ', 1,234 tokens/s, about 30 s left'
        """
        now = self.clock()
        passed, since = now - self._began[1], now - self._last[1]
        if not self._begun or passed <= 0 or since <= 0:
            return ""
        text = ""
        if tokens is not None and tokens > self._last[0]:
            text += f", {int((tokens - self._last[0]) / since):,} tokens/s"
            self._last = (tokens, now)
        done = step - self._began[0]
        if done > 0 and step < total:
            text += f", about {duration((total - step) * passed / done)} left"
        return text


OnProgress: TypeAlias = Callable[[int, int, str], None]
"""``(done, total, unit)``, such as ``(512, 8_192, "texts")``."""


@dataclass
class RunContext:
    """Metrics logged so far, the last of each name, and the receiver of progress."""

    metrics: dict[str, Any] = field(default_factory=dict)
    on_progress: OnProgress | None = None


_CONTEXT: ContextVar[RunContext | None] = ContextVar("run_context", default=None)


def log_metrics(**metrics: Any) -> None:
    """Log JSON-like values, which a run writes into its manifest; outside a run nothing happens."""
    context = _CONTEXT.get()
    if context is not None:
        context.metrics |= metrics


def report_progress(done: int, total: int, unit: str) -> None:
    """Report how many ``unit`` of the current batch are done; outside a run nothing happens."""
    context = _CONTEXT.get()
    if context is not None and context.on_progress is not None:
        context.on_progress(done, total, unit)


@contextmanager
def run_context(on_progress: OnProgress | None = None) -> Iterator[RunContext]:
    """Collect the metrics and progress that components report in the block."""
    context = RunContext(on_progress=on_progress)
    token = _CONTEXT.set(context)
    try:
        yield context
    finally:
        _CONTEXT.reset(token)


def no_kernel_note() -> None:
    """Filter out bitsandbytes' note on a CPU kernel for 4-bit weights, from now on.

    bitsandbytes logs it at import, which peft and transformers do wherever it is installed.
    """
    logging.getLogger("bitsandbytes.backends.cpu.ops").addFilter(_is_no_kernel_note)


def _is_no_kernel_note(record: logging.LogRecord) -> bool:
    return "gemm_4bit_forward" not in str(record.msg)


@contextmanager
def no_dataset_bars() -> Iterator[None]:
    """No progress bars of datasets in the block."""
    import datasets

    if datasets.are_progress_bars_disabled():
        yield
        return
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        datasets.enable_progress_bars()


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """No progress bars and notes of transformers in the block; errors are logged."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    if level != ERROR:  # setting a level visits every logger
        logging.set_verbosity_error()
    if bars:
        logging.disable_progress_bar()
    try:
        yield
    finally:
        if logging.get_verbosity() != level:
            logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
