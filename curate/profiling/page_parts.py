"""Parts of a profile's page: sections of sentences and tables, and numbers as text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Listing", "Section", "shown", "shown_of", "shown_share"]


@dataclass(frozen=True)
class Listing:
    """A table; ``bars`` are sizes that HTML draws behind the last column."""

    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    bars: Sequence[float] = ()
    numbers: int = 1  # the last columns, which hold numbers


@dataclass(frozen=True)
class Section:
    """A title, sentences, and tables."""

    title: str
    sentences: Sequence[str] = ()
    listings: Sequence[Listing] = ()


def shown(number: float) -> str:
    """A number with commas, four digits of one that is not whole."""
    return f"{number:,.0f}" if float(number).is_integer() else f"{number:,.4g}"


def shown_share(part: float, whole: float) -> str:
    """A share in percent, with a digit more where it is small.

    >>> shown_share(1, 3), shown_share(1, 3_000), shown_share(0, 5), shown_share(1, 1)
    ('33.3 %', '0.033 %', '0 %', '100 %')
    """
    if not whole or part in (0, whole):
        return "100 %" if part and part == whole else "0 %"
    value = 100 * part / whole
    return f"{value:.1f} %" if value >= 1 else f"{value:.2g} %"


def shown_of(part: float, whole: float) -> str:
    """A number with its share of the whole."""
    return f"{shown(part)} ({shown_share(part, whole)})"
