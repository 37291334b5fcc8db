"""Progress of one table of a pipeline: every line begins with the table's name."""

from __future__ import annotations

from dataclasses import dataclass

from siftune.curate.core.progress import ProgressReporter

__all__ = ["Prefixed"]


@dataclass(frozen=True)
class Prefixed:
    """Reports each line and each count to ``say``, with ``prefix`` before it.

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
