"""Which rows are equal: by a hash of each, then by what they say."""

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

__all__ = ["Comparable", "Turns", "Values", "equal_rows", "turns_of"]

_Ints: TypeAlias = npt.NDArray[np.int64]
_Keys: TypeAlias = npt.NDArray[np.uint64]
_Mask: TypeAlias = npt.NDArray[np.bool_]


class Comparable(Protocol):
    """Rows that can be compared, by their numbers."""

    def keys(self) -> _Keys:
        """A hash of each row: the same of equal rows, and hardly ever the same of others."""

    def there(self) -> _Mask:
        """Which rows have something to compare."""

    def same(self, one: _Ints, other: _Ints) -> _Mask:
        """Of rows with equal keys, pair by pair, which are equal."""

    def values(self, rows: _Ints) -> Sequence[Hashable]:
        """What is compared, as Python has it."""


def equal_rows(rows: Comparable) -> tuple[_Ints, _Ints]:
    """The rows that are equal to another, and the number of each one's group.

    Rows are grouped by their keys, and each is compared with one of its group: where none differs,
    which is the rule, all in the group are equal.
    """
    keys = rows.keys()
    order = np.argsort(keys)
    order = order[rows.there()[order]]
    same_as_next = np.diff(keys[order]) == 0
    behind, before = np.append(False, same_as_next), np.append(same_as_next, False)
    found = order[(behind | before)[: len(order)]]
    first = ~behind[: len(order)][(behind | before)[: len(order)]]
    group = np.cumsum(first) - 1
    heads = found[first][group]
    if rows.same(found[~first], heads[~first]).all():
        return found, group
    numbers: dict[tuple[int, Hashable], int] = {}
    told = zip(group.tolist(), rows.values(found), strict=True)
    return found, np.array([numbers.setdefault(one, len(numbers)) for one in told])


@dataclass(frozen=True)
class Values:
    """Rows compared by one column of texts; null is nothing to compare."""

    column: pl.Series

    def keys(self) -> _Keys:
        """The hash of each text."""
        return self.column.hash().to_numpy()

    def there(self) -> _Mask:
        """Which are not null."""
        return self.column.is_not_null().to_numpy()

    def same(self, one: _Ints, other: _Ints) -> _Mask:
        """Which pairs are equal."""
        return (self.column.gather(one) == self.column.gather(other)).to_numpy()

    def values(self, rows: _Ints) -> Sequence[Hashable]:
        """The texts."""
        texts: list[str] = self.column.gather(rows).to_list()
        return texts


@dataclass(frozen=True)
class _Column:
    """The texts of one column of turns, and the ``turns`` of each row, from ``starts``, in it."""

    texts: pl.Series
    turns: _Ints
    starts: _Ints

    def keys(self) -> _Keys:
        """Sums of the texts' hashes, each times an odd number that its place among them gives."""
        counts = np.diff(self.starts)
        hashes = self.texts.hash().to_numpy()[self.turns]
        place = np.arange(len(hashes)) - np.repeat(self.starts[:-1], counts)
        mixed = (hashes ^ (hashes >> _HALF)) * (_ODD + place.astype(np.uint64) * _EVEN)
        sums = np.zeros(len(counts), np.uint64)
        some = counts > 0
        if some.any():
            sums[some] = np.add.reduceat(mixed, self.starts[:-1][some])
        return sums

    def same(self, one: _Ints, other: _Ints) -> _Mask:
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
        """The sum of the columns' keys, each turned by its place among them."""
        total = self.columns[0].keys()
        for column in self.columns[1:]:
            total = total * _ODD + column.keys()
        return total

    def there(self) -> _Mask:
        """Which rows have a turn with text."""
        some: _Mask = np.any([np.diff(column.starts) > 0 for column in self.columns], axis=0)
        return some

    def same(self, one: _Ints, other: _Ints) -> _Mask:
        """Which pairs have equal turns in each column."""
        whole: _Mask = np.all([column.same(one, other) for column in self.columns], axis=0)
        return whole

    def values(self, rows: _Ints) -> Sequence[Hashable]:
        """The texts of each column."""
        return list(zip(*(column.values(rows) for column in self.columns), strict=True))


def turns_of(table: pl.DataFrame, part: Part) -> Turns | None:
    """The prompt, the answers, or both, of each row; None for ranked rows, whose lists are deeper.

    The same turns as those that `content.text_of` joins. ``table`` holds ``kind`` and
    the content columns.
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
    """The turns of ``part`` that have a text; what comes after the last answer is in ``both``."""
    lists = with_calls(lists)
    said = pl.concat([_flat(chunk) for chunk in lists.get_chunks()])  # as they lie: no copy
    texts = said.struct.field("content")
    counts = lists.list.len().fill_null(0).to_numpy().astype(np.int64)
    wanted = texts.is_not_null().to_numpy()
    row = np.repeat(np.arange(len(counts)), counts)
    if part != "both":
        answers = np.flatnonzero((said.struct.field("role") == "assistant").fill_null(False))
        last = np.full(len(counts), -1)
        last[row[answers]] = answers
        at = np.arange(len(row))
        wanted = wanted & (at < last[row] if part == "prompt" else at == last[row])
    starts = np.concatenate([[0], np.cumsum(np.bincount(row[wanted], minlength=len(counts)))])
    return _Column(texts, np.flatnonzero(wanted), starts)


def _flat(chunk: pl.Series) -> pl.Series:
    return chunk.explode(empty_as_null=False, keep_nulls=False)
