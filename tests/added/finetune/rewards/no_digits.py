"""Whether a completion has no digit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["NoDigits"]


@dataclass(frozen=True)
class NoDigits:
    """1 without a digit, ``otherwise`` with one.

    Options:
        otherwise: Reward of a completion with a digit.
    """

    otherwise: float = 0.0

    def __call__(
        self, prompts: Sequence[str], completions: Sequence[str], rows: Sequence[Mapping[str, Any]]
    ) -> list[float | None]:
        """Look for digits in each completion."""
        digits = (any(letter.isdigit() for letter in text) for text in completions)
        return [self.otherwise if found else 1.0 for found in digits]
