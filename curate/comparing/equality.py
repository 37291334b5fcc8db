"""Groups of equal rows: by a hash of each row, then by comparing the texts."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import polars as pl

from siftune.curate.core.schema import kind_of
from siftune.curate.rows.chat import Part, with_calls

__all__ = ["Comparable", "TextColumn", "Turns", "equal_rows", "turns_of"]

_Ints: TypeAlias = npt.NDArray[np.int64]
_Keys: TypeAlias = npt.NDArray[np.uint64]
_Mask: TypeAlias = npt.NDArray[np.bool_]


class Comparable(Protocol):
    """Rows that can be compared by number."""

    def keys(self) -> _Keys:
        """A hash of each row: equal for equal rows, and rarely for others."""

    def mask(self) -> _Mask:
        """Mask of the rows that have a text to compare."""

    def equal(self, one: _Ints, other: _Ints) -> _Mask:
        """Mask of the equal pairs, of rows with equal keys."""

    def values(self, rows: _Ints) -> Sequence[Hashable]:
        """The compared values of some rows, as Python objects."""


def equal_rows(rows: Comparable) -> tuple[_Ints, _Ints]:
    """Rows that are equal to another row, and the group number of each.

    Rows are grouped by their keys, and each is compared with the first of its group. If none
    differs, as is usual, all rows of a group are equal; else the values are grouped in Python.
    """
    keys = rows.keys()
    order = np.argsort(keys)
    order = order[rows.mask()[order]]
    same_as_next = np.diff(keys[order]) == 0
    follows, leads = np.append(False, same_as_next), np.append(same_as_next, False)
    found = order[(follows | leads)[: len(order)]]
    first = ~follows[: len(order)][(follows | leads)[: len(order)]]
    group = np.cumsum(first) - 1
    heads = found[first][group]
    if rows.equal(found[~first], heads[~first]).all():
        return found, group
    numbers: dict[tuple[int, Hashable], int] = {}
    keyed = zip(group.tolist(), rows.values(found), strict=True)
    return found, np.array([numbers.setdefault(key, len(numbers)) for key in keyed])


@dataclass(frozen=True)
class TextColumn:
    """Rows compared by one column of texts; a null text is not compared."""

    column: pl.Series

    def keys(self) -> _Keys:
        """The hash of each text."""
        return self.column.hash().to_numpy()

    def mask(self) -> _Mask:
        """Mask of the texts that are not null."""
        return self.column.is_not_null().to_numpy()

    def equal(self, one: _Ints, other: _Ints) -> _Mask:
        """Mask of the equal pairs."""
        return (self.column.gather(one) == self.column.gather(other)).to_numpy()

    def values(self, rows: _Ints) -> Sequence[Hashable]:
        """The texts."""
        texts: list[str] = self.column.gather(rows).to_list()
        return texts


@dataclass(frozen=True)
class _Column:
    """The texts of a column of turns; row ``i`` has ``turns[starts[i]:starts[i + 1]]`` of them."""

    texts: pl.Series
    turns: _Ints
    starts: _Ints

    def keys(self) -> _Keys:
        """Sum of the hashes of a row's texts, each times an odd number that its place gives."""
        counts = np.diff(self.starts)
        hashes = self.texts.hash().to_numpy()[self.turns]
        place = np.arange(len(hashes)) - np.repeat(self.starts[:-1], counts)
        mixed = (hashes ^ (hashes >> _HALF)) * (_ODD + place.astype(np.uint64) * _EVEN)
        sums = np.zeros(len(counts), np.uint64)
        some = counts > 0
        if some.any():
            sums[some] = np.add.reduceat(mixed, self.starts[:-1][some])
        return sums

    def equal(self, one: _Ints, other: _Ints) -> _Mask:
        counts = np.diff(self.starts)
        alike: _Mask = counts[one] == counts[other]
        pair = np.repeat(np.flatnonzero(alike), counts[one[alike]])
        texts = [self.texts.gather(self._turns_of(rows[alike])) for rows in (one, other)]
        alike[pair[(texts[0] != texts[1]).to_numpy()]] = False
        return alike

    def values(self, rows: _Ints) -> list[tuple[str, ...]]:
        """The texts of each row."""
        texts = self.texts.gather(self._turns_of(rows)).to_list()
        ends = np.cumsum([0, *np.diff(self.starts)[rows]])
        return [tuple(texts[low:high]) for low, high in pairwise(ends)]

    def _turns_of(self, rows: _Ints) -> _Ints:
        counts = np.diff(self.starts)[rows]
        ends = np.cumsum(counts)
        within = np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - counts, counts)
        turns: _Ints = self.turns[np.repeat(self.starts[:-1][rows], counts) + within]
        return turns


_HALF: Final = np.uint64(32)
_ODD: Final = np.uint64(0x9E3779B97F4A7C15)  # 2^64 over the golden ratio
_EVEN: Final = np.uint64(0xD1B54A32D192ED02)


@dataclass(frozen=True)
class Turns:
    """Rows compared by the texts of their turns, turn by turn, in one or more columns."""

    columns: tuple[_Column, ...]

    def keys(self) -> _Keys:
        """The keys of the columns, combined in order."""
        total = self.columns[0].keys()
        for column in self.columns[1:]:
            total = total * _ODD + column.keys()
        return total

    def mask(self) -> _Mask:
        """Mask of the rows that have a turn with text."""
        some: _Mask = np.any([np.diff(column.starts) > 0 for column in self.columns], axis=0)
        return some

    def equal(self, one: _Ints, other: _Ints) -> _Mask:
        """Mask of the pairs with equal turns in each column."""
        whole: _Mask = np.all([column.equal(one, other) for column in self.columns], axis=0)
        return whole

    def values(self, rows: _Ints) -> Sequence[Hashable]:
        """The texts of each column."""
        return list(zip(*(column.values(rows) for column in self.columns), strict=True))


def turns_of(table: pl.DataFrame, part: Part) -> Turns | None:
    """The prompt, the answers, or both, of each row; None for ranked rows, whose lists are deeper.

    These are the turns that `content.text_of` joins. ``table`` has ``kind`` and the content.
    """
    kind = kind_of(table)
    if kind == "ranked":
        return None
    if kind in ("conversation", "text"):
        return Turns((_column(table["messages"], part),))
    answers = ("chosen", "rejected") if kind == "preference" else ("completion",)
    names = {"prompt": ("prompt",), "response": answers, "both": ("prompt", *answers)}[part]
    return Turns(tuple(_column(table[name], "both") for name in names))


def _column(lists: pl.Series, part: Part) -> _Column:
    """The turns of ``part`` that have a text; turns after the last answer are in ``both`` only."""
    lists = with_calls(lists)
    turns = pl.concat([_flat(chunk) for chunk in lists.get_chunks()])  # without a copy
    texts = turns.struct.field("content")
    counts = lists.list.len().fill_null(0).to_numpy().astype(np.int64)
    wanted = texts.is_not_null().to_numpy()
    row = np.repeat(np.arange(len(counts)), counts)
    if part != "both":
        answers = np.flatnonzero((turns.struct.field("role") == "assistant").fill_null(False))
        last = np.full(len(counts), -1)
        last[row[answers]] = answers
        at = np.arange(len(row))
        wanted = wanted & (at < last[row] if part == "prompt" else at == last[row])
    starts = np.concatenate([[0], np.cumsum(np.bincount(row[wanted], minlength=len(counts)))])
    return _Column(texts, np.flatnonzero(wanted), starts)


def _flat(chunk: pl.Series) -> pl.Series:
    return chunk.explode(empty_as_null=False, keep_nulls=False)
