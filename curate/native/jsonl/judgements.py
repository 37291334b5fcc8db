"""Judgements of pairs in plain lines: which of two sides is better, and how sure that is."""

from __future__ import annotations

from typing import NamedTuple, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from siftune.curate.native.jsonl.turn_columns import Lists

__all__ = ["Judged"]

Ints: TypeAlias = npt.NDArray[np.int64]
Numbers: TypeAlias = npt.NDArray[np.float64]
Mask: TypeAlias = npt.NDArray[np.bool_]

_DRAW = 1.5


class Judged(NamedTuple):
    """What `formats.pairwise` makes of a judgement from 1 to 2, line by line.

    ``doubt`` says where there is no judgement, or one that prefers nothing.
    """

    second: Mask
    facts: dict[str, Numbers]
    doubt: Mask

    @classmethod
    def of(cls, values: Numbers) -> Self:
        """The judgements ``values``, NaN where there is none."""
        clear = (values >= 1) & (values <= 2) & (values != _DRAW)
        sure = np.abs(np.where(clear, values, np.nan) - _DRAW)
        facts = {"win_probability": 0.5 + sure, "margin": 2 * sure}
        return cls(values > _DRAW, facts, ~clear)

    def order(self, one: Lists, other: Lists, lines: Ints) -> list[Lists]:
        """The better and the worse side of ``lines``."""
        second = self.second[lines]
        low = np.where(second, (other.starts, one.starts), (one.starts, other.starts))
        high = np.where(second, (other.ends, one.ends), (one.ends, other.ends))
        return [Lists(one.turns, low[0], high[0]), Lists(one.turns, low[1], high[1])]
