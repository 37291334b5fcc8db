"""What a person sees while a long command works; on stderr, so that stdout stays data."""

from __future__ import annotations

import re
import sys
import time
from dataclasses import dataclass, field
from typing import Protocol, TextIO

__all__ = ["Progress", "Quiet", "Telling", "printable"]

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_EVERY_SECONDS = 10.0


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

    On a terminal the count is rewritten in place; elsewhere it is a line every ten seconds.
    """

    stream: TextIO = field(default_factory=lambda: sys.stderr)
    _shown: float = 0.0
    _moving: bool = False

    def __call__(self, line: str) -> None:
        """Print a line that stays."""
        self._clear()
        print(printable(line), file=self.stream, flush=True)

    def count(self, label: str, done: int, total: int | None = None, unit: str = "rows") -> None:
        """Show how far ``label`` is."""
        line = f"{label}: {done:,}{f' of {total:,}' if total else ''} {unit}"
        if self.stream.isatty():
            print(f"\r\x1b[2K{printable(line)}", end="", file=self.stream, flush=True)
            self._moving = True
        elif time.monotonic() - self._shown > _EVERY_SECONDS:
            self._shown = time.monotonic()
            self(line)

    def _clear(self) -> None:
        if self._moving:
            print("\r\x1b[2K", end="", file=self.stream)
            self._moving = False


def printable(text: str) -> str:
    r"""``text`` without what could drive a terminal: control and direction characters.

    >>> printable("a\x1b[31mb")
    'a�[31mb'
    """
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)
