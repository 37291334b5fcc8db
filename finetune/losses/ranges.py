"""Checks of the ranges of the options of losses."""

from __future__ import annotations

from typing import Any

__all__ = ["within"]


def within(loss: Any, **ranges: str) -> None:
    """Check that options of ``loss`` are in intervals, such as ``alpha="(0, 1]"``; NaN is in none.

    Raises:
        ValueError: an option is outside.
    """
    for name, interval in ranges.items():
        value = getattr(loss, name)
        low, high = map(float, interval[1:-1].split(","))
        above = value >= low if interval[0] == "[" else value > low
        below = value <= high if interval[-1] == "]" else value < high
        if not (above and below):
            raise ValueError(f"{name} is in {interval}, got {value}")
