"""Records that gave no row: how many for each reason, with an example of the commonest ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final

from siftune.curate.core.types import Row

__all__ = ["SetAside"]

_REASONS: Final = 3
_DETAIL: Final = 320  # characters of an example: advice is not cut


class SetAside:
    """Counts quarantine lines by reason."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._examples: dict[str, Row] = {}

    def add(self, bad: Iterable[Row]) -> None:
        """Count the lines ``bad``; the first of each reason is its example."""
        for line in bad:
            self._counts[line["reason"]] += 1
            self._examples.setdefault(line["reason"], line)

    def reasons(self) -> str:
        """The commonest reasons, each with its number and first example, in one line."""
        common = sorted(self._counts.items(), key=lambda item: (-item[1], item[0]))
        named = [f"{n:,} {reason} ({_shown(self._examples[reason])})" for reason, n in common]
        rest = sum(n for _, n in common[_REASONS:])
        return "; ".join(named[:_REASONS]) + (f"; {rest:,} for other reasons" if rest else "")


def _shown(line: Row) -> str:
    unit = "line" if "line" in line else "row"
    detail = " ".join(line["detail"].split())
    short = detail if len(detail) <= _DETAIL else f"{detail[: _DETAIL - 1]}…"
    return f"{line['source']}, {unit} {line[unit]}: {short}"
