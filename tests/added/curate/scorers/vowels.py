"""Vowels in a response."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import polars as pl

from siftune.curate.rows.chat import last_turn

__all__ = ["Vowels"]


@dataclass(frozen=True)
class Vowels:
    """Number of the given letters in the last assistant turn; null where there is none.

    Options:
        letters: Letters that count.
    """

    letters: str

    needs: ClassVar = ("messages",)
    adds: ClassVar = {"vowels": pl.UInt32}

    def __call__(self, batch: pl.DataFrame) -> pl.DataFrame:
        """Count in each response."""
        counts = last_turn(batch["messages"])[1].str.count_matches(f"[{self.letters}]")
        return pl.DataFrame({"vowels": counts})
